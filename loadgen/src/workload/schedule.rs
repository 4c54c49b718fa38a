//! When records are due.

use std::fmt;

use super::Random;

/// What drives the producers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// An open loop: records are due by a schedule that does not care what the broker does.
    Rate {
        /// Records a second, over all producers.
        per_second: f64,
        /// How they are spread in time.
        arrivals: Arrivals,
    },
    /// A closed loop: each producer keeps this many records in flight.
    Depth(u32),
    /// As fast as the client admits records.
    Unlimited,
}

/// How the records of an open loop are spread in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrivals {
    /// At equal distances.
    Constant,
    /// As independent users would send: exponential distances.
    Poisson,
}

impl fmt::Display for Arrivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Arrivals::Constant => "constant",
            Arrivals::Poisson => "poisson",
        })
    }
}

/// The open-loop schedule of one producer: nanoseconds after the start, never falling.
#[derive(Clone, Debug)]
pub struct Schedule {
    gap_ns: f64,
    next_ns: f64,
    /// Records so far; a constant schedule multiplies, so that rounding does not add up.
    count: u64,
    first_ns: f64,
    random: Option<Random>,
}

impl Schedule {
    /// The share of producer `index` of `producers` in a total of `per_second`. Constant schedules of several producers
    /// interleave.
    pub fn new(per_second: f64, arrivals: Arrivals, index: u32, producers: u32, mut random: Random) -> Self {
        let gap_ns = 1e9 * f64::from(producers) / per_second;
        let first_ns = match arrivals {
            Arrivals::Constant => gap_ns * f64::from(index) / f64::from(producers),
            Arrivals::Poisson => gap_ns * random.exponential(),
        };
        let random = (arrivals == Arrivals::Poisson).then_some(random);
        Self { gap_ns, next_ns: first_ns, count: 0, first_ns, random }
    }
}

impl Iterator for Schedule {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let due_ns = self.next_ns;
        self.count += 1;
        self.next_ns = match &mut self.random {
            None => self.first_ns + self.count as f64 * self.gap_ns,
            Some(random) => due_ns + self.gap_ns * random.exponential(),
        };
        Some(due_ns as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(arrivals: Arrivals, index: u32, producers: u32, count: usize) -> Vec<u64> {
        let random = Random::new(7, u64::from(index));
        Schedule::new(10_000.0, arrivals, index, producers, random).take(count).collect()
    }

    #[test]
    fn constant_producers_interleave_to_the_whole_rate() {
        let mut all: Vec<u64> = (0..4).flat_map(|index| due(Arrivals::Constant, index, 4, 2_500)).collect();
        all.sort_unstable();
        let expected: Vec<u64> = (0..10_000).map(|n| n * 100_000).collect();
        assert_eq!(all, expected);
    }

    #[test]
    fn poisson_gaps_have_the_mean_and_the_deviation_of_an_exponential() {
        let due = due(Arrivals::Poisson, 0, 1, 100_001);
        let gaps: Vec<f64> = due.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((mean / 100_000.0 - 1.0).abs() < 0.01, "mean {mean}");
        assert!((variance.sqrt() / 100_000.0 - 1.0).abs() < 0.02, "deviation {}", variance.sqrt());
    }

    #[test]
    fn the_same_seed_gives_the_same_moments_and_another_producer_others() {
        assert_eq!(due(Arrivals::Poisson, 1, 2, 100), due(Arrivals::Poisson, 1, 2, 100));
        assert_ne!(due(Arrivals::Poisson, 0, 2, 100), due(Arrivals::Poisson, 1, 2, 100));
    }

    #[test]
    fn a_slow_schedule_does_not_drift() {
        let last = Schedule::new(3.0, Arrivals::Constant, 0, 1, Random::new(0, 0)).nth(3_000_000);
        assert_eq!(last, Some(1_000_000_000_000_000));
    }
}
