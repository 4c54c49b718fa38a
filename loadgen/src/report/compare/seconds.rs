//! The seconds of one side of a comparison, in a form that can be drawn from thousands of times.

use std::collections::BTreeSet;

use crate::result::{EncodedHistogram, Interval, Phase, ResultError};

/// One phase of every run of a side.
pub struct Side {
    runs: Vec<Vec<Second>>,
    ack: Values,
    end_to_end: Values,
}

/// What is added up over seconds.
struct Second {
    seconds: f64,
    sent: f64,
    acked: f64,
    received: f64,
    cpu_machine: f64,
    cpu_broker: Option<f64>,
    ack: Counts,
    end_to_end: Counts,
}

/// Every value that occurs on the side, in nanoseconds, in order.
struct Values(Vec<u64>);

/// How often which of the values occurs in a second: only those that do.
type Counts = Vec<(usize, u64)>;

/// Sums over a draw of seconds.
pub struct Totals {
    pub seconds: f64,
    pub sent: f64,
    pub acked: f64,
    pub received: f64,
    /// In core-seconds.
    pub cpu_machine: f64,
    /// In core-seconds; none where a second has none.
    pub cpu_broker: Option<f64>,
    pub ack: Merged,
    pub end_to_end: Merged,
}

/// A merged distribution.
pub struct Merged {
    counts: Vec<u64>,
    total: u64,
}

impl Side {
    /// Of the same phase of several runs.
    pub fn of(phases: &[&Phase]) -> Result<Side, ResultError> {
        let ack = |interval: &Interval| interval.ack.as_ref().map(|latency| latency.histogram.clone());
        let end_to_end =
            |interval: &Interval| interval.end_to_end.as_ref().map(|latency| latency.histogram.clone());
        let (ack_values, ack_counts) = collect(phases, ack)?;
        let (end_values, end_counts) = collect(phases, end_to_end)?;
        let mut counts = ack_counts.into_iter().zip(end_counts);
        let runs = phases
            .iter()
            .map(|phase| {
                let counts = counts.by_ref().take(phase.intervals.len());
                phase
                    .intervals
                    .iter()
                    .zip(counts)
                    .map(|(interval, (ack, end))| second(interval, ack, end))
                    .collect()
            })
            .collect();
        Ok(Side { runs, ack: ack_values, end_to_end: end_values })
    }

    /// How many seconds there are, over all runs.
    pub fn len(&self) -> usize {
        self.runs.iter().map(Vec::len).sum()
    }

    /// The sums over every second as it was.
    pub fn totals(&self) -> Totals {
        self.sum(self.runs.iter().flatten().map(|second| (second, 1)))
    }

    /// The sums over a draw with replacement: of the runs, and then of as many seconds of each as it has.
    pub fn resample(&self, random: &mut Random) -> Totals {
        let mut drawn = Vec::with_capacity(self.runs.len());
        for _ in &self.runs {
            let run = &self.runs[random.below(self.runs.len())];
            let mut times = vec![0; run.len()];
            for _ in run {
                times[random.below(run.len())] += 1;
            }
            drawn.push((run, times));
        }
        self.sum(drawn.iter().flat_map(|(run, times)| run.iter().zip(times.iter().copied())))
    }

    fn sum<'a>(&self, seconds: impl Iterator<Item = (&'a Second, u64)>) -> Totals {
        let mut totals = Totals {
            seconds: 0.0,
            sent: 0.0,
            acked: 0.0,
            received: 0.0,
            cpu_machine: 0.0,
            cpu_broker: Some(0.0),
            ack: Merged::new(&self.ack),
            end_to_end: Merged::new(&self.end_to_end),
        };
        for (second, times) in seconds.filter(|(_, times)| *times > 0) {
            let weight = times as f64;
            totals.seconds += weight * second.seconds;
            totals.sent += weight * second.sent;
            totals.acked += weight * second.acked;
            totals.received += weight * second.received;
            totals.cpu_machine += weight * second.cpu_machine;
            totals.cpu_broker = totals.cpu_broker.zip(second.cpu_broker).map(|(sum, one)| sum + weight * one);
            totals.ack.add(&second.ack, times);
            totals.end_to_end.add(&second.end_to_end, times);
        }
        totals
    }

    /// A percentile of acks, in microseconds; none without any.
    pub fn ack_us(&self, totals: &Totals, percentile: f64) -> Option<f64> {
        totals.ack.percentile_us(&self.ack, percentile)
    }

    /// A percentile of end-to-end latencies, in microseconds; none without any.
    pub fn end_to_end_us(&self, totals: &Totals, percentile: f64) -> Option<f64> {
        totals.end_to_end.percentile_us(&self.end_to_end, percentile)
    }
}

