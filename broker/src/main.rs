//! The `ringlog` binary: reads the command line, runs one subcommand, says by the exit code how it went.
#![forbid(unsafe_code)]

mod cli;

use std::process::ExitCode;
use std::time::Duration;
use std::{panic, process, thread};

use ringlog_reactor::{signal, stdio};

/// How long the report of a panic may take, the search for line numbers included.
const REPORT_WITHIN: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    abort_on_panic();
    signal::outlive_writes();
    let code = cli::main();
    stdio::flush_error();
    code
}

/// A panic means that something believed of the data is not so: no other core may go on as if it were. The profile
/// unwinds, because a simulation has to survive the panics of what it simulates.
fn abort_on_panic() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        // The report goes to standard error, which may be stuck.
        let limit = thread::Builder::new().spawn(|| {
            thread::sleep(REPORT_WITHIN);
            process::abort();
        });
        if limit.is_ok() {
            stdio::flush_error();
            report(panic);
        }
        process::abort();
    }));
}
