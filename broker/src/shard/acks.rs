//! Produce requests that wait for stable storage: a queue a partition, in the order of its offsets.
//!
//! One task follows the store: no future a request. The store says of which partitions something has become durable, and what
//! waits below their ends is acknowledged.
//!
//! Invariants: a queue is sorted by offset; a reply leaves only when its batch is durable.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use ringlog_reactor::sim::{mutant, reached};
use ringlog_storage::{Appended, Partition, Store, StoreFailure};

/// Who is told what became of an append. Each of its appends has a ticket.
pub trait AckSink {
    /// An answer is due.
    fn ack_due(&self);
    /// The batch is on stable storage, from `base_offset` on.
    fn acked(&self, ticket: u64, base_offset: i64, start_offset: i64);
    /// The batch is not acknowledged.
    fn failed(&self, ticket: u64, why: &AckError);
}

/// Why an append is not acknowledged that was taken into the log.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AckError {
    /// It has left the log again, because there is no space for it.
    #[error("the disk is full; the batch was not appended, and may be sent again when there is space")]
    DiskFull,
    /// Its topic was deleted.
    #[error("the topic was deleted")]
    Deleted,
    /// The storage failed: whether it is on the disk is not known.
    #[error(transparent)]
    Failed(StoreFailure),
}

struct PendingAck {
    sink: Rc<dyn AckSink>,
    ticket: u64,
    appended: Appended,
    start_offset: i64,
}

impl PendingAck {
    fn give(self) {
        self.sink.acked(self.ticket, self.appended.base_offset, self.start_offset);
    }

    fn refuse(self, why: &AckError) {
        self.sink.failed(self.ticket, why);
    }
}

/// The shard's waiting produce requests.
#[derive(Default)]
pub struct PendingAcks {
    /// By the partitions' [indices](Partition::index).
    queues: RefCell<Vec<VecDeque<PendingAck>>>,
}

impl PendingAcks {
    /// Has `sink` told about its append to `partition` once it is durable.
    pub fn wait_for(&self, partition: &Partition, appended: Appended, sink: Rc<dyn AckSink>, ticket: u64) {
        sink.ack_due();
        let ack = PendingAck { sink, ticket, appended, start_offset: partition.start_offset() };
        if appended.commit.is_none() && mutant("bypass-acked-early") {
            return ack.give();
        }
        let mut queues = self.queues.borrow_mut();
        let index = partition.index();
        if queues.len() <= index {
            queues.resize_with(index + 1, VecDeque::new);
        }
        let queue = &mut queues[index];
        let behind = queue.back().is_none_or(|last| last.appended.last_offset < appended.base_offset);
        assert!(behind, "a partition's acknowledgements come in the order of its offsets");
        queue.push_back(ack);
    }

    /// Follows the store: replies as batches become durable; ends by refusing all once it failed.
    pub async fn follow(&self, store: &Store) {
        loop {
            match store.advanced().await {
                Ok(advanced) => advanced.iter().for_each(|partition| self.answer(partition)),
                Err(failure) => return self.refuse_all(failure),
            }
        }
    }

    /// Answers what of a partition is durable, and what was refused.
    fn answer(&self, partition: &Partition) {
        let end = partition.durable_end();
        while let Some(ack) = self.next_if(partition, |ack| ack.appended.last_offset < end) {
            ack.give();
        }
        let Some(from) = partition.take_refused() else { return };
        for ack in self.take_from(partition, from) {
            reached("produce refused that waited on a full disk");
            ack.refuse(&AckError::DiskFull);
        }
    }

    fn next_if(&self, partition: &Partition, is_due: impl Fn(&PendingAck) -> bool) -> Option<PendingAck> {
        self.queues.borrow_mut().get_mut(partition.index())?.pop_front_if(|ack| is_due(ack))
    }

    /// Takes what waits at or behind an offset.
    fn take_from(&self, partition: &Partition, offset: i64) -> VecDeque<PendingAck> {
        let mut queues = self.queues.borrow_mut();
        let Some(queue) = queues.get_mut(partition.index()) else { return VecDeque::new() };
        queue.split_off(queue.partition_point(|ack| ack.appended.base_offset < offset))
    }

    /// A partition takes no more, and goes: what waits of it may not become durable.
    pub fn partition_deleted(&self, partition: &Partition) {
        for ack in self.take_from(partition, 0) {
            if mutant("deleted-unanswered") {
                continue;
            }
            reached("record refused because its topic was deleted");
            ack.refuse(&AckError::Deleted);
        }
    }

    /// The store failed: whether these records are on disk is not known. Appends are refused from now on,
    /// so nothing joins the queues again.
    fn refuse_all(&self, failure: StoreFailure) {
        tracing::error!(%failure, "storage failed: this shard acknowledges nothing more until it is started again");
        let why = AckError::Failed(failure);
        let waiting = self.queues.take();
        waiting.into_iter().flatten().for_each(|ack| ack.refuse(&why));
    }
}
