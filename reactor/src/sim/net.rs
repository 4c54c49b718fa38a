//! The simulated network: TCP between the tasks of one world.
//!
//! Invariants: bytes of one direction arrive in order and once. A direction holds at most [`WINDOW`] unread bytes;
//! then its sender waits. A close with unread bytes resets the connection, as Linux does.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::os::fd::RawFd;

use bytes::{Bytes, BytesMut};

use super::disk::Errno;
use crate::clock::Random;
use crate::slab::Key;

/// The least time a packet takes, in nanoseconds.
pub(super) const PACKET_NANOS: u64 = 5_000;
/// Unread bytes a direction holds.
const WINDOW: usize = 256 << 10;
/// The most one receive yields: the size of a real core's receive buffer.
const MAX_RECEIVE: usize = 16 << 10;
/// Connections that wait to be accepted.
const BACKLOG: usize = 1024;
const FIRST_EPHEMERAL_PORT: u16 = 32_768;

enum Socket {
    Listener { address: SocketAddr, waiting: VecDeque<RawFd> },
    Stream(Stream),
}

struct Stream {
    other: RawFd,
    peer: SocketAddr,
    inbox: Inbox,
    /// No more will come into the inbox.
    ended: bool,
    /// Nothing may be sent any more.
    closed: bool,
    reset: bool,
}

/// Bytes that have come and are not yet read.
#[derive(Default)]
struct Inbox {
    pieces: VecDeque<Bytes>,
    len: usize,
}

impl Inbox {
    fn len(&self) -> usize {
        self.len
    }

    fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn put(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.len += piece.len();
            self.pieces.push_back(piece);
        }
    }

    /// The first `len` bytes, which are there.
    fn take(&mut self, len: usize) -> Bytes {
        let mut taken = BytesMut::with_capacity(len);
        while taken.len() < len {
            let piece = self.pieces.front_mut().expect("that many bytes are there");
            let step = piece.len().min(len - taken.len());
            taken.extend_from_slice(&piece.split_to(step));
            if piece.is_empty() {
                self.pieces.pop_front();
            }
        }
        self.len -= len;
        taken.freeze()
    }
}

/// What came of looking at a waiting operation.
pub(super) enum Progress<T> {
    Done(T),
    /// It waits until something happens to its socket.
    Blocked,
    Failed(Errno),
}

#[derive(Default)]
pub(super) struct Net {
    sockets: BTreeMap<RawFd, Socket>,
    /// The operations that wait on each socket.
    blocked: BTreeMap<RawFd, Vec<Key>>,
    ports_used: u16,
}

impl Net {
    fn new_port(&mut self) -> u16 {
        let port = FIRST_EPHEMERAL_PORT + self.ports_used % (u16::MAX - FIRST_EPHEMERAL_PORT);
        self.ports_used = self.ports_used.wrapping_add(1);
        port
    }

    fn stream(&mut self, fd: RawFd) -> Result<&mut Stream, Errno> {
        match self.sockets.get_mut(&fd) {
            Some(Socket::Stream(stream)) => Ok(stream),
            _ => Err(libc::ENOTCONN),
        }
    }

    fn take_blocked(&mut self, fd: RawFd) -> Vec<Key> {
        self.blocked.remove(&fd).unwrap_or_default()
    }

    pub(super) fn block(&mut self, fd: RawFd, key: Key) {
        self.blocked.entry(fd).or_default().push(key);
    }

    /// Takes `key` out of those that wait on `fd`; false if it does not wait.
    pub(super) fn unblock(&mut self, fd: RawFd, key: Key) -> bool {
        let Some(keys) = self.blocked.get_mut(&fd) else { return false };
        let before = keys.len();
        keys.retain(|other| *other != key);
        keys.len() < before
    }

    pub(super) fn listen(&mut self, fd: RawFd, mut address: SocketAddr) -> Result<SocketAddr, Errno> {
        if address.port() == 0 {
            address.set_port(self.new_port());
        }
        if self.listener(address).is_some() {
            return Err(libc::EADDRINUSE);
        }
        self.sockets.insert(fd, Socket::Listener { address, waiting: VecDeque::new() });
        Ok(address)
    }

    fn listener(&self, to: SocketAddr) -> Option<RawFd> {
        let hears = |address: &SocketAddr| {
            address.port() == to.port() && (address.ip() == to.ip() || address.ip().is_unspecified())
        };
        self.sockets.iter().find_map(|(fd, socket)| match socket {
            Socket::Listener { address, .. } if hears(address) => Some(*fd),
            _ => None,
        })
    }

    /// Connects `fd`; `accepted` becomes the other end.
    pub(super) fn connect(&mut self, fd: RawFd, accepted: RawFd, to: SocketAddr) -> Result<Vec<Key>, Errno> {
        let listener = self.listener(to).ok_or(libc::ECONNREFUSED)?;
        let from = SocketAddr::new(to.ip(), self.new_port());
        match self.sockets.get_mut(&listener) {
            Some(Socket::Listener { waiting, .. }) if waiting.len() < BACKLOG => waiting.push_back(accepted),
            _ => return Err(libc::ETIMEDOUT),
        }
        self.sockets.insert(fd, Socket::Stream(Stream::new(accepted, to)));
        self.sockets.insert(accepted, Socket::Stream(Stream::new(fd, from)));
        Ok(self.take_blocked(listener))
    }

