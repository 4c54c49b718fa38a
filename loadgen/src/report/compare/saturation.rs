//! The saturation points of sweeps: no seconds to draw, but steps that leave a gap.

use crate::result::RunResult;

use super::super::table::by_rate;
use super::super::units;
use super::judge::{Comparison, Verdict, verdict};

/// Between which rates the target saturates: the last that it kept up with, and the next that was tried. Infinite where
/// it kept up with all.
struct Bracket {
    kept_up: f64,
    too_much: f64,
}

/// Compares the saturation of sweeps; none where a side has not found it. The interval is what the steps leave open:
/// the true point lies anywhere between two rates.
pub fn compare(a: &[RunResult], b: &[RunResult], bound: f64) -> Option<Comparison> {
    let (a, b) = (side(a)?, side(b)?);
    let ratio = b.kept_up / a.kept_up;
    let interval = (b.kept_up / a.too_much, b.too_much / a.kept_up);
    let open = !a.too_much.is_finite() || !b.too_much.is_finite();
    let verdict = match open {
        true => Verdict::NotJudged("no rate was too much; sweep to higher ones".to_owned()),
        false => verdict(ratio, interval, true, bound),
    };
    let text = |bracket: &Bracket| format!("{}/s", units::number(bracket.kept_up));
    Some(Comparison {
        name: "saturation".to_owned(),
        a: text(&a),
        b: text(&b),
        ratio,
        interval: (!open).then_some(interval),
        verdict,
    })
}

/// Of several sweeps, the mean of the rates kept up with, and the widest gap around it.
fn side(results: &[RunResult]) -> Option<Bracket> {
    let brackets: Vec<Bracket> = results.iter().map(bracket).collect::<Option<_>>()?;
    let mean = brackets.iter().map(|bracket| bracket.kept_up).sum::<f64>() / brackets.len() as f64;
    let too_much = brackets.iter().map(|bracket| bracket.too_much).fold(0.0, f64::max);
    (mean > 0.0).then_some(Bracket { kept_up: mean, too_much })
}

fn bracket(result: &RunResult) -> Option<Bracket> {
    let kept_up = result.saturation?;
    let rates = by_rate(result);
    let above = rates.iter().filter_map(|phase| phase.offered_per_second).find(|rate| *rate > kept_up);
    Some(Bracket { kept_up, too_much: above.unwrap_or(f64::INFINITY) })
}
