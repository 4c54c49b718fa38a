//! The goals, as ratios to the machine's limits of the same minutes.

mod acks;
mod bulk;
mod case;
mod cpu;
mod full_node;
mod idle;
mod load;
mod partitions;
mod producers;
mod rounds;
mod world;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use self::case::Case;
use self::rounds::{Outcome, Verdict};
use self::world::{Scale, World};
use ringlog_reactor::print_line;

use crate::failure::Failure;
use crate::machine::Machine;
use crate::progress::progress;
use crate::wait::Wait;

/// Where the results of whole runs are kept, from the root of the repository.
const RESULTS: &str = "perf/results/goals.jsonl";

/// What `goals` can be told.
#[derive(clap::Args, Clone)]
pub struct Options {
    /// Folder on the disk to measure; a temporary folder is made in it and removed
    #[arg(long, default_value = ".", value_name = "DIR")]
    dir: PathBuf,
    /// Only these goals, 1 to 11 and 17; 0 stands for the 32 producers beside the table
    #[arg(long, value_name = "N,...", value_delimiter = ',', value_parser = parse_goal)]
    goal: Vec<u32>,
    /// Rounds of A B B A: twice as many pairs [default: 10]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// A look of about two minutes: few rounds, judged all the same
    #[arg(long)]
    quick: bool,
    /// Hardly anything: to see that it runs
    #[arg(long, hide = true, conflicts_with = "quick")]
    tiny: bool,
    /// How the broker, and the echo it is held against, wait: `block`, `spin`, or `spin:50us`
    #[arg(long, default_value = "block", value_name = "POLICY")]
    wait: Wait,
    /// Append the results as a JSON line to this file [default for a whole run: perf/results/goals.jsonl]
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
}

impl Options {
    fn scale(&self) -> Scale {
        let scale = match (self.quick, self.tiny) {
            (true, _) => Scale::QUICK,
            (_, true) => Scale::TINY,
            _ => Scale::FULL,
        };
        Scale { rounds: self.rounds.map_or(scale.rounds, |rounds| rounds as usize), ..scale }
    }

    fn wants(&self, goals: &[u32]) -> bool {
        self.goal.is_empty() || goals.iter().any(|goal| self.goal.contains(goal))
    }

    /// A part of the goals, or a quick look, is no entry of the project's history unless it is asked for.
    fn results(&self) -> Option<PathBuf> {
        let whole = self.goal.is_empty() && !self.quick && !self.tiny;
        self.results.clone().or_else(|| whole.then(|| RESULTS.into()))
    }
}

/// One line of the results file.
#[derive(Serialize)]
struct Line<'a> {
    at: String,
    version: &'static str,
    machine: &'a Machine,
    wait: String,
    rounds: usize,
    quick: bool,
    outcomes: &'a [Outcome],
    others: &'a [Verdict],
}

type Start = for<'a> fn(&'a World) -> Result<Box<dyn Case + 'a>, Failure>;

/// Every measurement with the goals it fills, in the order they are made.
const CASES: &[(&[u32], Start)] = &[
    (&[1, 5], |world| Ok(Box::new(acks::AckCase::start(world)?))),
    (&[2], |world| Ok(Box::new(load::OpenLoopCase::start(world)?))),
    (&[3], |world| Ok(Box::new(load::InFlightCase::start(world)?))),
    (&[4], |world| Ok(Box::new(partitions::PartitionsCase::start(world)?))),
    (&[4], |world| Ok(Box::new(partitions::PartitionsAtRateCase::start(world)?))),
    (&[6], |world| Ok(Box::new(cpu::CpuCase::start(world)?))),
    (&[7], |world| Ok(Box::new(bulk::HotFetchCase::start(world)?))),
    (&[8], |world| Ok(Box::new(bulk::MemoryBulkCase::start(world)?))),
    (&[9], |world| Ok(Box::new(bulk::DiskBulkCase::start(world)?))),
    (&[10], |world| Ok(Box::new(acks::DeliveryCase::start(world)?))),
    (&[17], |world| Ok(Box::new(partitions::FullNodeCase::start(world)?))),
    (&[0], |world| Ok(Box::new(producers::ProducersCase::start(world)?))),
];

