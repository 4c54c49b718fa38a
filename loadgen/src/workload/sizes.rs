//! How large records are, in bytes of their value, stamp included.

use std::fmt;
use std::str::FromStr;

use super::{Random, parse_bytes};
use crate::stamp::STAMP_BYTES;

/// The largest record that may be asked for: a batch of the wire holds no larger one.
const MAX_BYTES: usize = 8 << 20;

/// A distribution of sizes.
#[derive(Clone, Debug, PartialEq)]
pub enum Sizes {
    /// All alike.
    Fixed(usize),
    /// Any from the first to the second, equally often.
    Uniform(usize, usize),
    /// Normal: mean and deviation; cut off at the stamp's size and at 8 MiB.
    Normal(usize, usize),
    /// Log-normal: median, and deviation of the logarithm; cut off in the same way.
    LogNormal(usize, f64),
    /// Sizes with the running sums of their weights.
    Weighted(Vec<(usize, u64)>),
}

impl Sizes {
    /// The size of the next record.
    pub fn next(&self, random: &mut Random) -> usize {
        let cut = |bytes: f64| (bytes as usize).clamp(STAMP_BYTES, MAX_BYTES);
        match self {
            Sizes::Fixed(bytes) => *bytes,
            Sizes::Uniform(least, most) => least + random.below((most - least + 1) as u64) as usize,
            Sizes::Normal(mean, deviation) => cut(*mean as f64 + *deviation as f64 * random.normal()),
            Sizes::LogNormal(median, sigma) => cut(*median as f64 * (sigma * random.normal()).exp()),
            Sizes::Weighted(sizes) => {
                let total = sizes.last().map_or(0, |(_, sum)| *sum);
                let drawn = random.below(total);
                sizes.iter().find(|(_, sum)| drawn < *sum).map_or(STAMP_BYTES, |(bytes, _)| *bytes)
            }
        }
    }
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((name, rest)) = text.split_once(':') else { return Ok(Sizes::Fixed(size(text)?)) };
        match name {
            "uniform" => {
                let (least, most) = pair(rest, "..", "uniform:100..2k")?;
                let (least, most) = (size(least)?, size(most)?);
                if least > most {
                    return Err(format!("{least} is more than {most}: write the smaller one first"));
                }
                Ok(Sizes::Uniform(least, most))
            }
            "normal" => {
                let (mean, deviation) = pair(rest, ",", "normal:1k,200")?;
                Ok(Sizes::Normal(size(mean)?, parse_bytes(deviation)?))
            }
            "lognormal" => {
                let (median, sigma) = pair(rest, ",", "lognormal:1k,0.5")?;
                let sigma: f64 = sigma.parse().map_err(|_| format!("`{sigma}` is no number"))?;
                if !(0.0..=5.0).contains(&sigma) {
                    return Err(format!("{sigma} is no deviation of a logarithm between 0 and 5"));
                }
                Ok(Sizes::LogNormal(size(median)?, sigma))
            }
            "list" => weighted(rest),
            _ => Err(format!("`{name}` is no distribution: want uniform, normal, lognormal or list")),
        }
    }
}

fn weighted(list: &str) -> Result<Sizes, String> {
    let mut sum = 0_u64;
    let mut sizes = Vec::new();
    for part in list.split(',') {
        let (bytes, weight) = pair(part, "*", "list:100*80,1k*15,64k*5")?;
        let weight: u32 =
            weight.parse().map_err(|_| format!("`{weight}` is no weight: want a whole number"))?;
        sum += u64::from(weight);
        sizes.push((size(bytes)?, sum));
    }
    if sum == 0 {
        return Err("the weights are all zero".to_owned());
    }
    Ok(Sizes::Weighted(sizes))
}

fn pair<'a>(text: &'a str, separator: &str, example: &str) -> Result<(&'a str, &'a str), String> {
    text.split_once(separator)
        .ok_or_else(|| format!("`{text}` cannot be read: want, for example, `{example}`"))
}

fn size(text: &str) -> Result<usize, String> {
    let bytes = parse_bytes(text)?;
    if bytes < STAMP_BYTES {
        return Err(format!(
            "{bytes} bytes are too few: each record carries a stamp of {STAMP_BYTES} bytes (run, producer, \
             sequence, time, checksum), so {STAMP_BYTES} is the least"
        ));
    }
    if bytes > MAX_BYTES {
        return Err(format!("{bytes} bytes are too many: no batch holds a record of more than {MAX_BYTES}"));
    }
    Ok(bytes)
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sizes::Fixed(bytes) => write!(f, "{bytes}"),
            Sizes::Uniform(least, most) => write!(f, "uniform:{least}..{most}"),
            Sizes::Normal(mean, deviation) => write!(f, "normal:{mean},{deviation}"),
            Sizes::LogNormal(median, sigma) => write!(f, "lognormal:{median},{sigma}"),
            Sizes::Weighted(sizes) => {
                let mut before = 0;
                f.write_str("list:")?;
                for (index, (bytes, sum)) in sizes.iter().enumerate() {
                    let comma = if index > 0 { "," } else { "" };
                    write!(f, "{comma}{bytes}*{}", sum - before)?;
                    before = *sum;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(text: &str) -> f64 {
        let sizes: Sizes = text.parse().expect("a good distribution");
        let mut random = Random::new(1, 2);
        (0..100_000).map(|_| sizes.next(&mut random) as f64).sum::<f64>() / 100_000.0
    }

    #[test]
    fn distributions_have_their_means() {
        assert_eq!(mean("1k"), 1024.0);
        assert!((mean("uniform:100..300") - 200.0).abs() < 1.0);
        assert!((mean("normal:1000,100") - 1000.0).abs() < 2.0);
        // The mean of a log-normal is its median times e^(σ²/2).
        assert!((mean("lognormal:1000,0.5") - 1133.1).abs() < 10.0);
        assert!((mean("list:100*3,1000*1") - 325.0).abs() < 5.0);
    }

    #[test]
    fn what_is_printed_can_be_read_again() {
        for text in ["1024", "uniform:100..300", "normal:1000,100", "lognormal:1000,0.5", "list:100*3,1000*1"]
        {
            let sizes: Sizes = text.parse().expect("a good distribution");
            assert_eq!(sizes.to_string(), text);
        }
    }

    #[test]
    fn nonsense_is_told_what_is_allowed() {
        let error = |text: &str| Sizes::from_str(text).expect_err("it is nonsense");
        assert!(error("16").contains("40 is the least"), "{}", error("16"));
        assert!(error("9m").contains("too many"));
        assert!(error("uniform:300..100").contains("smaller one first"));
        assert!(error("zeta:3").contains("want uniform"));
        assert!(error("list:100*0").contains("all zero"));
        assert!(error("normal:1k").contains("normal:1k,200"));
    }
}
