//! What one client has open on one shard: partitions by handle, subscriptions, requests under way.
//!
//! A session belongs to the shard that owns its partitions. Its outbox is drained into the client's own
//! socket where that lives on the same core, and into a mailbox where it does not (`forwarded.rs`); nothing in
//! here or in the handlers knows which.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use ringlog_protocol::messages::Produced;
use ringlog_protocol::{Body, ErrorCode, FixedBody, Kind, encode_error, encode_into, try_encode};
use ringlog_reactor::sim::{mutant, reached};
use ringlog_reactor::{Notified, Notify, Task};
use ringlog_storage::Partition;

use crate::limits::{MAX_HANDLES, MAX_PARKED_REQUESTS, MAX_PENDING_ACKS, MAX_SUBSCRIPTIONS};
use crate::native::errors::WireError;
use crate::net::outbox::Outbox;
use crate::net::reply_budget::ReplyPermit;
use crate::ops::record_checks::Verdict;
use crate::shard::acks::{AckError, AckSink};

const SLOT_BITS: u32 = 24;

/// The shard that gave out a handle.
pub fn shard_of(handle: u32) -> u32 {
    handle >> SLOT_BITS
}

/// A live subscription: the task that pushes, and the credit it may spend.
pub struct Subscription {
    /// Bytes the client still takes; one push may take it below zero.
    pub credit: Rc<Credit>,
    /// Dropping the task ends the subscription.
    pub task: Task<()>,
}

/// Credit in bytes, and who waits for it.
#[derive(Default)]
pub struct Credit {
    bytes: Cell<i64>,
    granted: Notify,
}

impl Credit {
    /// Adds credit; it stops growing at 2^31 - 1.
    pub fn grant(&self, bytes: u32) {
        let times = if mutant("credit-counted-twice") { 2 } else { 1 };
        self.bytes.set((self.bytes.get() + times * i64::from(bytes)).min(i64::from(i32::MAX)));
        self.granted.notify_all();
    }

    /// Takes what was pushed.
    pub fn spend(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() - bytes as i64);
    }

    /// Waits for credit above zero and tells how much there is.
    pub async fn available(&self) -> usize {
        loop {
            let granted = self.granted.notified();
            if let Ok(bytes @ 1..) = usize::try_from(self.bytes.get()) {
                return bytes;
            }
            granted.await;
        }
    }
}

/// One client's state on one shard.
pub struct Session {
    shard: u32,
    outbox: Rc<Outbox>,
    handles: RefCell<Vec<Option<Rc<Partition>>>>,
    free_slots: RefCell<Vec<u32>>,
    subscriptions: RefCell<BTreeMap<u32, Subscription>>,
    parked: RefCell<BTreeMap<u64, Task<()>>>,
    next_parked: Cell<u64>,
    acks_due: Cell<usize>,
    /// All acknowledgements are waited for.
    sends_no_more: Cell<bool>,
    /// What was found of the batch that is offered next.
    verdict: Cell<Option<Verdict>>,
    progress: Notify,
    broken: Cell<bool>,
}

impl Session {
    /// A session of this shard that answers into `outbox`.
    pub fn new(shard: u32, outbox: Rc<Outbox>) -> Rc<Session> {
        Rc::new(Session {
            shard,
            outbox,
            handles: RefCell::default(),
            free_slots: RefCell::default(),
            subscriptions: RefCell::default(),
            parked: RefCell::default(),
            next_parked: Cell::new(0),
            acks_due: Cell::new(0),
            sends_no_more: Cell::new(false),
            verdict: Cell::new(None),
            progress: Notify::new(),
            broken: Cell::new(false),
        })
    }

    /// Where its replies go.
    pub fn outbox(&self) -> &Rc<Outbox> {
        &self.outbox
    }

