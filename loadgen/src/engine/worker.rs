//! What the producers and consumers of one worker share: what they were told, what they count, and the way to the coordinator.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hdrhistogram::Histogram;

use super::plan::{Control, Plan};
use super::recorder::{BUCKET_NS, Recorder};
use super::scope::Scope;
use crate::executor::{now_ns, sleep_until};
use crate::stamp::Stamp;
use crate::target::{Description, Extent, TargetError};
use crate::verify::{Account, Ledger};

/// The extents of all topics, by their place in the plan.
pub type Extents = Vec<Vec<Extent>>;

/// What a worker says.
#[derive(Debug)]
pub enum Event {
    /// It cannot go on.
    Failed(String),
    /// It is connected.
    Connected(Box<Description>),
    /// The topics are there.
    Prepared(Result<Extents, TargetError>),
    /// Producers and consumers are open.
    Ready,
    /// Something went wrong that ends the run, unless it keeps going.
    Trouble(String),
    /// A consumer gets nothing more. Said of each, whatever went wrong before.
    ConsumerEnded(String),
    /// Nothing more is begun, and every record has its answer.
    Published,
    /// What is in the topics now.
    Looked(Result<Extents, TargetError>),
    /// Every consumer has read to its end.
    Consumed,
    /// What was sent and seen.
    Done(Box<Books>),
    /// The worker ends.
    Closed,
}

/// What a worker's producers sent and its consumers saw.
#[derive(Clone, Debug, Default)]
pub struct Books {
    /// By producer and partition.
    pub accounts: Vec<Account>,
    /// By consumer.
    pub ledgers: Vec<Ledger>,
}

/// A consumer, as the worker sees it.
pub trait Reads {
    /// Whether it has read all it is to read.
    fn is_at_its_end(&self) -> bool;
}

/// What the producers and consumers of a worker share.
pub struct Worker {
    pub plan: Arc<Plan>,
    pub control: Arc<Control>,
    pub index: u32,
    pub events: flume::Sender<(u32, Event)>,
    pub recorder: RefCell<Recorder>,
    /// Records without an answer.
    pub outstanding: Cell<u64>,
    /// Producers that still begin records.
    pub publishing: Cell<usize>,
    pub published: Cell<bool>,
    pub troubled: Cell<bool>,
    /// Ends producers; collectors of acks; consumers and the clock.
    pub publishers: Scope,
    pub collecting: Scope,
    pub consumers: Scope,
    pub readings: RefCell<Vec<Rc<dyn Reads>>>,
}

impl Worker {
    /// The numbers, of `count`, that fall to this worker.
    pub fn mine(&self, count: u32) -> impl Iterator<Item = u32> + use<> {
        (self.index..count).step_by(self.plan.threads as usize)
    }

    /// Tells the coordinator.
    pub fn say(&self, event: Event) {
        // A coordinator that is gone has given the run up.
        let _ = self.events.send((self.index, event));
    }

    /// Closes the buckets of seconds in which nothing happens.
    pub async fn tick(&self, measure_ns: u64) {
        let mut next = measure_ns + BUCKET_NS;
        loop {
            sleep_until(next).await;
            self.recorder.borrow_mut().at(now_ns());
            next += BUCKET_NS;
        }
    }

    /// A producer begins no more records.
    pub fn producer_ended(&self) {
        self.publishing.set(self.publishing.get() - 1);
        self.look_whether_published();
    }

    /// Says so, once, when every producer has ended and every record has its answer.
    pub fn look_whether_published(&self) {
        if self.publishing.get() == 0 && self.outstanding.get() == 0 && !self.published.replace(true) {
            self.say(Event::Published);
        }
    }

    /// Says so when every consumer has read to its end.
    pub fn look_whether_consumed(&self) {
        if self.readings.borrow().iter().all(|reading| reading.is_at_its_end()) {
            self.say(Event::Consumed);
        }
    }

    /// The run should end; said once.
    pub fn trouble(&self, words: String) {
        if !self.troubled.replace(true) {
            self.say(Event::Trouble(words));
        }
    }

    /// A consumer cannot go on.
    pub fn consumer_ended(&self, words: String) {
        self.say(Event::ConsumerEnded(words));
    }

    pub fn measures(&self, due_ns: u64) -> bool {
        self.recorder.borrow().measures(due_ns)
    }

    pub fn note_lateness(&self, begun_ns: u64, due_ns: u64, lateness_ns: u64) {
        if let Some(bucket) = self.recorder.borrow_mut().event(begun_ns, due_ns) {
            note(&mut bucket.lateness, lateness_ns);
        }
    }

    pub fn note_sent(&self, due_ns: u64, bytes: u64) {
        self.control.sent.fetch_add(1, Ordering::Relaxed);
        if let Some(bucket) = self.recorder.borrow_mut().event(now_ns(), due_ns) {
            bucket.sent += 1;
            bucket.bytes_sent += bytes;
        }
    }

    pub fn note_acked(&self, now_ns: u64, due_ns: u64) {
        if let Some(bucket) = self.recorder.borrow_mut().event(now_ns, due_ns) {
            bucket.acked += 1;
            note(&mut bucket.ack, now_ns.saturating_sub(due_ns));
        }
    }

    pub fn note_failed(&self, due_ns: u64, error: &TargetError, words: impl FnOnce() -> String) {
        self.control.failed.fetch_add(1, Ordering::Relaxed);
        if let Some(bucket) = self.recorder.borrow_mut().event(now_ns(), due_ns) {
            bucket.failed += 1;
            bucket.error(&error.reason, 1);
        }
        if !self.troubled.get() {
            self.trouble(words());
        }
    }

    pub fn note_never_begun(&self, now_ns: u64, due_ns: u64) {
        if let Some(bucket) = self.recorder.borrow_mut().event(now_ns, due_ns) {
            bucket.error(NEVER_BEGUN, 1);
            note(&mut bucket.ack, now_ns.saturating_sub(due_ns));
        }
    }

    pub fn count_error(&self, words: &str, due_ns: u64) {
        if let Some(bucket) = self.recorder.borrow_mut().event(now_ns(), due_ns) {
            bucket.error(words, 1);
        }
    }

    /// A record of this run counts by when it was due, as it did when it was sent; one of an earlier run by when it comes.
    pub fn note_received(&self, now_ns: u64, stamp: &Stamp, bytes: u64) {
        let live = stamp.run == self.plan.run;
        let counted_as_of = if live { stamp.due_ns } else { now_ns };
        if let Some(bucket) = self.recorder.borrow_mut().event(now_ns, counted_as_of) {
            bucket.received += 1;
            bucket.bytes_received += bytes;
            if live {
                note(&mut bucket.end_to_end, now_ns.saturating_sub(stamp.due_ns));
            }
        }
    }
}

/// A histogram grows with what it is given, and holds every u64.
fn note(histogram: &mut Histogram<u64>, nanos: u64) {
    histogram.record(nanos).expect("a histogram that resizes takes every time");
}

/// How records are counted that were due and never handed to the client.
pub const NEVER_BEGUN: &str = "due before the end and never begun, since the target fell too far behind";
