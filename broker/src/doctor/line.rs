//! One thing that was looked at.

use std::fmt;

/// How a line is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// As it should be.
    Ok,
    /// A broker runs, but something will cost speed, durability or time.
    Warning,
    /// A broker cannot run.
    Fail,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Status::Ok => "ok",
            Status::Warning => "warning",
            Status::Fail => "fail",
        })
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Whether it is good.
    pub status: Status,
    /// What was looked at.
    pub what: &'static str,
    /// What was found.
    pub detail: String,
    /// What to do about it, unless it is ok.
    pub advice: Option<String>,
}

impl Line {
    pub(super) fn ok(what: &'static str, detail: impl fmt::Display) -> Line {
        Line { status: Status::Ok, what, detail: detail.to_string(), advice: None }
    }

    pub(super) fn warning(what: &'static str, detail: impl fmt::Display, advice: impl fmt::Display) -> Line {
        Line { status: Status::Warning, what, detail: detail.to_string(), advice: Some(advice.to_string()) }
    }

    pub(super) fn fail(what: &'static str, detail: impl fmt::Display, advice: impl fmt::Display) -> Line {
        Line { status: Status::Fail, what, detail: detail.to_string(), advice: Some(advice.to_string()) }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:7}  {}: {}", self.status, self.what, self.detail)?;
        match &self.advice {
            Some(advice) => write!(f, "\n         → {advice}"),
            None => Ok(()),
        }
    }
}
