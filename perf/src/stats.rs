//! Percentiles and what rounds say together.

use std::time::Duration;

/// Latencies of one measurement.
#[derive(Default)]
pub struct Latencies {
    nanoseconds: Vec<u64>,
}

impl Latencies {
    /// Notes one.
    pub fn record(&mut self, latency: Duration) {
        self.nanoseconds.push(latency.as_nanos() as u64);
    }

    /// The given percentile, in microseconds.
    pub fn percentile_us(&mut self, percent: f64) -> f64 {
        self.nanoseconds.sort_unstable();
        let last = self.nanoseconds.len() - 1;
        let rank = (percent / 100.0 * last as f64).round() as usize;
        self.nanoseconds[rank] as f64 / 1000.0
    }
}

/// The median of some values.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}

/// A 95 % bootstrap interval of the median: resampled with a fixed seed, so that the same rounds give the same.
pub fn interval(values: &[f64]) -> (f64, f64) {
    const RESAMPLES: usize = 2000;
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut draw = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        values[(state % values.len() as u64) as usize]
    };
    let mut medians: Vec<f64> =
        (0..RESAMPLES).map(|_| median(&(0..values.len()).map(|_| draw()).collect::<Vec<_>>())).collect();
    medians.sort_by(f64::total_cmp);
    (medians[RESAMPLES / 40], medians[RESAMPLES - 1 - RESAMPLES / 40])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_values() {
        let mut latencies = Latencies::default();
        (1..=101).rev().for_each(|us| latencies.record(Duration::from_micros(us)));
        assert_eq!(latencies.percentile_us(50.0), 51.0);
        assert_eq!(latencies.percentile_us(100.0), 101.0);
    }

    #[test]
    fn the_interval_holds_the_median() {
        let values: Vec<f64> = (0..21).map(f64::from).collect();
        let (low, high) = interval(&values);
        assert!(low <= median(&values) && median(&values) <= high);
        assert!(low > 0.0 && high < 20.0);
    }
}
