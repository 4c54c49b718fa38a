//! The command line. Each subcommand is a file; this one has the list of them, and exit codes.
//!
//! Exit codes: 0 done; 1 not done, or not all of it, and standard error says what; 2 a wrong command line, or
//! nothing that could be looked at.
//! Standard output carries data and nothing else; everything for people goes to standard error.

mod broker_address;
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
use std::io::{self, Write};
use std::process::ExitCode;

use clap::builder::Resettable;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use ringlog_reactor::say;

use failure::Failure;
use output::{Output, is_coloured};

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
