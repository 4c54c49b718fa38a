//! TCP sockets.
//!
//! Invariants:
//! - Not reading is back-pressure: at most a few buffers wait unread per socket, then its receive is stopped until
//!   the reader has caught up, and TCP's own window closes.
//! - One send and one reader at a time per socket; two of them would mix their bytes.
//! - A socket leaves its core only with nothing armed or in flight on it.
//! - Every connection has `TCP_NODELAY`, and TCP's keep-alive: a peer that vanished without a word is noticed after
//!   90 seconds of silence at the latest, as `ETIMEDOUT` from a receive or send. While sent bytes are
//!   unacknowledged the kernel sends no probes, and its retransmission limit (`tcp_retries2`) counts instead.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};

use crate::core;
use crate::descriptor::Descriptor;
use crate::op::{Event, Gather, Item, Op, Operation, Ticket, to_result};
pub use crate::pool::RecvBuf;
use crate::sys::{self, KeepAlive};

/// Connections that may wait to be accepted, beyond those the core has taken already.
const BACKLOG: i32 = 1024;

/// 60 seconds of silence, and three probes of 10 seconds each.
pub(crate) const KEEPALIVE: KeepAlive = KeepAlive { idle_s: 60, interval_s: 10, probes: 3 };
const _: () =
    assert!(KEEPALIVE.idle_s + KEEPALIVE.interval_s * KEEPALIVE.probes == 90, "what the head promises");

/// Listens for connections.
pub struct Listener {
    // Before the descriptor, so that the accept is stopped before the socket is closed.
    accepting: RefCell<Option<Ticket>>,
    descriptor: Descriptor,
    local: SocketAddr,
}

impl Listener {
    /// Listens on `address` (`SO_REUSEADDR`); port 0 picks a free one.
    ///
    /// # Errors
    /// Those of socket(2), bind(2) and listen(2).
    pub fn bind(address: SocketAddr) -> io::Result<Listener> {
        let (descriptor, local) = core::with(|core| match core.machine() {
            Some(machine) => machine.listen(address),
            None => {
                let descriptor = sys::listen(address, BACKLOG)?;
                let local = sys::local_addr(descriptor.raw())?;
                Ok((descriptor, local))
            }
        })?;
        Ok(Listener { accepting: RefCell::new(None), descriptor, local })
    }

    /// The address listened on.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The next connection and where it comes from. One caller at a time. Safe to drop at any time. Connections
    /// that failed while they were queued are passed over.
    ///
    /// # Errors
    /// Those of accept(2) that concern the listener, and not one connection: `EMFILE`, `ENFILE`, `ENOBUFS` and
    /// `ENOMEM` stay until something is released, so wait a little before the next call.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        loop {
            let socket = poll_fn(|cx| self.poll_accept(cx)).await?;
            // These fail if the peer has reset the connection by now: getpeername(2) says ENOTCONN.
            let Ok(peer) = peer_addr(&socket) else { continue };
            let Ok(stream) = TcpStream::new(socket, peer) else { continue };
            return Ok((stream, peer));
        }
    }

    fn poll_accept(&self, cx: &Context<'_>) -> Poll<io::Result<Descriptor>> {
        let mut accepting = self.accepting.borrow_mut();
        loop {
            let fd = self.descriptor.raw();
            let ticket = accepting.get_or_insert_with(|| Ticket::start(Op::AcceptMany { fd }));
            match ticket.poll_event(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Event::Item(Item::Socket(socket))) => return Poll::Ready(Ok(socket)),
                Poll::Ready(Event::Item(Item::Received(_))) => unreachable!("an accept receives no bytes"),
                Poll::Ready(Event::Ended(result)) => {
                    *accepting = None;
                    match result {
                        // Stopped because too many connections waited here, or ended after a connection.
                        result if result == -libc::ECANCELED || result >= 0 => {}
                        result if concerns_one_connection(-result) => {}
                        result => {
                            return Poll::Ready(to_result(result).map(|_| unreachable!("it is negative")));
                        }
                    }
                }
            }
        }
    }
}