    /// Gives a partition a handle; `None` when this session has as many as it may.
    pub fn open(&self, partition: Rc<Partition>) -> Option<u32> {
        let mut handles = self.handles.borrow_mut();
        let slot = match self.free_slots.borrow_mut().pop() {
            Some(slot) => {
                handles[slot as usize] = Some(partition);
                slot
            }
            None if handles.len() < MAX_HANDLES => {
                handles.push(Some(partition));
                handles.len() as u32 - 1
            }
            None => return None,
        };
        Some(self.shard << SLOT_BITS | slot)
    }

    /// The partition behind a handle.
    pub fn partition(&self, handle: u32) -> Option<Rc<Partition>> {
        self.handles.borrow().get(slot_of(handle))?.clone()
    }

    /// Takes a handle back; false when there is none such.
    pub fn close_handle(&self, handle: u32) -> bool {
        let closed = self.handles.borrow_mut().get_mut(slot_of(handle)).and_then(Option::take).is_some();
        if closed {
            self.free_slots.borrow_mut().push(slot_of(handle) as u32);
        }
        closed
    }

    /// Notes a subscription under its number; false when the number is taken or there are too many.
    pub fn may_subscribe(&self, id: u32) -> bool {
        let subscriptions = self.subscriptions.borrow();
        subscriptions.len() < MAX_SUBSCRIPTIONS && !subscriptions.contains_key(&id)
    }

    /// Keeps a subscription running.
    pub fn subscribe(&self, id: u32, subscription: Subscription) {
        self.subscriptions.borrow_mut().insert(id, subscription);
    }

    /// Ends a subscription; false when there is none such.
    pub fn unsubscribe(&self, id: u32) -> bool {
        let ended = self.subscriptions.borrow_mut().remove(&id);
        ended.is_some()
    }

    /// Ends a subscription from inside its own task, which therefore must not be cancelled here.
    pub fn subscription_ended(&self, id: u32) {
        let ended = self.subscriptions.borrow_mut().remove(&id);
        if let Some(subscription) = ended {
            subscription.task.detach();
        }
    }

    /// The credit of a subscription.
    pub fn credit(&self, id: u32) -> Option<Rc<Credit>> {
        self.subscriptions.borrow().get(&id).map(|subscription| subscription.credit.clone())
    }

    /// Runs a request that has to wait, outside the order of the others.
    pub fn park(self: &Rc<Self>, request: impl Future<Output = ()> + 'static) {
        let number = self.next_parked.get();
        self.next_parked.set(number + 1);
        let session = self.clone();
        let task = ringlog_reactor::spawn(async move {
            request.await;
            let own = session.parked.borrow_mut().remove(&number);
            if let Some(task) = own {
                task.detach();
            }
            session.progress.notify_all();
        });
        self.parked.borrow_mut().insert(number, task);
    }

    /// Whether the client has as much under way as it may: stop reading its requests.
    pub fn is_busy(&self) -> bool {
        self.outbox.is_full()
            || self.acks_due.get() >= MAX_PENDING_ACKS
            || self.parked.borrow().len() >= MAX_PARKED_REQUESTS
    }

    /// Fires when something under way ended.
    pub fn progress(&self) -> Notified {
        self.progress.notified()
    }

    /// Waits until the client may send more.
    pub async fn wait_until_free(&self) {
        while self.is_busy() && !self.outbox.is_closed() {
            reached("client has too much under way");
            let progress = self.progress();
            if self.outbox.is_full() {
                self.outbox.wait_for_room().await;
            } else {
                progress.await;
            }
        }
    }

    /// Notes what was found of a batch. It is offered again before anything else of this client.
    pub fn set_verdict(&self, verdict: Verdict) {
        self.verdict.set(Some(verdict));
    }

    /// What was found of the batch that is offered. A handler that takes it and does not answer puts it back.
    pub fn take_verdict(&self) -> Option<Verdict> {
        self.verdict.take()
    }

    /// Answers a request that failed.
    pub fn refuse(&self, request: u32, error: &impl WireError) {
        self.reply_error(request, error.code(), &error.to_string());
    }

