//! One consumer: receives, verifies, measures.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use super::worker::{Reads, Worker};
use crate::executor::now_ns;
use crate::target::{Extent, Incoming, Subscriber, TargetError};
use crate::verify::{Ledger, MAX_FAULTS};

/// Behind every end.
const NOT_MINE: u64 = u64::MAX;

/// What is known of a consumer while it runs and afterwards.
pub struct Reading {
    index: u32,
    worker: Rc<Worker>,
    /// Its topic's place in the plan.
    pub topic: usize,
    /// The next offset of each partition of the topic; `NOT_MINE` for those that others read.
    next: RefCell<Vec<u64>>,
    /// Where to end, by partition, once that is known.
    until: RefCell<Option<Vec<Extent>>>,
    ledger: RefCell<Ledger>,
}

impl Reading {
    /// Of consumer `index`, which begins at these offsets.
    pub fn new(index: u32, worker: &Rc<Worker>, topic: usize, from: &[(u32, u64)]) -> Rc<Reading> {
        let partitions = from.iter().map(|(partition, _)| *partition as usize + 1).max().unwrap_or(0);
        let mut next = vec![NOT_MINE; partitions];
        from.iter().for_each(|(partition, offset)| next[*partition as usize] = *offset);
        Rc::new(Reading {
            index,
            worker: Rc::clone(worker),
            topic,
            next: RefCell::new(next),
            until: RefCell::new(None),
            ledger: RefCell::default(),
        })
    }

    /// Receives for ever.
    pub async fn run(self: Rc<Self>, mut subscriber: impl Subscriber) {
        let mut records: Vec<Incoming> = Vec::new();
        loop {
            match subscriber.next(&mut records).await {
                Ok(()) => self.take(&records),
                Err(error) => return self.trouble(&error),
            }
            records.clear();
        }
    }

    /// It cannot go on.
    pub fn trouble(&self, error: &TargetError) {
        self.worker.consumer_ended(format!("consumer {}: {error}", self.index));
    }

    fn take(&self, records: &[Incoming]) {
        let now_ns = now_ns();
        let mut ledger = self.ledger.borrow_mut();
        let mut next = self.next.borrow_mut();
        let faults_before = ledger.faults();
        for record in records {
            if let Some(stamp) = ledger.observe(record) {
                self.worker.note_received(now_ns, &stamp, record.value.len() as u64);
            }
            if let Some(next) = next.get_mut(record.partition as usize) {
                *next = record.offset + 1;
            }
        }
        self.worker.control.received.fetch_add(records.len() as u64, Ordering::Relaxed);
        if faults_before < MAX_FAULTS && ledger.faults() >= MAX_FAULTS {
            let first = ledger.first_problem().unwrap_or_default();
            self.worker.trouble(format!(
                "{} records were damaged, doubled or reordered; the first: {first}",
                ledger.faults()
            ));
        }
        drop((ledger, next));
        if self.until.borrow().is_some() {
            self.worker.look_whether_consumed();
        }
    }

    /// Says where to end.
    pub fn read_until(&self, ends: Vec<Extent>) {
        *self.until.borrow_mut() = Some(ends);
    }

    /// What it saw.
    pub fn take_ledger(&self) -> Ledger {
        self.ledger.take()
    }
}

impl Reads for Reading {
    fn is_at_its_end(&self) -> bool {
        let until = self.until.borrow();
        let Some(ends) = &*until else { return false };
        self.next.borrow().iter().zip(ends).all(|(next, extent)| *next >= extent.end)
    }
}
