//! Whether B is better than A: the ratio of each figure with a bootstrap interval, and a verdict.
//!
//! The seconds of each run are drawn with replacement, their histograms added up, and the figures read off the sums, a
//! couple of thousand times; the middle 95 % of the ratios is the interval. With several runs on a side the runs are
//! drawn first, so that what varies between runs counts as well.

mod conditions;
mod judge;
mod metric;
mod saturation;
mod seconds;

use std::io::{self, Write};
use std::path::PathBuf;

use crate::result::{Command, Phase, ResultError, RunResult};

use super::grid::Grid;
use super::table::by_rate;
use super::units;
use judge::{Comparison, Verdict};
pub use metric::Metric;
use seconds::Side;

/// Says whether B is better than A; exits with 4 when it is worse by more than the bound.
#[derive(Debug, Clone, PartialEq, clap::Args)]
#[command(after_help = "Examples:
  ringlog-loadgen compare before.json after.json
  ringlog-loadgen compare before.json after.json --bound 10% --metric throughput --metric ack-p99
  ringlog-loadgen compare --a before1.json --a before2.json --b after1.json --b after2.json

Take several runs of each side in turns (A B B A): what varies from run to run is more than what varies within one.

Exit codes: 0 nothing is worse beyond the bound, 1 nothing could be judged, 2 usage,
4 at least one figure is worse by more than the bound, and its interval excludes no change.")]
pub struct CompareArgs {
    /// A and B, as --json wrote them
    #[arg(value_name = "RESULT", num_args = 2, required_unless_present_all = ["a", "b"], conflicts_with_all = ["a", "b"])]
    pub pair: Vec<PathBuf>,
    /// A result of A; may be given several times
    #[arg(long, value_name = "FILE", requires = "b")]
    pub a: Vec<PathBuf>,
    /// A result of B; may be given several times
    #[arg(long, value_name = "FILE", requires = "a")]
    pub b: Vec<PathBuf>,
    /// How much worse a figure may be
    #[arg(long, value_name = "PERCENT", default_value = "5%", value_parser = parse_percent)]
    pub bound: f64,
    /// Compare only this figure; may be given several times
    #[arg(long = "metric", value_name = "NAME")]
    pub metrics: Vec<Metric>,
    /// Compare also what cannot be compared: void or partial runs, other commands, other ack classes
    #[arg(long)]
    pub force: bool,
    /// Seed of the draws
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

/// What is compared of one phase, or of all.
struct Group {
    label: String,
    /// What its intervals are.
    interval: &'static str,
    comparisons: Vec<Comparison>,
}

/// How a comparison ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is worse beyond the bound.
    Good,
    /// Something is.
    Regression,
    /// Nothing could be judged.
    NothingJudged,
}

