//! The command line. Standard output carries the result's table and nothing else; everything else goes to standard error.

mod args;
mod session;
mod sweep;

use std::env;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use clap::builder::Resettable;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use ringlog_reactor::stdio::Stdout;
use ringlog_reactor::{CoreConfig, say, signal};

use crate::report::compare::{CompareArgs, Outcome};
use crate::report::{self, Outputs, ReportArgs, ReportError};
use crate::result::RunResult;
use args::{ConsumerArgs, LengthArgs, LoadArgs, RunArgs};
use session::Session;
use sweep::SweepArgs;

/// Failed, incomplete, or a record was lost, doubled, reordered or damaged.
const FAILED: u8 = 1;
/// The command line makes no sense, as clap has it.
const USAGE: u8 = 2;
/// The generator itself was too late for its figures to mean anything.
const VOID: u8 = 3;
/// `compare` found something worse beyond its bound.
const REGRESSION: u8 = 4;

/// How long `consume --from end` follows.
const FOLLOW: Duration = Duration::from_secs(10);

const EXIT_CODES: &str = "\
Exit codes:
  0  good
  1  failed or incomplete, or a record was lost, doubled, reordered or damaged
  2  a wrong command line
  3  void: the generator's own lateness (p99) was over a tenth of the latency (p99) that it measured
  4  compare: worse beyond the bound

Example:
  ringlog-loadgen end-to-end --rate 5000 --size 1k --duration 30s --html report.html";

/// Loads a broker by a schedule that does not care what the broker does, and verifies every record while it measures.
///
/// Latency counts from when a record was due, so a broker that stalls cannot hide it. Ctrl-C ends a run early; what was
/// measured so far is reported, marked as partial.
#[derive(Parser)]
#[command(name = "ringlog-loadgen", version, max_term_width = 110, arg_required_else_help = true, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[command(flatten)]
    Run(Box<RunCommand>),
    Report(ReportArgs),
    Compare(CompareArgs),
}

/// Those that drive a broker.
#[derive(Subcommand)]
enum RunCommand {
    Produce(ProduceArgs),
    Consume(ConsumeArgs),
    EndToEnd(EndToEndArgs),
    CatchUp(CatchUpArgs),
    Sweep(SweepCommand),
}

/// Publish, and measure the acknowledgements
#[derive(Args)]
#[command(after_help = "\
Examples:
  ringlog-loadgen produce --rate 10000 --arrivals poisson
  ringlog-loadgen produce --producers 32 --partitions 32 --depth 1 --duration 30s
  ringlog-loadgen produce --unlimited --batch-bytes 1m --compression zstd --payload compressible:0.7")]
struct ProduceArgs {
    #[command(flatten)]
    load: LoadArgs,
    #[command(flatten)]
    length: LengthArgs,
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    outputs: Outputs,
}

/// Read from the beginning to the end that there is at the start, and measure how fast
///
/// Reads a topic that earlier runs filled (--topic), or one that it fills before it begins (--backlog); or follows what
/// other runs produce (--topic with --from end).
#[derive(Args)]
#[command(after_help = "\
Examples:
  ringlog-loadgen consume --backlog 1000000
  ringlog-loadgen consume --topic filled --consumers 4
  ringlog-loadgen consume --topic filled --from end --duration 30s")]
struct ConsumeArgs {
    /// Records that are published first; not with --topic, which is read as it is
    #[arg(long, value_name = "N", default_value_t = 500_000, value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "topic", help_heading = "Load")]
    backlog: u64,
    /// Where to begin; from the end on, live records are followed
    #[arg(long, value_enum, default_value = "begin", requires_if("end", "topic"), help_heading = "Load")]
    from: From,
    /// End after this time, wherever the consumers are [default: at the end; with --from end, after 10s]
    #[arg(long, value_name = "TIME", value_parser = args::parse_positive_duration, help_heading = "Load")]
    duration: Option<Duration>,
    #[command(flatten)]
    consumers: ConsumerArgs,
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    outputs: Outputs,
}

/// Where `consume` begins.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum From {
    /// At the first record that is there.
    Begin,
    /// Behind the last one.
    End,
}

/// Publish and follow: from when a record was due until a consumer has it
#[derive(Args)]
#[command(after_help = "\
Examples:
  ringlog-loadgen end-to-end
  ringlog-loadgen end-to-end --rate 20000 --partitions 8 --producers 4 --consumers 2 --html report.html")]
struct EndToEndArgs {
    #[command(flatten)]
    load: LoadArgs,
    #[command(flatten)]
    length: LengthArgs,
    #[command(flatten)]
    consumers: ConsumerArgs,
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    outputs: Outputs,
}

/// Start consumers far behind while producers go on, and measure how they come back
#[derive(Args)]
#[command(after_help = "\
Example:
  ringlog-loadgen catch-up --backlog 1000000 --rate 5000 --duration 10s")]
