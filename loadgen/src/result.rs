//! What a run leaves behind: the result, as it stands in the JSON file.
//!
//! Latencies are kept as whole histograms beside their percentiles, because percentiles cannot be merged: whoever
//! puts intervals, workers or runs together adds histograms and reads the percentiles off the sum. Histograms hold
//! nanoseconds; numbers for people are in microseconds and say so.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};
use serde::{Deserialize, Serialize};

use crate::target::AckClass;

/// The version of the format that this program writes, and the only one that it reads.
pub const SCHEMA: u64 = 1;

/// The percentiles that every [`Latency`] states, by the names that they have in the JSON.
pub const PERCENTILES: [(&str, f64); 5] =
    [("50", 50.0), ("90", 90.0), ("99", 99.0), ("99.9", 99.9), ("99.99", 99.99)];

/// One run, whole or broken off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// Version of this format: [`SCHEMA`].
    pub schema: u64,
    /// What was run.
    pub command: Command,
    /// When the run began, in RFC 3339 with its offset from UTC.
    pub started: String,
    /// Where it ran, and against what.
    pub environment: Environment,
    /// Every setting as it was used, defaults and the seed included.
    pub settings: BTreeMap<String, serde_json::Value>,
    /// Whether the run did everything that it set out to do.
    pub complete: bool,
    /// Why it is partial.
    pub reason: Option<String>,
    /// Why its figures must not be believed: the generator's own lateness, or another cause.
    pub void: Option<String>,
    /// What was found wrong with the records; none when nothing was checked.
    pub verification: Option<Verification>,
    /// One for a simple run; one per rate for a sweep; "preload", "catch-up" and "after" for a catch-up.
    pub phases: Vec<Phase>,
    /// The highest offered rate that the target kept up with, in records a second. Only of a sweep.
    pub saturation: Option<f64>,
    /// How long the consumers took to catch up, in seconds. Only of a catch-up.
    #[serde(default)]
    pub caught_up_seconds: Option<f64>,
}

/// What was run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// Producers only.
    Produce,
    /// Consumers only, of records that are there already.
    Consume,
    /// Producers, and consumers that follow them.
    EndToEnd,
    /// A consumer that begins far behind while producers go on.
    CatchUp,
    /// Rising rates, to find the one where the target saturates.
    Sweep,
}

impl fmt::Display for Command {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str(match self {
            Command::Produce => "produce",
            Command::Consume => "consume",
            Command::EndToEnd => "end-to-end",
            Command::CatchUp => "catch-up",
            Command::Sweep => "sweep",
        })
    }
}

/// Where a run took place, and against what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// Release of the kernel.
    pub kernel: String,
    /// Model of the CPU.
    pub cpu: String,
    /// CPUs that the generator may use.
    pub cpus: u64,
    /// Memory of the machine, in bytes.
    pub memory_bytes: u64,
    /// File system of the broker's data folder, where the broker is local and the folder known.
    pub filesystem: Option<String>,
    /// The disk below it.
    pub disk: Option<String>,
    /// Version of the generator.
    pub loadgen_version: String,
    /// What was measured.
    pub target: Target,
    /// The driver of the client, such as `thread`, `tokio` or `glommio`.
    pub client_driver: String,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// Name of the product.
    pub name: String,
    /// Its version, as it says itself.
    pub version: String,
    /// Where it was reached.
    pub address: String,
    /// What its acknowledgement meant in this run. Only runs of one class can be compared.
    pub ack_class: AckClass,
    /// Its settings that matter for the figures.
    pub settings: BTreeMap<String, serde_json::Value>,
}

/// What became of the records, as the consumers saw it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// Records looked at.
    pub checked: u64,
    /// Acknowledged, and never seen.
    pub lost: u64,
    /// Seen more than once.
    pub doubled: u64,
    /// Seen after a later one of the same producer and partition.
    pub reordered: u64,
    /// With a checksum that does not fit, or no stamp of this run.
    pub damaged: u64,
    /// Seen though never acknowledged: allowed, since the outcome of such a send is unknown.
    pub unacked_seen: u64,
    /// The first faults in words: producer, sequence, partition, offset.
    pub first_problems: Vec<String>,
}

impl Verification {
    /// Whether nothing was wrong.
    pub fn passed(&self) -> bool {
        self.lost == 0 && self.doubled == 0 && self.reordered == 0 && self.damaged == 0
    }
}

