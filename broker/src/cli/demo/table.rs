//! The demo's figures, each with what it measures.

use std::io::{self, Write};
use std::time::Duration;

use hdrhistogram::Histogram;

use super::super::failure::Failure;
use super::super::output::Output;
use super::super::units::{grouped, megabytes, span};
use super::workspace::Workspace;

/// One second above the longest wait that is not a failure anyway.
const LONGEST_NANOS: u64 = 60_000_000_000;

/// For times in nanoseconds, to three digits.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_NANOS, 3)
        .expect("the bounds are in order and three digits are allowed")
}

/// Notes a time.
pub fn note(histogram: &mut Histogram<u64>, time: Duration) {
    histogram.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
}

/// Everything as fast as it goes.
pub struct Bulk {
    pub records: u64,
    pub bytes: u64,
    /// From the first send to the last ack.
    pub acked_after: Duration,
    /// From the first send until the last record was received and compared.
    pub delivered_after: Duration,
}

/// One record at a time, on a schedule.
pub struct Paced {
    pub records: u64,
    pub bytes: u64,
    pub per_second: u64,
    /// How late each send was.
    pub lateness: Histogram<u64>,
    pub ack: Histogram<u64>,
    pub delivery: Histogram<u64>,
}

/// All of it.
pub struct Table {
    pub input: String,
    pub shards: u32,
    pub partitions: u32,
    pub bulk: Bulk,
    pub paced: Paced,
}

impl Table {
    /// Prints to standard output.
    pub fn print(&self, workspace: &Workspace, mut output: Output) -> Result<(), Failure> {
        output.write(|out| self.write(out, workspace.file_system()))?;
        output.flush()
    }

    fn write(&self, out: &mut impl Write, file_system: &str) -> io::Result<()> {
        let Table { input, shards, partitions, bulk, paced } = self;
        writeln!(out)?;
        writeln!(out, "  input       {input}")?;
        writeln!(out, "  broker      {shards} shards, {partitions} partitions, data on {file_system}")?;
        writeln!(out, "  records     {}", grouped(bulk.records + paced.records))?;
        writeln!(out, "  bytes       {} of values", grouped(bulk.bytes + paced.bytes))?;
        writeln!(out, "  verified    every record came back once, in order, byte for byte")?;
        writeln!(out)?;
        writeln!(out, "At full speed ({} records, {}):", grouped(bulk.records), megabytes(bulk.bytes))?;
        write_rate(out, "acknowledged at `disk`", bulk, bulk.acked_after)?;
        write_rate(out, "received and compared", bulk, bulk.delivered_after)?;
        writeln!(out)?;
        let Paced { records, per_second, .. } = paced;
        writeln!(
            out,
            "At {} records a second, each sent on its own ({} records):",
            grouped(*per_second),
            grouped(*records)
        )?;
        writeln!(out, "  {:24} {:>9} {:>9} {:>9} {:>9}", "", "p50", "p99", "p99.9", "max")?;
        write_times(out, "ack at `disk`", &paced.ack)?;
        write_times(out, "publish → subscriber", &paced.delivery)?;
        writeln!(
            out,
            "  A record's time runs from when it was due, in this process, to when the application has the"
        )?;
        writeln!(
            out,
            "  ack, or the record. The schedule was kept to {} (p99).",
            span(quantile(&paced.lateness, 0.99))
        )?;
        self.write_doubts(out, file_system)
    }

    /// Where a figure is not what it seems.
    fn write_doubts(&self, out: &mut impl Write, file_system: &str) -> io::Result<()> {
        if file_system == "tmpfs" {
            writeln!(out, "  Doubt: the data was in memory (tmpfs), where a sync costs nothing; see --dir.")?;
        }
        let Paced { lateness, ack, .. } = &self.paced;
        if quantile(lateness, 0.99) > quantile(ack, 0.99) / 10 {
            writeln!(
                out,
                "  Doubt: the machine was too busy to send on time, and the times above hold that lateness."
            )?;
        }
        Ok(())
    }
}

fn write_rate(out: &mut impl Write, what: &str, bulk: &Bulk, after: Duration) -> io::Result<()> {
    let seconds = after.as_secs_f64().max(1e-9);
    let records = (bulk.records as f64 / seconds) as u64;
    let megabytes = bulk.bytes as f64 / 1e6 / seconds;
    writeln!(out, "  {what:24} {:>9} records/s {megabytes:>8.1} MB/s   in {}", grouped(records), span(after))
}

fn write_times(out: &mut impl Write, what: &str, times: &Histogram<u64>) -> io::Result<()> {
    let at = |q| span(quantile(times, q));
    let max = span(Duration::from_nanos(times.max()));
    writeln!(out, "  {what:24} {:>9} {:>9} {:>9} {max:>9}", at(0.5), at(0.99), at(0.999))
}

fn quantile(times: &Histogram<u64>, quantile: f64) -> Duration {
    Duration::from_nanos(times.value_at_quantile(quantile))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(late: Duration) -> Table {
        let of = |micros| {
            let mut times = histogram();
            note(&mut times, Duration::from_micros(micros));
            times
        };
        let mut lateness = histogram();
        note(&mut lateness, late);
        let bulk = Bulk {
            records: 1_000,
            bytes: 5_000_000,
            acked_after: Duration::from_secs(1),
            delivered_after: Duration::from_secs(2),
        };
        let paced =
            Paced { records: 10, bytes: 50, per_second: 1_000, lateness, ack: of(100), delivery: of(120) };
        Table { input: "text".into(), shards: 2, partitions: 4, bulk, paced }
    }

    fn printed(table: &Table, file_system: &str) -> String {
        let mut out = Vec::new();
        table.write(&mut out, file_system).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn rates_and_times_stand_in_the_table() {
        let text = printed(&table(Duration::from_micros(1)), "ext4");
        for part in ["1,010", "5,000,050", "1,000 records/s", "5.0 MB/s", "500 records/s", "100 µs", "120 µs"]
        {
            assert!(text.contains(part), "{part:?} is missing in\n{text}");
        }
        assert!(!text.contains("Doubt"), "{text}");
    }

    #[test]
    fn doubts_are_printed() {
        assert!(printed(&table(Duration::from_micros(1)), "tmpfs").contains("Doubt"));
        assert!(printed(&table(Duration::from_millis(1)), "ext4").contains("Doubt"));
    }
}
