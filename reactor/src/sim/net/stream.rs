//! One end of a simulated connection.
//!
//! Invariant: what was sent arrives in the order it was sent in, the end of the stream and a reset included.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::RawFd;

use bytes::{Bytes, BytesMut};

use super::super::disk::Errno;
use super::super::host::ProcessId;
use crate::net::KEEPALIVE;

/// How long TCP sends something again and again that nobody acknowledges: Linux's `tcp_retries2`, 15 times.
const RETRANSMIT_NANOS: u64 = 924_600_000_000;
/// Silence before the first probe of the keep-alive, from probe to probe, and until the connection is given up.
const PROBE_IDLE_NANOS: u64 = seconds(KEEPALIVE.idle_s);
const PROBE_INTERVAL_NANOS: u64 = seconds(KEEPALIVE.interval_s);
const SILENCE_NANOS: u64 = seconds(KEEPALIVE.idle_s + KEEPALIVE.interval_s * KEEPALIVE.probes);

const fn seconds(seconds: i32) -> u64 {
    seconds as u64 * 1_000_000_000
}

/// The arrival of what is held back until the network is whole again.
pub(super) const HELD: u64 = u64::MAX;

pub(super) struct Stream {
    pub(super) owner: ProcessId,
    /// The host at the other end.
    pub(super) far: u32,
    pub(super) peer: SocketAddr,
    pub(super) other: RawFd,
    /// On its way here; none arrives before the one in front of it.
    transit: VecDeque<Packet>,
    inbox: Inbox,
    /// Bytes in `transit` and `inbox`.
    unread: usize,
    /// No more will come.
    pub(super) ended: bool,
    /// Nothing may be sent any more.
    pub(super) closed: bool,
    /// The connection is lost: what operations on it get, in the end.
    pub(super) failed: Option<Errno>,
    /// Bytes that were sent and will never be asked for, because there is nobody at the other end.
    pub(super) wasted: usize,
    /// The other end went with the power of its host.
    pub(super) is_forgotten: bool,
    /// When something came from the other end, or was acknowledged by it, for the last time, in nanoseconds.
    heard: u64,
    /// Since when the ends do not hear each other.
    silent_since: Option<u64>,
    /// When the first thing was sent during the silence.
    pub(super) unacknowledged_since: Option<u64>,
}

/// Something on its way, and when it arrives, in nanoseconds.
struct Packet {
    arrival: u64,
    load: Load,
}

pub(super) enum Load {
    Bytes(Bytes),
    End,
    Reset,
}

impl Load {
    fn len(&self) -> usize {
        match self {
            Load::Bytes(bytes) => bytes.len(),
            Load::End | Load::Reset => 0,
        }
    }
}

/// What came of looking for bytes.
pub(super) enum Received {
    /// No bytes mean the end of the stream.
    Bytes(Bytes),
    /// There may be some then.
    NotBefore(u64),
    Nothing,
    Failed(Errno),
}

impl Stream {
    pub(super) fn new(owner: ProcessId, far: u32, peer: SocketAddr, other: RawFd, now: u64) -> Stream {
        Stream {
            owner,
            far,
            peer,
            other,
            transit: VecDeque::new(),
            inbox: Inbox::default(),
            unread: 0,
            ended: false,
            closed: false,
            failed: None,
            wasted: 0,
            is_forgotten: false,
            heard: now,
            silent_since: None,
            unacknowledged_since: None,
        }
    }

    /// Bytes that have been sent to it and are not yet read.
    pub(super) fn unread(&self) -> usize {
        self.unread
    }

    /// Puts something on its way here, behind what is there.
    pub(super) fn post(&mut self, load: Load, arrival: u64, now: u64) {
        self.unread += load.len();
        let arrival = self.transit.back().map_or(arrival, |last| last.arrival.max(arrival));
        if arrival <= now {
            // What came before it may not have been looked for yet.
            self.arrive(now);
            self.heard = now;
            self.take_in(load);
        } else {
            self.transit.push_back(Packet { arrival, load });
        }
    }

    /// Takes in what has arrived by now.
    pub(super) fn arrive(&mut self, now: u64) {
        while self.transit.front().is_some_and(|packet| packet.arrival <= now) {
            let Some(packet) = self.transit.pop_front() else { return };
            self.heard = self.heard.max(packet.arrival);
            self.take_in(packet.load);
        }
    }

    fn take_in(&mut self, load: Load) {
        match load {
            Load::Bytes(bytes) => self.inbox.put(bytes),
            // The other end answers what it does not want by a reset.
            Load::End if self.wasted > 0 => self.fail(libc::ECONNRESET),
            Load::End => self.ended = true,
            Load::Reset => self.fail(libc::ECONNRESET),
        }
    }

    /// Something was sent to the other end.
    pub(super) fn sent(&mut self, now: u64) {
        if self.silent_since.is_none() {
            self.heard = now;
        } else {
            self.unacknowledged_since.get_or_insert(now);
        }
    }

