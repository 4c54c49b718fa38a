//! What is compared.

use super::super::units;
use super::seconds::{Side, Totals};

/// One figure of a side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Metric {
    /// Records a second: acknowledged; received where nothing was produced
    Throughput,
    /// Records a second that consumers got, where there are producers too
    Received,
    /// Ack latency, median
    AckP50,
    /// Ack latency, 99th percentile
    AckP99,
    /// Ack latency, 99.9th percentile
    #[value(name = "ack-p99.9")]
    AckP999,
    /// End-to-end latency, median
    EndToEndP50,
    /// End-to-end latency, 99th percentile
    EndToEndP99,
    /// End-to-end latency, 99.9th percentile
    #[value(name = "end-to-end-p99.9")]
    EndToEndP999,
    /// CPU of the whole machine by record
    Cpu,
    /// CPU of the broker by record
    CpuBroker,
}

/// A percentile is judged only where so many records lie beyond it.
const RECORDS_BEYOND: f64 = 10.0;

impl Metric {
    /// All of them, in the order of the table.
    pub const ALL: [Metric; 10] = [
        Metric::Throughput,
        Metric::Received,
        Metric::AckP50,
        Metric::AckP99,
        Metric::AckP999,
        Metric::EndToEndP50,
        Metric::EndToEndP99,
        Metric::EndToEndP999,
        Metric::Cpu,
        Metric::CpuBroker,
    ];

    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Throughput => "throughput",
            Metric::Received => "received",
            Metric::AckP50 => "ack p50",
            Metric::AckP99 => "ack p99",
            Metric::AckP999 => "ack p99.9",
            Metric::EndToEndP50 => "end-to-end p50",
            Metric::EndToEndP99 => "end-to-end p99",
            Metric::EndToEndP999 => "end-to-end p99.9",
            Metric::Cpu => "CPU, machine",
            Metric::CpuBroker => "CPU, broker",
        }
    }

    /// Whether more is better.
    pub fn more_is_better(self) -> bool {
        matches!(self, Metric::Throughput | Metric::Received)
    }

    /// The figure of a draw of seconds; none where the side has none.
    pub fn value(self, side: &Side, totals: &Totals) -> Option<f64> {
        let by_record = |seconds: f64| (totals.records() > 0.0).then(|| seconds * 1e6 / totals.records());
        let per_second = |count: f64| (totals.seconds > 0.0).then(|| count / totals.seconds);
        match self {
            Metric::Throughput => per_second(totals.records()),
            Metric::Received if totals.received > 0.0 && totals.acked > 0.0 => per_second(totals.received),
            Metric::Received => None,
            Metric::Cpu => by_record(totals.cpu_machine),
            Metric::CpuBroker => totals.cpu_broker.and_then(by_record),
            Metric::AckP50 | Metric::AckP99 | Metric::AckP999 => side.ack_us(totals, self.percentile()?),
            Metric::EndToEndP50 | Metric::EndToEndP99 | Metric::EndToEndP999 => {
                side.end_to_end_us(totals, self.percentile()?)
            }
        }
    }

    fn percentile(self) -> Option<f64> {
        match self {
            Metric::AckP50 | Metric::EndToEndP50 => Some(50.0),
            Metric::AckP99 | Metric::EndToEndP99 => Some(99.0),
            Metric::AckP999 | Metric::EndToEndP999 => Some(99.9),
            _ => None,
        }
    }

    /// Why the side of that name has too little for it.
    pub fn too_little(self, totals: &Totals, side: &str) -> Option<String> {
        let percentile = self.percentile()?;
        let records = match self {
            Metric::AckP50 | Metric::AckP99 | Metric::AckP999 => totals.ack.len(),
            _ => totals.end_to_end.len(),
        };
        let needed = (RECORDS_BEYOND / (1.0 - percentile / 100.0)).round() as u64;
        (records < needed)
            .then(|| format!("{} records in {side}, want {}", units::count(records), units::count(needed)))
    }

    /// A figure with its unit.
    pub fn text(self, value: f64) -> String {
        match self {
            Metric::Throughput | Metric::Received => format!("{}/s", units::number(value)),
            Metric::Cpu | Metric::CpuBroker => format!("{} µs/record", units::number(value)),
            _ => units::time(value),
        }
    }
}
