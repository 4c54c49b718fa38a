//! What every change must pass, within a budget of time: past failures, twenty seeds run twice, one mutant, fresh seeds.

use std::ops::ControlFlow;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ringlog_reactor::print_line;

use crate::coverage::is_good;
use crate::mutants::{Finder, MUTANTS, Mutant};
use crate::report;
use crate::run::Order;
use crate::seeds;
use crate::swarm;
use crate::tally::Tally;

/// Seeds that are run twice.
const TWICE: std::ops::Range<u64> = 1..21;
/// Fresh seeds, if the budget has time for them: more are for `--minutes`.
const FRESH_SEEDS: usize = 3_000;
/// Seeds within which a mutant must be caught: some show in one of fifty, and any change gives the seeds other runs.
const MUTANT_SEEDS: std::ops::Range<u64> = 1..301;

/// Runs all of it. False if anything is wrong.
pub fn run(budget: Duration, mutant: Option<&'static Mutant>, jobs: usize) -> bool {
    let begin = Instant::now();
    let past = seeds::past();
    let known = past.into_iter().map(|past| Order::of(past.seed));
    if !step("past failures", known, jobs, false) {
        return false;
    }
    let twice = TWICE.map(|seed| Order { twice: true, ..Order::of(seed) });
    if !step("twenty seeds, twice each", twice, jobs, false) {
        return false;
    }
    if cfg!(feature = "mutants") && !MUTANTS.is_empty() {
        let mutant = mutant.unwrap_or_else(mutant_of_today);
        if !is_caught(mutant, jobs) {
            return false;
        }
    }
    let fresh = seeds_of_today().take_while(move |_| begin.elapsed() < budget);
    step("the day's fresh seeds", fresh.map(Order::of), jobs, true)
}

fn step(
    name: &str,
    orders: impl Iterator<Item = Order> + Send + 'static,
    jobs: usize,
    must_cover: bool,
) -> bool {
    let begin = Instant::now();
    let tally: Tally = swarm::run_all(orders, jobs, |outcome| {
        if outcome.violations.is_empty() {
            return ControlFlow::Continue(());
        }
        print_line!("{}\n", report::failure(&swarm::retell(&outcome, swarm::EVENTS)));
        ControlFlow::Break(())
    });
    print_line!("{name}: {}", report::tally(&tally, begin.elapsed().as_secs_f64()));
    if must_cover { is_good(&tally) } else { tally.failed == 0 }
}

fn is_caught(mutant: &'static Mutant, jobs: usize) -> bool {
    let mut first = None;
    let orders = MUTANT_SEEDS.map(|seed| Order { mutant: Some(mutant.name), ..Order::of(seed) });
    let tally = swarm::run_all(orders, jobs, |outcome| {
        if outcome.violations.is_empty() {
            return ControlFlow::Continue(());
        }
        first = Some(outcome.order.seed);
        ControlFlow::Break(())
    });
    match first {
        Some(seed) => print_line!("mutant {}: caught by seed {seed}, in {} runs", mutant.name, tally.runs),
        None => print_line!("mutant {} SURVIVED {} runs: {}", mutant.name, tally.runs, mutant.what),
    }
    first.is_some()
}

/// Others each day, and the same all day: what fails here fails for everybody who looks, until it is mended.
fn seeds_of_today() -> impl Iterator<Item = u64> + Send {
    (today() << 20..).take(FRESH_SEEDS)
}

fn today() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / 86_400)
}

/// Another one each day, of those that whole nodes find.
fn mutant_of_today() -> &'static Mutant {
    let found: Vec<_> = MUTANTS.iter().filter(|mutant| mutant.finder == Finder::Nodes).collect();
    found[today() as usize % found.len()]
}
