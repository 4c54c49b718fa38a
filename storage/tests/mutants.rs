//! Known bugs of the storage, put in one at a time: lives that do not find them show nothing.
//!
//! Needs the feature `mutants`. `sim/src/mutants.rs` says what each of them is.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};

use common::lives::{Run, Trouble};
use common::lost_end::{Size, lives_with_a_lost_end};
use common::rot::Rot;
use common::scenarios::{Scenario, longest_journaled_batches, times_after_a_restart};
use common::{aging, full};

/// Seeds in which a mutant must be found once.
const SEEDS: u64 = 50;
/// Lives of a seed, one after the other on one disk: some bugs need a crash in just one place.
const LIVES: u64 = 24;

/// Those that show when the power fails, or the process is killed, and nothing else is wrong.
const CRASHES: &[&str] = &[
    "torn-tail-skipped",
    "advance-untold",
    "ack-before-sync",
    "acked-out-of-order",
    "watermark-before-frame-before",
    "rewrite-acked-block",
    "drop-journal-before-checkpoint",
    "journal-freed-too-far",
    "checkpoint-says-clean",
    "checkpoint-copy-unwritten",
    "stopped-before-committed",
    "mark-before-sync",
    "bypass-before-flush-is-synced",
    "partition-folder-unsynced",
    "segment-entry-unsynced",
    "no-directory-sync",
    "replace-unsynced",
    "short-write-taken-for-whole",
    "sync-races-write",
    "sealed-unsynced",
    "read-past-high-watermark",
    "cache-past-high-watermark",
    "window-ignored",
    "old-frames-taken",
    "replay-crc-unchecked",
    "marks-ignored",
    "replayed-unsynced",
    "taken-over-unsynced",
];
/// Those that show when writes and syncs fail, too.
const IO_ERRORS: &[&str] = &["failed-write-acked", "retry-after-failed-sync"];
/// Those that show when something rots, or lands in the wrong place.
const ROT: &[(&str, Rot)] = &[
    ("cut-mid-log", Rot::Frame),
    ("quarantine-forgotten", Rot::Frame),
    ("quarantined-cleaned", Rot::Frame),
    ("read-crc-unchecked", Rot::Segment),
    ("entry-identity-unchecked", Rot::Misdirected),
    ("trust-index", Rot::Index),
    ("older-checkpoint-preferred", Rot::Checkpoint),
];
/// Those that show when the end of a journal is lost.
const LOST_END: &[&str] = &["lost-end-ignored"];
/// Those that show where old segments go.
const RETENTION: &[&str] = &["start-offset-not-durable"];
/// Those that show when the only record of a topic is to go, dated so far in the future.
const AGING: &[(&str, i64)] =
    &[("quiet-partitions-unflushed", 0), ("future-times-believed", 1_000_000_000_000)];
/// Those that show when a disk is full of what retention lets go.
const FULL: &[&str] = &["retention-flushes-first"];
/// Those that show when large batches meet a full disk.
const REFUSED: &[&str] = &["refusal-untold", "told-taken-back"];

/// Those that show in states of their own.
const SCENARIOS: &[(&str, Scenario)] = &[
    ("index-times-not-raised", times_after_a_restart),
    ("journaled-batch-too-long", longest_journaled_batches),
];

/// The first seed in which something is wrong.
fn first_seed_that_finds(life: impl Fn(u64)) -> Option<u64> {
    (1..=SEEDS).find(|seed| catch_unwind(AssertUnwindSafe(|| life(*seed))).is_err())
}

fn lives(seed: u64, mutant: Option<&'static str>, trouble: Trouble) {
    let mut run = Run::new(seed, trouble);
    // Without one, all seeds are played.
    let count = if mutant.is_some() { LIVES } else { LIVES / 3 };
    (0..count).for_each(|_| run.live(|simulation| simulation.set_mutant(mutant)));
}

fn lives_and_rot(seed: u64, mutant: Option<&'static str>, rot: Rot) {
    let mut run = Run::new(seed, Trouble::default());
    (0..3).for_each(|_| run.live(|simulation| simulation.set_mutant(mutant)));
    run.rot(rot, |simulation| simulation.set_mutant(mutant));
}

