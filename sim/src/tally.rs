//! What many runs reached together.

use std::collections::BTreeMap;

use crate::run::RunOutcome;

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
