//! Made-up results with realistic distributions, for the tests of the reports.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde_json::json;

use crate::result::{
    Command, Cpu, Environment, Interval, IntervalLatency, Latency, Phase, RunResult, SCHEMA, Target,
    Verification,
};
use crate::target::AckClass;

/// What a made-up phase is like.
#[derive(Clone, Copy)]
pub struct Shape {
    pub seconds: u64,
    pub rate: u64,
    /// Median of the ack latency.
    pub ack_us: f64,
    pub begin: u64,
    pub consumes: bool,
}

/// A phase of that shape.
pub fn phase(label: &str, shape: Shape, random: &mut Random) -> Phase {
    let mut phase =
        Phase { label: label.to_owned(), offered_per_second: Some(shape.rate as f64), ..Phase::default() };
    let (mut acks, mut ends, mut late) = (histogram(), histogram(), histogram());
    let (mut loadgen, mut broker, mut machine) = (0.0, 0.0, 0.0);
    for second in 0..shape.seconds {
        let (mut ack, mut end) = (histogram(), histogram());
        // Now and then a second is worse than the others, as on a real disk.
        let weather = if random.uniform() < 0.05 { 1.5 } else { 0.97 + 0.06 * random.uniform() };
        for _ in 0..shape.rate {
            let micros = shape.ack_us * weather * random.skewed();
            ack.record((micros * 1e3) as u64).unwrap();
            end.record(((micros + 12.0 * random.skewed()) * 1e3) as u64).unwrap();
            late.record((1_500.0 * random.skewed()) as u64).unwrap();
        }
        let bytes = shape.rate * 1024;
        let interval = Interval {
            at_seconds: (shape.begin + second) as f64,
            seconds: 1.0,
            sent: shape.rate,
            acked: shape.rate,
            received: if shape.consumes { shape.rate } else { 0 },
            bytes_sent: bytes,
            bytes_received: if shape.consumes { bytes } else { 0 },
            ack: IntervalLatency::of(&ack),
            end_to_end: IntervalLatency::of(&end).filter(|_| shape.consumes),
            lateness_p99_us: Some(4.0),
            cpu_loadgen: 0.2 + 0.02 * random.uniform(),
            cpu_broker: Some(0.3 + 0.02 * random.uniform()),
            cpu_machine: 0.6 + 0.04 * random.uniform(),
            ..Interval::default()
        };
        phase.sent += interval.sent;
        phase.acked += interval.acked;
        phase.received += interval.received;
        phase.bytes_sent += interval.bytes_sent;
        phase.bytes_received += interval.bytes_received;
        loadgen += interval.cpu_loadgen;
        broker += interval.cpu_broker.unwrap();
        machine += interval.cpu_machine;
        acks.add(&ack).unwrap();
        ends.add(&end).unwrap();
        phase.intervals.push(interval);
    }
    phase.seconds = shape.seconds as f64;
    phase.ack = Latency::of(&acks);
    phase.end_to_end = Latency::of(&ends).filter(|_| shape.consumes);
    phase.lateness = Latency::of(&late);
    phase.cpu = Cpu::new(loadgen, Some(broker), machine, phase.records());
    phase
}

/// Twenty seconds at 1,000 records a second.
pub fn end_to_end(seed: u64) -> RunResult {
    end_to_end_with(seed, Shape { seconds: 20, rate: 1000, ack_us: 90.0, begin: 2, consumes: true })
}

/// A run of that shape.
pub fn end_to_end_with(seed: u64, shape: Shape) -> RunResult {
    let mut random = Random(seed | 1);
    result(Command::EndToEnd, vec![phase("run", shape, &mut random)], seed)
}

/// Rising rates up to a saturation at 8,000.
pub fn sweep(seed: u64) -> RunResult {
    let mut random = Random(seed | 1);
    let rates = [500, 1000, 2000, 4000, 8000, 16_000, 12_000, 10_000];
    let phases = rates.iter().enumerate().map(|(step, rate)| {
        let load = *rate as f64 / 9_000.0;
        let ack_us = if load < 1.0 { 70.0 + 15.0 / (1.05 - load) } else { 40_000.0 * load };
        let shape = Shape { seconds: 3, rate: *rate, ack_us, begin: 2 + 3 * step as u64, consumes: false };
        let mut phase = phase(&format!("{rate}/s"), shape, &mut random);
        if load > 1.0 {
            phase.acked = 9_000 * 3;
        }
        phase
    });
    let mut result = result(Command::Sweep, phases.collect(), seed);
    result.saturation = Some(8_000.0);
    result
}

/// A consumer that comes from behind.
pub fn catch_up(seed: u64) -> RunResult {
    let mut random = Random(seed | 1);
    let shape = Shape { seconds: 3, rate: 5000, ack_us: 80.0, begin: 2, consumes: false };
    let mut phases = vec![phase("preload", shape, &mut random)];
    let behind = Shape { seconds: 6, rate: 1000, ack_us: 110.0, begin: 5, consumes: true };
    phases.push(phase("catch-up", behind, &mut random));
    phases.push(phase("after", Shape { ack_us: 85.0, begin: 11, ..behind }, &mut random));
    let mut backlog: i64 = 0;
    for phase in &mut phases {
        for interval in &mut phase.intervals {
            if phase.label == "catch-up" {
                interval.received = 3500;
            }
            backlog = (backlog + interval.acked as i64 - interval.received as i64).max(0);
            interval.backlog = Some(backlog as u64);
        }
        phase.received = phase.intervals.iter().map(|interval| interval.received).sum();
    }
    result(Command::CatchUp, phases, seed)
}

fn result(command: Command, phases: Vec<Phase>, seed: u64) -> RunResult {
    let checked = phases.iter().map(|phase| phase.received).sum();
    RunResult {
        schema: SCHEMA,
        command,
        started: "2026-11-21T10:00:00+00:00".to_owned(),
        environment: Environment {
            kernel: "Linux 6.18.1".to_owned(),
            cpu: "Example CPU at 2.50 GHz".to_owned(),
            cpus: 2,
            memory_bytes: 16 << 30,
            filesystem: Some("ext4".to_owned()),
            disk: Some("Example NVMe, 1.9 TB".to_owned()),
            loadgen_version: "0.1.0".to_owned(),
            target: Target {
                name: "ringlog".to_owned(),
                version: "0.1.0".to_owned(),
                address: "127.0.0.1:7171".to_owned(),
                ack_class: AckClass::Flushed,
                settings: BTreeMap::from([("shards".to_owned(), json!(1))]),
            },
            client_driver: "thread".to_owned(),
        },
        settings: BTreeMap::from([
            ("rate".to_owned(), json!(1000)),
            ("seed".to_owned(), json!(seed)),
            ("size".to_owned(), json!("1024")),
        ]),
        complete: true,
        reason: None,
        void: None,
        verification: (checked > 0).then(|| Verification { checked, ..Verification::default() }),
        phases,
        saturation: None,
        caught_up_seconds: None,
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap()
}

/// A small generator of its own, so that samples never change.
pub struct Random(pub u64);

impl Random {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A factor around 1 with a long tail upwards.
    fn skewed(&mut self) -> f64 {
        let body = (0..4).map(|_| self.uniform()).sum::<f64>() / 2.0;
        let tail = if self.uniform() < 0.01 { 1.0 + 4.0 * self.uniform() } else { 1.0 };
        (0.4 * (body - 1.0)).exp() * tail
    }
}
