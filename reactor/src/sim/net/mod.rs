//! The simulated network: TCP between the processes of one world.
//!
//! Invariants: bytes of one direction arrive in order and once. A direction holds at most [`WINDOW`] unread bytes;
//! then its sender waits. A close with unread bytes resets the connection, as Linux does.

mod faults;
mod links;
mod stream;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::os::fd::RawFd;

use bytes::Bytes;

pub use self::faults::SimNet;
use self::links::Links;
use self::stream::{Load, Received, Stream};
use super::disk::Errno;
use super::host::ProcessId;
use super::world::{Event, OpRef};
use crate::clock::Random;

/// The least time a packet takes, in nanoseconds.
pub(super) const PACKET_NANOS: u64 = 5_000;
/// Unread bytes a direction holds.
const WINDOW: usize = 256 << 10;
/// The most one receive yields: the size of a real core's receive buffer.
const MAX_RECEIVE: usize = 16 << 10;
/// Connections that wait to be accepted.
const BACKLOG: usize = 1024;

enum Socket {
    Listener(Listener),
    Stream(Stream),
}

struct Listener {
    owner: ProcessId,
    address: SocketAddr,
    waiting: VecDeque<RawFd>,
}

impl Listener {
    fn hears(&self, host: u32, to: SocketAddr) -> bool {
        let address = self.address;
        self.owner.host == host
            && address.port() == to.port()
            && (address.ip() == to.ip() || address.ip().is_unspecified())
    }
}

/// What came of looking at a waiting operation.
pub(super) enum Progress<T> {
    Done(T),
    /// It waits until something happens to its socket.
    Blocked,
    /// It is worth another look at that time.
    NotBefore(u64),
    Failed(Errno),
}

pub(super) struct Net {
    /// The time, in nanoseconds.
    now: u64,
    sockets: BTreeMap<RawFd, Socket>,
    /// The operations that wait on each socket.
    blocked: BTreeMap<RawFd, Vec<OpRef>>,
    /// Those for which something has happened.
    woken: Vec<OpRef>,
    /// What is to happen, and when, in nanoseconds.
    timed: Vec<(u64, Event)>,
    links: Links,
}

impl Net {
    pub(super) fn new(seed: u64) -> Net {
        Net {
            now: 0,
            sockets: BTreeMap::new(),
            blocked: BTreeMap::new(),
            woken: Vec::new(),
            timed: Vec::new(),
            links: Links::new(seed),
        }
    }

    fn stream(&mut self, fd: RawFd) -> Option<&mut Stream> {
        match self.sockets.get_mut(&fd) {
            Some(Socket::Stream(stream)) => Some(stream),
            _ => None,
        }
    }

    pub(super) fn set_time(&mut self, now: u64) {
        self.now = now;
    }

