//! The flags, and what they mean together.

use std::num::NonZeroUsize;
use std::thread::available_parallelism;
use std::time::Duration;

use clap::Args;
use ringlog_client::{Ack, Compression};

use crate::ringlog::Driver;
use crate::workload::{Arrivals, Keys, Load, Payload, Sizes, parse_bytes};

const DEFAULT_RATE: f64 = 1000.0;
/// Beyond this, a schedule's distances are below a nanosecond's tenth, and no machine keeps it anyway.
const MAX_RATE: f64 = 1e9;
const MAX_MEMBERS: u32 = 1024;
/// Twice what a sleeping thread of a virtual machine takes to wake up.
const SPIN: Duration = Duration::from_micros(100);

/// What all runs have in common.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// The brokers to talk to; one that answers is enough
    #[arg(
        long,
        env = "RINGLOG_BROKER",
        value_name = "HOST:PORT,…",
        value_delimiter = ',',
        default_value = "127.0.0.1:7171",
        help_heading = "Target"
    )]
    pub servers: Vec<String>,
    /// What an ack means: on stable storage, in the broker's memory, or nothing
    #[arg(long, value_name = "disk|memory|none", default_value = "disk", value_parser = parse_ack, help_heading = "Target")]
    pub ack: Ack,
    /// How large a batch may grow
    #[arg(long, value_name = "BYTES", default_value = "64k", value_parser = parse_bytes, help_heading = "Target")]
    pub batch_bytes: usize,
    /// How long a batch waits for more records
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = parse_duration, help_heading = "Target")]
    pub linger: Duration,
    /// How batches are compressed
    #[arg(long, value_name = "none|gzip|snappy|lz4|zstd", default_value = "none", value_parser = parse_compression, help_heading = "Target")]
    pub compression: Compression,
    /// Where the client's connections live
    #[arg(long, value_enum, default_value = "thread", help_heading = "Target")]
    pub driver: Driver,
    /// What idle threads of the generator do: sleep at once, or poll for 50 µs before that
    #[arg(long, value_enum, default_value = "block", help_heading = "Target")]
    pub wait: Wait,
    /// Clients, each with connections of its own, over which producers and consumers are spread
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024), help_heading = "Target")]
    pub connections: u32,
    /// The broker's process, for its CPU [default: whoever listens at the first server's address on this machine]
    #[arg(long, value_name = "PID", help_heading = "Target")]
    pub broker_pid: Option<u32>,

    /// Topic; made when missing, and kept. With --topics, the beginning of their names [default: a new one, deleted at the end]
    #[arg(long, value_name = "NAME", help_heading = "Workload")]
    pub topic: Option<String>,
    /// How many topics
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000), help_heading = "Workload")]
    pub topics: u32,
    /// Partitions of a topic that is made
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000), help_heading = "Workload")]
    pub partitions: u32,
    /// How many producers; those of a topic share out its partitions [default: one for each topic]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_MEMBERS)), help_heading = "Workload")]
    pub producers: Option<u32>,
    /// How large the values are: `1k`, `uniform:100..2k`, `normal:1k,200`, `lognormal:1k,0.5` or `list:100*80,1k*20`
    #[arg(long, value_name = "SIZES", default_value = "1k", help_heading = "Workload")]
    pub size: Sizes,
    /// What they hold: `random`, `zeros`, `compressible:SHARE` (0 to 1), or `lines:FILE`, whose lengths are the sizes
    #[arg(long, value_name = "PAYLOAD", default_value = "random", help_heading = "Workload")]
    pub payload: Payload,
    /// Which keys they have: `none`, `uniform:N` or `zipf:N,S`
    #[arg(long, value_name = "KEYS", default_value = "none", help_heading = "Workload")]
    pub keys: Keys,
    /// Everything random follows from it
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Workload")]
    pub seed: u64,

    /// Threads of the generator, over which producers and consumers are spread
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64), help_heading = "Generator")]
    pub threads: u32,
    /// What is dropped of the measurement at its beginning [default: 1s; 0 for consume and catch-up]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "Generator")]
    pub warm_up: Option<Duration>,
    /// How long a record may take, and how long nothing may happen, before the broker is taken for dead
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_timeout, help_heading = "Generator")]
    pub timeout: Duration,
    /// Go on after a record has failed (the exit code is 1 all the same)
    #[arg(long, help_heading = "Generator")]
    pub keep_going: bool,
    /// Records that may be without an answer, over all producers. At this bound they wait; their schedule does not
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000), help_heading = "Generator")]
    pub max_outstanding: u64,
    /// Poll for so long before a record is due: waking up takes longer than many an ack. 0 only sleeps [default: 100us;
    /// 0 unless there is a CPU more than --threads]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "Generator")]
    pub spin: Option<Duration>,
}