struct CatchUpArgs {
    /// Records that are published before the consumers start
    #[arg(long, value_name = "N", default_value_t = 500_000, value_parser = clap::value_parser!(u64).range(1..), help_heading = "Load")]
    backlog: u64,
    /// How long to go on once the consumers have caught up
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = args::parse_positive_duration, help_heading = "Load")]
    duration: Duration,
    /// The longest that catching up may take
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = args::parse_positive_duration, help_heading = "Load")]
    give_up: Duration,
    /// Records a second that producers go on with
    #[command(flatten)]
    load: LoadArgs,
    #[command(flatten)]
    consumers: ConsumerArgs,
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    outputs: Outputs,
}

/// Raise the rate until the broker saturates, and find where
///
/// Rates rise by a factor until fewer than 99 % of the records that are due are done in time; then the gap is halved a
/// few times. The saturation point is the highest rate that was kept up with.
#[derive(Args)]
#[command(after_help = "\
Examples:
  ringlog-loadgen sweep
  ringlog-loadgen sweep --from-rate 5000 --factor 1.5 --step 10s --partitions 8 --html sweep.html")]
struct SweepCommand {
    #[command(flatten)]
    sweep: SweepArgs,
    #[command(flatten)]
    consumers: ConsumerArgs,
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    outputs: Outputs,
}

/// Runs the process.
pub fn main() -> ExitCode {
    // Before any thread is started: one that does not block them would be killed by them.
    if let Err(error) = signal::block_termination() {
        return fail(&format!("cannot block signals: {error}"));
    }
    signal::outlive_writes();
    let cli = match parse() {
        Ok(cli) => cli,
        Err(error) => return show_usage(&error),
    };
    let command = match cli.command {
        Command::Report(args) => return show(&args),
        Command::Compare(args) => return compare(&args),
        Command::Run(command) => *command,
    };
    let config = CoreConfig { receive_buffers: 2, ..CoreConfig::default() };
    match ringlog_reactor::run(config, obey(command)) {
        Ok(code) => code,
        Err(error) => fail(&format!("no event loop: {error}; `ringlog doctor` says what this machine lacks")),
    }
}

fn fail(words: &str) -> ExitCode {
    say!("ringlog-loadgen: {words}");
    ExitCode::from(FAILED)
}

fn parse() -> Result<Cli, clap::Error> {
    let mut command = without_empty_variables(Cli::command());
    let matches = command.try_get_matches_from_mut(env::args_os())?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

/// An environment variable that is empty counts as unset: that is how scripts and service files leave one out.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |name: &OsStr| env::var_os(name).is_some_and(|value| value.is_empty());
    let command = command.mut_args(|arg| match arg.get_env() {
        Some(name) if is_empty(name) => arg.env(Resettable::Reset),
        _ => arg,
    });
    command.mut_subcommands(without_empty_variables)
}

/// Shows what is wrong with the command line, or the help or version that was asked for.
fn show_usage(error: &clap::Error) -> ExitCode {
    if error.use_stderr() {
        say!("{}", error.render().to_string().trim_end());
        return ExitCode::from(USAGE);
    }
    print(error.render().to_string().as_bytes(), 0)
}

/// Writes to standard output. A reader that has closed its end has what it wants: the exit code is the verdict all the same.
fn print(text: &[u8], code: u8) -> ExitCode {
    match Stdout::open().and_then(|mut output| output.write_all(text)) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            fail(&format!("cannot write to standard output: {error}"))
        }
        _ => ExitCode::from(code),
    }
}

/// `report` needs no broker.
fn show(args: &ReportArgs) -> ExitCode {
    let mut text = Vec::new();
    match args.run(&mut text) {
        Ok(()) => print(&text, 0),
        Err(error) => fail(&error.to_string()),
    }
}

/// Nor does `compare`.
fn compare(args: &CompareArgs) -> ExitCode {
    let mut text = Vec::new();
    match args.run(&mut text) {
        Ok(Outcome::Good) => print(&text, 0),
        Ok(Outcome::NothingJudged) => print(&text, FAILED),
        Ok(Outcome::Regression) => print(&text, REGRESSION),
        Err(error) => fail(&error.to_string()),
    }
}

/// As clap does for what it finds itself.
fn refuse(words: &str) -> ExitCode {
    show_usage(&Cli::command().error(ErrorKind::ValueValidation, words))
}

