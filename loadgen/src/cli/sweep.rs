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

impl SweepArgs {
    /// What no flag can say about itself alone.
    pub fn check(&self) -> Result<(), String> {
        if self.from_rate > self.to_rate {
            return Err(format!(
                "--from-rate {} with --to-rate {}: rates rise, so want a higher one to end at",
                self.from_rate, self.to_rate
            ));
        }
        Ok(())
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
    let mut found = Found::default();
    let mut gave_out = None;
    for _ in 0..MAX_STEPS {
        let Some(rate) = search.next(args) else { break };
        let mut tried = found.measure(session, args, rate).await?;
        if tried.phase.void.is_some() && !tried.ended {
            // A generator that was disturbed once may be left alone the next time.
            tried = found.measure(session, args, rate).await?;
        }
        let (ended, void) = (tried.ended, tried.phase.void.is_some());
        found.phases.push(tried.phase);
        if ended {
            break;
        }
        if void && !tried.kept_up {
            gave_out = Some(rate);
            break;
        }
        // A void step that was kept up with shows that; only its latencies show nothing.
        search.note(rate, tried.kept_up);
    }
    let Found { phases, books, to_the_end, last } = found;
    let Some(last) = last else { return Err("no rate was tried".to_owned()) };
    // A rate that was too much is what a sweep looks for, and no reason to call it partial.
    let mut result =
        session.result_of(Command::Sweep, Outcome { phases, books, to_the_end, overloaded: None, ..last });
    result.saturation = search.good;
    result.void = spoilt(&result.phases, gave_out);
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

/// What all steps left behind.
struct Found {
    phases: Vec<Phase>,
    books: Books,
    to_the_end: bool,
    last: Option<Outcome>,
}

/// One step.
struct Tried {
    phase: Phase,
    kept_up: bool,
    /// Something went wrong, or the user wants an end.
    ended: bool,
}

impl Default for Found {
    fn default() -> Found {
        Found { phases: Vec::new(), books: Books::default(), to_the_end: true, last: None }
    }
}

impl Found {
    async fn measure(&mut self, session: &mut Session, args: &SweepArgs, rate: f64) -> Result<Tried, String> {
        let mut outcome = step(session, args, rate).await?;
        self.books.accounts.append(&mut outcome.books.accounts);
        self.books.ledgers.append(&mut outcome.books.ledgers);
        self.to_the_end &= outcome.to_the_end;
        let mut phase = outcome.phases.pop().unwrap_or_default();
        phase.label = format!("{rate}");
        phase.void = void(&phase);
        let ended = outcome.reason.is_some() || session.is_interrupted();
        let kept_up = !ended && outcome.overloaded.is_none() && kept_up(&phase, args.step);
        self.last = Some(outcome);
        Ok(Tried { phase, kept_up, ended })
    }
}

/// Why nothing of the sweep can be believed.
fn spoilt(phases: &[Phase], gave_out: Option<f64>) -> Option<String> {
    if let Some(rate) = gave_out {
        return Some(format!(
            "at {rate} records/s the generator itself was too late, twice, and the rate was not kept up with: where the \
             broker saturates is not known, only that the rates before were kept up with; try more --threads, or fewer \
             programs on this machine"
        ));
    }
    let first = phases.first()?.void.clone();
    first.filter(|_| phases.iter().all(|phase| phase.void.is_some()))
}

async fn step(session: &mut Session, args: &SweepArgs, rate: f64) -> Result<Outcome, String> {
    session.next_run();
    let mut plan =
        session.plan(Load::Rate { per_second: rate, arrivals: args.arrivals }, Duration::from_secs(1));
    plan.duration = Some(args.step);
    plan.drain = args.step.min(Duration::from_secs(2));
    session.run(plan, &format!("sweep {rate}/s")).await
}

/// Whether nearly all that was due was done within the time in which it was due; all that was due was sent.
fn kept_up(phase: &Phase, step: Duration) -> bool {
    // Not the rate by the time: of random arrivals, a few more or less are due.
    let due = phase.sent as f64;
    let in_time = step.as_secs_f64() / phase.seconds.max(step.as_secs_f64());
    phase.acked > 0 && phase.acked as f64 * in_time >= ENOUGH * due
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
        let phase = |acked: u64, seconds| Phase { acked, sent: 10_000, seconds, ..Phase::default() };
        let step = Duration::from_secs(10);
        assert!(kept_up(&phase(10_000, 10.01), step));
        assert!(!kept_up(&phase(10_000, 11.0), step), "the last tenth came too late");
        assert!(!kept_up(&phase(9_800, 10.0), step), "too little was done");
    }
}