    pub(super) fn accept(&mut self, fd: RawFd) -> Progress<RawFd> {
        match self.sockets.get_mut(&fd) {
            Some(Socket::Listener { waiting, .. }) => {
                waiting.pop_front().map_or(Progress::Blocked, Progress::Done)
            }
            _ => Progress::Failed(libc::EINVAL),
        }
    }

    pub(super) fn peer_addr(&self, fd: RawFd) -> Result<SocketAddr, Errno> {
        match self.sockets.get(&fd) {
            Some(Socket::Stream(stream)) => Ok(stream.peer),
            _ => Err(libc::ENOTCONN),
        }
    }

    /// Takes some of the bytes that have come, at most `max`; no bytes mean the end. Senders that waited for room
    /// are in the second part.
    pub(super) fn receive(&mut self, fd: RawFd, max: usize, random: &Random) -> (Progress<Bytes>, Vec<Key>) {
        let stream = match self.stream(fd) {
            Ok(stream) => stream,
            Err(errno) => return (Progress::Failed(errno), Vec::new()),
        };
        if stream.reset {
            return (Progress::Failed(libc::ECONNRESET), Vec::new());
        }
        if stream.inbox.is_empty() {
            let progress = if stream.ended { Progress::Done(Bytes::new()) } else { Progress::Blocked };
            return (progress, Vec::new());
        }
        let most = stream.inbox.len().min(max).min(MAX_RECEIVE);
        // Packets end where they will: a receive rarely ends where a message does.
        let len = if random.below(4) == 0 { 1 + random.below(most as u64) as usize } else { most };
        let bytes = stream.inbox.take(len);
        let other = stream.other;
        (Progress::Done(bytes), self.take_blocked(other))
    }

    /// Puts some of `data` into the other end's inbox: how many bytes, and who waited for them.
    pub(super) fn send(&mut self, fd: RawFd, data: &[Bytes]) -> (Progress<usize>, Vec<Key>) {
        let (other, closed, reset) = match self.stream(fd) {
            Ok(stream) => (stream.other, stream.closed, stream.reset),
            Err(errno) => return (Progress::Failed(errno), Vec::new()),
        };
        if reset {
            return (Progress::Failed(libc::ECONNRESET), Vec::new());
        }
        let Ok(peer) = self.stream(other) else { return (Progress::Failed(libc::EPIPE), Vec::new()) };
        if closed {
            return (Progress::Failed(libc::EPIPE), Vec::new());
        }
        let room = WINDOW - peer.inbox.len();
        if room == 0 {
            return (Progress::Blocked, Vec::new());
        }
        let mut sent = 0;
        for slice in data {
            let len = slice.len().min(room - sent);
            peer.inbox.put(slice.slice(..len));
            sent += len;
        }
        (Progress::Done(sent), self.take_blocked(other))
    }

    /// Ends both directions, and wakes all who wait on either end.
    pub(super) fn shutdown(&mut self, fd: RawFd) -> Vec<Key> {
        let Ok(stream) = self.stream(fd) else { return Vec::new() };
        stream.ended = true;
        stream.closed = true;
        let other = stream.other;
        if let Ok(peer) = self.stream(other) {
            peer.ended = true;
        }
        let mut woken = self.take_blocked(fd);
        woken.extend(self.take_blocked(other));
        woken
    }

    pub(super) fn close(&mut self, fd: RawFd) -> Vec<Key> {
        match self.sockets.remove(&fd) {
            None => Vec::new(),
            Some(Socket::Listener { waiting, .. }) => {
                // Nobody will accept them: their peers see a reset.
                waiting.into_iter().flat_map(|fd| self.abort(fd)).collect()
            }
            Some(Socket::Stream(stream)) => {
                if let Ok(peer) = self.stream(stream.other) {
                    peer.ended = true;
                    peer.reset |= !stream.inbox.is_empty();
                }
                self.take_blocked(stream.other)
            }
        }
    }

    fn abort(&mut self, fd: RawFd) -> Vec<Key> {
        let Ok(stream) = self.stream(fd) else { return Vec::new() };
        // As if something had come that nobody will read.
        stream.inbox.put(Bytes::from_static(b"x"));
        self.close(fd)
    }

    pub(super) fn reset_all(&mut self) -> Vec<Key> {
        let mut woken = Vec::new();
        for (fd, socket) in &mut self.sockets {
            if let Socket::Stream(stream) = socket {
                stream.reset = true;
                woken.extend(self.blocked.remove(fd).unwrap_or_default());
            }
        }
        woken
    }
}

impl Stream {
    fn new(other: RawFd, peer: SocketAddr) -> Stream {
        Stream { other, peer, inbox: Inbox::default(), ended: false, closed: false, reset: false }
    }
}
