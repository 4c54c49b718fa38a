//! What is measured of everybody: how many producers, how many records in flight, how large the batches.

use std::time::Duration;

use ringlog_loadgen::engine::{Outcome, Plan, ReadFrom};
use ringlog_loadgen::workload::{Arrivals, Keys, Load, Payload, PayloadSource, Sizes};
use ringlog_reactor::{WaitPolicy, random_u64};
use serde::Serialize;

use crate::failure::Failure;

const RECORD_BYTES: usize = 1024;
/// Records in flight where large batches are wanted.
const LARGE_IN_FLIGHT: u32 = 5_000;
const OPEN_LOOP_PRODUCERS: u32 = 8;
const WARM_UP: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(30);
/// After the end, for records of the open loop that are overdue.
const DRAIN: Duration = Duration::from_secs(1);

/// One case. Records have 1 KiB; each producer has a partition of its own, and a connection where nothing else is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Case {
    /// One producer, one record at a time
    One,
    /// 8 producers, each one record at a time
    Eight,
    /// 32 producers, each one record at a time
    ThirtyTwo,
    /// The same through one client, as the threads of one service share it
    Shared,
    /// One producer with 5,000 records in flight
    Large,
    /// 8 producers in an open loop, at a rate that everybody manages
    Rate,
}

impl Case {
    /// All, in the order of the table: the open loop takes its rate from the one with 8 producers.
    pub const ALL: [Case; 6] =
        [Case::One, Case::Eight, Case::ThirtyTwo, Case::Shared, Case::Large, Case::Rate];

    /// Its line in the table.
    pub fn title(self) -> &'static str {
        match self {
            Case::One => "1 producer, one at a time",
            Case::Eight => "8 producers, one at a time each",
            Case::ThirtyTwo => "32 producers, one at a time each",
            Case::Shared => "32 producers through one client",
            Case::Large => "1 producer, 5,000 in flight",
            Case::Rate => "8 producers, open loop",
        }
    }

    /// How many producers, and so partitions.
    pub fn producers(self) -> u32 {
        match self {
            Case::One | Case::Large => 1,
            Case::Eight => 8,
            Case::ThirtyTwo | Case::Shared => 32,
            Case::Rate => OPEN_LOOP_PRODUCERS,
        }
    }

    fn connections(self) -> u32 {
        if self == Case::Shared { 1 } else { self.producers() }
    }

    fn load(self, rate: Option<f64>) -> Result<Load, Failure> {
        Ok(match self {
            Case::One | Case::Eight | Case::ThirtyTwo | Case::Shared => Load::Depth(1),
            Case::Large => Load::Depth(LARGE_IN_FLIGHT),
            Case::Rate => Load::Rate {
                per_second: rate
                    .ok_or("the open loop needs a rate: give --rate, or measure case `eight` before it")?,
                arrivals: Arrivals::Constant,
            },
        })
    }

    /// What the load generator is to do, on a topic of its own.
    pub fn plan(self, seconds: u64, rate: Option<f64>) -> Result<Plan, Failure> {
        let producers = self.producers();
        let run = random_u64();
        Ok(Plan {
            run,
            topics: vec![format!("peers-{run:016x}")],
            partitions: producers,
            producers,
            consumers: 0,
            connections: self.connections(),
            threads: 1,
            load: self.load(rate)?,
            sizes: Sizes::Fixed(RECORD_BYTES),
            payload: PayloadSource::open(&Payload::Compressible(0.0))?,
            keys: Keys::None,
            seed: 1,
            warm_up: WARM_UP,
            duration: Some(Duration::from_secs(seconds)),
            records: None,
            read_from: ReadFrom::End,
            after_catching_up: None,
            give_up: TIMEOUT,
            timeout: TIMEOUT,
            drain: DRAIN,
            keep_going: false,
            max_outstanding: 1 << 20,
            wait: WaitPolicy::Block,
            spin: Duration::ZERO,
            delete_topics: true,
        })
    }
}

/// What came of one run.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// Acknowledged records.
    pub per_second: f64,
    /// From when a record was due (in a closed loop: begun) to its ack.
    pub p50_us: f64,
    /// The same.
    pub p99_us: f64,
    /// How late the generator itself was.
    pub lateness_p99_us: Option<f64>,
    /// CPU seconds of all clients for each second.
    pub client_cpu: f64,
    /// Name, version and settings of what was driven.
    pub driven: String,
}

impl Measured {
    /// Reads it off a run's outcome.
    ///
    /// # Errors
    /// If the run is partial, or nothing was acknowledged.
    pub fn of(outcome: Outcome) -> Result<Measured, Failure> {
        if let Some(reason) = outcome.reason.or(outcome.overloaded) {
            return Err(reason.into());
        }
        let phase = outcome.phases.last().ok_or("the run has no phase")?;
        let ack = phase.ack.as_ref().ok_or("nothing was acknowledged")?;
        let percentile = |name| ack.percentile_us(name).ok_or("a histogram without percentiles");
        let description = outcome.description;
        let settings: Vec<String> =
            description.settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        Ok(Measured {
            per_second: phase.acked as f64 / phase.seconds,
            p50_us: percentile("50")?,
            p99_us: percentile("99")?,
            lateness_p99_us: phase.lateness.as_ref().and_then(|lateness| lateness.percentile_us("99")),
            client_cpu: phase.cpu.loadgen_seconds / phase.seconds,
            driven: format!("{} {}: {}", description.name, description.version, settings.join(", ")),
        })
    }

    /// Whether the generator was too late itself for its latencies to say anything.
    pub fn is_void(&self) -> bool {
        self.lateness_p99_us.is_some_and(|lateness| lateness > self.p99_us / 10.0)
    }

    /// Megabytes of values a second.
    pub fn megabytes_per_second(&self) -> f64 {
        self.per_second * RECORD_BYTES as f64 / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_producer_has_a_partition_and_a_connection_but_those_that_share_one() {
        for case in Case::ALL {
            let plan = case.plan(1, Some(100.0)).expect("a rate is given");
            let connections = if case == Case::Shared { 1 } else { plan.producers };
            assert_eq!((plan.partitions, plan.connections), (plan.producers, connections));
        }
    }

    #[test]
    fn an_open_loop_without_a_rate_is_refused() {
        assert!(Case::Rate.plan(1, None).is_err());
        assert!(Case::One.plan(1, None).is_ok());
    }
}
