//! One end of a simulated connection.
//!
//! Invariant: what was sent arrives in the order it was sent in, the end of the stream and a reset included.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::RawFd;

use bytes::{Bytes, BytesMut};

use super::super::disk::Errno;
use super::super::host::ProcessId;

/// The arrival of what is held back until the network is whole again.
pub(super) const HELD: u64 = u64::MAX;

pub(super) struct Stream {
    pub(super) owner: ProcessId,
    pub(super) peer: SocketAddr,
    pub(super) other: RawFd,
    /// On its way here, by arrival.
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
    pub(super) fn new(owner: ProcessId, peer: SocketAddr, other: RawFd) -> Stream {
        Stream {
            owner,
            peer,
            other,
            transit: VecDeque::new(),
            inbox: Inbox::default(),
            unread: 0,
            ended: false,
            closed: false,
            failed: None,
            wasted: 0,
        }
    }

    /// Bytes that have been sent to it and are not yet read.
    pub(super) fn unread(&self) -> usize {
        self.unread
    }

    /// Puts something on its way here, behind what is there.
    pub(super) fn post(&mut self, load: Load, arrival: u64, now: u64) {
        if let Load::Bytes(bytes) = &load {
            self.unread += bytes.len();
        }
        let arrival = self.transit.back().map_or(arrival, |last| last.arrival.max(arrival));
        if arrival <= now {
            self.take_in(load);
        } else {
            self.transit.push_back(Packet { arrival, load });
        }
    }

    /// Takes in what has arrived by now.
    pub(super) fn arrive(&mut self, now: u64) {
        while self.transit.front().is_some_and(|packet| packet.arrival <= now) {
            let packet = self.transit.pop_front();
            packet.into_iter().for_each(|packet| self.take_in(packet.load));
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