    /// The same, in words.
    pub fn reply_error(&self, request: u32, code: ErrorCode, message: &str) {
        self.outbox.push_pieces([encode_error(request, 0, code, message).freeze()]);
    }

    /// The client does not keep to the protocol: tells it so, and marks the connection to be closed behind that.
    pub fn break_off(&self, code: ErrorCode, message: &str) {
        self.reply_error(0, code, message);
        self.broken.set(true);
    }

    /// Whether [`Session::break_off`] was called.
    pub fn is_broken(&self) -> bool {
        self.broken.get()
    }

    /// Answers a request with a body of fixed size.
    pub fn reply<T: FixedBody>(&self, kind: Kind, request: u32, handle: u32, body: &T) {
        self.outbox.push_small(|to| encode_into(to, kind, request, handle, 0, body, 0));
    }

    /// Answers a request with a body of any size.
    pub fn reply_long<T: Body>(&self, kind: Kind, request: u32, body: &T) {
        match try_encode(kind, request, 0, 0, body) {
            Ok(frame) => self.outbox.push_pieces([frame.freeze()]),
            Err(error) => self.reply_error(request, ErrorCode::Internal, &error.to_string()),
        }
    }

    /// The same for a reply that has memory of the shard's.
    pub fn reply_within<T: Body>(&self, kind: Kind, request: u32, body: &T, permit: ReplyPermit) {
        match try_encode(kind, request, 0, 0, body) {
            Ok(frame) => self.outbox.push_long(frame.freeze(), permit),
            Err(error) => self.reply_error(request, ErrorCode::Internal, &error.to_string()),
        }
    }

    /// Answers a request with record batches.
    pub fn reply_with_batches<T: FixedBody>(&self, kind: Kind, request: u32, body: &T, batches: Vec<Bytes>) {
        let payload = batches.iter().map(Bytes::len).sum();
        self.outbox.push_small(|to| encode_into(to, kind, request, 0, 0, body, payload));
        self.outbox.push_pieces(batches);
    }

    fn ack_is_given(&self) {
        let left = self.acks_due.get() - 1;
        self.acks_due.set(left);
        if left + 1 == MAX_PENDING_ACKS || left == 0 && self.sends_no_more.get() {
            self.progress.notify_all();
        }
    }

    /// Waits until all acknowledgements are given, of a client that sends nothing more, or until its connection is closed.
    pub async fn acks_given(&self) {
        self.sends_no_more.set(true);
        loop {
            let progress = self.progress();
            if self.acks_due.get() == 0 || self.outbox.is_closed() {
                return;
            }
            progress.await;
        }
    }

    /// Closes the outbox, and wakes whoever waits for something of this client.
    pub fn hang_up(&self) {
        self.outbox.close();
        self.progress.notify_all();
    }

    /// Ends what would go on by itself: subscriptions, and requests that wait for something.
    pub fn end_waiting(&self) {
        let subscriptions = std::mem::take(&mut *self.subscriptions.borrow_mut());
        let parked = std::mem::take(&mut *self.parked.borrow_mut());
        drop((subscriptions, parked));
    }

    /// The client is gone: ends everything it had.
    pub fn end(&self) {
        self.hang_up();
        self.end_waiting();
        self.handles.borrow_mut().clear();
    }
}

fn slot_of(handle: u32) -> usize {
    (handle & ((1 << SLOT_BITS) - 1)) as usize
}

/// The tickets are numbers of produce requests.
impl AckSink for Session {
    fn ack_due(&self) {
        self.acks_due.set(self.acks_due.get() + 1);
    }

    fn acked(&self, ticket: u64, base_offset: i64, start_offset: i64) {
        self.ack_is_given();
        self.reply(Kind::Produced, ticket as u32, 0, &Produced { base_offset, start_offset });
    }

    fn failed(&self, ticket: u64, why: &AckError) {
        self.ack_is_given();
        self.refuse(ticket as u32, why);
    }
}
