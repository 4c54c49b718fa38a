//! The command line. Standard output carries the result; the line of progress goes to standard error.

use std::ops::{ControlFlow, Range};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use ringlog_reactor::{print_line, say, stdio};

use crate::ci;
use crate::controls;
use crate::coverage::is_good;
use crate::mutants::{self, Finder, MUTANTS, Mutant};
use crate::report;
use crate::run::{Order, RunOutcome};
use crate::swarm;

/// Something is wrong with the product, or with a check of it.
const FAILED: u8 = 1;

const AFTER_HELP: &str = "\
Exit codes:
  0  good
  1  an invariant is broken, a mutant or a control was let through, or a rare state was never reached
  2  a wrong command line

Examples:
  cargo run --release -p ringlog-sim -- --seed 7                one run, with its rare states
  cargo run --release -p ringlog-sim -- --seeds 1..200          a range, its end not included
  cargo run --release -p ringlog-sim -- --minutes 60            fresh seeds for an hour
  cargo run --release -p ringlog-sim -- controls                every checker is shown to fail
  cargo run --release -p ringlog-sim --features mutants -- mutants   every known bug is shown to be caught

docs/simulation.md says how to read a failure.";

/// Plays whole nodes and their clients in a simulated world with faults, and checks what they promise.
#[derive(Parser)]
#[command(name = "ringlog-sim", version, max_term_width = 110, arg_required_else_help = true, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
    /// Threads; each plays a world of its own [default: one for each CPU]
    #[arg(long, global = true, value_name = "N")]
    jobs: Option<usize>,
}

#[derive(Args)]
struct RunArgs {
    /// Play this seed
    #[arg(long, value_name = "N", conflicts_with_all = ["seeds", "minutes"])]
    seed: Option<u64>,
    /// Play a range of seeds, the end not included
    #[arg(long, value_name = "A..B", conflicts_with = "minutes")]
    seeds: Option<Seeds>,
    /// Play fresh seeds for so long
    #[arg(long, value_name = "M")]
    minutes: Option<f64>,
    /// Play each seed twice, and compare the traces
    #[arg(long)]
    twice: bool,
    /// Switch a known bug on (built with --features mutants)
    #[arg(long, value_name = "NAME", value_parser = parse_mutant)]
    mutant: Option<&'static Mutant>,
    /// Go on after a failure
    #[arg(long)]
    keep_going: bool,
    /// Say how often each rare state was reached; always of one seed
    #[arg(long)]
    reached: bool,
    /// Tell so many of the last events of a failing run
    #[arg(long, value_name = "N", default_value_t = swarm::EVENTS)]
    events: usize,
}

#[derive(Subcommand)]
enum Command {
    /// Switch every known bug on, one after the other, and say in how many seeds each was caught
    Mutants {
        /// The seeds that each is given, the end not included
        #[arg(long, value_name = "A..B", default_value = "1..51")]
        seeds: Seeds,
        /// Only this one
        #[arg(long, value_name = "NAME", value_parser = parse_mutant)]
        only: Option<&'static Mutant>,
    },
    /// Change one thing in a true history, and show that its checker sees that
    Controls {
        /// The first seed that is tried
        #[arg(long, value_name = "N", default_value_t = 1)]
        seed: u64,
    },
    /// What every change must pass: past failures, twenty seeds twice, one mutant, fresh seeds
    Ci {
        /// Seconds for all of it
        #[arg(long, value_name = "S", default_value_t = 240)]
        budget: u64,
        /// The mutant [default: another one each day]
        #[arg(long, value_name = "NAME", value_parser = parse_mutant)]
        mutant: Option<&'static Mutant>,
    },
}

/// A range of seeds, `A..B`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seeds(Range<u64>);

impl FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Seeds, String> {
        let words = || format!("`{text}` is no range of seeds; write A..B, for example 1..200");
        let (first, end) = text.split_once("..").ok_or_else(words)?;
        let (first, end) = (first.parse().map_err(|_| words())?, end.parse().map_err(|_| words())?);
        if first < end { Ok(Seeds(first..end)) } else { Err(words()) }
    }
}

fn parse_mutant(name: &str) -> Result<&'static Mutant, String> {
    let known = || MUTANTS.iter().map(|mutant| mutant.name).collect::<Vec<_>>().join(", ");
    mutants::find(name).ok_or_else(|| format!("there is no such mutant; known are {}", known()))
}

/// Does what the command line says.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let jobs = cli.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let good = match cli.command {
        None => play(&cli.run, jobs),
        Some(Command::Mutants { seeds, only }) => all_mutants(&seeds.0, only, jobs),
        Some(Command::Controls { seed }) => all_controls(seed),
        Some(Command::Ci { budget, mutant }) => ci::run(Duration::from_secs(budget), mutant, jobs),
    };
    if let Some(error) = stdio::output_failure() {
        say!("ringlog-sim: cannot write to standard output: {error}");
        return ExitCode::from(FAILED);
    }
    if good { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}