    /// The operations that are to be looked at again.
    pub(super) fn take_woken(&mut self) -> std::vec::Drain<'_, OpRef> {
        self.woken.drain(..)
    }

    /// What is to happen, and when.
    pub(super) fn take_timed(&mut self) -> std::vec::Drain<'_, (u64, Event)> {
        self.timed.drain(..)
    }

    fn wake(&mut self, fd: RawFd) {
        if let Some(mut ops) = self.blocked.remove(&fd) {
            self.woken.append(&mut ops);
        }
    }

    pub(super) fn block(&mut self, fd: RawFd, op: OpRef) {
        self.blocked.entry(fd).or_default().push(op);
    }

    /// Takes `op` out of those that wait on `fd`; false if it does not wait.
    pub(super) fn unblock(&mut self, fd: RawFd, op: OpRef) -> bool {
        let Some(ops) = self.blocked.get_mut(&fd) else { return false };
        let before = ops.len();
        ops.retain(|other| *other != op);
        ops.len() < before
    }

    pub(super) fn listen(&mut self, fd: RawFd, owner: ProcessId, address: SocketAddr) -> Result<(), Errno> {
        if self.listener(owner.host, address).is_some() {
            return Err(libc::EADDRINUSE);
        }
        self.sockets.insert(fd, Socket::Listener(Listener { owner, address, waiting: VecDeque::new() }));
        Ok(())
    }

    fn listener(&self, host: u32, to: SocketAddr) -> Option<RawFd> {
        self.sockets.iter().find_map(|(fd, socket)| match socket {
            Socket::Listener(listener) if listener.hears(host, to) => Some(*fd),
            _ => None,
        })
    }

    /// How long it takes beyond the usual to reach a host and have its answer.
    pub(super) fn round_trip(&self, here: u32, there: u32) -> u64 {
        self.links.delay(here, there) + self.links.delay(there, here)
    }

    /// Connects `fd` of `owner`; `accepted` becomes the other end, on the host `there`. Blocked if there is no answer.
    pub(super) fn connect(
        &mut self,
        (fd, accepted): (RawFd, RawFd),
        owner: ProcessId,
        from: SocketAddr,
        there: u32,
        to: SocketAddr,
    ) -> Progress<()> {
        if !self.links.are_whole(owner.host, there) {
            return Progress::Blocked;
        }
        let Some(listening) = self.listener(there, to) else { return Progress::Failed(libc::ECONNREFUSED) };
        let acceptor = match self.sockets.get_mut(&listening) {
            Some(Socket::Listener(listener)) if listener.waiting.len() < BACKLOG => {
                listener.waiting.push_back(accepted);
                listener.owner
            }
            // It drops what it cannot hold.
            _ => return Progress::Blocked,
        };
        let now = self.now;
        self.sockets.insert(fd, Socket::Stream(Stream::new(owner, there, to, accepted, now)));
        self.sockets.insert(accepted, Socket::Stream(Stream::new(acceptor, owner.host, from, fd, now)));
        self.wake(listening);
        Progress::Done(())
    }

    pub(super) fn accept(&mut self, fd: RawFd) -> Progress<RawFd> {
        match self.sockets.get_mut(&fd) {
            Some(Socket::Listener(listener)) => {
                listener.waiting.pop_front().map_or(Progress::Blocked, Progress::Done)
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

    /// Takes some of the bytes that have come, at most `max`; no bytes mean the end.
    pub(super) fn receive(&mut self, fd: RawFd, max: usize, random: &Random) -> Progress<Bytes> {
        let now = self.now;
        let Some(stream) = self.stream(fd) else { return Progress::Failed(libc::ENOTCONN) };
        let received = stream.receive(now, |there| {
            let most = there.min(max).min(MAX_RECEIVE);
            // Packets end where they will: a receive rarely ends where a message does.
            if random.below(4) == 0 { 1 + random.below(most as u64) as usize } else { most }
        });
        let other = stream.other;
        match received {
            Received::Bytes(bytes) => {
                // There is room again for a sender that waits.
                self.wake(other);
                Progress::Done(bytes)
            }
            Received::NotBefore(arrival) => Progress::NotBefore(arrival),
            Received::Nothing => Progress::Blocked,
            Received::Failed(errno) => Progress::Failed(errno),
        }
    }

    /// Puts some of `data` on its way to the other end: how many bytes.
    pub(super) fn send(&mut self, fd: RawFd, data: &[Bytes]) -> Progress<usize> {
        let now = self.now;
        let Some(stream) = self.stream(fd) else { return Progress::Failed(libc::ENOTCONN) };
        stream.arrive(now);
        if let Some(errno) = stream.failed {
            return Progress::Failed(errno);
        }
        let (here, far, other) = (stream.owner.host, stream.far, stream.other);
        let (closed, ended, wasted) = (stream.closed, stream.ended, stream.wasted);
        let unread = self.stream(other).map(|peer| peer.unread());
        if closed || (ended && unread.is_none()) {
            return Progress::Failed(libc::EPIPE);
        }
        let room = WINDOW - unread.unwrap_or(wasted);
        if room == 0 {
            return Progress::Blocked;
        }
        let wanted = data.iter().map(Bytes::len).sum::<usize>().min(room);
        let lost = self.links.loses(here, far, wanted);
        let sent = self.put(other, data, lost.unwrap_or(wanted));
        if lost.is_some() {
            self.sever(fd);
            return Progress::Failed(libc::ECONNRESET);
        }
        self.sent(fd, if unread.is_none() { sent } else { 0 });
        Progress::Done(sent)
    }

    /// Puts at most `most` bytes on their way to `fd`, if that is there: how many.
    fn put(&mut self, fd: RawFd, data: &[Bytes], most: usize) -> usize {
        let mut sent = 0;
        for slice in data {
            let len = slice.len().min(most - sent);
            if len > 0 {
                self.post(fd, Load::Bytes(slice.slice(..len)));
            }
            sent += len;
        }
        sent
    }

    /// Something was sent on `fd`; `wasted` bytes of it have nobody to get them, which the sender does not know yet.
    fn sent(&mut self, fd: RawFd, wasted: usize) {
        let now = self.now;
        let Some(stream) = self.stream(fd) else { return };
        stream.sent(now);
        stream.wasted += wasted;
        let (here, far, forgotten) = (stream.owner.host, stream.far, stream.is_forgotten);
        if forgotten && self.links.are_whole(here, far) {
            let answer = now + PACKET_NANOS + self.round_trip(here, far);
            self.timed.push((answer, Event::Refuse(fd)));
        }
    }

    /// Puts something on its way to `fd`.
    fn post(&mut self, fd: RawFd, load: Load) {
        let now = self.now;
        let Some(stream) = self.stream(fd) else { return };
        let (here, far) = (stream.owner.host, stream.far);
        let arrival = self.links.arrival(far, here, now);
        if let Some(stream) = self.stream(fd) {
            stream.post(load, arrival, now);
        }
        self.wake(fd);
    }

    /// Ends both directions, and wakes all who wait on either end.
    pub(super) fn shutdown(&mut self, fd: RawFd) {
        let Some(stream) = self.stream(fd) else { return };
        stream.ended = true;
        stream.closed = true;
        let other = stream.other;
        self.wake(fd);
        self.post(other, Load::End);
    }

    pub(super) fn close(&mut self, fd: RawFd) {
        match self.sockets.remove(&fd) {
            None => {}
            // Nobody will accept them: their peers see a reset.
            Some(Socket::Listener(listener)) => {
                for accepted in listener.waiting {
                    if let Some(Socket::Stream(stream)) = self.sockets.remove(&accepted) {
                        self.post(stream.other, Load::Reset);
                    }
                }
            }
            // The other end has been told, or has told.
            Some(Socket::Stream(stream)) if stream.failed.is_some() => {}
            Some(Socket::Stream(stream)) => {
                let load = if stream.unread() > 0 { Load::Reset } else { Load::End };
                self.post(stream.other, load);
                self.wake(stream.other);
            }
        }
    }

    fn sockets_of(&self, process: ProcessId) -> Vec<RawFd> {
        let is_its = |socket: &Socket| match socket {
            Socket::Listener(listener) => listener.owner == process,
            Socket::Stream(stream) => stream.owner == process,
        };
        self.sockets.iter().filter(|(_, socket)| is_its(socket)).map(|(fd, _)| *fd).collect()
    }

    /// Closes the sockets of a process.
    pub(super) fn process_ends(&mut self, process: ProcessId) {
        for fd in self.sockets_of(process) {
            self.close(fd);
            self.blocked.remove(&fd);
        }
    }
}
