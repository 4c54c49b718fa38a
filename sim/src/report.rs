//! What people see: a failure with everything needed to understand it, and what many runs came to.

use std::fmt::Write;

use crate::coverage;
use crate::draw::draw;
use crate::run::RunOutcome;
use crate::tally::Tally;

/// A failure, told.
pub fn failure(outcome: &RunOutcome) -> String {
    let order = outcome.order;
    let mut text = format!("seed {} FAILED\n", order.seed);
    for violation in &outcome.violations {
        let _ = writeln!(text, "  broken     {violation}");
    }
    let _ = writeln!(text, "{}", draw(order.seed));
    if !outcome.events.is_empty() {
        let _ = writeln!(text, "the last {} events:", outcome.events.len());
        for event in &outcome.events {
            let _ = writeln!(text, "  {event}");
        }
    }
    let features = if order.mutant.is_some() { "--features mutants " } else { "" };
    let mutant = order.mutant.map(|name| format!(" --mutant {name}")).unwrap_or_default();
    let _ =
        write!(text, "again: cargo run --release -p ringlog-sim {features}-- --seed {}{mutant}", order.seed);
    text
}

/// What many runs came to.
pub fn tally(tally: &Tally, seconds: f64) -> String {
    let Tally { runs, failed, acked, read, .. } = tally;
    let rate = *runs as f64 / seconds.max(0.001);
    let mut text = format!(
        "{runs} runs, {failed} failed; {acked} records acknowledged, {read} read; {seconds:.1} s, {rate:.1} runs/s"
    );
    let missing = coverage::missing(tally);
    if !missing.is_empty() {
        let _ = write!(text, "\nnever reached: {}", missing.join(", "));
    }
    text
}

/// In how many runs each rare state was reached, and how often in all.
pub fn reached(tally: &Tally) -> String {
    let mut reached: Vec<_> = tally.reached.iter().collect();
    reached.sort_by_key(|(mark, (runs, _))| (*runs, **mark));
    let lines = reached.iter().map(|(mark, (runs, times))| format!("  {runs:>6} runs {times:>10}  {mark}"));
    lines.collect::<Vec<_>>().join("\n")
}
