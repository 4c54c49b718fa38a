//! Programs of others that measure what we are compared with.

use std::io::ErrorKind;
use std::process::{Command, Stdio};

use serde_json::Value;

use ringlog_reactor::say;

use crate::failure::Failure;

/// Why a tool said nothing.
#[derive(Debug)]
pub enum ToolError {
    /// It is not installed.
    Missing,
    /// It failed.
    Failed(Failure),
}

impl<E: Into<Failure>> From<E> for ToolError {
    fn from(error: E) -> ToolError {
        ToolError::Failed(error.into())
    }
}

/// Runs a tool that prints JSON.
pub fn json(tool: &str, command: &mut Command) -> Result<Value, ToolError> {
    let output = match command.stdin(Stdio::null()).output() {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(ToolError::Missing),
        Err(error) => return Err(error.into()),
    };
    let printed = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let said = format!("{}{printed}", String::from_utf8_lossy(&output.stderr));
        return Err(Failure::from(format!("{tool} failed: {}", said.trim())).into());
    }
    // fio writes its notes in front of the report.
    let report = printed.find('{').map_or("", |at| &printed[at..]);
    Ok(serde_json::from_str(report)?)
}

/// A number in a report, by its JSON pointer.
pub fn number(report: &Value, pointer: &str) -> Result<f64, ToolError> {
    let missing = || Failure::from(format!("the report has no {pointer}"));
    Ok(report.pointer(pointer).and_then(Value::as_f64).ok_or_else(missing)?)
}

/// Says that a tool is not there, what to install, and what is measured instead.
pub fn say_missing(package: &str, instead: &str) {
    say!("{package} is not installed (package `{package}`): {instead}");
}
