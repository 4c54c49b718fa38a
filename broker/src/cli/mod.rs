//! The command line. Each subcommand is a file; this one holds what they share: the list of them, the way to
//! a broker, and exit codes.
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
mod input;
mod json;
mod lines;
mod log;
mod output;
mod position;
mod produce;
mod serve;
mod stop;
mod topic;
mod units;

use std::env;
use std::ffi::OsStr;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::builder::Resettable;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use ringlog_client::{Client, ConnectionEvent, block_on};
use ringlog_reactor::say;
use ringlog_reactor::stdio::log_line;

use failure::Failure;
use output::Output;

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
    /// The broker to talk to; several addresses, with commas between them, are tried in turn
    #[arg(
        long,
        env = "RINGLOG_BROKER",
        value_name = "HOST:PORT",
        value_delimiter = ',',
        default_value = ringlog_broker::config::DEFAULT_LISTEN,
        global = true
    )]
    broker: Vec<String>,
}

impl BrokerAddress {
    /// Connects. What becomes of the connection later is said on standard error.
    fn connect(&self) -> Result<Client, Failure> {
        // On the client's own thread, which must not wait.
        let say = |event: &ConnectionEvent| log_line(format!("ringlog: {event}\n").as_bytes());
        let addresses =
            self.broker.iter().map(|address| address.trim()).filter(|address| !address.is_empty());
        let connecting = Client::builder().on_connection_event(say).connect(addresses);
        block_on(connecting).map_err(Failure::said)
    }
}

/// Runs the process.
pub fn main() -> ExitCode {
    let cli = match parse() {
        Ok(cli) => cli,
        Err(error) => return show(&error).unwrap_or_else(Failure::report),
    };
    log::to_stderr(matches!(cli.command, Command::Serve(_)));
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
fn show(error: &clap::Error) -> Result<ExitCode, Failure> {
    let text = error.render();
    if error.use_stderr() {
        match is_coloured(&io::stderr()) {
            true => say!("{}", text.ansi().to_string().trim_end()),
            false => say!("{}", text.to_string().trim_end()),
        }
        return Ok(ExitCode::from(2));
    }
    let mut output = Output::open()?;
    output.write(|out| match is_coloured(&io::stdout()) {
        true => write!(out, "{}", text.ansi()),
        false => write!(out, "{text}"),
    })?;
    output.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// Colours are for terminals whose user has not set `NO_COLOR`.
fn is_coloured(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
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