/// What drives the producers.
#[derive(Args, Clone, Debug)]
pub struct LoadArgs {
    /// Open loop: records a second over all producers, due whatever the broker does [default: 1000]
    #[arg(long, value_name = "N", value_parser = parse_rate, conflicts_with_all = ["depth", "unlimited"], help_heading = "Load")]
    pub rate: Option<f64>,
    /// How the records of an open loop are spread in time
    #[arg(long, value_name = "constant|poisson", default_value = "constant", value_parser = parse_arrivals, conflicts_with_all = ["depth", "unlimited"], help_heading = "Load")]
    pub arrivals: Arrivals,
    /// Closed loop: each producer keeps so many records in flight
    #[arg(long, value_name = "N", conflicts_with = "unlimited", value_parser = clap::value_parser!(u32).range(1..=1_000_000), help_heading = "Load")]
    pub depth: Option<u32>,
    /// As fast as the client takes records
    #[arg(long, help_heading = "Load")]
    pub unlimited: bool,
}

/// How long it goes.
#[derive(Args, Clone, Debug)]
pub struct LengthArgs {
    /// How long records are due, after the warm-up [default: 10s]
    #[arg(long, value_name = "TIME", conflicts_with = "records", value_parser = parse_positive_duration, help_heading = "Load")]
    pub duration: Option<Duration>,
    /// How many records, after the warm-up
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), help_heading = "Load")]
    pub records: Option<u64>,
}

/// How many consumers.
#[derive(Args, Clone, Debug)]
pub struct ConsumerArgs {
    /// How many consumers; those of a topic share out its partitions [default: one for each topic]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_MEMBERS)), help_heading = "Workload")]
    pub consumers: Option<u32>,
}

impl ConsumerArgs {
    /// Consumers, by default one for each topic.
    pub fn count(&self, run: &RunArgs) -> u32 {
        self.consumers.unwrap_or(run.topics)
    }
}

/// What idle threads do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Wait {
    /// Sleep at once.
    Block,
    /// Poll for a while first.
    Spin,
}

impl LoadArgs {
    /// The load that they mean.
    pub fn load(&self) -> Load {
        match (self.depth, self.unlimited) {
            (Some(depth), _) => Load::Depth(depth),
            (None, true) => Load::Unlimited,
            (None, false) => {
                Load::Rate { per_second: self.rate.unwrap_or(DEFAULT_RATE), arrivals: self.arrivals }
            }
        }
    }
}

impl LengthArgs {
    /// Until when, or none if a number of records says so.
    pub fn duration(&self) -> Option<Duration> {
        match self.records {
            Some(_) => None,
            None => Some(self.duration.unwrap_or(Duration::from_secs(10))),
        }
    }
}

impl RunArgs {
    /// Producers, by default one for each topic.
    pub fn producers(&self) -> u32 {
        self.producers.unwrap_or(self.topics)
    }

    /// For how long workers poll before a record is due.
    pub fn spin(&self) -> Duration {
        let cpus = available_parallelism().map_or(1, NonZeroUsize::get);
        self.spin.unwrap_or(if cpus > self.threads as usize { SPIN } else { Duration::ZERO })
    }