/// All of them, or the one that `RINGLOG_MUTANT` names.
fn every_one_is_found(mutants: impl Iterator<Item = &'static str>, lives: impl Fn(u64, &'static str)) {
    let only = std::env::var("RINGLOG_MUTANT").ok();
    let chosen = mutants.filter(|mutant| only.as_deref().is_none_or(|only| only == *mutant));
    let found = chosen.map(|mutant| (mutant, first_seed_that_finds(|seed| lives(seed, mutant))));
    let missed: Vec<_> = found
        .inspect(|(mutant, seed)| println!("{mutant}: {seed:?}"))
        .filter_map(|(mutant, seed)| seed.is_none().then_some(mutant))
        .collect();
    assert!(missed.is_empty(), "{missed:?} were not found in {SEEDS} seeds");
}

#[test]
fn without_a_bug_nothing_is_found() {
    for (io_errors, retention) in [(false, false), (true, false), (false, true), (true, true)] {
        let trouble = Trouble { io_errors, retention };
        assert_eq!(first_seed_that_finds(|seed| lives(seed, None, trouble)), None, "{trouble:?}");
    }
    for rot in [Rot::Frame, Rot::Segment, Rot::Misdirected, Rot::Index, Rot::Checkpoint] {
        assert_eq!(first_seed_that_finds(|seed| lives_and_rot(seed, None, rot)), None, "{rot:?}");
    }
}

#[test]
fn bugs_that_crashes_show_are_found() {
    every_one_is_found(CRASHES.iter().copied(), |seed, mutant| lives(seed, Some(mutant), Trouble::default()));
}

#[test]
fn bugs_that_failing_disks_show_are_found() {
    let trouble = Trouble { io_errors: true, ..Trouble::default() };
    every_one_is_found(IO_ERRORS.iter().copied(), |seed, mutant| lives(seed, Some(mutant), trouble));
}

#[test]
fn bugs_that_retention_shows_are_found() {
    let trouble = Trouble { retention: true, ..Trouble::default() };
    every_one_is_found(RETENTION.iter().copied(), |seed, mutant| lives(seed, Some(mutant), trouble));
}

#[test]
fn bugs_that_a_full_disk_shows_are_found() {
    every_one_is_found(FULL.iter().copied(), |seed, mutant| full::heals(seed, Some(mutant)));
    every_one_is_found(REFUSED.iter().copied(), |seed, mutant| {
        full::refuses(seed, Some(mutant));
    });
}

#[test]
fn bugs_that_keep_the_only_record_are_found() {
    for (mutant, ahead_ms) in AGING {
        let lives = |seed, mutant| aging::the_only_record_goes(seed, *ahead_ms, Some(mutant));
        every_one_is_found([*mutant].into_iter(), lives);
    }
    every_one_is_found(["age-unlearned"].into_iter(), |seed, mutant| {
        aging::an_old_segment_takes_nothing_new(seed, Some(mutant));
    });
}

#[test]
fn bugs_that_scenarios_show_are_found() {
    let scenario_of = |name| SCENARIOS.iter().find(|(mutant, _)| *mutant == name).expect("it is listed").1;
    let names = SCENARIOS.iter().map(|(mutant, _)| *mutant);
    every_one_is_found(names, |seed, mutant| {
        scenario_of(mutant)(seed, &|simulation| simulation.set_mutant(Some(mutant)));
    });
}

#[test]
fn bugs_that_a_lost_end_of_a_journal_shows_are_found() {
    every_one_is_found(LOST_END.iter().copied(), |seed, mutant| {
        lives_with_a_lost_end(seed, Size::Small, 64 << 10, |simulation| simulation.set_mutant(Some(mutant)));
    });
}

#[test]
fn bugs_that_rot_shows_are_found() {
    let rot_of = |name| ROT.iter().find(|(mutant, _)| *mutant == name).expect("it is listed").1;
    let names = ROT.iter().map(|(mutant, _)| *mutant);
    every_one_is_found(names, |seed, mutant| lives_and_rot(seed, Some(mutant), rot_of(mutant)));
}
