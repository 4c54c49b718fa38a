//! A result on the page.

use crate::result::{Interval, Phase, RunResult};

/// A result and what it is called on the page; a single one needs no name.
pub struct Run<'a> {
    /// In legends.
    pub name: String,
    /// What is shown.
    pub result: &'a RunResult,
}

impl Run<'_> {
    /// The name of one of its lines.
    pub(super) fn name_of(&self, what: &str) -> String {
        match self.name.as_str() {
            "" => what.to_owned(),
            name => format!("{name}: {what}"),
        }
    }

    /// The name of a line of one of its phases.
    pub(super) fn named(&self, phase: &Phase) -> String {
        if self.result.phases.len() > 1 { self.name_of(&phase.label) } else { self.name.clone() }
    }

    pub(super) fn intervals(&self) -> impl Iterator<Item = &Interval> {
        self.result.phases.iter().flat_map(|phase| &phase.intervals)
    }

    /// Seconds from its first interval to that one, in tenths, so that the seconds of several runs meet.
    pub(super) fn since_begin(&self, interval: &Interval) -> f64 {
        let begin = self.intervals().map(|interval| interval.at_seconds).fold(f64::INFINITY, f64::min);
        ((interval.at_seconds - begin) * 10.0).round() / 10.0
    }
}
