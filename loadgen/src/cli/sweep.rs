//! `sweep`: rates that rise until the target saturates, and then close in on where it does.

use std::time::Duration;

use clap::Args;

use super::args::parse_positive_duration;
use super::session::{Session, void};
use crate::engine::{Books, Outcome};
use crate::result::{Command, Phase, RunResult};
use crate::workload::{Arrivals, Load};

/// What must be done in time for a rate to count as kept up with.
const ENOUGH: f64 = 0.99;
/// No sweep goes on for ever, not even against a target that nothing saturates.
const MAX_STEPS: u32 = 40;

/// How the rates go.
#[derive(Args, Clone, Debug)]
pub struct SweepArgs {
    /// The first rate, in records a second
    #[arg(long, value_name = "N", default_value = "1000", value_parser = super::args::parse_rate, help_heading = "Load")]
    from_rate: f64,
    /// The rate to end at, if nothing saturates before
    #[arg(long, value_name = "N", default_value = "1000000", value_parser = super::args::parse_rate, help_heading = "Load")]
    to_rate: f64,
    /// By what each rate is greater than the one before
    #[arg(long, value_name = "X", default_value = "2", value_parser = parse_factor, help_heading = "Load")]
    factor: f64,
    /// How often the gap between kept up and not is halved
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(0..=20), help_heading = "Load")]
    bisections: u32,
    /// How long each rate is measured, after a warm-up of its own
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_positive_duration, help_heading = "Load")]
    step: Duration,
    /// How the records are spread in time
    #[arg(long, value_name = "constant|poisson", default_value = "constant", value_parser = super::args::parse_arrivals, help_heading = "Load")]
    arrivals: Arrivals,
}

fn parse_factor(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(factor) if (1.05..=10.0).contains(&factor) => Ok(factor),
        _ => Err("want a factor from 1.05 to 10".to_owned()),
    }
}

/// Chooses rates: up by a factor until one is not kept up with, then into the middle.
struct Search {
    good: Option<f64>,
    bad: Option<f64>,
    halvings: u32,
}

impl Search {
    fn next(&mut self, args: &SweepArgs) -> Option<f64> {
        match (self.good, self.bad) {
            (None, None) => Some(args.from_rate),
            (Some(good), None) if good >= args.to_rate => None,
            (Some(good), None) => Some((good * args.factor).min(args.to_rate)),
            // Not even the first was kept up with.
            (None, Some(_)) => None,
            (Some(_), Some(_)) if self.halvings == args.bisections => None,
            (Some(good), Some(bad)) => {
                self.halvings += 1;
                Some(((good * bad).sqrt()).round())
            }
        }
    }

    fn note(&mut self, rate: f64, kept_up: bool) {
        if kept_up { self.good = Some(rate) } else { self.bad = Some(rate) }
    }
}

/// Runs it.
pub async fn run(session: &mut Session, args: &SweepArgs) -> Result<RunResult, String> {
    session.note("from_rate", args.from_rate);
    session.note("to_rate", args.to_rate);
    session.note("factor", args.factor);
    session.note("bisections", args.bisections);
    session.note("step_s", args.step.as_secs_f64());
    session.note("arrivals", args.arrivals.to_string());
    let mut search = Search { good: None, bad: None, halvings: 0 };
    let mut phases = Vec::new();
    let mut books = Books::default();
    let mut last: Option<Outcome> = None;
    let mut first_void = None;
    let mut to_the_end = true;
    for _ in 0..MAX_STEPS {
        let Some(rate) = search.next(args) else { break };
        let mut outcome = step(session, args, rate).await?;
        let ended = outcome.reason.is_some();
        for mut phase in outcome.phases.drain(..) {
            phase.label = format!("{rate}");
            let void = void(&phase);
            search.note(
                rate,
                !ended && outcome.overloaded.is_none() && void.is_none() && kept_up(&phase, args.step),
            );
            if phases.is_empty() {
                first_void = void;
            }
            phases.push(phase);
        }
        books.accounts.append(&mut outcome.books.accounts);
        books.ledgers.append(&mut outcome.books.ledgers);
        to_the_end &= outcome.to_the_end;
        last = Some(outcome);
        if ended || session.is_interrupted() {
            break;
        }
    }
    let Some(last) = last else { return Err("no rate was tried".to_owned()) };
    // A rate that was too much is what a sweep looks for, and no reason to call it partial.
    let mut result =
        session.result_of(Command::Sweep, Outcome { phases, books, to_the_end, overloaded: None, ..last });
    result.saturation = search.good;
    result.void = first_void;
    if search.good.is_none() && result.void.is_none() {
        let words = format!(
            "not even the first rate, {} records/s, was kept up with: begin lower (--from-rate)",
            args.from_rate
        );
        result.reason.get_or_insert(words);
        result.complete = false;
    }
    Ok(result)
}

async fn step(session: &mut Session, args: &SweepArgs, rate: f64) -> Result<Outcome, String> {
    session.next_run();
    let mut plan =
        session.plan(Load::Rate { per_second: rate, arrivals: args.arrivals }, Duration::from_secs(1));
    plan.duration = Some(args.step);
    plan.drain = args.step.min(Duration::from_secs(2));
    session.run(plan, &format!("sweep {rate}/s")).await
}

/// Whether nearly all that was due was done within the time in which it was due.
fn kept_up(phase: &Phase, step: Duration) -> bool {
    let rate = phase.offered_per_second.unwrap_or(0.0);
    let due = rate * step.as_secs_f64();
    let done = phase.acked as f64 / phase.seconds.max(step.as_secs_f64());
    phase.acked as f64 >= ENOUGH * due.floor()
        && done >= ENOUGH * rate.min(phase.sent as f64 / step.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> SweepArgs {
        SweepArgs {
            from_rate: 1000.0,
            to_rate: 1e6,
            factor: 2.0,
            bisections: 6,
            step: Duration::from_secs(1),
            arrivals: Arrivals::Constant,
        }
    }

    fn search(args: &SweepArgs, saturation: f64) -> (Option<f64>, usize) {
        let mut search = Search { good: None, bad: None, halvings: 0 };
        let mut steps = 0;
        while let Some(rate) = search.next(args) {
            search.note(rate, rate <= saturation);
            steps += 1;
        }
        (search.good, steps)
    }

    #[test]
    fn the_saturation_point_is_closed_in_on() {
        let (found, steps) = search(&args(), 11_300.0);
        assert!(found.is_some_and(|found| (11_000.0..=11_300.0).contains(&found)), "{found:?}");
        assert_eq!(steps, 5 + 6);
    }

    #[test]
    fn what_nothing_saturates_and_what_everything_does_have_their_ends() {
        assert_eq!(search(&args(), f64::INFINITY).0, Some(1e6));
        assert_eq!(search(&args(), 10.0), (None, 1));
    }

    #[test]
    fn a_rate_is_kept_up_with_when_all_was_done_in_time() {
        let phase = |acked: u64, seconds| Phase {
            offered_per_second: Some(1000.0),
            acked,
            sent: acked,
            seconds,
            ..Phase::default()
        };
        let step = Duration::from_secs(10);
        assert!(kept_up(&phase(10_000, 10.01), step));
        assert!(!kept_up(&phase(10_000, 11.0), step), "the last tenth came too late");
        assert!(!kept_up(&phase(9_800, 10.0), step), "too little was done");
    }
}