/// Whether an error of accept(2) is that of a queued connection, which is gone with it. Linux hands on what the
/// network has said of the new socket; see "Error handling" in the man page.
fn concerns_one_connection(errno: i32) -> bool {
    matches!(
        errno,
        libc::ECONNABORTED
            | libc::ENETDOWN
            | libc::EPROTO
            | libc::ENOPROTOOPT
            | libc::EHOSTDOWN
            | libc::ENONET
            | libc::EHOSTUNREACH
            | libc::ENETUNREACH
    )
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("local", &self.local).finish_non_exhaustive()
    }
}

fn peer_addr(socket: &Descriptor) -> io::Result<SocketAddr> {
    core::with(|core| match core.machine() {
        Some(machine) => machine.peer_addr(socket.raw()),
        None => sys::peer_addr(socket.raw()),
    })
}

/// A connection. Clones are handles to the same socket, on the same core; it is closed with the last of them.
#[derive(Clone)]
pub struct TcpStream {
    inner: Rc<Inner>,
}

struct Inner {
    // Before the descriptor, so that the receive is stopped before the socket is closed.
    receiving: RefCell<Option<Ticket>>,
    descriptor: Descriptor,
    peer: SocketAddr,
    /// What a [`TcpStream::recv_into`] was given beyond what it wanted.
    rest: RefCell<Bytes>,
    /// The peer has sent all it will.
    ended: Cell<bool>,
    has_reader: Cell<bool>,
    has_sender: Cell<bool>,
}

/// Marks a socket's direction as used until it is dropped.
struct Claim<'a>(&'a Cell<bool>);

