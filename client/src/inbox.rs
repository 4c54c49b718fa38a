//! What a consumer's application and the driver share: batches that were received and not yet taken.
//!
//! Invariants:
//! - What is queued for a partition, plus the credit its subscription has left, is at most `credit_bytes` and one push.
//! - A partition is in `ring` exactly once when it has a batch or a failure to give, so that all get their turn.
//! - A failure of a partition comes after everything that was received from it before.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use ringlog_protocol::batch::BatchHeader;
use ringlog_reactor::sim::mutant;

use crate::doorbell::Shared;
use crate::error::ConsumeError;

/// One batch as it came.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub header: BatchHeader,
    pub bytes: Bytes,
}

/// A batch that the application takes, and what of it is wanted.
#[derive(Debug)]
pub(crate) struct Taken {
    /// The partition's place in the consumer.
    pub place: usize,
    pub partition: u32,
    pub received: Received,
    /// Records before this offset were not asked for.
    pub wanted: i64,
    /// Records are skipped up to the first that is not earlier.
    pub not_before_ms: Option<i64>,
    /// The driver must be told that there is room.
    pub ring: bool,
}

/// What is done with batches that may be damaged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub check_crc: bool,
    /// The partition goes on after a batch that cannot be read.
    pub skip_unreadable: bool,
}

impl Default for Reading {
    fn default() -> Self {
        Self { check_crc: true, skip_unreadable: false }
    }
}

/// The shared part of one consumer.
#[derive(Debug)]
pub(crate) struct Inbox {
    pub topic: Arc<str>,
    /// The topic's number: another topic of the same name has another one.
    pub topic_id: u64,
    pub reading: Reading,
    /// The credit of one partition, in bytes.
    pub credit_bytes: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    partitions: Vec<Shelf>,
    ring: VecDeque<usize>,
    waker: Option<Waker>,
    told: bool,
    /// Places that have room for the driver to give credit for, or end, since it looked last.
    roomy: Vec<usize>,
    closed: bool,
    driver_gone: bool,
    /// Partitions that can still give something.
    live: usize,
}

/// One partition's batches.
#[derive(Debug)]
struct Shelf {
    partition: u32,
    queue: VecDeque<Received>,
    queued_bytes: usize,
    /// Bytes taken since the driver was last told.
    freed_bytes: usize,
    wanted: i64,
    not_before_ms: Option<i64>,
    failure: Option<ConsumeError>,
    /// Nothing more comes in.
    ended: bool,
    /// Nothing more goes out.
    stopped: bool,
}

impl Shared for Inbox {
    fn release(&self) -> bool {
        let mut state = self.lock();
        state.closed = true;
        state.partitions.iter_mut().for_each(|shelf| shelf.queue.clear());
        !std::mem::replace(&mut state.told, true)
    }
}

impl Inbox {
    pub fn new(
        topic: Arc<str>,
        topic_id: u64,
        partitions: &[u32],
        credit_bytes: usize,
        reading: Reading,
    ) -> Arc<Self> {
        let shelf = |partition: &u32| Shelf {
            partition: *partition,
            queue: VecDeque::new(),
            queued_bytes: 0,
            freed_bytes: 0,
            wanted: 0,
            not_before_ms: None,
            failure: None,
            ended: false,
            stopped: false,
        };
        let state = State {
            partitions: partitions.iter().map(shelf).collect(),
            ring: VecDeque::new(),
            waker: None,
            told: false,
            roomy: Vec::new(),
            closed: false,
            driver_gone: false,
            live: partitions.len(),
        };
        Arc::new(Self { topic, topic_id, reading, credit_bytes, state: Mutex::new(state) })
    }

    /// The numbers of the partitions, in the order of their places.
    pub fn partitions(&self) -> Vec<u32> {
        self.lock().partitions.iter().map(|shelf| shelf.partition).collect()
    }