impl Totals {
    /// Records done, as [`Phase::records`] counts them.
    pub fn records(&self) -> f64 {
        [self.acked, self.received, self.sent].into_iter().find(|count| *count > 0.0).unwrap_or(0.0)
    }
}

impl Merged {
    fn new(values: &Values) -> Merged {
        Merged { counts: vec![0; values.0.len()], total: 0 }
    }

    fn add(&mut self, counts: &Counts, times: u64) {
        for (value, count) in counts {
            self.counts[*value] += count * times;
            self.total += count * times;
        }
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.total
    }

    fn percentile_us(&self, values: &Values, percentile: f64) -> Option<f64> {
        let rank = (percentile / 100.0 * self.total as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        let at = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        Some(values.0[at] as f64 / 1e3)
    }
}

fn second(interval: &Interval, ack: Counts, end_to_end: Counts) -> Second {
    Second {
        seconds: interval.seconds,
        sent: interval.sent as f64,
        acked: interval.acked as f64,
        received: interval.received as f64,
        cpu_machine: interval.cpu_machine * interval.seconds,
        cpu_broker: interval.cpu_broker.map(|cores| cores * interval.seconds),
        ack,
        end_to_end,
    }
}

/// The values of all intervals, and the counts of each.
fn collect(
    phases: &[&Phase],
    of: impl Fn(&Interval) -> Option<EncodedHistogram>,
) -> Result<(Values, Vec<Counts>), ResultError> {
    let mut recorded: Vec<Vec<(u64, u64)>> = Vec::new();
    for interval in phases.iter().flat_map(|phase| &phase.intervals) {
        let Some(histogram) = of(interval) else {
            recorded.push(Vec::new());
            continue;
        };
        let histogram = histogram.decode()?;
        let steps = histogram.iter_recorded();
        recorded
            .push(steps.map(|step| (step.value_iterated_to(), step.count_since_last_iteration())).collect());
    }
    let values: BTreeSet<u64> = recorded.iter().flatten().map(|(value, _)| *value).collect();
    let values: Vec<u64> = values.into_iter().collect();
    let index = |value: u64| values.partition_point(|other| *other < value);
    let counts = recorded
        .iter()
        .map(|pairs| pairs.iter().map(|(value, count)| (index(*value), *count)).collect())
        .collect();
    Ok((Values(values), counts))
}

/// Draws for the bootstrap: splitmix64, so that a seed gives the same on every machine.
pub struct Random(u64);

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// A number from 0 to below `limit`, which must not be 0.
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^= bits >> 31;
        ((u128::from(bits) * limit as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::sample;
    use super::*;

    #[test]
    fn merged_seconds_have_the_percentiles_of_the_whole() {
        let result = sample::end_to_end(1);
        let phase = &result.phases[0];
        let side = Side::of(&[phase, phase]).unwrap();
        let totals = side.totals();
        assert_eq!(side.len(), 40);
        assert_eq!(totals.acked, 40_000.0);
        for (name, percentile) in [("50", 50.0), ("99", 99.0), ("99.9", 99.9)] {
            let whole = phase.ack.as_ref().unwrap().percentile_us(name).unwrap();
            let merged = side.ack_us(&totals, percentile).unwrap();
            assert!((merged / whole - 1.0).abs() < 0.002, "p{name}: {merged}, not {whole}");
        }
    }

    #[test]
    fn a_draw_has_as_many_seconds_as_there_are() {
        let result = sample::end_to_end(1);
        let side = Side::of(&[&result.phases[0]]).unwrap();
        let drawn = side.resample(&mut Random::new(1));
        assert_eq!(drawn.seconds, 20.0);
        assert_eq!(drawn.ack.len(), 20_000);
    }

    #[test]
    fn draws_reach_every_place_about_as_often() {
        let mut random = Random::new(7);
        let mut times = [0; 10];
        (0..10_000).for_each(|_| times[random.below(10)] += 1);
        assert!(times.iter().all(|times| (900..1100).contains(times)), "{times:?}");
    }
}
