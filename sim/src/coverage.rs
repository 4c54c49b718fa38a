//! Rare states. A workload that never gets there tests nothing of them, so a command over many seeds fails that left one out.

use crate::tally::Tally;

/// States by the names that the code counts, and after how many runs each of them must have been reached.
const MARKS: &[(u64, &[&str])] = &[(100, OFTEN), (1_000, NOW_AND_THEN)];

/// What some run in ten or more reaches.
const OFTEN: &[&str] = &[
    // What clients and operators do.
    "killed before it was up",
    "record not acknowledged",
    "consumer from a time",
    "consumer out of range",
    "topic deleted",
    "stranger",
    "unreadable batch refused",
    "timestamp refused",
    "batch checked beside the core",
    "outcome unknown",
    "batch sent again",
    "requests forwarded to another core",
    // What goes wrong.
    "client killed",
    "paused",
    "clock jumped",
    "disk full",
    "bit flipped",
    "damage named by a start",
    "network cut",
    "connection half closed",
    // What the storage goes through.
    "segment rolled",
    "checkpoint made",
    "journal file recycled",
    "journal file taken over",
    "append waits for a journal file",
    "bypass begun",
    "mark put",
    "mark followed",
    "frame replayed",
    "segment put aside",
    "cold read",
    "index loaded",
    "index rebuilt",
];

/// What some run in fifty reaches.
const NOW_AND_THEN: &[&str] = &[
    "torn tail cut",
    "frame survived without the one before it",
    "storage failed",
    "full disk waited out",
    "append waits for room",
    "log memory evicted",
    "batches put back into the journal",
    "retention let segments go",
    "stale index removed",
    "hole in the journal",
    "partition quarantined",
    "damaged epoch kept",
    "damage found by a read",
    "deletion of a topic finished by a start",
    "start refused by a failing disk",
];

/// The marks that were not reached, once there were runs enough.
pub fn missing(tally: &Tally) -> Vec<&'static str> {
    let due = MARKS.iter().filter(|(runs, _)| tally.runs >= *runs).flat_map(|(_, marks)| *marks);
    due.copied().filter(|mark| !tally.reached.contains_key(mark)).collect()
}

/// Whether nothing is wrong, and nothing was left out.
pub fn is_good(tally: &Tally) -> bool {
    tally.failed == 0 && missing(tally).is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_missed_once_there_were_runs_enough() {
        let mut tally = Tally { runs: 99, ..Tally::default() };
        assert!(missing(&tally).is_empty());
        tally.runs = 100;
        assert_eq!(missing(&tally), OFTEN);
        tally.reached = OFTEN.iter().map(|mark| (*mark, (1, 1))).collect();
        assert!(missing(&tally).is_empty());
        tally.runs = 1_000;
        assert_eq!(missing(&tally), NOW_AND_THEN);
    }
}