fn play(args: &RunArgs, jobs: usize) -> bool {
    let (twice, mutant) = (args.twice, args.mutant.map(|mutant| mutant.name));
    let order = move |seed| Order { twice, mutant, ..Order::of(seed) };
    if let Some(seed) = args.seed {
        return play_all(std::iter::once(order(seed)), 1, 1, args, true);
    }
    if let Some(Seeds(seeds)) = &args.seeds {
        let (seeds, count) = (seeds.clone(), seeds.end - seeds.start);
        return play_all(seeds.map(order), count, jobs, args, args.reached);
    }
    let end = Instant::now() + Duration::from_secs_f64(60.0 * args.minutes.unwrap_or(1.0).max(0.0));
    let seeds = fresh_seeds().take_while(move |_| Instant::now() < end);
    play_all(seeds.map(order), 0, jobs, args, args.reached)
}

/// Seeds that nobody has seen, one after the other.
pub fn fresh_seeds() -> impl Iterator<Item = u64> {
    // On a thread that is no core, this comes from the system.
    std::iter::repeat_with(|| ringlog_reactor::random_u64() >> 16)
}

/// Plays, tells failures as they come, and says at the end what it came to.
fn play_all(
    orders: impl Iterator<Item = Order> + Send + 'static,
    count: u64,
    jobs: usize,
    args: &RunArgs,
    show_reached: bool,
) -> bool {
    let begin = Instant::now();
    let progress = progress(count);
    let tally = swarm::run_all(orders, jobs, |outcome| {
        progress.inc(1);
        progress.set_message(format!("seed {}", outcome.order.seed));
        if outcome.violations.is_empty() {
            return ControlFlow::Continue(());
        }
        progress.suspend(|| print_line!("{}\n", report::failure(&swarm::retell(&outcome, args.events))));
        if args.keep_going { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    progress.finish_and_clear();
    if show_reached {
        print_line!("{}", report::reached(&tally));
    }
    print_line!("{}", report::tally(&tally, begin.elapsed().as_secs_f64()));
    is_good(&tally)
}

fn all_mutants(seeds: &Range<u64>, only: Option<&'static Mutant>, jobs: usize) -> bool {
    if cfg!(not(feature = "mutants")) {
        say!(
            "the known bugs are not built in: cargo run --release -p ringlog-sim --features mutants -- mutants"
        );
        return false;
    }
    let count = seeds.end - seeds.start;
    print_line!("{:<34} {:>12} {:>10}  broken", "mutant", "caught", "first");
    let mut good = true;
    for mutant in MUTANTS.iter().filter(|mutant| only.is_none_or(|only| only.name == mutant.name)) {
        let mut caught: Vec<RunOutcome> = Vec::new();
        let progress = progress(count);
        progress.set_message(mutant.name);
        let orders = seeds.clone().map(move |seed| Order { mutant: Some(mutant.name), ..Order::of(seed) });
        swarm::run_all(orders, jobs, |outcome| {
            progress.inc(1);
            if !outcome.violations.is_empty() {
                caught.push(outcome);
            }
            ControlFlow::Continue(())
        });
        progress.finish_and_clear();
        good &= !caught.is_empty() || mutant.finder != Finder::Nodes;
        print_line!("{}", mutant_line(mutant, &caught, seeds));
    }
    good
}

fn mutant_line(mutant: &Mutant, caught: &[RunOutcome], seeds: &Range<u64>) -> String {
    let count = seeds.end - seeds.start;
    let Some(first) = caught.iter().map(|outcome| outcome.order.seed).min() else {
        let verdict = match mutant.finder {
            Finder::Nodes => "SURVIVED",
            Finder::Storage => "left to storage/tests/mutants.rs",
            Finder::Client => "left to the tests in client/src/",
            Finder::Broker => "left to the tests in broker/src/",
        };
        let caught = format!("0 of {count}");
        return format!("{:<34} {:>12} {:>10}  {verdict}: {}", mutant.name, caught, "-", mutant.what);
    };
    let mut broken: Vec<&str> =
        caught.iter().flat_map(|outcome| &outcome.violations).map(|v| v.invariant.name()).collect();
    broken.sort_unstable();
    broken.dedup();
    let caught = format!("{} of {count}", caught.len());
    format!("{:<34} {:>12} {:>10}  {}", mutant.name, caught, first - seeds.start + 1, broken.join(", "))
}

fn all_controls(seed: u64) -> bool {
    controls::run_all(seed, |control, result| {
        let (verdict, words) = match result {
            Ok(words) => ("seen", words),
            Err(words) => ("LET THROUGH", words),
        };
        print_line!("{:<14} {:<62} {verdict} ({words})", control.invariant.name(), control.change);
    })
}

/// A line that shows how far it is; of `0` runs nobody knows how many there will be.
pub fn progress(count: u64) -> ProgressBar {
    let bar = if count > 0 { ProgressBar::new(count) } else { ProgressBar::new_spinner() };
    let template = if count > 0 {
        "{elapsed} {pos}/{len} runs, {per_sec}, {msg}"
    } else {
        "{elapsed} {pos} runs, {per_sec}, {msg}"
    };
    bar.with_style(ProgressStyle::with_template(template).expect("a good template"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn a_range_has_two_ends_in_their_order() {
        assert_eq!("1..51".parse(), Ok(Seeds(1..51)));
        for bad in ["", "1", "1..", "..2", "2..1", "1..1", "a..b"] {
            assert!(bad.parse::<Seeds>().is_err(), "{bad}");
        }
    }
}
