//! The line on the terminal while a run is under way.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::engine::Bucket;
use crate::report::time;

/// Shown on standard error, and only if that is a terminal.
pub struct Progress {
    bar: Option<ProgressBar>,
    label: String,
    shown: bool,
}

impl Progress {
    /// Shown if standard error is a terminal.
    pub fn on_terminal() -> Progress {
        Progress { bar: None, label: String::new(), shown: io::stderr().is_terminal() }
    }

    /// Never shown.
    pub fn hidden() -> Progress {
        Progress { bar: None, label: String::new(), shown: false }
    }

    /// A phase begins, and this stands before its figures.
    pub fn label(&mut self, label: impl Into<String>) {
        self.label = label.into();
        self.bar = self.shown.then(|| {
            let style =
                // Cut at the terminal's edge: what wraps leaves remains behind on narrower ones.
                ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
            ProgressBar::new_spinner().with_style(style)
        });
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{}: starting", self.label));
        }
    }

    /// Shows the second that was measured last.
    pub(crate) fn show(&self, second: &Bucket, duration: Option<Duration>) {
        if let Some(bar) = &self.bar {
            bar.set_message(line(&self.label, second, duration));
        }
    }

    /// Takes the line away.
    pub fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
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
            let percentile = |percentile| time(histogram.value_at_percentile(percentile) as f64 / 1e3);
            line += &format!("  {what} p50 {} p99 {}", percentile(50.0), percentile(99.0));
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
        assert_eq!(line, "run 4/10 s  sent 1000/s  acked 999/s  ack p50 50.0 µs p99 50.0 µs  FAILED 1");
    }
}
