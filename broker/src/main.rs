//! The `ringlog` binary: reads the command line, runs one subcommand, says by the exit code how it went.
#![forbid(unsafe_code)]

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    abort_on_panic();
    cli::main()
}

/// A panic means that something believed of the data is not so: no other core may go on as if it were. The profile
/// unwinds, because a simulation has to survive the panics of what it simulates.
fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}