/// A stretch of a run with one load.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// Its name, such as "run", "catch-up" or the rate of a sweep's step.
    pub label: String,
    /// Records a second that the schedule asked for; none where there was no schedule.
    pub offered_per_second: Option<f64>,
    /// Length, in seconds, without warm-up.
    pub seconds: f64,
    /// Records handed to the client.
    pub sent: u64,
    /// Records acknowledged.
    pub acked: u64,
    /// Records refused, or whose outcome is unknown.
    pub failed: u64,
    /// Records that consumers got.
    pub received: u64,
    /// Payload sent, in bytes.
    pub bytes_sent: u64,
    /// Payload received, in bytes.
    pub bytes_received: u64,
    /// From the intended start to the acknowledgement.
    pub ack: Option<Latency>,
    /// From the intended start until a consumer had the record.
    pub end_to_end: Option<Latency>,
    /// From the intended start to the actual one: the generator's own fault.
    pub lateness: Option<Latency>,
    /// CPU time of both sides.
    pub cpu: Cpu,
    /// Why the latencies of this phase must not be believed, where only one of several is spoilt: a step of a sweep.
    #[serde(default)]
    pub void: Option<String>,
    /// One a second.
    pub intervals: Vec<Interval>,
    /// How often which error came.
    pub errors: BTreeMap<String, u64>,
}

impl Phase {
    /// The records that count as done: acknowledged; received where nothing was produced; sent where nothing is
    /// acknowledged.
    pub fn records(&self) -> u64 {
        [self.acked, self.received, self.sent].into_iter().find(|count| *count > 0).unwrap_or(0)
    }
}

/// CPU time of a phase, in seconds of one core.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Cpu {
    /// Of the generator's process.
    pub loadgen_seconds: f64,
    /// Of the broker's process, where it is local and was found.
    pub broker_seconds: Option<f64>,
    /// Of the whole machine, kernel workers and everybody else included.
    pub machine_busy_seconds: f64,
    /// The same by record; none without records.
    pub per_record_us: Option<CpuPerRecord>,
}

/// CPU time by record, in microseconds of one core.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CpuPerRecord {
    /// Of the generator's process.
    pub loadgen: f64,
    /// Of the broker's process.
    pub broker: Option<f64>,
    /// Of the whole machine.
    pub machine: f64,
}

impl Cpu {
    /// What was used for so many records.
    pub fn new(
        loadgen_seconds: f64,
        broker_seconds: Option<f64>,
        machine_busy_seconds: f64,
        records: u64,
    ) -> Cpu {
        let each = |seconds: f64| seconds * 1e6 / records as f64;
        let per_record_us = (records > 0).then(|| CpuPerRecord {
            loadgen: each(loadgen_seconds),
            broker: broker_seconds.map(each),
            machine: each(machine_busy_seconds),
        });
        Cpu { loadgen_seconds, broker_seconds, machine_busy_seconds, per_record_us }
    }
}

/// One second of a phase.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// When it began, in seconds since [`RunResult::started`], so that the phases of a run follow each other.
    pub at_seconds: f64,
    /// How long it was, in seconds: the last one of a phase may be shorter than the others.
    #[serde(default = "one_second")]
    pub seconds: f64,
    /// Records handed to the client.
    pub sent: u64,
    /// Records acknowledged.
    pub acked: u64,
    /// Records refused, or whose outcome is unknown.
    pub failed: u64,
    /// Records that consumers got.
    pub received: u64,
    /// Payload sent, in bytes.
    pub bytes_sent: u64,
    /// Payload received, in bytes.
    pub bytes_received: u64,
    /// Records that consumers are behind at its end, where that is known.
    #[serde(default)]
    pub backlog: Option<u64>,
    /// Of the acknowledgements that came within it.
    pub ack: Option<IntervalLatency>,
    /// Of the records that were received within it.
    pub end_to_end: Option<IntervalLatency>,
    /// The generator's lateness, p99, in microseconds.
    pub lateness_p99_us: Option<f64>,
    /// CPU of the generator, as a fraction of one core.
    pub cpu_loadgen: f64,
    /// CPU of the broker, as a fraction of one core.
    pub cpu_broker: Option<f64>,
    /// CPU of the whole machine, as a fraction of one core: up to the number of cores.
    pub cpu_machine: f64,
}

fn one_second() -> f64 {
    1.0
}

/// A distribution of times.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// How many were measured.
    pub count: u64,
    /// Their mean, in microseconds.
    pub mean_us: f64,
    /// The least, in microseconds.
    pub min_us: f64,
    /// The greatest, in microseconds.
    pub max_us: f64,
    /// Those of [`PERCENTILES`] by their names, in microseconds.
    pub percentiles: BTreeMap<String, f64>,
    /// The whole distribution.
    pub histogram: EncodedHistogram,
}

