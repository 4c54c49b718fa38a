//! Many runs on several threads; each thread is a world of its own.

use std::ops::ControlFlow;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::run::{Order, RunOutcome, run};
use crate::tally::Tally;

/// Events that a failing run keeps when it is run again to be told, unless more are asked for.
pub const EVENTS: usize = 60;

type Orders = Arc<Mutex<Box<dyn Iterator<Item = Order> + Send>>>;

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
