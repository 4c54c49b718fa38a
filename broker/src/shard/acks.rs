//! Produce requests that wait for stable storage, in the order of their commits.
//!
//! One queue a shard and one task that follows the journal: no future a request. Large batches go past the journal, and
//! which commit makes them durable is not known when they are appended: they wait in queues of their own, one a partition,
//! that are looked at when the store says that something of the partition has become durable.
//!
//! Invariants: the queue is sorted by commit, because a shard appends in commit order, and a partition's by offset; a reply
//! leaves only when its batch is durable.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use ringlog_reactor::sim::{mutant, reached};
use ringlog_storage::{Appended, CommitSeq, Partition, PartitionId, Store, StoreFailure};

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
    queue: RefCell<VecDeque<PendingAck>>,
    /// Those of batches that went past the journal.
    bypassed: RefCell<BTreeMap<PartitionId, VecDeque<PendingAck>>>,
}

impl PendingAcks {
    /// Has `sink` told about its append to `partition` once it is durable.
    pub fn wait_for(&self, partition: &Partition, appended: Appended, sink: Rc<dyn AckSink>, ticket: u64) {
        sink.ack_due();
        let ack = PendingAck { sink, ticket, appended, start_offset: partition.start_offset() };
        match appended.commit {
            Some(_) => self.queue.borrow_mut().push_back(ack),
            None if mutant("bypass-acked-early") => ack.give(),
            None => self.bypassed.borrow_mut().entry(partition.id()).or_default().push_back(ack),
        }
    }

    /// Follows the journal: replies as batches become durable; ends by refusing all once it failed.
    pub async fn follow(&self, store: &Store) {
        let mut durable = store.durable();
        loop {
            match store.committed(durable).await {
                Ok(now) => {
                    durable = now;
                    if mutant("journal-acks-first") {
                        self.give_until(durable);
                    }
                    // First: what is in the journal behind a large batch was appended behind it.
                    store.take_bypassed().iter().for_each(|partition| self.give_bypassed(partition));
                    self.give_until(durable);
                }
                Err(failure) => return self.refuse_all(failure),
            }
        }
    }

    fn give_until(&self, durable: CommitSeq) {
        while let Some(ack) = self.next_until(durable) {
            ack.give();
        }
    }

    fn next_until(&self, durable: CommitSeq) -> Option<PendingAck> {
        let mut queue = self.queue.borrow_mut();
        if queue.front()?.appended.commit > Some(durable) { None } else { queue.pop_front() }
    }

    fn give_bypassed(&self, partition: &Partition) {
        let (end, refused) = (partition.durable_end(), partition.take_refused());
        let Some(mut waiting) = self.bypassed.borrow_mut().remove(&partition.id()) else { return };
        while let Some(ack) = waiting.pop_front_if(|ack| ack.appended.last_offset < end) {
            ack.give();
        }
        if let Some(from) = refused {
            let first = waiting.partition_point(|ack| ack.appended.base_offset < from);
            for ack in waiting.drain(first..) {
                reached("produce refused that waited on a full disk");
                ack.refuse(&AckError::DiskFull);
            }
        }
        if !waiting.is_empty() {
            self.bypassed.borrow_mut().insert(partition.id(), waiting);
        }
    }

    /// A partition was deleted: what of it is on its way past the journal will not become durable.
    pub fn partition_deleted(&self, id: PartitionId) {
        let waiting = self.bypassed.borrow_mut().remove(&id).unwrap_or_default();
        for ack in waiting {
            if mutant("deleted-unanswered") {
                continue;
            }
            reached("record refused because its topic was deleted");
            ack.refuse(&AckError::Deleted);
        }
    }

    /// The journal failed: whether these records are on disk is not known. Appends are refused from now on,
    /// so nothing joins the queues again.
    fn refuse_all(&self, failure: StoreFailure) {
        tracing::error!(%failure, "storage failed: this shard acknowledges nothing more until it is started again");
        let why = AckError::Failed(failure);
        let bypassed = self.bypassed.take().into_values().flatten();
        self.queue.take().into_iter().chain(bypassed).for_each(|ack| ack.refuse(&why));
    }
}
