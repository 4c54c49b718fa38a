//! Where a value stands on an axis, and the values that the axis names.

use super::super::units;

/// One axis of a chart.
pub struct Axis {
    /// What it measures, with its unit.
    pub label: &'static str,
    /// How values are laid out.
    pub scale: Scale,
    /// How a value is written at the axis: short.
    pub tick: fn(f64) -> String,
    /// How a value is written elsewhere.
    pub value: fn(f64) -> String,
}

impl Axis {
    /// Latencies in microseconds.
    pub fn latency(label: &'static str, values: impl Iterator<Item = f64> + Clone) -> Axis {
        Axis { label, scale: Scale::of_latencies(values), tick: short_time, value: units::time }
    }

    /// Numbers of anything, from zero.
    pub fn number(label: &'static str, values: impl Iterator<Item = f64>) -> Axis {
        Axis { label, scale: Scale::from_zero(values), tick: short_number, value: units::number }
    }

    /// Percentiles up to the last one that is shown.
    pub fn percentile(last: f64) -> Axis {
        let scale = Scale::Percentile(last);
        Axis { label: "percentile of records", scale, tick: percentile_text, value: percentile_text }
    }

    /// Seconds from zero to the given.
    pub fn seconds(last: f64) -> Axis {
        let scale = Scale::Linear(0.0, last.max(1.0));
        Axis { label: "time", scale, tick: seconds_text, value: seconds_text }
    }
}

/// How values are laid out along an axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scale {
    /// In proportion, from the first to the second.
    Linear(f64, f64),
    /// By logarithm, from the first to the second, both above zero.
    Log(f64, f64),
    /// Percentiles as HDR plots have them: each further nine takes the same room; up to the one that is given.
    Percentile(f64),
}

/// From this ratio of the greatest to the least on, a logarithm shows more than a proportion.
const LOG_FROM_RATIO: f64 = 12.0;

impl Scale {
    /// A scale from zero that holds all values.
    pub fn from_zero(values: impl Iterator<Item = f64>) -> Scale {
        let greatest = values.filter(|value| value.is_finite()).fold(0.0, f64::max);
        if greatest <= 0.0 {
            return Scale::Linear(0.0, 1.0);
        }
        // A line along the upper edge would be lost.
        Scale::Linear(0.0, greatest * 1.05)
    }

    /// A scale for latencies: from zero, or by logarithm where the values lie far apart.
    pub fn of_latencies(values: impl Iterator<Item = f64> + Clone) -> Scale {
        let least = values.clone().filter(|value| *value > 0.0).fold(f64::INFINITY, f64::min);
        let greatest = values.clone().filter(|value| value.is_finite()).fold(0.0, f64::max);
        if greatest < LOG_FROM_RATIO * least || !least.is_finite() {
            return Scale::from_zero(values);
        }
        let low = round_values(least / 10.0, least).last().unwrap_or(least);
        let high = round_values(greatest * (1.0 - 1e-9), greatest * 10.0).next().unwrap_or(greatest);
        Scale::Log(low, high)
    }

    /// Where the value stands, from 0 to 1.
    pub fn position(&self, value: f64) -> f64 {
        let position = match *self {
            Scale::Linear(low, high) => (value - low) / (high - low),
            Scale::Log(low, high) => (value.max(low) / low).log10() / (high / low).log10(),
            Scale::Percentile(last) => nines(value.min(last)) / nines(last),
        };
        if position.is_finite() { position.clamp(0.0, 1.0) } else { 0.0 }
    }

    /// The values to name.
    pub fn ticks(&self) -> Vec<f64> {
        match *self {
            Scale::Linear(low, high) => {
                let step = round_step(high - low);
                let first = (low / step - 1e-9).ceil();
                let number = ((high / step + 1e-9).floor() - first).max(0.0) as u32;
                (0..=number).map(|index| (first + f64::from(index)) * step).collect()
            }
            Scale::Log(low, high) => {
                let all: Vec<f64> = round_values(low * (1.0 - 1e-9), high * (1.0 + 1e-9)).collect();
                // Three a decade while they are few, and the powers of ten after that.
                match all.len() {
                    ..=10 => all,
                    _ => all.into_iter().filter(|value| is_power_of_ten(*value)).collect(),
                }
            }
            Scale::Percentile(last) => [0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999, 99.9999]
                .into_iter()
                .filter(|percentile| *percentile <= last)
                .collect(),
        }
    }
}