/// Set by the first signal that asks for an end; a second one does not wait for it.
fn watch_signals() -> io::Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&interrupted);
    let watch = move || {
        let first = signal::wait_for_termination();
        flag.store(true, Ordering::Relaxed);
        if let Ok(second) = first.and_then(|_| signal::wait_for_termination()) {
            std::process::exit(second.exit_code().into());
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(watch)?;
    Ok(interrupted)
}

async fn obey(command: RunCommand) -> ExitCode {
    let interrupted = match watch_signals() {
        Ok(interrupted) => interrupted,
        Err(error) => return fail(&format!("cannot watch signals: {error}")),
    };
    let (run, consumers, outputs) = match &command {
        RunCommand::Produce(args) => (&args.run, 0, &args.outputs),
        RunCommand::Consume(args) => (&args.run, args.consumers.count(&args.run), &args.outputs),
        RunCommand::EndToEnd(args) => (&args.run, args.consumers.count(&args.run), &args.outputs),
        RunCommand::CatchUp(args) => (&args.run, args.consumers.count(&args.run), &args.outputs),
        RunCommand::Sweep(args) => (&args.run, args.consumers.count(&args.run), &args.outputs),
    };
    let checked = match &command {
        RunCommand::Sweep(args) => args.sweep.check().and_then(|()| run.check(consumers)),
        _ => run.check(consumers),
    };
    if let Err(words) = checked {
        return refuse(&words);
    }
    if let Err(error) = Stdout::open() {
        return fail(&format!("cannot write to standard output: {error}"));
    }
    if let Err(error) = outputs.check() {
        return fail(&error.to_string());
    }
    let mut session = match Session::new(run, consumers, interrupted) {
        Ok(session) => session,
        Err(words) => return refuse(&words),
    };
    let result = match &command {
        RunCommand::Produce(args) => session.produce(&args.load, &args.length).await,
        RunCommand::EndToEnd(args) => session.end_to_end(&args.load, &args.length).await,
        RunCommand::Consume(args) => match args.from {
            From::Begin => session.consume(args.backlog, args.duration).await,
            From::End => session.follow(args.duration.unwrap_or(FOLLOW)).await,
        },
        RunCommand::CatchUp(args) => {
            session.catch_up(&args.load, args.backlog, args.duration, args.give_up).await
        }
        RunCommand::Sweep(args) => sweep::run(&mut session, &args.sweep).await,
    };
    match result {
        Ok(result) => hand_over(&result, outputs),
        Err(words) => fail(&words),
    }
}

/// Shows and writes the result; the exit code is its verdict.
fn hand_over(result: &RunResult, outputs: &Outputs) -> ExitCode {
    let mut table = Vec::new();
    let written = report::write_table(result, &mut table).map_err(ReportError::Output);
    let written = outputs.write(result).and(written);
    let mut code = verdict(result);
    if let Some(words) = &result.reason {
        say!("ringlog-loadgen: {words}");
    }
    if let Err(error) = written {
        code = FAILED;
        say!("ringlog-loadgen: {error}");
    }
    print(&table, code)
}

fn verdict(result: &RunResult) -> u8 {
    let faulty = result.verification.as_ref().is_some_and(|found| !found.passed());
    match (result.complete && !faulty, &result.void) {
        (false, _) => FAILED,
        (true, Some(_)) => VOID,
        (true, None) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(arguments: &str) -> String {
        let arguments = std::iter::once("ringlog-loadgen").chain(arguments.split(' '));
        let cli = match Cli::try_parse_from(arguments) {
            Ok(cli) => cli,
            Err(error) => return error.to_string(),
        };
        let Command::Run(command) = cli.command else { panic!("tests use end-to-end") };
        let RunCommand::EndToEnd(args) = *command else { panic!("tests use end-to-end") };
        args.run.check(args.consumers.count(&args.run)).expect_err("it is nonsense")
    }

    #[test]
    fn the_command_line_is_well_formed_and_every_command_has_an_example() {
        Cli::command().debug_assert();
        for subcommand in Cli::command().get_subcommands() {
            let help = subcommand.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example"), "`{}` has no example", subcommand.get_name());
        }
    }

    #[test]
    fn nonsense_is_named_with_what_is_allowed() {
        for (arguments, flag, allowed) in [
            ("end-to-end --rate 0", "--rate", "from 0.001"),
            ("end-to-end --rate 10 --depth 3", "--rate", "--depth"),
            ("end-to-end --depth 3 --unlimited", "--depth", "--unlimited"),
            ("end-to-end --arrivals poisson --depth 1", "--arrivals", "--depth"),
            ("end-to-end --duration 1s --records 5", "--duration", "--records"),
            ("end-to-end --size 8", "--size", "40 is the least"),
            ("end-to-end --ack soon", "--ack", "`memory`"),
            ("end-to-end --keys zipf:3", "--keys", "zipf:N,S"),
            ("end-to-end --payload blank", "--payload", "compressible:SHARE"),
            ("end-to-end --compression rar", "--compression", "`zstd`"),
            ("end-to-end --duration 0", "--duration", "10s"),
            ("end-to-end --producers 0", "--producers", "1..=1024"),
            ("end-to-end --topics 3 --consumers 2", "--consumers 2", "at least 3"),
            ("end-to-end --threads 4", "--threads 4", "at most 2"),
            ("end-to-end --size 2k --payload lines:x", "--size 2048", "leave --size out"),
            ("end-to-end --linger 20s", "--linger 20s", "longer than a record may take"),
        ] {
            let words = refused(arguments);
            assert!(words.contains(flag) && words.contains(allowed), "{arguments}: {words}");
        }
    }
}
