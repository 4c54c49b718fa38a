//! What is on its way out to one client: frames in order, drained by one sender.
//!
//! Invariants
//! - Order: pieces leave in the order they were put in.
//! - Bounded: producers of replies look at [`Outbox::is_full`] before they make more; whoever is told
//!   "full" waits for [`Outbox::room`]. One reply may go over the bound, never a second.
//! - Small frames share one buffer, so that many replies of one turn cost one allocation and one slice.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use ringlog_reactor::{Notified, Notify};

use crate::limits::{OUTBOX_BYTES, SEND_BYTES};
use crate::net::holder::Holder;
use crate::net::reply_budget::ReplyPermit;

/// Slices one gather send may carry (the kernel's IOV_MAX is 1024).
const SEND_PIECES: usize = 1000;
const SMALL_BUFFER_BYTES: usize = 4096;
/// A slice of log memory keeps its whole chunk alive. One that is smaller than this is copied when it would have to
/// wait: a reader that is behind then costs its own bytes, and one that keeps up still costs no copy.
const COPIED_BYTES: usize = 16 << 10;

/// Frames waiting to be sent.
#[derive(Default)]
pub struct Outbox {
    pieces: RefCell<VecDeque<Bytes>>,
    small: RefCell<BytesMut>,
    /// What was put in and has not left, and what is reserved.
    bytes: Cell<usize>,
    /// What was taken out and has not left.
    in_flight: Cell<usize>,
    /// Bytes that were put in, and that have left, since the beginning.
    put_in: Cell<u64>,
    gone: Cell<u64>,
    /// The memory of long replies, with the place where each ends.
    long: RefCell<VecDeque<(u64, ReplyPermit)>>,
    closed: Cell<bool>,
    arrived: Notify,
    left: Notify,
}

impl Holder for Outbox {
    fn cut_off(&self) {
        if !self.is_closed() {
            tracing::warn!("a client is cut off: it does not take its replies while others wait for memory");
            self.close();
        }
    }
}

impl Outbox {
    /// Puts a small frame behind the others, written by `encode`.
    pub fn push_small(&self, encode: impl FnOnce(&mut BytesMut)) {
        if self.closed.get() {
            return;
        }
        let mut small = self.small.borrow_mut();
        if small.capacity() == small.len() {
            small.reserve(SMALL_BUFFER_BYTES);
        }
        let before = small.len();
        encode(&mut small);
        self.count_in(small.len() - before);
        drop(small);
        self.arrived.notify_all();
    }

    /// Puts record batches behind the frame head that announced their length.
    pub fn push_pieces(&self, pieces: impl IntoIterator<Item = Bytes>) {
        if self.closed.get() {
            return;
        }
        let waits = self.in_flight.get() > 0;
        for piece in pieces {
            self.count_in(piece.len());
            if waits && piece.len() < COPIED_BYTES {
                let mut small = self.small.borrow_mut();
                if small.capacity() - small.len() < piece.len() {
                    small.reserve(COPIED_BYTES);
                }
                small.extend_from_slice(&piece);
                continue;
            }
            self.seal_small();
            self.pieces.borrow_mut().push_back(piece);
        }
        self.arrived.notify_all();
    }

    fn count_in(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() + bytes);
        self.put_in.set(self.put_in.get() + bytes as u64);
    }

    /// Puts a long reply behind the others; its memory goes back when it has left.
    pub fn push_long(&self, frame: Bytes, mut permit: ReplyPermit) {
        permit.keep(frame.len());
        self.push_pieces([frame]);
        if !self.closed.get() {
            self.long.borrow_mut().push_back((self.put_in.get(), permit));
        }
    }

    /// Waits for room and takes some, for data that is yet to be read: many readers that wait for the disk together
    /// must not all believe in the same room.
    pub async fn reserve(self: &Rc<Self>, bytes: usize) -> Reservation {
        self.wait_for_room().await;
        self.bytes.set(self.bytes.get() + bytes);
        Reservation { outbox: self.clone(), bytes }
    }

    /// Whether whoever makes replies should wait for [`Outbox::room`].
    pub fn is_full(&self) -> bool {
        self.bytes.get() >= OUTBOX_BYTES
    }

    /// Fires when something left, or the outbox was closed.
    pub fn room(&self) -> Notified {
        self.left.notified()
    }

    /// Waits until the outbox is no longer full.
    pub async fn wait_for_room(&self) {
        while self.is_full() && !self.closed.get() {
            self.room().await;
        }
    }

    /// Waits for something to send and moves at most one gather send's worth into `taken`, which is empty; false once closed.
    pub async fn take(&self, taken: &mut Vec<Bytes>) -> bool {
        loop {
            if self.closed.get() {
                return false;
            }
            let arrived = self.arrived.notified();
            self.take_now(taken);
            if !taken.is_empty() {
                return true;
            }
            arrived.await;
        }
    }

    /// Waits for something and moves all of it into `taken`, which is empty; false once closed. Whoever puts a frame in does not
    /// wait in the middle of it, so these are whole frames: others may be put between them and what is taken next.
    pub async fn take_frames(&self, taken: &mut Vec<Bytes>) -> bool {
        loop {
            if self.closed.get() {
                return false;
            }
            let arrived = self.arrived.notified();
            self.take_frames_now(taken);
            if !taken.is_empty() {
                return true;
            }
            arrived.await;
        }
    }

    fn take_frames_now(&self, taken: &mut Vec<Bytes>) {
        self.seal_small();
        taken.extend(self.pieces.borrow_mut().drain(..));
        let bytes: usize = taken.iter().map(Bytes::len).sum();
        self.in_flight.set(self.in_flight.get() + bytes);
    }

    /// Moves at most one gather send's worth of what is there into `taken`, which is empty.
    fn take_now(&self, taken: &mut Vec<Bytes>) {
        debug_assert!(taken.is_empty(), "what was taken before was sent");
        self.seal_small();
        let mut queue = self.pieces.borrow_mut();
        let mut bytes = 0;
        while taken.len() < SEND_PIECES && bytes < SEND_BYTES {
            let Some(mut piece) = queue.pop_front() else { break };
            if bytes + piece.len() > SEND_BYTES {
                queue.push_front(piece.split_off(SEND_BYTES - bytes));
            }
            bytes += piece.len();
            taken.push(piece);
        }
        self.in_flight.set(self.in_flight.get() + bytes);
    }

    /// Tells that this many bytes have left: only then is there room for more.
    pub fn sent(&self, bytes: usize) {
        self.in_flight.set(self.in_flight.get() - bytes);
        self.gone.set(self.gone.get() + bytes as u64);
        while self.long.borrow_mut().pop_front_if(|(end, _)| *end <= self.gone.get()).is_some() {}
        self.release(bytes);
    }

    fn release(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() - bytes);
        self.left.notify_all();
    }

    /// Waits until everything that was put in has left, or the outbox was closed.
    pub async fn drained(&self) {
        while self.bytes.get() > 0 && !self.closed.get() {
            self.room().await;
        }
    }

    /// Takes nothing more and drops what it holds.
    pub fn close(&self) {
        self.closed.set(true);
        self.pieces.borrow_mut().clear();
        self.small.borrow_mut().clear();
        self.long.borrow_mut().clear();
        self.arrived.notify_all();
        self.left.notify_all();
    }

    /// Whether [`Outbox::close`] was called.
    pub fn is_closed(&self) -> bool {
        self.closed.get()
    }

    fn seal_small(&self) {
        let mut small = self.small.borrow_mut();
        if !small.is_empty() {
            let frames = small.split().freeze();
            self.pieces.borrow_mut().push_back(frames);
        }
    }
}