    /// What no flag can say about itself alone. The words name flag, value, and what is allowed.
    pub fn check(&self, consumers: u32) -> Result<(), String> {
        let Self { topics, threads, .. } = self;
        for (flag, count) in [("--producers", self.producers()), ("--consumers", consumers)] {
            if count > 0 && count < *topics {
                return Err(format!(
                    "{flag} {count} with --topics {topics}: each topic needs one, so want at least {topics}"
                ));
            }
        }
        let members = self.producers() + consumers;
        if *threads > members {
            return Err(format!(
                "--threads {threads}: there are {members} producers and consumers, so want at most {members}"
            ));
        }
        if self.connections < *threads && self.connections != 1 {
            return Err(format!(
                "--connections {} with --threads {threads}: each thread has its own, so want at least {threads}",
                self.connections
            ));
        }
        if self.max_outstanding < u64::from(self.producers()) {
            return Err(format!(
                "--max-outstanding {} with {} producers: want at least one each",
                self.max_outstanding,
                self.producers()
            ));
        }
        if matches!(self.payload, Payload::Lines(_)) && self.size != Sizes::Fixed(1024) {
            return Err(format!(
                "--size {} with --payload {}: the lines of the file have their own sizes; leave --size out",
                self.size, self.payload
            ));
        }
        self.driver.check()?;
        if self.linger >= self.timeout {
            return Err(format!(
                "--linger {:?} with --timeout {:?}: a batch may not wait longer than a record may take",
                self.linger, self.timeout
            ));
        }
        Ok(())
    }

    /// The topics' names; those of a run that names none carry its number.
    pub fn topics(&self, run: u64) -> Vec<String> {
        let stem = self.topic.clone().unwrap_or_else(|| format!("loadgen-{run:016x}"));
        match self.topics {
            1 => vec![stem],
            count => (0..count).map(|index| format!("{stem}-{index}")).collect(),
        }
    }
}

pub(super) fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.001..=MAX_RATE).contains(&rate) => Ok(rate),
        _ => Err(format!("want records a second, from 0.001 to {MAX_RATE:e}")),
    }
}

pub(super) fn parse_arrivals(text: &str) -> Result<Arrivals, String> {
    [Arrivals::Constant, Arrivals::Poisson]
        .into_iter()
        .find(|arrivals| arrivals.to_string() == text)
        .ok_or_else(|| "want `constant` or `poisson`".to_owned())
}

fn parse_ack(text: &str) -> Result<Ack, String> {
    [Ack::Disk, Ack::Memory, Ack::None]
        .into_iter()
        .find(|ack| ack.name() == text)
        .ok_or_else(|| "want `disk`, `memory` or `none`".to_owned())
}

fn parse_compression(text: &str) -> Result<Compression, String> {
    match text {
        "none" => Ok(Compression::None),
        "gzip" => Ok(Compression::Gzip),
        "snappy" => Ok(Compression::Snappy),
        "lz4" => Ok(Compression::Lz4),
        "zstd" => Ok(Compression::Zstd),
        _ => Err("want `none`, `gzip`, `snappy`, `lz4` or `zstd`".to_owned()),
    }
}

/// Reads `0`, `50us`, `5ms`, `1s` or `2m`.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = || "want a number and a unit, such as `50us`, `5ms`, `10s` or `2m`".to_owned();
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let (number, nanos) = [("us", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 6e10)]
        .into_iter()
        .find_map(|(unit, nanos)| Some((text.strip_suffix(unit)?, nanos)))
        .ok_or_else(bad)?;
    let number: f64 = number.parse().map_err(|_| bad())?;
    // A year is more than anybody measures, and its nanoseconds fit everywhere.
    if !(0.0..=3.2e16).contains(&(number * nanos)) {
        return Err(bad());
    }
    Ok(Duration::from_nanos((number * nanos) as u64))
}

pub(super) fn parse_positive_duration(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("want more than nothing, such as `10s`".to_owned()),
        duration => Ok(duration),
    }
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    let timeout = parse_duration(text)?;
    if timeout < Duration::from_millis(100) { Err("want at least `100ms`".to_owned()) } else { Ok(timeout) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("50us"), Ok(Duration::from_micros(50)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "5", "s", "-1s", "nans", "infs", "1h", "1e30s"] {
            assert!(parse_duration(wrong).is_err(), "{wrong:?} was taken");
        }
    }

    #[test]
    fn rates_are_numbers_that_mean_something() {
        for wrong in ["0", "-1", "nan", "inf", "1e12", "fast"] {
            assert!(parse_rate(wrong).is_err(), "{wrong:?} was taken");
        }
    }
}