    /// Gives the application its next batch; none when no partition can give anything more.
    pub fn poll_take(&self, context: &mut Context<'_>) -> Poll<Option<Result<Taken, ConsumeError>>> {
        let mut state = self.lock();
        if let Some(place) = state.ring.pop_front() {
            return Poll::Ready(Some(self.take_from(&mut state, place)));
        }
        if state.live == 0 {
            return Poll::Ready(None);
        }
        if state.driver_gone {
            state.live = 0;
            return Poll::Ready(Some(Err(ConsumeError::Closed)));
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }

    fn take_from(&self, state: &mut State, place: usize) -> Result<Taken, ConsumeError> {
        let shelf = &mut state.partitions[place];
        let Some(received) = shelf.queue.pop_front() else {
            state.live -= 1;
            shelf.stopped = true;
            let failure = shelf.failure.take();
            return Err(failure.unwrap_or(ConsumeError::Closed));
        };
        shelf.queued_bytes -= received.bytes.len();
        shelf.freed_bytes += received.bytes.len();
        let due = shelf.freed_bytes >= self.credit_bytes / 4;
        if due {
            shelf.freed_bytes = 0;
        }
        let taken = Taken {
            place,
            partition: shelf.partition,
            received,
            wanted: shelf.wanted,
            not_before_ms: shelf.not_before_ms,
            ring: due && !state.told,
        };
        if !shelf.queue.is_empty() || shelf.failure.is_some() {
            state.ring.push_back(place);
        }
        if due {
            state.told = true;
            state.roomy.push(place);
        }
        Ok(taken)
    }

    /// The first record at or after the wanted time was found.
    pub fn time_reached(&self, place: usize) {
        self.lock().partitions[place].not_before_ms = None;
    }

    /// The application cannot read what came: nothing more of this partition is wanted.
    pub fn stop(&self, place: usize) {
        let mut state = self.lock();
        let shelf = &mut state.partitions[place];
        if !std::mem::replace(&mut shelf.stopped, true) {
            shelf.ended = true;
            shelf.queue.clear();
            shelf.queued_bytes = 0;
            shelf.failure = None;
            state.live -= 1;
            state.roomy.push(place);
            state.ring.retain(|other| *other != place);
        }
    }

    /// The doorbell was answered; from now on another may come. Puts the places that the driver has to look at into `roomy`, which is
    /// empty. True when the application is gone.
    pub fn answer(&self, roomy: &mut Vec<usize>) -> bool {
        let mut state = self.lock();
        state.told = false;
        std::mem::swap(&mut state.roomy, roomy);
        state.closed
    }

    /// The driver ends.
    pub fn abandon(&self) {
        let mut state = self.lock();
        state.driver_gone = true;
        wake(state);
    }

    /// Where a partition's records are wanted from.
    pub fn begin_at(&self, place: usize, wanted: i64, not_before_ms: Option<i64>) {
        let shelf = &mut self.lock().partitions[place];
        shelf.wanted = wanted;
        shelf.not_before_ms = not_before_ms;
    }

    /// Bytes that the application has not taken, or none if it wants nothing more of this partition.
    pub fn queued_bytes(&self, place: usize) -> Option<usize> {
        let state = self.lock();
        let shelf = &state.partitions[place];
        (!shelf.ended && !state.closed).then_some(shelf.queued_bytes)
    }

    /// Puts batches in, in the order of their offsets.
    pub fn push(&self, place: usize, batches: impl IntoIterator<Item = Received>) {
        let mut state = self.lock();
        let closed = state.closed;
        let shelf = &mut state.partitions[place];
        if shelf.ended || closed {
            return;
        }
        let was_empty = shelf.queue.is_empty();
        for received in batches {
            shelf.queued_bytes += received.bytes.len();
            shelf.queue.push_back(received);
        }
        if was_empty && !shelf.queue.is_empty() {
            state.ring.push_back(place);
            wake(state);
        }
    }

    /// Nothing more will come from this partition, and why.
    pub fn fail(&self, place: usize, failure: ConsumeError) {
        let mut state = self.lock();
        let shelf = &mut state.partitions[place];
        if std::mem::replace(&mut shelf.ended, true) {
            return;
        }
        let queued = !shelf.queue.is_empty();
        shelf.failure = Some(failure);
        if mutant("failure-drops-queued") {
            shelf.queue.clear();
        }
        if !queued {
            state.ring.push_back(place);
        }
        wake(state);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes the application, which wants the lock as soon as it is awake.
fn wake(mut state: MutexGuard<'_, State>) {
    let waker = state.waker.take();
    drop(state);
    waker.into_iter().for_each(Waker::wake);
}

#[cfg(test)]
mod tests {
    use ringlog_protocol::batch::BatchBuilder;

    use super::*;

    fn received() -> Received {
        let mut builder = BatchBuilder::new(1 << 20);
        builder.push(0, None, Some(b"x"), []).expect("it fits");
        let bytes = builder.finish_plain();
        Received { header: BatchHeader::parse(&bytes).expect("a whole batch"), bytes }
    }

    /// Two batches, a failure, and what the application gets of them.
    fn push_twice_and_fail() {
        let inbox = Inbox::new(Arc::from("orders"), 1, &[0, 1], 1 << 20, Reading::default());
        inbox.push(0, [received()]);
        inbox.push(0, [received()]);
        inbox.fail(0, ConsumeError::Closed);
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..2 {
            assert!(matches!(inbox.poll_take(&mut context), Poll::Ready(Some(Ok(_)))));
        }
        assert!(matches!(inbox.poll_take(&mut context), Poll::Ready(Some(Err(ConsumeError::Closed)))));
        assert!(matches!(inbox.poll_take(&mut context), Poll::Pending), "the other partition is live");
    }

    #[test]
    fn a_failure_comes_after_everything_that_was_received_before_it() {
        push_twice_and_fail();
    }

    #[cfg(feature = "mutants")]
    #[test]
    fn a_failure_that_drops_what_was_queued_is_found() {
        let found = std::panic::catch_unwind(|| {
            let simulation = ringlog_reactor::sim::Simulation::new(1);
            simulation.set_mutant(Some("failure-drops-queued"));
            simulation.run(async { push_twice_and_fail() });
        });
        assert!(found.is_err());
    }

    #[test]
    fn nothing_comes_after_a_batch_that_cannot_be_read_although_the_partition_had_failed() {
        let inbox = Inbox::new(Arc::from("orders"), 1, &[0], 1 << 20, Reading::default());
        inbox.push(0, [received(), received()]);
        inbox.fail(0, ConsumeError::Closed);
        let mut context = Context::from_waker(Waker::noop());
        assert!(matches!(inbox.poll_take(&mut context), Poll::Ready(Some(Ok(_)))));
        inbox.stop(0);
        assert!(matches!(inbox.poll_take(&mut context), Poll::Ready(None)));
    }
}
