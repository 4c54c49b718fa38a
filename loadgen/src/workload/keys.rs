//! Which key a record has.

use std::fmt;
use std::str::FromStr;

use super::Random;

/// A distribution of keys.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Keys {
    /// No keys: producers name the partitions and take them in turn.
    None,
    /// So many keys, each equally often.
    Uniform(u64),
    /// So many keys; the k-th most frequent is drawn in proportion to 1 / k^s.
    Zipf(u64, f64),
}

impl FromStr for Keys {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is no distribution of keys: want `none`, `uniform:N` or `zipf:N,S`");
        if text == "none" {
            return Ok(Keys::None);
        }
        let (name, rest) = text.split_once(':').ok_or_else(bad)?;
        let count = |text: &str| match text.parse::<u64>() {
            Ok(count) if (1..=1 << 40).contains(&count) => Ok(count),
            _ => Err(format!("`{text}` is no number of keys: want 1 to 2^40")),
        };
        match name {
            "uniform" => Ok(Keys::Uniform(count(rest)?)),
            "zipf" => {
                let (n, s) = rest.split_once(',').ok_or_else(bad)?;
                let exponent: f64 = s.parse().map_err(|_| bad())?;
                if !(0.01..=10.0).contains(&exponent) {
                    return Err(format!("the exponent {s} is out of range: want 0.01 to 10"));
                }
                Ok(Keys::Zipf(count(n)?, exponent))
            }
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Keys::None => f.write_str("none"),
            Keys::Uniform(count) => write!(f, "uniform:{count}"),
            Keys::Zipf(count, exponent) => write!(f, "zipf:{count},{exponent}"),
        }
    }
}

/// Draws keys.
#[derive(Clone, Debug)]
pub struct KeySource {
    keys: Keys,
    zipf: Option<Zipf>,
}

impl KeySource {
    /// With this distribution.
    pub fn new(keys: Keys) -> KeySource {
        let zipf = match keys {
            Keys::Zipf(count, exponent) => Some(Zipf::new(count, exponent)),
            _ => None,
        };
        KeySource { keys, zipf }
    }

    /// The number of the next key; none if records have no keys.
    pub fn next(&self, random: &mut Random) -> Option<u64> {
        match (&self.keys, &self.zipf) {
            (Keys::None, _) => None,
            (Keys::Uniform(count), _) | (Keys::Zipf(count, _), None) => Some(random.below(*count)),
            (Keys::Zipf(..), Some(zipf)) => Some(zipf.next(random) - 1),
        }
    }
}

/// Rejection-inversion sampling (Hörmann and Derflinger 1996): constant time and memory for any number of keys.
#[derive(Clone, Debug)]
struct Zipf {
    count: f64,
    exponent: f64,
    /// The integral of the density at 1.5, less 1; and at the end.
    low: f64,
    high: f64,
    cut: f64,
}

impl Zipf {
    fn new(count: u64, exponent: f64) -> Zipf {
        let mut zipf = Zipf { count: count as f64, exponent, low: 0.0, high: 0.0, cut: 0.0 };
        zipf.low = zipf.integral(1.5) - 1.0;
        zipf.high = zipf.integral(zipf.count + 0.5);
        zipf.cut = 2.0 - zipf.inverse(zipf.integral(2.5) - 2_f64.powf(-exponent));
        zipf
    }

    /// A rank from 1.
    fn next(&self, random: &mut Random) -> u64 {
        loop {
            let drawn = self.high + random.unit() * (self.low - self.high);
            let x = self.inverse(drawn);
            let rank = x.round().clamp(1.0, self.count);
            if rank - x <= self.cut || drawn >= self.integral(rank + 0.5) - rank.powf(-self.exponent) {
                return rank as u64;
            }
        }
    }

    /// An antiderivative of x^-s.
    fn integral(&self, x: f64) -> f64 {
        let log = x.ln();
        let power = (1.0 - self.exponent) * log;
        // (e^p - 1) / (1 - s), which has a limit where s is 1.
        if power.abs() < 1e-9 { log } else { power.exp_m1() / power * log }
    }

    fn inverse(&self, y: f64) -> f64 {
        let t = (y * (1.0 - self.exponent)).max(-1.0 + f64::EPSILON);
        if t.abs() < 1e-9 { y.exp() } else { (t.ln_1p() / t * y).exp() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often each of the first ranks comes, against what the law says.
    fn check_zipf(count: u64, exponent: f64) {
        let zipf = Zipf::new(count, exponent);
        let mut random = Random::new(3, 0);
        let draws = 400_000;
        let mut seen = vec![0_u64; count as usize + 1];
        for _ in 0..draws {
            seen[zipf.next(&mut random) as usize] += 1;
        }
        let norm: f64 = (1..=count).map(|rank| (rank as f64).powf(-exponent)).sum();
        for rank in [1, 2, 3, 10, count] {
            let expected = f64::from(draws) * (rank as f64).powf(-exponent) / norm;
            let found = seen[rank as usize] as f64;
            // Five deviations of a Poisson count.
            assert!(
                (found - expected).abs() < 5.0 * expected.sqrt() + 1.0,
                "rank {rank}: {found}, not {expected}"
            );
        }
    }

    #[test]
    fn zipf_follows_its_law_below_at_and_above_one() {
        check_zipf(100, 0.5);
        check_zipf(100, 1.0);
        check_zipf(1_000, 1.2);
        check_zipf(50, 3.0);
    }

    #[test]
    fn one_key_is_always_the_same() {
        let source = KeySource::new(Keys::Zipf(1, 1.0));
        let mut random = Random::new(0, 0);
        assert!((0..1_000).all(|_| source.next(&mut random) == Some(0)));
    }

    #[test]
    fn uniform_keys_are_all_drawn() {
        let source = KeySource::new(Keys::Uniform(10));
        let mut random = Random::new(0, 0);
        let mut seen = [0; 10];
        for _ in 0..10_000 {
            seen[source.next(&mut random).expect("keys are on") as usize] += 1;
        }
        assert!(seen.iter().all(|count| (850..1150).contains(count)), "{seen:?}");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "uniform", "uniform:0", "zipf:10", "zipf:10,x", "zipf:10,0", "gauss:3"] {
            assert!(text.parse::<Keys>().is_err(), "{text:?} was taken");
        }
    }
}
