//! The command line. Each subcommand is a file; this one holds what they share: the list of them, the way to
//! a broker, logging and exit codes.
//!
//! Exit codes: 0 done; 1 not done, or not all of it, and standard error says what; 2 a wrong command line, or
//! nothing that could be looked at.
//! Standard output carries data and nothing else; everything for people goes to standard error.

mod check;
mod consume;
mod demo;
mod doctor;
mod failure;
mod format;
#[cfg(test)]
mod fuzz;
mod lines;
mod output;
mod position;
mod produce;
mod serve;
mod topic;
mod units;

use std::io;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use ringlog_client::{Client, block_on};
use tracing_subscriber::EnvFilter;

use failure::Failure;

/// A durable message log: an ack means the record is on stable storage.
#[derive(Parser)]
#[command(name = "ringlog", version, max_term_width = 110, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Demo(demo::DemoArgs),
    Serve(serve::ServeArgs),
    Topic(topic::TopicArgs),
    Produce(produce::ProduceArgs),
    Consume(consume::ConsumeArgs),
    Doctor(doctor::DoctorArgs),
    Check(check::CheckArgs),
}

/// The way to a broker, for the subcommands that talk to one.
#[derive(Args, Clone)]
struct BrokerAddress {
    /// The broker to talk to
    #[arg(
        long,
        env = "RINGLOG_BROKER",
        value_name = "HOST:PORT",
        default_value = ringlog_broker::config::DEFAULT_LISTEN,
        global = true
    )]
    broker: String,
}

impl BrokerAddress {
    fn connect(&self) -> Result<Client, Failure> {
        block_on(Client::connect([self.broker.as_str()])).map_err(Failure::said)
    }
}

/// Runs the process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    log_to_stderr(&cli.command);
    let outcome = match cli.command {
        Command::Demo(args) => demo::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Topic(args) => topic::run(&args),
        Command::Produce(args) => produce::run(&args),
        Command::Consume(args) => consume::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Check(args) => check::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Logs go to standard error. `RINGLOG_LOG` says how much, in the syntax of `tracing`'s filters; without it a
/// serving broker tells what it does, and every other subcommand only what goes wrong.
fn log_to_stderr(command: &Command) {
    let default = if matches!(command, Command::Serve(_)) { "info" } else { "warn" };
    let filter = EnvFilter::try_from_env("RINGLOG_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let colour = io::IsTerminal::is_terminal(&io::stderr());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(colour).init();
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_subcommand_shows_an_example() {
        for subcommand in Cli::command().get_subcommands() {
            let help = subcommand.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example"), "`ringlog {}` has no example", subcommand.get_name());
        }
    }
}
