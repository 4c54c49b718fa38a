//! One run: a seed in, an outcome out.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use ringlog_reactor::sim::Simulation;

use crate::check;
use crate::draw::draw;
use crate::history::{Event, History, Outcome};
use crate::invariant::{Invariant, Violation};
use crate::machines::Play;
use crate::panics;
use crate::plan::Plan;
use crate::stage::Stage;

/// What no run may reach: the broker did what no client may meet.
const NEVER: &[&str] = &["broker broke the protocol"];

/// What to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// All of it follows from this.
    pub seed: u64,
    /// A known bug that is switched on.
    pub mutant: Option<&'static str>,
    /// Runs twice, and compares.
    pub twice: bool,
    /// How many of the last events are kept. They cost time.
    pub events: usize,
}

impl Order {
    /// One run of a seed.
    pub fn of(seed: u64) -> Order {
        Order { seed, mutant: None, twice: false, events: 0 }
    }
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct RunOutcome {
    /// What was run.
    pub order: Order,
    /// Everything that is wrong; one of each invariant at most.
    pub violations: Vec<Violation>,
    /// Sums up every choice and every completion.
    pub trace_hash: u64,
    /// Rare states, and how often they were reached.
    pub reached: BTreeMap<&'static str, u64>,
    /// The last events, for people.
    pub events: Vec<String>,
    /// Records that were acknowledged.
    pub acked: u64,
    /// Records that were read.
    pub read: u64,
}

/// Plays a seed and checks its history.
pub fn run(order: Order) -> RunOutcome {
    let (mut outcome, _) = run_with_history(order);
    if order.twice && outcome.violations.is_empty() {
        // With other addresses: nothing may depend on them.
        let elsewhere: Vec<Vec<u8>> = (1..64).map(|size| Vec::with_capacity(size * 1_000 + 8)).collect();
        let again = run_with_history(order).0;
        drop(elsewhere);
        outcome.violations.extend(same(outcome.trace_hash, again.trace_hash).err());
    }
    outcome
}

/// Whether two runs of one seed were one.
///
/// # Errors
/// When they were not.
pub fn same(one: u64, other: u64) -> Result<(), Violation> {
    if one == other {
        return Ok(());
    }
    let seen =
        format!("the trace of the first run sums up to {one:016x}, that of the second to {other:016x}");
    Err(Violation::new(Invariant::Determinism, seen))
}

/// The same once, with what the clients saw.
pub fn run_with_history(order: Order) -> (RunOutcome, History) {
    play(order, draw(order.seed))
}

/// Plays a plan.
pub fn play(order: Order, plan: Plan) -> (RunOutcome, History) {
    let world = Rc::new(Simulation::new(order.seed));
    if order.events > 0 {
        world.keep_events(order.events);
    }
    switch_on(&world, order.mutant);
    let stage = Stage::new(plan.trust(), plan.is_calm());
    if plan.disk.capacity_bytes.is_some() {
        stage.history().borrow_mut().has_small_disk();
    }
    let watch = panics::watch();
    let play = Play::new(Rc::clone(&world), Rc::clone(&stage), Rc::new(plan));
    let played = catch_unwind(AssertUnwindSafe(|| world.run(Rc::new(play).run())));
    let mut panics = watch.seen();
    if played.is_err() && panics.is_empty() {
        panics.push("a panic without words".to_owned());
    }
    let mut history = stage.history().take();
    for mark in NEVER.iter().filter(|mark| world.reached().contains_key(*mark)) {
        let end = history.events().last().map_or(0, |(at, _)| *at);
        history.push(end, Event::Broken(format!("{mark}, as a client of the library has seen")));
    }
    let outcome = RunOutcome {
        order,
        violations: violations(&history, &panics),
        trace_hash: world.trace_hash(),
        reached: world.reached(),
        events: world.last_events(),
        acked: count(&history, |event| matches!(event, Event::Resolved(_, Outcome::Acked(..)))),
        read: count(&history, |event| matches!(event, Event::Read { .. })),
    };
    (outcome, history)
}

/// Everything that is wrong with a run.
pub fn violations(history: &History, panics: &[String]) -> Vec<Violation> {
    let panicked = panics.first().map(|words| Violation::new(Invariant::NoPanic, words.clone()));
    panicked.into_iter().chain(check::violations(history)).collect()
}

/// How many such events there are.
fn count(history: &History, is_one: impl Fn(&Event) -> bool) -> u64 {
    history.events().iter().filter(|(_, event)| is_one(event)).count() as u64
}

#[cfg(feature = "mutants")]
fn switch_on(world: &Simulation, mutant: Option<&'static str>) {
    world.set_mutant(mutant);
}

#[cfg(not(feature = "mutants"))]
fn switch_on(_: &Simulation, mutant: Option<&'static str>) {
    assert!(mutant.is_none(), "the known bugs are not built in; build with --features mutants");
}
