//! Produce requests that wait for stable storage, in the order of their commits.
//!
//! One queue a shard and one task that follows the journal: no future a request. Invariants: the queue is
//! sorted by commit, because a shard appends in commit order; a reply leaves only when its commit is durable.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use ringlog_protocol::ErrorCode;
use ringlog_storage::{CommitSeq, Store};

use crate::session::Session;

struct PendingAck {
    commit: CommitSeq,
    session: Rc<Session>,
    request: u32,
    base_offset: i64,
    start_offset: i64,
}

/// The shard's waiting produce requests.
#[derive(Default)]
pub struct PendingAcks {
    queue: RefCell<VecDeque<PendingAck>>,
}

impl PendingAcks {
    /// Has `session` told about its append once `commit` is durable.
    pub fn wait_for(
        &self,
        commit: CommitSeq,
        session: &Rc<Session>,
        request: u32,
        base_offset: i64,
        start_offset: i64,
    ) {
        session.ack_is_due();
        let ack = PendingAck { commit, session: session.clone(), request, base_offset, start_offset };
        self.queue.borrow_mut().push_back(ack);
    }

    /// Follows the journal: replies as commits become durable; ends by refusing all once it failed.
    pub async fn follow(&self, store: &Store) {
        let mut durable = store.durable();
        loop {
            match store.committed(durable).await {
                Ok(now) => {
                    durable = now;
                    while let Some(ack) = self.next_until(durable) {
                        ack.session.ack_is_given();
                        ack.session.reply_produced(ack.request, ack.base_offset, ack.start_offset);
                    }
                }
                Err(failure) => return self.refuse_all(&failure.to_string()),
            }
        }
    }

    fn next_until(&self, durable: CommitSeq) -> Option<PendingAck> {
        let mut queue = self.queue.borrow_mut();
        if queue.front()?.commit > durable { None } else { queue.pop_front() }
    }

    /// The journal failed: whether these records are on disk is not known. Appends are refused from now on,
    /// so nothing joins the queue again.
    fn refuse_all(&self, why: &str) {
        tracing::error!(%why, "storage failed: this shard acknowledges nothing more until it is started again");
        while let Some(ack) = { self.queue.borrow_mut().pop_front() } {
            ack.session.ack_is_given();
            ack.session.reply_error(ack.request, ErrorCode::StorageFailed, why);
        }
    }
}
