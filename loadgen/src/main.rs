//! The `ringlog-loadgen` command.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    ringlog_loadgen::cli::main()
}
