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

use ringlog_protocol::ErrorCode;
use ringlog_reactor::sim::{mutant, reached};
use ringlog_storage::{AppendError, Appended, CommitSeq, Partition, PartitionId, Store};

use crate::native::session::Session;

struct PendingAck {
    session: Rc<Session>,
    request: u32,
    appended: Appended,
    start_offset: i64,
}

impl PendingAck {
    fn give(self) {
        self.session.ack_is_given();
        self.session.reply_produced(self.request, self.appended.base_offset, self.start_offset);
    }

    fn refuse(self, code: ErrorCode, why: &str) {
        self.session.ack_is_given();
        self.session.reply_error(self.request, code, why);
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
    /// Has `session` told about its append to `partition` once it is durable.
    pub fn wait_for(&self, partition: &Partition, appended: Appended, session: &Rc<Session>, request: u32) {
        session.ack_is_due();
        let start_offset = partition.start_offset();
        let ack = PendingAck { session: session.clone(), request, appended, start_offset };
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
                Err(failure) => return self.refuse_all(&failure.to_string()),
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
                ack.refuse(ErrorCode::DiskFull, &AppendError::DiskFull.to_string());
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
            ack.refuse(ErrorCode::UnknownTopic, "the topic was deleted");
        }
    }

    /// The journal failed: whether these records are on disk is not known. Appends are refused from now on,
    /// so nothing joins the queues again.
    fn refuse_all(&self, why: &str) {
        tracing::error!(%why, "storage failed: this shard acknowledges nothing more until it is started again");
        let bypassed = self.bypassed.take().into_values().flatten();
        for ack in self.queue.take().into_iter().chain(bypassed) {
            ack.refuse(ErrorCode::StorageFailed, why);
        }
    }
}
