//! What all workers measured, second by second. A second is settled once every worker has closed it: its histograms
//! go into the total of its phase and are kept only in their encoded form, so that a long run stays small.

use std::collections::BTreeMap;

use super::recorder::{BUCKET_NS, Bucket};
use crate::machine::CpuTimes;
use crate::result::{Cpu, Interval, IntervalLatency, Latency, Phase};

/// /proc counts in hundredths of a second, so that a share of less time than this says nothing.
const LEAST_CPU_SECONDS: f64 = 0.25;

/// See the module.
pub struct Tally {
    workers: u32,
    /// When measuring began, and how long after the start of the whole run that was.
    measure_ns: u64,
    offset_seconds: f64,
    open: BTreeMap<u64, (Bucket, u32)>,
    times: Vec<CpuTimes>,
    backlogs: Vec<Option<u64>>,
    total: Bucket,
    intervals: Vec<Interval>,
    /// The second that the current phase began with.
    first: u64,
    /// The second that is settled next.
    next: u64,
}

impl Tally {
    /// Of so many workers, for a run that measures from `measure_ns`, `offset_seconds` after the whole began.
    pub fn new(workers: u32, measure_ns: u64, offset_seconds: f64) -> Tally {
        Tally {
            workers,
            measure_ns,
            offset_seconds,
            open: BTreeMap::new(),
            times: Vec::new(),
            backlogs: Vec::new(),
            total: Bucket::new(0),
            intervals: Vec::new(),
            first: 0,
            next: 0,
        }
    }

    /// Takes a bucket of one worker.
    pub fn add(&mut self, bucket: Bucket) {
        if bucket.index == u64::MAX {
            return;
        }
        let (sum, count) = self.open.entry(bucket.index).or_insert_with(|| (Bucket::new(bucket.index), 0));
        sum.add(&bucket);
        *count += 1;
    }

    /// The next second begins: what the CPUs have done so far, and how far consumers are behind.
    pub fn tick(&mut self, times: CpuTimes, backlog: Option<u64>) {
        self.times.push(times);
        self.backlogs.push(backlog);
    }

    /// Settles the next second if everybody has closed it.
    pub fn settle_one(&mut self) -> Option<Bucket> {
        let (_, count) = self.open.get(&self.next)?;
        if *count < self.workers || self.times.len() < self.next as usize + 2 {
            return None;
        }
        self.settle(BUCKET_NS)
    }

    fn settle(&mut self, length_ns: u64) -> Option<Bucket> {
        let (bucket, _) = self.open.remove(&self.next)?;
        let seconds = length_ns as f64 / 1e9;
        let place = self.next as usize;
        let used = self.cpu_of(place);
        self.intervals.push(Interval {
            at_seconds: self.offset_seconds + self.next as f64,
            seconds,
            sent: bucket.sent,
            acked: bucket.acked,
            failed: bucket.failed,
            received: bucket.received,
            bytes_sent: bucket.bytes_sent,
            bytes_received: bucket.bytes_received,
            backlog: self.backlogs.get(place + 1).copied().flatten(),
            ack: IntervalLatency::of(&bucket.ack),
            end_to_end: IntervalLatency::of(&bucket.end_to_end),
            lateness_p99_us: (!bucket.lateness.is_empty())
                .then(|| bucket.lateness.value_at_percentile(99.0) as f64 / 1e3),
            cpu_loadgen: used.own / used.at,
            cpu_broker: used.broker.map(|broker| broker / used.at),
            cpu_machine: used.machine / used.at,
        });
        self.total.add(&bucket);
        self.next += 1;
        Some(bucket)
    }

    /// CPU used in a second, over the time between the readings themselves. A last one that is too short to tell is taken
    /// together with the one before.
    fn cpu_of(&self, place: usize) -> CpuTimes {
        let Some(after) = self.times.get(place + 1).or(self.times.last()) else { return CpuTimes::default() };
        let since = |place: usize| self.times.get(place).map(|before| after.since(before));
        let long_enough = |used: &CpuTimes| used.at >= LEAST_CPU_SECONDS;
        let alone = since(place).filter(long_enough);
        let with_last = || since(place.saturating_sub(1)).filter(long_enough);
        alone.or_else(with_last).unwrap_or(CpuTimes { at: 1.0, ..CpuTimes::default() })
    }

    /// Settles everything that is left, up to the end of the run.
    pub fn settle_all(&mut self, end_ns: u64, times: CpuTimes) {
        let last = self.open.values().map(|(bucket, _)| bucket.last_ns).max().unwrap_or(0);
        let end_ns = end_ns.max(last);
        while self.settle_one().is_some() {}
        self.times.push(times);
        while !self.open.is_empty() {
            let begin_ns = self.measure_ns + self.next * BUCKET_NS;
            if begin_ns >= end_ns {
                break;
            }
            self.open.entry(self.next).or_insert_with(|| (Bucket::new(self.next), 0));
            self.settle((end_ns - begin_ns).min(BUCKET_NS));
        }
        self.open.clear();
    }

    /// Ends the phase with the last second that was settled. `offered` is for the schedule's rate, if there was one.
    pub fn end_phase(&mut self, label: &str, offered: Option<f64>) -> Phase {
        let total = std::mem::replace(&mut self.total, Bucket::new(0));
        let intervals = std::mem::take(&mut self.intervals);
        let (first, end) = (self.first as usize, self.next as usize);
        let used = match (self.times.get(first), self.times.get(end).or(self.times.last())) {
            (Some(before), Some(after)) => after.since(before),
            _ => CpuTimes::default(),
        };
        self.first = self.next;
        let mut phase = Phase {
            label: label.to_owned(),
            offered_per_second: offered,
            seconds: intervals.iter().map(|interval| interval.seconds).sum(),
            sent: total.sent,
            acked: total.acked,
            failed: total.failed,
            received: total.received,
            bytes_sent: total.bytes_sent,
            bytes_received: total.bytes_received,
            ack: Latency::of(&total.ack),
            end_to_end: Latency::of(&total.end_to_end),
            lateness: offered.and_then(|_| Latency::of(&total.lateness)),
            errors: total.errors,
            void: None,
            intervals,
            cpu: Cpu::default(),
        };
        phase.cpu = Cpu::new(used.own, used.broker, used.machine, phase.records());
        phase
    }
}
