//! Many runs on several threads; each thread is a world of its own.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::invariant::{Invariant, Violation};
use crate::panics;
use crate::run::{Order, RunOutcome, run};

/// Events that a failing run keeps when it is run again to be told.
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
    /// Rare states, and how often they were reached.
    pub reached: BTreeMap<&'static str, u64>,
}

impl Tally {
    /// Adds a run.
    pub fn add(&mut self, outcome: &RunOutcome) {
        self.runs += 1;
        self.failed += u64::from(!outcome.violations.is_empty());
        self.acked += outcome.acked;
        self.read += outcome.read;
        outcome.reached.iter().for_each(|(mark, times)| *self.reached.entry(mark).or_default() += times);
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
    let mut tally = Tally::default();
    let mut left = jobs.max(1);
    while left > 0 {
        match outcomes.recv() {
            Ok(Message::Done(outcome)) => {
                tally.add(&outcome);
                if each(outcome).is_break() {
                    *orders.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(std::iter::empty());
                }
            }
            Ok(Message::Idle) => left -= 1,
            Err(_) => break,
        }
    }
    tally
}

/// The same run again, with its last events kept.
pub fn retell(outcome: &RunOutcome) -> RunOutcome {
    let order = Order { events: EVENTS, twice: false, ..outcome.order };
    let mut told = None;
    run_all(VecDeque::from([order]).into_iter(), 1, |again| {
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

enum Message {
    Done(RunOutcome),
    /// A thread has nothing left to do.
    Idle,
}

fn start(orders: &Orders, sender: &Sender<Message>) {
    let (orders, sender) = (Arc::clone(orders), sender.clone());
    thread::spawn(move || {
        let (tell, dying) = channel();
        watch_over(&orders, &sender, dying);
        panics::report_to(tell);
        loop {
            let next = orders.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(order) = next else { break };
            let caught = std::panic::catch_unwind(|| run(order));
            let outcome = caught.unwrap_or_else(|payload| panicked(order, &*payload));
            if sender.send(Message::Done(outcome)).is_err() {
                break;
            }
        }
        let _ = sender.send(Message::Idle);
    });
}

/// Waits for the worker's end. One that panicked where nothing is caught is replaced.
fn watch_over(orders: &Orders, sender: &Sender<Message>, dying: Receiver<RunOutcome>) {
    let (orders, sender) = (Arc::clone(orders), sender.clone());
    thread::spawn(move || {
        if let Ok(outcome) = dying.recv() {
            // First the other, so that there is always somebody who says that nothing is left.
            start(&orders, &sender);
            let _ = sender.send(Message::Done(outcome));
        }
    });
}

fn panicked(order: Order, payload: &(dyn std::any::Any + Send)) -> RunOutcome {
    let words = payload.downcast_ref::<&str>().map(|words| (*words).to_owned());
    let words = words.or_else(|| payload.downcast_ref::<String>().cloned());
    RunOutcome {
        order,
        violations: vec![Violation::new(Invariant::NoPanic, words.unwrap_or_else(|| "a panic".to_owned()))],
        trace_hash: 0,
        reached: BTreeMap::new(),
        events: Vec::new(),
        acked: 0,
        read: 0,
    }
}
