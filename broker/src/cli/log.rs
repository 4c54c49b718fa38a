//! Logs go to standard error, through a queue that never holds up the thread that logs (`ringlog_reactor::stdio`).

use std::env;
use std::io::{self, Write};

use ringlog_reactor::stdio;
use tracing_subscriber::EnvFilter;

use super::output::is_coloured;

/// The variable that says how much is logged, in the syntax of `tracing`'s filters.
const VARIABLE: &str = "RINGLOG_LOG";

/// Starts logging. Without [`VARIABLE`] a broker that serves says what it does, and every other subcommand only what goes
/// wrong.
pub fn to_stderr(serves: bool) {
    let default = if serves { "info" } else { "warn" };
    let wanted = env::var_os(VARIABLE).filter(|wanted| !wanted.is_empty());
    let filter = wanted.as_ref().map(|wanted| EnvFilter::builder().parse(wanted.to_string_lossy()));
    let (filter, refused) = match filter {
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (EnvFilter::new(default), Some(error)),
        None => (EnvFilter::new(default), None),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| LogLine)
        .with_ansi(is_coloured(&io::stderr()))
        .log_internal_errors(false)
        .init();
    if let Some(error) = refused {
        tracing::warn!("{VARIABLE} is no filter of log lines ({error}); `{default}` is used instead");
    }
}

/// Takes a formatted line in one piece, as the subscriber writes it.
struct LogLine;

impl Write for LogLine {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        stdio::log_line(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
