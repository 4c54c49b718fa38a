//! The `ringlog-sim` binary.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    ringlog_sim::cli::main()
}
