//! Physical limits of a machine, and Ringlog's first figures as ratios to them.
//!
//! Broker and limits run on one core, the measuring client on another; every round measures everything once,
//! interleaved, and a goal is judged by the median of the rounds' ratios: absolute times on a shared machine
//! prove nothing.
#![forbid(unsafe_code)]

mod broker;
mod goals;
mod limits;
mod stats;
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Ringlog against the limits of this machine.
#[derive(Parser)]
#[command(version, after_help = "Example:\n  cargo run --release -p ringlog-perf -- goals --dir /var/tmp")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Goals 1, 5 and 11: durable ack, memory ack, idle broker; each as a ratio to E and D of the same round.
    Goals(goals::Options),
    /// What a broker under measurement runs as.
    #[command(hide = true)]
    Serve {
        /// Its data folder.
        data_dir: PathBuf,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Goals(options) => goals::run(&options),
        Command::Serve { data_dir } => broker::serve(&data_dir),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