/// Room in an outbox, given back on drop.
pub struct Reservation {
    outbox: Rc<Outbox>,
    bytes: usize,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.outbox.release(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(outbox: &Outbox) -> Vec<Bytes> {
        let mut taken = Vec::new();
        outbox.take_now(&mut taken);
        taken
    }

    #[test]
    fn pieces_leave_in_the_order_they_came() {
        let outbox = Outbox::default();
        outbox.push_small(|to| to.extend_from_slice(b"ab"));
        outbox.push_small(|to| to.extend_from_slice(b"c"));
        outbox.push_pieces([Bytes::from_static(b"de"), Bytes::from_static(b"f")]);
        outbox.push_small(|to| to.extend_from_slice(b"g"));
        assert_eq!(take(&outbox).concat(), b"abcdefg");
        outbox.sent(7);
        assert_eq!(outbox.bytes.get(), 0);
    }

    #[test]
    fn it_is_full_until_bytes_have_left() {
        let outbox = Outbox::default();
        outbox.push_pieces([Bytes::from(vec![0; OUTBOX_BYTES])]);
        assert!(outbox.is_full());
        let taken: usize = take(&outbox).iter().map(Bytes::len).sum();
        assert_eq!(taken, SEND_BYTES);
        assert!(outbox.is_full(), "taken is not sent");
        outbox.sent(taken);
        assert!(!outbox.is_full());
    }

    #[test]
    fn frames_for_another_core_are_taken_whole() {
        let outbox = Outbox::default();
        outbox.push_small(|to| to.extend_from_slice(b"head"));
        outbox.push_pieces([Bytes::from(vec![0; SEND_BYTES]), Bytes::from(vec![1; SEND_BYTES])]);
        let mut taken = Vec::new();
        outbox.take_frames_now(&mut taken);
        let bytes: usize = taken.iter().map(Bytes::len).sum();
        assert_eq!(bytes, 4 + 2 * SEND_BYTES, "else frames of others get into the middle of this one");
        outbox.sent(bytes);
        assert_eq!(outbox.bytes.get(), 0);
    }

    #[test]
    fn what_has_to_wait_does_not_keep_its_chunk_alive() {
        let chunk = Bytes::from(vec![7; 1 << 20]);
        let outbox = Outbox::default();
        outbox.push_pieces([chunk.slice(..100)]);
        let first = take(&outbox);
        assert_eq!(first[0].as_ptr(), chunk.as_ptr(), "a reader that keeps up costs no copy");
        outbox.push_pieces([chunk.slice(100..200), chunk.slice(200..300)]);
        drop(first);
        assert!(chunk.is_unique(), "what waits behind it is a copy");
        outbox.sent(100);
        assert_eq!(take(&outbox).concat(), vec![7; 200]);
    }

    #[test]
    fn reserved_room_is_not_given_twice() {
        let outbox = Rc::new(Outbox::default());
        ringlog_reactor::sim::Simulation::new(1).run(async {
            let first = outbox.reserve(OUTBOX_BYTES).await;
            assert!(outbox.is_full());
            let waiting = outbox.clone();
            let second = ringlog_reactor::spawn(async move { waiting.reserve(1).await });
            ringlog_reactor::yield_now().await;
            assert!(!second.is_finished());
            drop(first);
            drop(second.await);
            assert!(!outbox.is_full());
        });
    }
}
