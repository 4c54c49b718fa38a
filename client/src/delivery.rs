//! Stage two of a send: what becomes of an admitted record.
//!
//! All records of a batch share one `Outcome`; a `Delivery` is that and the record's place in the batch, so a record costs
//! no allocation of its own. Invariant: an outcome is settled exactly once, by whoever holds the batch, also when that is dropped.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::block_on::block_on;
use crate::error::DeliveryError;

/// Where an acknowledged record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acked {
    /// Its partition.
    pub partition: u32,
    /// Its offset there; -1 for a producer that asked for no ack.
    pub offset: i64,
}

/// A future of one record's acknowledgement. May be awaited under any runtime, waited for with [`wait`](Delivery::wait), or
/// dropped: the record is sent all the same.
#[derive(Debug)]
pub struct Delivery {
    outcome: Arc<Outcome>,
    index: u32,
    /// Where this delivery's waker stands among the outcome's, once it was polled.
    slot: Option<usize>,
}

impl Delivery {
    pub(crate) fn new(outcome: Arc<Outcome>, index: u32) -> Self {
        Self { outcome, index, slot: None }
    }

    /// Blocks the calling thread until the record is acknowledged or failed. Not for use inside an async task.
    pub fn wait(self) -> Result<Acked, DeliveryError> {
        match self.try_result() {
            Some(result) => result,
            None => block_on(self),
        }
    }

    /// The result, if it is there already.
    pub fn try_result(&self) -> Option<Result<Acked, DeliveryError>> {
        self.outcome.lock().settled.clone().map(|settled| self.of_record(settled))
    }

    fn of_record(&self, settled: Settled) -> Result<Acked, DeliveryError> {
        let partition = self.outcome.partition.load(Ordering::Relaxed);
        settled
            .map(|base| Acked { partition, offset: if base < 0 { -1 } else { base + i64::from(self.index) } })
    }
}

impl Future for Delivery {
    type Output = Result<Acked, DeliveryError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let mut waiting = this.outcome.lock();
        if let Some(settled) = waiting.settled.clone() {
            drop(waiting);
            return Poll::Ready(this.of_record(settled));
        }
        match this.slot.and_then(|slot| waiting.wakers.get_mut(slot)) {
            Some(waker) => waker.clone_from(context.waker()),
            None => {
                this.slot = Some(waiting.wakers.len());
                waiting.wakers.push(context.waker().clone());
            }
        }
        Poll::Pending
    }
}

/// The base offset of the batch, or why it failed.
type Settled = Result<i64, DeliveryError>;

/// What the deliveries of one batch share.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Where the batch goes; it may change as long as nothing of it was sent.
    partition: AtomicU32,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    settled: Option<Settled>,
    wakers: Vec<Waker>,
}

impl Outcome {
    pub(crate) fn new(partition: u32) -> Arc<Self> {
        Arc::new(Self { partition: AtomicU32::new(partition), waiting: Mutex::default() })
    }

    /// The batch goes to another partition.
    pub(crate) fn move_to(&self, partition: u32) {
        self.partition.store(partition, Ordering::Relaxed);
    }

    /// Wakes everybody who waits for a record of this batch.
    pub(crate) fn settle(&self, settled: Settled) {
        let wakers = {
            let mut waiting = self.lock();
            assert!(waiting.settled.is_none(), "an outcome is settled once");
            waiting.settled = Some(settled);
            std::mem::take(&mut waiting.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics while the lock is held, and the state is whole at every step.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_of_a_batch_gets_its_own_offset() {
        let outcome = Outcome::new(3);
        let first = Delivery::new(Arc::clone(&outcome), 0);
        let third = Delivery::new(Arc::clone(&outcome), 2);
        assert_eq!(first.try_result(), None);
        outcome.settle(Ok(40));
        assert_eq!(first.wait(), Ok(Acked { partition: 3, offset: 40 }));
        assert_eq!(third.wait(), Ok(Acked { partition: 3, offset: 42 }));
    }

    #[test]
    fn a_failed_batch_fails_all_its_records() {
        let outcome = Outcome::new(0);
        let deliveries: Vec<_> = (0..3).map(|index| Delivery::new(Arc::clone(&outcome), index)).collect();
        outcome.settle(Err(DeliveryError::OutcomeUnknown));
        for delivery in deliveries {
            assert_eq!(delivery.wait(), Err(DeliveryError::OutcomeUnknown));
        }
    }

    #[test]
    fn a_thread_that_waits_is_woken() {
        let outcome = Outcome::new(0);
        let delivery = Delivery::new(Arc::clone(&outcome), 1);
        let waiter = std::thread::spawn(move || delivery.wait());
        outcome.settle(Ok(7));
        assert_eq!(waiter.join().ok(), Some(Ok(Acked { partition: 0, offset: 8 })));
    }

    #[test]
    fn without_an_ack_there_is_no_offset() {
        let outcome = Outcome::new(0);
        let delivery = Delivery::new(Arc::clone(&outcome), 5);
        outcome.settle(Ok(-1));
        assert_eq!(delivery.wait(), Ok(Acked { partition: 0, offset: -1 }));
    }
}