/// Why nothing was compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// A result cannot be read.
    #[error(transparent)]
    Result(#[from] ResultError),
    /// They must not be compared.
    #[error("these results cannot be compared:\n  {}\n--force compares them all the same", .0.join("\n  "))]
    Refused(Vec<String>),
    /// A figure was asked for that is not there.
    #[error("no figure named {0} in both results")]
    NoSuchFigure(String),
    /// The comparison cannot be written.
    #[error("cannot write the comparison: {0}")]
    Output(#[from] io::Error),
}

impl CompareArgs {
    /// Compares, and writes what comes of it to `out`.
    pub fn run(&self, out: &mut impl Write) -> Result<Outcome, CompareError> {
        let (a, b) = match self.pair.as_slice() {
            [a, b] => (std::slice::from_ref(a), std::slice::from_ref(b)),
            _ => (self.a.as_slice(), self.b.as_slice()),
        };
        let read =
            |paths: &[PathBuf]| paths.iter().map(|path| RunResult::read(path)).collect::<Result<Vec<_>, _>>();
        let (results_a, results_b) = (read(a)?, read(b)?);
        write_sides(out, &[("A", a, &results_a), ("B", b, &results_b)])?;
        self.compare(&results_a, &results_b, out)
    }

    /// Compares results that were read.
    fn compare(
        &self,
        a: &[RunResult],
        b: &[RunResult],
        out: &mut impl Write,
    ) -> Result<Outcome, CompareError> {
        let refusals = conditions::refusals(a, b);
        if !refusals.is_empty() && !self.force {
            return Err(CompareError::Refused(refusals));
        }
        for refusal in refusals {
            writeln!(out, "FORCED: {refusal}")?;
        }
        for difference in conditions::differences(a, b) {
            writeln!(out, "differs: {difference}")?;
        }
        let groups = self.groups(a, b)?;
        self.check_metrics(&groups)?;
        for group in &groups {
            write_group(out, group, self.bound)?;
        }
        let all: Vec<(&str, &Comparison)> = groups
            .iter()
            .flat_map(|group| group.comparisons.iter().map(move |one| (group.label.as_str(), one)))
            .collect();
        write_conclusion(out, &all, self.bound, a.len().min(b.len()))?;
        Ok(outcome(&all))
    }

    /// The comparisons of each phase that both sides have, with its label where there are several.
    fn groups(&self, a: &[RunResult], b: &[RunResult]) -> Result<Vec<Group>, CompareError> {
        let metrics = if self.metrics.is_empty() { Metric::ALL.as_slice() } else { &self.metrics };
        let mut groups = Vec::new();
        let sweeps = a.iter().chain(b).all(|result| result.command == Command::Sweep);
        if sweeps && self.metrics.is_empty() {
            let comparisons: Vec<Comparison> = saturation::compare(a, b, self.bound).into_iter().collect();
            groups.push(Group {
                label: "all rates".to_owned(),
                interval: "left open by the steps",
                comparisons,
            });
        }
        let pairs = if sweeps { pairs_by_rate(a, b) } else { pairs_by_label(a, b) };
        for (label, phases_a, phases_b) in pairs {
            let (side_a, side_b) = (Side::of(&phases_a)?, Side::of(&phases_b)?);
            let comparisons = judge::compare(&side_a, &side_b, metrics, self.bound, self.seed);
            groups.push(Group { label, interval: "95 % interval", comparisons });
        }
        Ok(groups)
    }

    fn check_metrics(&self, groups: &[Group]) -> Result<(), CompareError> {
        let there =
            |name: &str| groups.iter().flat_map(|group| &group.comparisons).any(|one| one.name == name);
        match self.metrics.iter().find(|metric| !there(metric.name())) {
            Some(missing) => Err(CompareError::NoSuchFigure(missing.name().to_owned())),
            None => Ok(()),
        }
    }
}

/// Reads `5%`. Without the sign it is not clear whether `0.05` means five in a hundred.
fn parse_percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
    let fraction = number.map(|percent| percent / 100.0).filter(|fraction| (0.0..=10.0).contains(fraction));
    fraction.ok_or_else(|| "want a percentage from 0% to 1000%, such as `5%`".to_owned())
}

type Pair<'a> = (String, Vec<&'a Phase>, Vec<&'a Phase>);

fn pairs_by_label<'a>(a: &'a [RunResult], b: &'a [RunResult]) -> Vec<Pair<'a>> {
    let find = |results: &'a [RunResult], label: &str| {
        results.iter().map(|result| result.phases.iter().find(|phase| phase.label == label)).collect()
    };
    let labels = a.iter().take(1).flat_map(|result| &result.phases).map(|phase| phase.label.as_str());
    labels.filter_map(|label| Some((label.to_owned(), all(find(a, label))?, all(find(b, label))?))).collect()
}

/// The rates that every sweep tried and kept up with: beyond saturation latency only says how long the step was.
fn pairs_by_rate<'a>(a: &'a [RunResult], b: &'a [RunResult]) -> Vec<Pair<'a>> {
    let find = |results: &'a [RunResult], rate: f64| {
        let same =
            |phase: &&Phase| phase.offered_per_second.is_some_and(|other| (other / rate - 1.0).abs() < 1e-3);
        results
            .iter()
            .map(|result| {
                let kept_up = result.saturation.is_some_and(|saturation| rate <= saturation * 1.001);
                result.phases.iter().find(same).filter(|phase| kept_up && phase.void.is_none())
            })
            .collect()
    };
    let rates = a.iter().take(1).flat_map(by_rate).filter_map(|phase| phase.offered_per_second);
    rates
        .filter_map(|rate| {
            Some((format!("{}/s offered", units::number(rate)), all(find(a, rate))?, all(find(b, rate))?))
        })
        .collect()
}

