//! The line on the terminal while a run is under way.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::engine::Bucket;

/// Shown on standard error, and only if that is a terminal.
pub struct Progress {
    bar: Option<ProgressBar>,
    label: String,
}

impl Progress {
    /// Shown if standard error is a terminal.
    pub fn on_terminal() -> Progress {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            bar.set_style(
                ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()),
            );
            bar
        });
        Progress { bar, label: String::new() }
    }

    /// Never shown.
    pub fn hidden() -> Progress {
        Progress { bar: None, label: String::new() }
    }

    /// What stands before the figures: the phase.
    pub fn label(&mut self, label: impl Into<String>) {
        self.label = label.into();
    }

    /// Shows the second that was measured last.
    pub(crate) fn show(&self, second: &Bucket, duration: Option<Duration>) {
        if let Some(bar) = &self.bar {
            bar.set_message(line(&self.label, second, duration));
            bar.tick();
        }
    }

    /// Takes the line away.
    pub fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.set_message("");
            bar.tick();
        }
    }
}

fn line(label: &str, second: &Bucket, duration: Option<Duration>) -> String {
    let of = duration.map(|duration| format!("/{:.0}", duration.as_secs_f64())).unwrap_or_default();
    let mut line = format!("{label} {}{of} s", second.index + 1);
    for (count, what) in [(second.sent, "sent"), (second.acked, "acked"), (second.received, "received")] {
        if count > 0 {
            line += &format!("  {what} {count}/s");
        }
    }
    for (histogram, what) in [(&second.ack, "ack"), (&second.end_to_end, "end-to-end")] {
        if !histogram.is_empty() {
            let micros = |percentile| histogram.value_at_percentile(percentile) as f64 / 1e3;
            line += &format!("  {what} p50 {:.0} µs p99 {:.0} µs", micros(50.0), micros(99.0));
        }
    }
    if second.failed > 0 {
        line += &format!("  FAILED {}", second.failed);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_what_happened_and_leaves_out_what_did_not() {
        let mut second = Bucket::new(3);
        (second.sent, second.acked, second.failed) = (1000, 999, 1);
        second.ack.record(50_000).expect("it resizes");
        let line = line("run", &second, Some(Duration::from_secs(10)));
        assert_eq!(line, "run 4/10 s  sent 1000/s  acked 999/s  ack p50 50 µs p99 50 µs  FAILED 1");
    }
}
