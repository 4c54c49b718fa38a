//! What goes wrong on the ways between hosts.
//!
//! A connection whose ends do not hear each other ends as it would on Linux: after 90 seconds of silence by its keep-alive, or,
//! if something it sent was not acknowledged, when TCP stops to send that again; or by a reset, once the other host is
//! back and knows nothing of it.

use std::fmt;
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::Duration;

use super::super::host::ProcessId;
use super::super::world::{Event, World};
use super::stream::{Load, Stream};
use super::{Net, Socket};

/// The network between the hosts of a simulation ([`Simulation::network`](super::super::Simulation::network)): whole and quick
/// until something else is asked for. Connections within a host know nothing of all this. Clones are handles to the same
/// network.
#[derive(Clone)]
pub struct SimNet {
    pub(in super::super) world: Rc<World>,
}

impl SimNet {
    /// Every packet between two hosts takes `least` and up to `spread` more. Those of one direction of a connection keep
    /// their order.
    pub fn set_delay(&self, least: Duration, spread: Duration) {
        self.world.net(|net| net.links.set_delay(nanos(least), nanos(spread)));
        self.world.tell("network", || format!("delays packets for {least:?} and up to {spread:?}"));
    }

    /// From now on nothing gets from the host at `from` to the host at `to`. What is sent is held back until
    /// [`heal`](SimNet::heal); new connections between the two time out.
    pub fn cut(&self, from: IpAddr, to: IpAddr) {
        let (from_host, to_host) = (self.world.host_at(from), self.world.host_at(to));
        self.world.net(|net| net.cut(from_host, to_host));
        self.world.tell("network", || format!("is cut from {from} to {to}"));
    }

    /// Undoes every cut.
    pub fn heal(&self) {
        self.world.net(Net::heal);
        self.world.tell("network", || "is whole again".to_owned());
    }

    /// Resets every connection between two hosts.
    pub fn reset(&self, one: IpAddr, other: IpAddr) {
        let (one_host, other_host) = (self.world.host_at(one), self.world.host_at(other));
        self.world.net(|net| net.reset(one_host, other_host));
        self.world.tell("network", || format!("resets the connections between {one} and {other}"));
    }

    /// From now on the connection that a packet belongs to is lost about once in so many packets: a part of the packet
    /// arrives, then both ends see a reset. 0 means never.
    pub fn reset_one_in(&self, packets: u64) {
        self.world.net(|net| net.links.set_reset_one_in(packets));
        self.world.tell("network", || format!("loses a connection once in {packets} packets"));
    }

    /// Ends one direction of every connection between two hosts: the one at `to` sees the end of the stream, and the one
    /// at `from` can send no more, but still receive.
    pub fn half_close(&self, from: IpAddr, to: IpAddr) {
        let (from_host, to_host) = (self.world.host_at(from), self.world.host_at(to));
        self.world.net(|net| net.half_close(from_host, to_host));
        self.world.tell("network", || format!("half-closes the connections from {from} to {to}"));
    }
}