    pub(super) fn is_from(&self, from: u32, to: u32) -> bool {
        self.owner.host == from && self.far == to
    }

    pub(super) fn is_between(&self, one: u32, other: u32) -> bool {
        self.is_from(one, other) || self.is_from(other, one)
    }

    /// Whether only a cut keeps its ends apart.
    pub(super) fn is_cut_off(&self) -> bool {
        self.silent_since.is_some() && !self.is_forgotten
    }

    pub(super) fn begin_silence(&mut self, now: u64) {
        self.arrive(now);
        self.silent_since.get_or_insert(now);
    }

    /// The ends hear each other again; what was held back arrives at `arrival`.
    pub(super) fn end_silence(&mut self, now: u64, arrival: u64) {
        self.heard = now;
        self.silent_since = None;
        self.unacknowledged_since = None;
        let mut before = 0;
        for packet in &mut self.transit {
            if packet.arrival == HELD {
                // What was held back by an earlier cut, and is on its way again, may take longer.
                packet.arrival = arrival.max(before);
            }
            before = packet.arrival;
        }
    }

    /// What was held back will never be sent again.
    pub(super) fn drop_held(&mut self) {
        let held = |packet: &Packet| if packet.arrival == HELD { packet.load.len() } else { 0 };
        self.unread -= self.transit.iter().map(held).sum::<usize>();
        self.transit.retain(|packet| packet.arrival != HELD);
    }

    /// When a probe of the keep-alive, or something else, was answered for the last time before the silence.
    fn last_answer(&self, silent_since: u64) -> u64 {
        self.heard + silent_since.saturating_sub(self.heard) / PROBE_IDLE_NANOS * PROBE_IDLE_NANOS
    }

    /// When it is given up if the silence goes on.
    pub(super) fn given_up_at(&self) -> Option<u64> {
        let since = self.silent_since.filter(|_| self.failed.is_none())?;
        Some(match self.unacknowledged_since {
            Some(sent) => sent + RETRANSMIT_NANOS,
            None => self.last_answer(since) + SILENCE_NANOS,
        })
    }

    /// When the keep-alive asks next whether the other end is there.
    pub(super) fn next_probe(&self, now: u64) -> u64 {
        let mut probe = self.last_answer(self.silent_since.unwrap_or(now)) + PROBE_IDLE_NANOS;
        while probe < now {
            probe += PROBE_INTERVAL_NANOS;
        }
        probe
    }

    /// The connection is lost. What has arrived can still be read.
    pub(super) fn fail(&mut self, errno: Errno) {
        self.failed.get_or_insert(errno);
        self.transit.clear();
        self.unread = self.inbox.len;
    }

    /// Takes some of the bytes that have come: as many as `size` says of how many there are.
    pub(super) fn receive(&mut self, now: u64, size: impl FnOnce(usize) -> usize) -> Received {
        self.arrive(now);
        if self.inbox.len > 0 {
            let bytes = self.inbox.take(size(self.inbox.len));
            self.unread -= bytes.len();
            return Received::Bytes(bytes);
        }
        if let Some(errno) = self.failed {
            return Received::Failed(errno);
        }
        if self.ended {
            return Received::Bytes(Bytes::new());
        }
        match self.transit.front() {
            Some(packet) if packet.arrival != HELD => Received::NotBefore(packet.arrival),
            _ => Received::Nothing,
        }
    }
}

/// Bytes that have come and are not yet read.
#[derive(Default)]
struct Inbox {
    pieces: VecDeque<Bytes>,
    len: usize,
}

impl Inbox {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_second_cut_held_back_stays_behind_what_the_first_one_did() {
        let owner = ProcessId { host: 1, life: 1 };
        let mut stream = Stream::new(owner, 2, "10.0.0.2:1".parse().unwrap(), 7, 0);
        stream.begin_silence(0);
        stream.post(Load::Bytes(Bytes::from_static(b"first ")), HELD, 1);
        stream.end_silence(2, 90);
        stream.begin_silence(3);
        stream.post(Load::Bytes(Bytes::from_static(b"second ")), HELD, 4);
        stream.end_silence(5, 10);
        stream.post(Load::Bytes(Bytes::from_static(b"third")), 20, 20);
        assert!(matches!(stream.receive(50, |len| len), Received::NotBefore(90)));
        let Received::Bytes(bytes) = stream.receive(90, |len| len) else { panic!("all are there") };
        assert_eq!(bytes, "first second third");
    }

    #[test]
    fn what_arrives_at_once_stays_behind_what_has_arrived_and_was_not_looked_for() {
        let owner = ProcessId { host: 1, life: 1 };
        let mut stream = Stream::new(owner, 2, "10.0.0.2:1".parse().unwrap(), 7, 0);
        stream.post(Load::Bytes(Bytes::from_static(b"first ")), 5, 1);
        stream.post(Load::Bytes(Bytes::from_static(b"second")), 6, 6);
        let Received::Bytes(bytes) = stream.receive(6, |len| len) else { panic!("both are there") };
        assert_eq!(bytes, "first second");
    }
}
