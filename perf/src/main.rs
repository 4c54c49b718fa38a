//! Physical limits of a machine, and Ringlog as ratios to them.
//!
//! Broker and limits run on one core, the measuring client on another; limits and ours are measured in turn, and a
//! goal is judged by the median of the pairs' ratios: absolute times on a shared machine prove nothing.
#![forbid(unsafe_code)]

mod cpus;
mod failure;
mod goals;
mod instructions;
mod limits;
mod machine;
mod peers;
mod process;
mod progress;
mod runtimes;
mod stats;
mod wait;
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ringlog_reactor::{say, stdio};

use crate::limits::echo::EchoSize;
use crate::runtimes::Runtime;
use crate::wait::Wait;

/// Ringlog against the limits of this machine.
#[derive(Parser)]
#[command(
    version,
    after_help = "\
Examples:
  cargo run --release -p ringlog-perf -- limits --dir /var/tmp
  cargo run --release -p ringlog-perf -- goals                          the whole table, about ten minutes
  cargo run --release -p ringlog-perf -- goals --quick --goal 3,4       a look at two of them
  cargo run --release -p ringlog-perf -- goals --wait spin --dir /var/tmp
  cargo run --release -p ringlog-perf -- instructions                   the gate on instructions per message
  cargo run --release -p ringlog-perf --features kafka,nats -- peers --kafka 127.0.0.1:9092 --nats-memory 127.0.0.1:4222"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// What this machine can do: echo, synced writes, sequential writes, loopback
    Limits(limits::Options),
    /// The goals, each as a ratio to a limit measured in the same minutes
    Goals(goals::Options),
    /// An echo on Ringlog's reactor, tokio, glommio and compio in turn (needs --features runtimes)
    Runtimes(runtimes::Options),
    /// Instructions per message of the code without I/O, by callgrind, against their budgets
    Instructions(instructions::Options),
    /// Ringlog beside Kafka, NATS and Iggy, each by its own client
    Peers(Box<peers::Options>),
    /// What callgrind looks at
    #[command(hide = true)]
    InstructionsOf {
        /// The case
        case: String,
        /// How often
        count: u64,
    },
    /// What a broker under measurement runs as
    #[command(hide = true)]
    Serve {
        /// Its data folder
        data_dir: PathBuf,
        /// Its waiting policy
        #[arg(long, default_value = "block")]
        wait: Wait,
    },
    /// What the echo server runs as
    #[command(hide = true)]
    Echo {
        /// Bytes of a request
        request: usize,
        /// Bytes of a reply
        reply: usize,
        /// Its waiting policy
        #[arg(long, default_value = "block")]
        wait: Wait,
        /// Who serves
        #[arg(long, value_enum, default_value = "reactor")]
        runtime: Runtime,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Limits(options) => limits::run(&options),
        Command::Goals(options) => goals::run(&options),
        Command::Serve { data_dir, wait } => process::serve(&data_dir, wait),
        Command::Echo { request, reply, wait, runtime } => runtime.serve(EchoSize { request, reply }, wait),
        Command::Runtimes(options) => runtimes::run(&options),
        Command::Instructions(options) => instructions::run(&options),
        Command::Peers(options) => peers::run(&options),
        Command::InstructionsOf { case, count } => instructions::run_case(&case, count),
    };
    let printed = stdio::output_failure()
        .map_or(Ok(()), |error| Err(format!("cannot write to standard output: {error}").into()));
    match done.and(printed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
