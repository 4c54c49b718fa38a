//! The `ringlog` binary: reads the command line, runs one subcommand, says by the exit code how it went.
#![forbid(unsafe_code)]

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