impl<'a> Claim<'a> {
    fn new(used: &'a Cell<bool>, what: &str) -> Claim<'a> {
        assert!(!used.replace(true), "one {what} at a time per socket");
        Claim(used)
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

impl TcpStream {
    fn new(descriptor: Descriptor, peer: SocketAddr) -> io::Result<TcpStream> {
        if core::with(|core| !core.is_simulated()) {
            sys::set_nodelay(descriptor.raw())?;
            sys::set_keepalive(descriptor.raw(), KEEPALIVE)?;
        }
        Ok(TcpStream::from_parts(SocketParts { descriptor, peer }))
    }

    /// Connects to `address`. `TCP_NODELAY` and keep-alive are on.
    ///
    /// # Errors
    /// Those of connect(2).
    pub async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
        let descriptor = core::with(|core| match core.machine() {
            Some(machine) => Ok(machine.socket()),
            None => sys::tcp_socket(address),
        })?;
        Operation::start(Op::Connect { fd: descriptor.raw(), to: address }).await.0?;
        TcpStream::new(descriptor, address)
    }

    /// The other end's address.
    pub fn peer_addr(&self) -> SocketAddr {
        self.inner.peer
    }

    /// The next bytes, as many as have come, mostly in one of the core's buffers; `None` at the orderly end of the stream.
    /// One reader at a time. Safe to drop at any time: no bytes are lost.
    ///
    /// Drop the buffer soon: all sockets of the core share them.
    ///
    /// # Errors
    /// Those of recv(2).
    ///
    /// # Panics
    /// If another call is under way on the same socket.
    pub async fn recv(&self) -> io::Result<Option<RecvBuf>> {
        let _reader = Claim::new(&self.inner.has_reader, "reader");
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    fn poll_recv(&self, cx: &Context<'_>) -> Poll<io::Result<Option<RecvBuf>>> {
        let rest = self.inner.rest.take();
        if !rest.is_empty() {
            return Poll::Ready(Ok(Some(RecvBuf::owned(rest))));
        }
        while !self.inner.ended.get() {
            let fd = self.inner.descriptor.raw();
            self.inner.receiving.borrow_mut().get_or_insert_with(|| Ticket::start(Op::ReceiveMany { fd }));
            if let Some(bytes) = ready!(self.poll_armed(cx))? {
                return Poll::Ready(Ok(Some(bytes)));
            }
        }
        Poll::Ready(Ok(None))
    }

    /// The next bytes of the receive that is armed; `None` once none is.
    fn poll_armed(&self, cx: &Context<'_>) -> Poll<io::Result<Option<RecvBuf>>> {
        let mut receiving = self.inner.receiving.borrow_mut();
        let Some(ticket) = receiving.as_mut() else { return Poll::Ready(Ok(None)) };
        let result = match ready!(ticket.poll_event(cx)) {
            Event::Item(Item::Received(bytes)) => return Poll::Ready(Ok(Some(bytes))),
            Event::Item(Item::Socket(_)) => unreachable!("a receive accepts no sockets"),
            Event::Ended(result) => result,
        };
        *receiving = None;
        match result {
            0 => self.inner.ended.set(true),
            // It can be started again. It was stopped because too much waited here, which has been read by now, or
            // because the bytes are wanted elsewhere; or one batch of completions took all buffers, half of which
            // are back by now; or it ended after its last bytes.
            result if result == -libc::ECANCELED || result == -libc::ENOBUFS || result > 0 => {}
            result => return Poll::Ready(to_result(result).map(|_| unreachable!("it is negative"))),
        }
        Poll::Ready(Ok(None))
    }

    /// Receives `len` bytes into the room behind what `buf` holds, and returns it with fewer only at the orderly end of
    /// the stream. What the core's buffers hold already is copied; the rest the kernel puts straight where it belongs.
    /// For what is many times as long as such a buffer: it stops the receive that is armed for
    /// [`recv`](TcpStream::recv), and leaves none armed.
    ///
    /// If the future is dropped early, bytes are lost: the connection is good for nothing but closing.
    ///
    /// # Errors
    /// Those of recv(2), and `InvalidInput` if `buf` has no room for `len` bytes.
    ///
    /// # Panics
    /// If another receive is under way on the same socket.
    pub async fn recv_into(&self, mut buf: BytesMut, len: usize) -> io::Result<BytesMut> {
        let _reader = Claim::new(&self.inner.has_reader, "reader");
        if buf.capacity() - buf.len() < len {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the buffer is too small for the receive",
            ));
        }
        let whole = buf.len() + len;
        buf.extend_from_slice(&self.take_rest(len));
        while buf.len() < whole {
            if let Some(ticket) = self.inner.receiving.borrow().as_ref() {
                ticket.cancel();
            }
            let Some(bytes) = poll_fn(|cx| self.poll_armed(cx)).await? else { break };
            let (wanted, rest) = bytes.split_at(bytes.len().min(whole - buf.len()));
            buf.extend_from_slice(wanted);
            // A receive buffer must not wait here: the core's other sockets need it.
            *self.inner.rest.borrow_mut() = Bytes::copy_from_slice(rest);
        }
        while buf.len() < whole && !self.inner.ended.get() {
            let len = u32::try_from(whole - buf.len()).unwrap_or(u32::MAX);
            buf = self.receive(buf, len, true).await?;
        }
        Ok(buf)
    }

    /// What was received and is wanted nowhere else, at most `max` bytes of it.
    fn take_rest(&self, max: usize) -> Bytes {
        let mut rest = self.inner.rest.borrow_mut();
        let len = rest.len().min(max);
        rest.split_to(len)
    }

    /// One plain receive.
    async fn receive(&self, buf: BytesMut, len: u32, whole: bool) -> io::Result<BytesMut> {
        let op = Op::Receive { fd: self.inner.descriptor.raw(), buf, len, whole };
        let (result, op) = Operation::start(op).await;
        let Op::Receive { buf, .. } = op else { unreachable!("a receive comes back as a receive") };
        self.inner.ended.set(result? == 0);
        Ok(buf)
    }

    /// Receives at most `max` bytes once, into memory of its own; empty at the orderly end of the stream. It leaves
    /// nothing armed, so the socket can be handed to another core afterwards. If the future is dropped early, bytes
    /// that arrive at that moment may be lost.
    ///
    /// # Errors
    /// Those of recv(2).
    ///
    /// # Panics
    /// If another receive is under way, or [`recv`](TcpStream::recv) was used and no
    /// [`recv_into`](TcpStream::recv_into) has stopped it since: see [`is_armed`](TcpStream::is_armed).
    pub async fn recv_once(&self, max: usize) -> io::Result<Bytes> {
        let _reader = Claim::new(&self.inner.has_reader, "reader");
        assert!(!self.is_armed(), "recv_once finds no receive armed");
        let rest = self.take_rest(max);
        if max == 0 || !rest.is_empty() || self.inner.ended.get() {
            return Ok(rest);
        }
        let len = u32::try_from(max).unwrap_or(u32::MAX);
        Ok(self.receive(BytesMut::with_capacity(len as usize), len, false).await?.freeze())
    }

    /// Whether a receive for [`recv`](TcpStream::recv) is under way in the background.
    pub fn is_armed(&self) -> bool {
        self.inner.receiving.borrow().is_some()
    }

    /// Sends all of `data`, slice after slice, without copying it. One send at a time.
    ///
    /// If the future is dropped early, an unknown part was sent: the connection is good for nothing but closing.
    ///
    /// # Errors
    /// Those of sendmsg(2). After an error an unknown part was sent.
    ///
    /// # Panics
    /// If another send is under way on the same socket.
    pub async fn send(&self, mut data: Vec<Bytes>) -> io::Result<()> {
        self.send_from(&mut data).await
    }

    /// As [`send`](TcpStream::send), and leaves `slices` empty but with its memory, so that the next send needs none.
    ///
    /// # Errors
    /// Those of [`send`](TcpStream::send).
    ///
    /// # Panics
    /// As [`send`](TcpStream::send).
    pub async fn send_from(&self, slices: &mut Vec<Bytes>) -> io::Result<()> {
        let _sender = Claim::new(&self.inner.has_sender, "send");
        let mut data = Gather::new(std::mem::take(slices));
        while !data.is_done() {
            let (result, op) = Operation::start(Op::Send { fd: self.inner.descriptor.raw(), data }).await;
            let Op::Send { data: back, .. } = op else { unreachable!("a send comes back as a send") };
            data = back;
            data.advance(result?);
        }
        *slices = data.into_empty();
        Ok(())
    }

    /// Ends both directions. A receive under way sees the end of the stream, a send fails.
    pub fn shutdown(&self) {
        let fd = self.inner.descriptor.raw();
        core::with(|core| match core.machine() {
            Some(machine) => machine.shutdown(fd),
            None => sys::shutdown_socket(fd),
        });
    }

    /// Takes the socket off this core, for [`from_parts`](TcpStream::from_parts) on another.
    ///
    /// # Panics
    /// If other handles to the socket are left, or [`recv`](TcpStream::recv) was used on it: what the core has
    /// received already would be lost.
    pub fn into_parts(self) -> SocketParts {
        let inner = Rc::into_inner(self.inner).expect("a socket is handed off by its only handle");
        assert!(inner.receiving.into_inner().is_none(), "a socket is handed off with nothing armed on it");
        assert!(inner.rest.into_inner().is_empty(), "a socket is handed off with nothing unread");
        SocketParts { descriptor: inner.descriptor, peer: inner.peer }
    }

    /// Puts a socket onto the current core.
    pub fn from_parts(parts: SocketParts) -> TcpStream {
        let inner = Inner {
            receiving: RefCell::new(None),
            descriptor: parts.descriptor,
            peer: parts.peer,
            rest: RefCell::default(),
            ended: Cell::new(false),
            has_reader: Cell::new(false),
            has_sender: Cell::new(false),
        };
        TcpStream { inner: Rc::new(inner) }
    }
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpStream").field("peer", &self.inner.peer).finish_non_exhaustive()
    }
}

/// A socket between two cores.
#[derive(Debug)]
pub struct SocketParts {
    descriptor: Descriptor,
    peer: SocketAddr,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CoreConfig, run, spawn};

    #[test]
    fn both_ends_of_a_connection_are_kept_alive() {
        run(CoreConfig::default(), async {
            let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
            let connecting = spawn(TcpStream::connect(listener.local_addr()));
            let (accepted, _) = listener.accept().await.expect("accept");
            let connected = connecting.await.expect("connect");
            for stream in [accepted, connected] {
                let found = sys::keepalive(stream.inner.descriptor.raw()).expect("a socket");
                assert_eq!(found, Some(KEEPALIVE));
            }
        })
        .expect("the core runs");
    }
}
