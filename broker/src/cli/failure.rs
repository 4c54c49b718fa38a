//! How a subcommand ends when it could not do what it was asked.

use std::process::ExitCode;
use std::{fmt, io};

use ringlog_reactor::say;
use ringlog_reactor::signal::Signal;

/// Why a subcommand did not end well.
#[derive(Debug)]
pub enum Failure {
    /// Whoever read our output has had enough (`ringlog consume … | head`): no error, nothing to say.
    OutputClosed,
    /// A signal asked for the end, before all was done.
    Stopped(Signal),
    /// What to tell the user.
    Said(String),
    /// What to tell the user: not even begun, which is another thing than begun and not good.
    Refused(String),
    /// The user has been told already, by the output itself.
    Told,
}

impl Failure {
    /// A failure with words for the user.
    pub fn said(what: impl fmt::Display) -> Failure {
        Failure::Said(what.to_string())
    }

    /// A refusal with words for the user.
    pub fn refused(what: impl fmt::Display) -> Failure {
        Failure::Refused(what.to_string())
    }

    /// A failed write to standard output.
    pub fn output(error: &io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::OutputClosed,
            _ => Failure::said(format!("cannot write to standard output: {error}")),
        }
    }

    /// The words of the failure, where it has some.
    pub fn words(&self) -> &str {
        match self {
            Failure::Said(what) | Failure::Refused(what) => what,
            Failure::OutputClosed | Failure::Stopped(_) | Failure::Told => "",
        }
    }

    /// Tells the user and gives the exit code.
    pub fn report(self) -> ExitCode {
        match self {
            Failure::OutputClosed => ExitCode::SUCCESS,
            Failure::Stopped(signal) => ExitCode::from(signal.exit_code()),
            Failure::Said(what) => {
                say!("ringlog: {what}");
                ExitCode::FAILURE
            }
            Failure::Refused(what) => {
                say!("ringlog: {what}");
                ExitCode::from(2)
            }
            Failure::Told => ExitCode::FAILURE,
        }
    }
}