impl fmt::Debug for SimNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimNet").finish_non_exhaustive()
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Net {
    fn streams(&self, which: impl Fn(&Stream) -> bool) -> Vec<RawFd> {
        let is_one = |socket: &Socket| matches!(socket, Socket::Stream(stream) if which(stream));
        self.sockets.iter().filter(|(_, socket)| is_one(socket)).map(|(fd, _)| *fd).collect()
    }

    fn fail(&mut self, fd: RawFd, errno: i32) {
        if let Some(stream) = self.stream(fd) {
            stream.fail(errno);
            self.wake(fd);
        }
    }

    /// Both ends of a connection are lost.
    pub(super) fn sever(&mut self, fd: RawFd) {
        let other = self.stream(fd).map(|stream| stream.other);
        self.fail(fd, libc::ECONNRESET);
        other.into_iter().for_each(|other| self.fail(other, libc::ECONNRESET));
    }

    pub(in super::super) fn reset_all(&mut self) {
        for fd in self.streams(|_| true) {
            self.fail(fd, libc::ECONNRESET);
        }
    }

    fn reset(&mut self, one: u32, other: u32) {
        for fd in self.streams(|stream| stream.is_between(one, other)) {
            self.fail(fd, libc::ECONNRESET);
        }
    }

    fn half_close(&mut self, from: u32, to: u32) {
        for fd in self.streams(|stream| stream.is_from(from, to)) {
            let Some(stream) = self.stream(fd) else { continue };
            stream.closed = true;
            let other = stream.other;
            self.wake(fd);
            self.post(other, Load::End);
        }
    }

    fn cut(&mut self, from: u32, to: u32) {
        self.links.cut(from, to);
        for fd in self.streams(|stream| stream.is_between(from, to)) {
            self.begin_silence(fd);
        }
    }

    fn heal(&mut self) {
        self.links.heal();
        for fd in self.streams(Stream::is_cut_off) {
            let again = self.now + self.links.until_sent_again();
            let now = self.now;
            let Some(stream) = self.stream(fd) else { continue };
            stream.end_silence(now, again);
            self.wake(fd);
        }
    }

    /// The two ends of `fd`'s connection do not hear each other any more.
    fn begin_silence(&mut self, fd: RawFd) {
        let now = self.now;
        if let Some(stream) = self.stream(fd) {
            stream.begin_silence(now);
            self.watch(fd);
        }
    }

    /// Ends the connection if it has waited for long enough, or looks at it again later.
    pub(in super::super) fn watch(&mut self, fd: RawFd) {
        let now = self.now;
        let Some(stream) = self.stream(fd) else { return };
        let Some(end) = stream.given_up_at() else { return };
        if end > now {
            self.timed.push((end, Event::Watch(fd)));
            return;
        }
        let other = stream.other;
        self.fail(fd, libc::ETIMEDOUT);
        if let Some(stream) = self.stream(other) {
            stream.drop_held();
        }
        // Or it gets that as the answer to what it sends next, once there is a way again.
        self.post(other, Load::Reset);
    }

    /// The sockets of a process are gone with the power of its host, and nobody is told.
    pub(in super::super) fn vanish(&mut self, process: ProcessId) {
        for fd in self.sockets_of(process) {
            self.blocked.remove(&fd);
            let Some(Socket::Stream(stream)) = self.sockets.remove(&fd) else { continue };
            if let Some(peer) = self.stream(stream.other) {
                peer.is_forgotten = true;
                peer.drop_held();
                self.begin_silence(stream.other);
            }
        }
    }

    pub(in super::super) fn power_fails(&mut self, host: u32) {
        self.links.set_power(host, false);
    }

    /// A host is back. It knows nothing of the connections it had, and says so to the next packet of each.
    pub(in super::super) fn power_returns(&mut self, host: u32) {
        if self.links.has_power(host) {
            return;
        }
        self.links.set_power(host, true);
        for fd in self.streams(|stream| stream.is_forgotten && stream.far == host) {
            let now = self.now;
            let Some(stream) = self.stream(fd) else { continue };
            let at = match stream.unacknowledged_since {
                Some(since) => now + self.links.until_tried_again(now - since),
                None => stream.next_probe(now),
            };
            self.timed.push((at, Event::Refuse(fd)));
        }
    }

    /// A packet reaches a host that knows nothing of its connection.
    pub(in super::super) fn refuse(&mut self, fd: RawFd) {
        const TRY_AGAIN_NANOS: u64 = 1_000_000_000;
        let Some(stream) = self.stream(fd) else { return };
        let (owner, far, forgotten) = (stream.owner.host, stream.far, stream.is_forgotten);
        if !forgotten || stream.failed.is_some() {
            return;
        }
        if self.links.are_whole(owner, far) {
            self.fail(fd, libc::ECONNRESET);
        } else {
            self.timed.push((self.now + TRY_AGAIN_NANOS, Event::Refuse(fd)));
        }
    }
}
