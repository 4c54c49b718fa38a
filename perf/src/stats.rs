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

    /// Takes in those of another part of the same measurement.
    pub fn merge(&mut self, mut other: Latencies) {
        self.nanoseconds.append(&mut other.nanoseconds);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.nanoseconds.len()
    }

    /// The given percentile, in microseconds; not a number when there is nothing.
    pub fn percentile_us(&mut self, percent: f64) -> f64 {
        let Some(last) = self.nanoseconds.len().checked_sub(1) else { return f64::NAN };
        let rank = (percent / 100.0 * last as f64).round() as usize;
        let (_, value, _) = self.nanoseconds.select_nth_unstable(rank);
        *value as f64 / 1000.0
    }
}

/// The median of some values; not a number when there are none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[middle],
        _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
    }
}

/// A 95 % bootstrap interval of the median: resampled with a fixed seed, so that the same rounds give the same.
pub fn interval(values: &[f64]) -> (f64, f64) {
    const RESAMPLES: usize = 2000;
    if values.is_empty() {
        return (f64::NAN, f64::NAN);
    }
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
        (52..=101).rev().for_each(|us| latencies.record(Duration::from_micros(us)));
        let mut more = Latencies::default();
        (1..=51).rev().for_each(|us| more.record(Duration::from_micros(us)));
        latencies.merge(more);
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

    #[test]
    fn nothing_measured_is_no_number() {
        assert!(median(&[]).is_nan() && interval(&[]).0.is_nan());
        assert!(Latencies::default().percentile_us(50.0).is_nan());
    }
}