/// How many nines a percentile has: 1 of 90, 2 of 99.
fn nines(percentile: f64) -> f64 {
    (100.0 / (100.0 - percentile)).log10()
}

/// 1, 2 or 5 times a power of ten, such that a handful of them make the span.
fn round_step(span: f64) -> f64 {
    let rough = span / 6.0;
    let power = 10f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= rough * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

/// All of 1, 2, 5, 10, 20, … from `low` to `high`.
fn round_values(low: f64, high: f64) -> impl Iterator<Item = f64> {
    let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    (first..=last)
        .flat_map(|power| [1.0, 2.0, 5.0].map(|factor| factor * 10f64.powi(power)))
        .filter(move |value| (low..=high).contains(value))
}

fn is_power_of_ten(value: f64) -> bool {
    let power = value.log10();
    (power - power.round()).abs() < 1e-9
}

/// `250`, `12k`, `1.5M`: a number on an axis.
fn short_number(value: f64) -> String {
    let (scaled, unit) = match value.abs() {
        ..1e3 => (value, ""),
        ..1e6 => (value / 1e3, "k"),
        ..1e9 => (value / 1e6, "M"),
        _ => (value / 1e9, "G"),
    };
    format!("{}{unit}", without_zeros(scaled))
}

/// `250 µs`, `1.5 ms`: a time, given in microseconds, on an axis.
fn short_time(micros: f64) -> String {
    let (scaled, unit) = match micros {
        0.0 => return "0".to_owned(),
        ..999.9999 => (micros, "µs"),
        ..999_999.9 => (micros / 1e3, "ms"),
        _ => (micros / 1e6, "s"),
    };
    format!("{} {unit}", without_zeros(scaled))
}

/// `99.9`: a percentile.
fn percentile_text(percentile: f64) -> String {
    without_zeros(percentile)
}

/// Seconds into the run.
fn seconds_text(seconds: f64) -> String {
    format!("{} s", without_zeros(seconds))
}

/// Up to four places, as many as it takes.
fn without_zeros(value: f64) -> String {
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_further_nine_takes_the_same_room() {
        let scale = Scale::Percentile(99.99);
        let positions = [0.0, 90.0, 99.0, 99.9, 99.99].map(|value| scale.position(value));
        for (index, position) in positions.into_iter().enumerate() {
            assert!((position - index as f64 / 4.0).abs() < 1e-9, "{positions:?}");
        }
    }

    #[test]
    fn latencies_far_apart_get_a_logarithm_that_holds_them() {
        let values = [83.0, 412.0, 12_400.0];
        assert_eq!(Scale::of_latencies(values.into_iter()), Scale::Log(50.0, 20_000.0));
        let values = [83.0, 112.0];
        assert_eq!(Scale::of_latencies(values.into_iter()), Scale::Linear(0.0, 112.0 * 1.05));
    }

    #[test]
    fn ticks_are_round_and_within() {
        assert_eq!(Scale::Linear(0.0, 10.5).ticks(), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(Scale::Log(50.0, 500.0).ticks().len(), 4);
        assert_eq!(Scale::Log(1.0, 1e6).ticks().len(), 7);
        assert_eq!(Scale::Percentile(99.95).ticks(), [0.0, 50.0, 90.0, 99.0, 99.9]);
    }

    #[test]
    fn nonsense_has_a_place_and_no_panic() {
        for values in [vec![], vec![0.0], vec![f64::NAN], vec![f64::INFINITY, 1.0], vec![1e-9, 1e12]] {
            let scale = Scale::of_latencies(values.iter().copied());
            assert!((0.0..=1.0).contains(&scale.position(f64::NAN)), "{values:?}");
            assert!(scale.ticks().len() < 40, "{values:?}: {:?}", scale.ticks());
        }
    }

    #[test]
    fn axis_texts_are_short() {
        assert_eq!([0.0, 12_000.0, 1_500_000.0].map(short_number), ["0", "12k", "1.5M"]);
        assert_eq!([0.0, 250.0, 1_500.0, 2e6].map(short_time), ["0", "250 µs", "1.5 ms", "2 s"]);
        assert_eq!([50.0, 99.9, 99.9999].map(percentile_text), ["50", "99.9", "99.9999"]);
    }
}
