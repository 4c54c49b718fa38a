//! Many runs on several threads; each thread is a world of its own.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::run::{Order, RunOutcome, run};

/// Events that a failing run keeps when it is run again to be told, unless more are asked for.
pub const EVENTS: usize = 60;

type Orders = Arc<Mutex<Box<dyn Iterator<Item = Order> + Send>>>;

/// What many runs reached together.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Runs that ended.
    pub runs: u64,
    /// Runs in which something was wrong.
    pub failed: u64,
    /// Records that were acknowledged.
    pub acked: u64,
    /// Records that were read.
    pub read: u64,
    /// Rare states: in how many runs each was reached, and how often in all.
    pub reached: BTreeMap<&'static str, (u64, u64)>,
}

impl Tally {
    /// Adds a run.
    pub fn add(&mut self, outcome: &RunOutcome) {
        self.runs += 1;
        self.failed += u64::from(!outcome.violations.is_empty());
        self.acked += outcome.acked;
        self.read += outcome.read;
        for (mark, times) in &outcome.reached {
            let (runs, all) = self.reached.entry(mark).or_default();
            (*runs, *all) = (*runs + 1, *all + times);
        }
    }
}

/// Carries orders out on `jobs` threads until there are none left or `each` breaks; in no certain order.
pub fn run_all(
    orders: impl Iterator<Item = Order> + Send + 'static,
    jobs: usize,
    mut each: impl FnMut(RunOutcome) -> ControlFlow<()>,
) -> Tally {
    let orders: Orders = Arc::new(Mutex::new(Box::new(orders)));
    let (sender, outcomes) = channel();
    (0..jobs.max(1)).for_each(|_| start(&orders, &sender));
    drop(sender);
    let mut tally = Tally::default();
    for outcome in outcomes {
        tally.add(&outcome);
        if each(outcome).is_break() {
            *orders.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(std::iter::empty());
        }
    }
    tally
}

/// The same run again, with its last `events` kept.
pub fn retell(outcome: &RunOutcome, events: usize) -> RunOutcome {
    let order = Order { events, twice: false, ..outcome.order };
    let mut told = None;
    run_all(std::iter::once(order), 1, |again| {
        told = Some(again);
        ControlFlow::Continue(())
    });
    // What only a second run shows is told by the first.
    let violations = outcome.violations.clone();
    let mut told = told.unwrap_or_else(|| outcome.clone());
    if told.violations.is_empty() {
        told.violations = violations;
    }
    told
}

fn start(orders: &Orders, sender: &Sender<RunOutcome>) {
    let (orders, sender) = (Arc::clone(orders), sender.clone());
    thread::spawn(move || {
        loop {
            let next = orders.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(order) = next else { return };
            if sender.send(run(order)).is_err() {
                return;
            }
        }
    });
}