fn parse_goal(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(goal @ (0..=11 | 17)) => Ok(goal),
        _ => Err("goals are 0 to 11, and 17".to_owned()),
    }
}

/// Measures, prints the table, and appends the results.
pub fn run(options: &Options) -> Result<(), Failure> {
    let results = options.results();
    if let Some(path) = &results {
        // Found out before ten minutes of measuring, not after.
        OpenOptions::new().create(true).append(true).open(path).map_err(|error| {
            format!("cannot append to {}: {error}; run from the root of the repository, or name a file with --results", path.display())
        })?;
    }
    let folder = tempfile::tempdir_in(&options.dir)?;
    let machine = Machine::describe(folder.path())?;
    let world = World::make(folder.path(), options.wait, options.scale())?;
    print_line!("{}", machine.line());
    print_line!(
        "waiting: {}; {} rounds of A B B A, medians of pairwise ratios\n",
        options.wait,
        world.scale.rounds
    );
    let mut outcomes = Vec::new();
    for (goals, start) in CASES.iter().filter(|(goals, _)| options.wants(goals)) {
        let label = goals.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
        let label = if label == "0" { "32 producers".into() } else { format!("goal {label}") };
        progress(&format!("{label}: starting"));
        let mut case = start(&world)?;
        outcomes.push(rounds::measure(case.as_mut(), &world, &label)?);
        drop(case);
        world.clear()?;
    }
    let mut others = Vec::new();
    if options.wants(&[11]) {
        progress("goal 11: watching an idle broker");
        others = idle::measure(&world)?;
    }
    if options.wants(&[17]) {
        progress("goal 17: starting a node with many partitions again and again");
        others.extend(full_node::measure(&world)?);
    }
    progress("");
    print(&outcomes, &others);
    if let Some(path) = &results {
        let line = Line {
            at: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            version: env!("CARGO_PKG_VERSION"),
            machine: &machine,
            wait: options.wait.to_string(),
            rounds: world.scale.rounds,
            quick: options.quick || options.tiny,
            outcomes: &outcomes,
            others: &others,
        };
        append(path, &line)?;
        print_line!("\nappended to {}", path.display());
    }
    Ok(())
}

fn append(path: &Path, line: &Line<'_>) -> Result<(), Failure> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    Ok(writeln!(file, "{}", serde_json::to_string(line)?)?)
}

fn print(outcomes: &[Outcome], others: &[Verdict]) {
    print_line!("{:<48} {:>12}", "medians", "");
    for (name, value) in outcomes.iter().flat_map(Outcome::medians) {
        print_line!("  {name:<46} {value:>12.1}");
    }
    print_line!("");
    print_line!(
        "{:>4}  {:<60} {:>8} {:>9}  {:<16} {:<16} met",
        "goal",
        "what",
        "limit",
        "measured",
        "95 % interval",
        "A/A"
    );
    for verdict in outcomes.iter().flat_map(|outcome| &outcome.verdicts).chain(others) {
        let goal = if verdict.goal == 0 { String::new() } else { verdict.goal.to_string() };
        let met = match verdict.met {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "",
        };
        print_line!(
            "{:>4}  {:<60} {:>8} {:>9}  {:<16} {:<16} {:<3} {}",
            goal,
            verdict.what,
            verdict.limit,
            ratio(verdict.measured),
            from_to(verdict.interval),
            verdict.noise.map(from_to).unwrap_or_default(),
            met,
            verdict.note
        );
    }
}

/// Nothing, where every pair was void.
fn ratio(measured: f64) -> String {
    if measured.is_nan() { "-".into() } else { format!("{measured:.3}") }
}

fn from_to((low, high): (f64, f64)) -> String {
    if low.is_nan() { "-".into() } else { format!("{low:.3} to {high:.3}") }
}