impl Latency {
    /// Of a histogram of nanoseconds; none of an empty one.
    pub fn of(histogram: &Histogram<u64>) -> Option<Latency> {
        (!histogram.is_empty()).then(|| Latency {
            count: histogram.len(),
            mean_us: histogram.mean() / 1e3,
            min_us: micros(histogram.min()),
            max_us: micros(histogram.max()),
            percentiles: PERCENTILES
                .iter()
                .map(|(name, percentile)| {
                    ((*name).to_owned(), micros(histogram.value_at_percentile(*percentile)))
                })
                .collect(),
            histogram: EncodedHistogram::of(histogram),
        })
    }

    /// One of [`PERCENTILES`] by its name, in microseconds; none of another.
    pub fn percentile_us(&self, name: &str) -> Option<f64> {
        self.percentiles.get(name).copied()
    }
}

/// The times of one interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IntervalLatency {
    /// Median, in microseconds.
    pub p50_us: f64,
    /// 99th percentile, in microseconds.
    pub p99_us: f64,
    /// The greatest, in microseconds.
    pub max_us: f64,
    /// The whole distribution.
    pub histogram: EncodedHistogram,
}

impl IntervalLatency {
    /// Of a histogram of nanoseconds; none of an empty one.
    pub fn of(histogram: &Histogram<u64>) -> Option<IntervalLatency> {
        (!histogram.is_empty()).then(|| IntervalLatency {
            p50_us: micros(histogram.value_at_percentile(50.0)),
            p99_us: micros(histogram.value_at_percentile(99.0)),
            max_us: micros(histogram.max()),
            histogram: EncodedHistogram::of(histogram),
        })
    }
}

fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1e3
}

/// A histogram of nanoseconds as text: base64 of HdrHistogram's format V2 with deflate, as its logs have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EncodedHistogram(String);

impl EncodedHistogram {
    /// Encodes a histogram.
    pub fn of(histogram: &Histogram<u64>) -> EncodedHistogram {
        let mut bytes = Vec::new();
        V2DeflateSerializer::new()
            .serialize(histogram, &mut bytes)
            .expect("a Vec takes every write, and a histogram of times is far below the format's 4 GiB");
        EncodedHistogram(STANDARD.encode(bytes))
    }

    /// Decodes it. The result grows as others are added to it.
    pub fn decode(&self) -> Result<Histogram<u64>, ResultError> {
        let bytes = STANDARD.decode(&self.0).map_err(|_| ResultError::BadHistogram)?;
        let mut histogram: Histogram<u64> =
            Deserializer::new().deserialize(&mut bytes.as_slice()).map_err(|_| ResultError::BadHistogram)?;
        histogram.auto(true);
        Ok(histogram)
    }
}

/// Adds histograms up; none of none.
pub fn merge<'a>(
    parts: impl IntoIterator<Item = &'a EncodedHistogram>,
) -> Result<Option<Histogram<u64>>, ResultError> {
    let mut sum: Option<Histogram<u64>> = None;
    for part in parts {
        let part = part.decode()?;
        match &mut sum {
            Some(sum) => sum.add(&part).map_err(|_| ResultError::BadHistogram)?,
            None => sum = Some(part),
        }
    }
    Ok(sum)
}

/// Why a result cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ResultError {
    /// The file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// It holds something else.
    #[error(
        "{} is no result of ringlog-loadgen ({detail}); a run writes one with --json FILE",
        path.display()
    )]
    NoResult {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// It was written by another version.
    #[error(
        "{} has schema {found}, this ringlog-loadgen reads schema {SCHEMA}: \
         use the version that wrote it, or measure again",
        path.display()
    )]
    UnknownSchema {
        /// The file.
        path: PathBuf,
        /// The schema that it states.
        found: String,
    },
    /// A histogram in it is damaged.
    #[error("a histogram is damaged: it is not base64 of HdrHistogram's format V2")]
    BadHistogram,
}

impl RunResult {
    /// Reads a file, and sees that every histogram in it can be decoded.
    pub fn read(path: &Path) -> Result<RunResult, ResultError> {
        let text =
            std::fs::read(path).map_err(|error| ResultError::Unreadable { path: path.to_owned(), error })?;
        RunResult::parse(&text, path)
    }

