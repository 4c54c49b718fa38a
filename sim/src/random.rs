//! Numbers for plans and workloads: all of a run follows from its seed.

use std::ops::Range;

/// SplitMix64: tiny, fast, and full-period from any seed.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The same seed gives the same numbers.
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// Dice of its own for a part of the run, so that one part's draws do not move another's.
    pub fn split(&mut self, salt: u64) -> Dice {
        Dice(self.next() ^ salt.wrapping_mul(0xD6E8_FEB8_6659_FD93))
    }

    /// Any number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number of the range.
    pub fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    /// A number of the range, every order of magnitude as likely as the others. The range must not begin at 0.
    pub fn any_magnitude(&mut self, range: Range<u64>) -> u64 {
        let (low, high) = ((range.start as f64).ln(), (range.end as f64).ln());
        let share = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        ((low + share * (high - low)).exp() as u64).clamp(range.start, range.end - 1)
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.next().is_multiple_of(times)
    }

    /// One of them.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.within(0..choices.len() as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_in_their_range_and_reach_its_ends() {
        let mut dice = Dice::new(1);
        let drawn: Vec<u64> = (0..1000).map(|_| dice.within(3..6)).collect();
        assert!((3..6).all(|number| drawn.contains(&number)) && drawn.iter().all(|n| (3..6).contains(n)));
        assert!((0..1000).all(|_| (1..1_000_000).contains(&dice.any_magnitude(1..1_000_000))));
        assert!((0..1000).filter(|_| dice.any_magnitude(1..1_000_000) < 1000).count() > 300);
    }
}
