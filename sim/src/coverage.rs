//! Rare states. A workload that never gets there tests nothing of them, so a command over many seeds fails that left one out.

use crate::swarm::Tally;

/// From so many runs on every mark must have been reached.
pub const RUNS: u64 = 20;

/// What must be reached, by the names that the code counts.
pub const MARKS: &[&str] = &[
    "killed before it was up",
    "record not acknowledged",
    "consumer from a time",
    "consumer out of range",
    "topic deleted",
    "stranger",
    "client killed",
    "paused",
    "clock jumped",
    "disk full",
    "bit flipped",
    "damage named by a start",
    "network cut",
    "connection half closed",
];

/// The marks that were not reached, once there were runs enough.
pub fn missing(tally: &Tally) -> Vec<&'static str> {
    if tally.runs < RUNS {
        return Vec::new();
    }
    MARKS.iter().copied().filter(|mark| !tally.reached.contains_key(mark)).collect()
}
