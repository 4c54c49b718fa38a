//! From two sides to a judgement: the ratio of a figure, and how far it can be trusted.

use super::metric::Metric;
use super::seconds::{Random, Side, Totals};

/// Draws of the bootstrap. Its 95 % interval leaves a fortieth of them out at each end. Tests make do with fewer: they
/// run without optimization.
const RESAMPLES: usize = if cfg!(test) { 400 } else { 2_000 };
/// With fewer seconds than these on a side, draws of them say little about others that might have been.
pub const MIN_SECONDS: usize = 10;

/// One figure of both sides.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Its name.
    pub name: String,
    /// Of A, as text.
    pub a: String,
    /// Of B, as text.
    pub b: String,
    /// B by A.
    pub ratio: f64,
    /// Where the ratio may lie: the middle 95 % of the bootstrap, or what the steps of a sweep leave open.
    pub interval: Option<(f64, f64)>,
    /// What comes of it.
    pub verdict: Verdict,
}

/// What a comparison shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// B is better.
    Better,
    /// B is worse, by no more than the bound.
    Worse,
    /// B is worse by more than the bound.
    WorseBeyondBound,
    /// The interval holds 1.
    NoDifferenceShown,
    /// It cannot be said, for this reason.
    NotJudged(String),
}

/// Compares the figures that both sides have.
pub fn compare(a: &Side, b: &Side, metrics: &[Metric], bound: f64, seed: u64) -> Vec<Comparison> {
    let (totals_a, totals_b) = (a.totals(), b.totals());
    let measured: Vec<(Metric, f64, f64)> = metrics
        .iter()
        .filter_map(|metric| Some((*metric, metric.value(a, &totals_a)?, metric.value(b, &totals_b)?)))
        .filter(|(_, a, b)| *a > 0.0 && *b > 0.0)
        .collect();
    let ratios = resampled_ratios(a, b, &measured, seed);
    let both = measured.into_iter().zip(ratios);
    both.map(|((metric, value_a, value_b), ratios)| {
        let ratio = value_b / value_a;
        let interval = middle(ratios);
        let verdict = match too_little(metric, (a, &totals_a), (b, &totals_b)) {
            Some(why) => Verdict::NotJudged(why),
            None => verdict(ratio, interval, metric.more_is_better(), bound),
        };
        let interval = Some(interval).filter(|_| !matches!(verdict, Verdict::NotJudged(_)));
        let (a, b) = (metric.text(value_a), metric.text(value_b));
        Comparison { name: metric.name().to_owned(), a, b, ratio, interval, verdict }
    })
    .collect()
}

/// For each metric, its ratio in every draw. One draw serves all metrics.
fn resampled_ratios(a: &Side, b: &Side, measured: &[(Metric, f64, f64)], seed: u64) -> Vec<Vec<f64>> {
    let mut random = Random::new(seed);
    let mut ratios = vec![Vec::with_capacity(RESAMPLES); measured.len()];
    if a.len().min(b.len()) < MIN_SECONDS {
        return ratios;
    }
    for _ in 0..RESAMPLES {
        let (drawn_a, drawn_b) = (a.resample(&mut random), b.resample(&mut random));
        for ((metric, _, _), ratios) in measured.iter().zip(&mut ratios) {
            let values = metric.value(a, &drawn_a).zip(metric.value(b, &drawn_b));
            // A draw of only seconds without records has no figure.
            ratios.extend(values.map(|(a, b)| b / a).filter(|ratio| ratio.is_finite()));
        }
    }
    ratios
}

/// The ends of the middle 95 %.
fn middle(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let left_out = values.len() / 40;
    let end = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    (end(left_out), end(values.len().saturating_sub(1 + left_out)))
}

fn too_little(metric: Metric, a: (&Side, &Totals), b: (&Side, &Totals)) -> Option<String> {
    [("A", a), ("B", b)].into_iter().find_map(|(name, (side, totals))| {
        let seconds = side.len();
        let few = (seconds < MIN_SECONDS).then(|| format!("{seconds} seconds in {name}, want {MIN_SECONDS}"));
        few.or_else(|| metric.too_little(totals, name))
    })
}

/// What a ratio and its interval show.
pub fn verdict(ratio: f64, interval: (f64, f64), more_is_better: bool, bound: f64) -> Verdict {
    let (low, high) = interval;
    if !(low > 1.0 || high < 1.0) {
        return Verdict::NoDifferenceShown;
    }
    let change = if more_is_better { 1.0 - ratio } else { ratio - 1.0 };
    match change {
        change if change > bound => Verdict::WorseBeyondBound,
        change if change > 0.0 => Verdict::Worse,
        _ => Verdict::Better,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_needs_the_interval_and_the_bound() {
        let lower_is_better = |ratio, interval| verdict(ratio, interval, false, 0.05);
        assert_eq!(lower_is_better(1.2, (1.1, 1.3)), Verdict::WorseBeyondBound);
        assert_eq!(lower_is_better(1.2, (0.99, 1.4)), Verdict::NoDifferenceShown);
        assert_eq!(lower_is_better(1.03, (1.01, 1.05)), Verdict::Worse);
        assert_eq!(lower_is_better(0.8, (0.7, 0.9)), Verdict::Better);
        assert_eq!(lower_is_better(1.0, (f64::NAN, f64::NAN)), Verdict::NoDifferenceShown);
    }

    #[test]
    fn more_throughput_is_better_and_less_is_worse() {
        assert_eq!(verdict(0.8, (0.7, 0.9), true, 0.05), Verdict::WorseBeyondBound);
        assert_eq!(verdict(1.2, (1.1, 1.3), true, 0.05), Verdict::Better);
    }

    #[test]
    fn the_interval_leaves_a_fortieth_out_at_each_end() {
        assert_eq!(middle((0..2000).map(f64::from).collect()), (50.0, 1949.0));
    }
}