    /// Reads the bytes of a file; the path is for the words of an error.
    pub fn parse(text: &[u8], path: &Path) -> Result<RunResult, ResultError> {
        let no_result = |detail: String| ResultError::NoResult { path: path.to_owned(), detail };
        let value: serde_json::Value =
            serde_json::from_slice(text).map_err(|error| no_result(format!("not JSON: {error}")))?;
        match value.get("schema") {
            None => return Err(no_result("it states no schema".to_owned())),
            Some(schema) if schema.as_u64() != Some(SCHEMA) => {
                return Err(ResultError::UnknownSchema { path: path.to_owned(), found: schema.to_string() });
            }
            Some(_) => {}
        }
        let result: RunResult =
            serde_json::from_value(value).map_err(|error| no_result(error.to_string()))?;
        for histogram in result.histograms() {
            histogram.decode().map_err(|error| no_result(error.to_string()))?;
        }
        Ok(result)
    }

    fn histograms(&self) -> impl Iterator<Item = &EncodedHistogram> {
        self.phases.iter().flat_map(|phase| {
            let whole = [&phase.ack, &phase.end_to_end, &phase.lateness].into_iter().flatten();
            let parts = phase.intervals.iter().flat_map(|interval| [&interval.ack, &interval.end_to_end]);
            whole.map(|latency| &latency.histogram).chain(parts.flatten().map(|latency| &latency.histogram))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(values: impl IntoIterator<Item = u64>) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap();
        values.into_iter().for_each(|value| histogram.record(value).unwrap());
        histogram
    }

    #[test]
    fn fuzz_result() {
        // A histogram's header may ask for any range, at five digits: HdrHistogram makes room for it.
        let target = ringlog_fuzz::Target::new("result").corpus(env!("CARGO_MANIFEST_DIR"));
        target.allowing(256 << 20, 64).rounds(4_000).run(|text| {
            let result = RunResult::parse(text, Path::new("a.json")).map_err(|error| error.to_string())?;
            let again = serde_json::to_vec(&result).map_err(|error| error.to_string())?;
            let read = RunResult::parse(&again, Path::new("a.json")).map_err(|error| error.to_string());
            assert_eq!(read.as_ref(), Ok(&result));
            Ok(())
        });
    }

    fn parse(text: &str) -> Result<RunResult, ResultError> {
        RunResult::parse(text.as_bytes(), Path::new("a.json"))
    }

    #[test]
    fn a_latency_states_microseconds_and_keeps_the_histogram() {
        let whole = histogram((1..=1000).map(|us| us * 1000));
        let latency = Latency::of(&whole).unwrap();
        assert_eq!(latency.count, 1000);
        assert!((latency.percentile_us("50").unwrap() - 500.0).abs() < 1.0);
        assert!((latency.percentile_us("99.9").unwrap() - 999.0).abs() < 2.0);
        assert_eq!(latency.histogram.decode().unwrap(), whole);
    }

    #[test]
    fn nothing_measured_is_no_latency() {
        assert_eq!(Latency::of(&histogram([])), None);
        assert_eq!(IntervalLatency::of(&histogram([])), None);
    }

    #[test]
    fn merging_adds_the_counts_even_beyond_the_first_one_s_range() {
        let mut narrow = Histogram::<u64>::new_with_bounds(1, 1_000_000, 3).unwrap();
        narrow.record(1_000).unwrap();
        let parts = [EncodedHistogram::of(&narrow), EncodedHistogram::of(&histogram([50_000_000_000]))];
        let sum = merge(&parts).unwrap().unwrap();
        assert_eq!(sum.len(), 2);
        assert!(sum.max() >= 50_000_000_000);
    }

    #[test]
    fn cpu_by_record_is_in_microseconds_and_absent_without_records() {
        let cpu = Cpu::new(1.0, None, 3.0, 1_000_000).per_record_us.unwrap();
        assert_eq!((cpu.loadgen, cpu.broker, cpu.machine), (1.0, None, 3.0));
        assert_eq!(Cpu::new(1.0, None, 3.0, 0).per_record_us, None);
    }

    #[test]
    fn another_schema_is_named() {
        let words = parse(r#"{"schema": 2}"#).unwrap_err().to_string();
        assert!(words.contains("a.json has schema 2") && words.contains("reads schema 1"), "{words}");
    }

    #[test]
    fn what_is_no_result_is_said_to_be_none() {
        for text in ["", "hello", "[1]", "{}", r#"{"schema": 1}"#, r#"{"schema": 1, "command": "dance"}"#] {
            let words = parse(text).unwrap_err().to_string();
            assert!(words.starts_with("a.json is no result of ringlog-loadgen"), "{text:?}: {words}");
        }
    }

    #[test]
    fn a_damaged_histogram_is_an_error() {
        for text in ["!", "", "AAAA", "HISTFAAAAB"] {
            assert!(EncodedHistogram(text.to_owned()).decode().is_err(), "{text:?} was taken");
        }
    }
}