/// All of them, if none is missing.
fn all(found: Vec<Option<&Phase>>) -> Option<Vec<&Phase>> {
    found.into_iter().collect()
}

fn outcome(all: &[(&str, &Comparison)]) -> Outcome {
    let any = |wanted: fn(&Verdict) -> bool| all.iter().any(|(_, one)| wanted(&one.verdict));
    if any(|verdict| *verdict == Verdict::WorseBeyondBound) {
        Outcome::Regression
    } else if any(|verdict| !matches!(verdict, Verdict::NotJudged(_))) {
        Outcome::Good
    } else {
        Outcome::NothingJudged
    }
}

fn write_sides(out: &mut impl Write, sides: &[(&str, &[PathBuf], &[RunResult])]) -> io::Result<()> {
    for (name, paths, results) in sides {
        for (path, result) in paths.iter().zip(*results) {
            let target = &result.environment.target;
            writeln!(
                out,
                "{name}: {}: {} against {} {}, ack class {}, {}",
                units::plain(&path.display().to_string()),
                result.command,
                units::plain(&target.name),
                units::plain(&target.version),
                target.ack_class,
                units::plain(&units::moment(&result.started)),
            )?;
        }
    }
    Ok(())
}

fn write_group(out: &mut impl Write, group: &Group, bound: f64) -> io::Result<()> {
    writeln!(out)?;
    let mut grid =
        Grid::new([units::plain(&group.label).as_str(), "A", "B", "B/A", group.interval, " verdict"]);
    for one in &group.comparisons {
        let interval =
            one.interval.map_or_else(|| "-".to_owned(), |(low, high)| format!("{low:.3} .. {high:.3}"));
        let verdict = format!(" {}", verdict_text(&one.verdict, bound));
        grid.row([
            one.name.clone(),
            one.a.clone(),
            one.b.clone(),
            format!("{:.3}", one.ratio),
            interval,
            verdict,
        ]);
    }
    grid.write_with_last_left(out)
}

fn verdict_text(verdict: &Verdict, bound: f64) -> String {
    match verdict {
        Verdict::Better => "better".to_owned(),
        Verdict::Worse => format!("worse, within {}", percent(bound)),
        Verdict::WorseBeyondBound => format!("WORSE by more than {}", percent(bound)),
        Verdict::NoDifferenceShown => "no difference shown".to_owned(),
        Verdict::NotJudged(why) => format!("not judged: {why}"),
    }
}

fn percent(fraction: f64) -> String {
    let text = format!("{:.2}", fraction * 100.0);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

fn write_conclusion(
    out: &mut impl Write,
    all: &[(&str, &Comparison)],
    bound: f64,
    runs: usize,
) -> io::Result<()> {
    let several = all.iter().any(|(label, _)| *label != all[0].0);
    let named = |wanted: Verdict| {
        let of = all.iter().filter(|(_, one)| one.verdict == wanted);
        let names: Vec<String> = of
            .map(|(label, one)| {
                let place = if several { format!(" ({})", units::plain(label)) } else { String::new() };
                format!("{}{place} {:+.1} %", one.name, 100.0 * (one.ratio - 1.0))
            })
            .collect();
        names.join(", ")
    };
    let (beyond, within, better) =
        (named(Verdict::WorseBeyondBound), named(Verdict::Worse), named(Verdict::Better));
    writeln!(out)?;
    match outcome(all) {
        Outcome::NothingJudged => writeln!(out, "nothing could be judged")?,
        Outcome::Regression => writeln!(out, "B IS WORSE by more than {}: {beyond}", percent(bound))?,
        Outcome::Good => {
            let judged = all.iter().filter(|(_, one)| !matches!(one.verdict, Verdict::NotJudged(_))).count();
            let (bound, of) = (percent(bound), all.len());
            writeln!(
                out,
                "B is worse by more than {bound} in nothing that was judged ({judged} of {of} figures)"
            )?
        }
    }
    if !within.is_empty() {
        writeln!(out, "worse, within the bound: {within}")?;
    }
    if !better.is_empty() {
        writeln!(out, "better: {better}")?;
    }
    if runs == 1 {
        writeln!(
            out,
            "The intervals hold what varied within these runs. For what varies from run to run, give several of each side\n\
             (--a, --b), taken in turns."
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
