//! A sample of what `ringlog-sim` does at length: a few runs, their determinism, and checkers that can fail.
#![forbid(unsafe_code)]

use ringlog_sim::controls::{CONTROLS, try_control};
use ringlog_sim::invariant::Invariant;
use ringlog_sim::run::{Order, run, run_with_history, same, violations};

#[test]
fn whole_nodes_keep_their_promises_over_a_few_seeds() {
    for seed in 1..9 {
        let outcome = run(Order::of(seed));
        assert_eq!(outcome.violations, [], "seed {seed}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    let hash = |seed| run(Order { twice: true, ..Order::of(seed) });
    let (one, other) = (hash(3), hash(4));
    assert_eq!((one.violations, other.violations), (vec![], vec![]));
    assert_ne!(one.trace_hash, other.trace_hash);
}

#[test]
fn keeping_the_last_events_does_not_change_a_run() {
    let quiet = run(Order::of(5));
    let told = run(Order { events: 20, ..Order::of(5) });
    assert_eq!(quiet.trace_hash, told.trace_hash);
    assert_eq!(told.events.len(), 20);
}

#[test]
fn every_checker_sees_a_history_that_is_not_true() {
    let histories: Vec<_> = (1..13).map(|seed| run_with_history(Order::of(seed)).1).collect();
    for control in CONTROLS {
        let tried = histories.iter().map(|history| try_control(control, history));
        let seen = tried.filter(|result| *result != Err("the run has nothing to change"));
        let results: Vec<_> = seen.map(|result| result.map(drop)).collect();
        assert!(!results.is_empty(), "{}: no run could be changed so", control.change);
        assert!(results.iter().all(Result::is_ok), "{}: {results:?}", control.change);
    }
}

#[test]
fn a_panic_and_a_difference_between_two_runs_have_names() {
    let (_, history) = run_with_history(Order::of(1));
    assert_eq!(violations(&history, &[]), []);
    let found = violations(&history, &["index out of bounds".to_owned()]);
    assert_eq!(found[0].invariant, Invariant::NoPanic);
    assert_eq!(same(1, 2).unwrap_err().invariant, Invariant::Determinism);
}
