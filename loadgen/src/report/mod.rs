//! What becomes of a result: a table, files, a page, a comparison.

pub mod compare;
mod error;
mod grid;
mod hdr_log;
mod html;
#[cfg(test)]
mod sample;
mod table;
mod units;
mod verdict;

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

pub use error::ReportError;
pub(crate) use units::time;

use crate::result::RunResult;

/// The files that a run may leave behind.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct Outputs {
    /// Write the result as JSON, which `report` and `compare` read
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the histogram of each second as an HDR log (V2), with the tags ack, end-to-end and lateness
    #[arg(long, value_name = "FILE")]
    pub hdr: Option<PathBuf>,
    /// Write one page with plots, which needs no other file and no network
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

impl Outputs {
    /// Whether every file can be written: better known before a long run than after it.
    pub fn check(&self) -> Result<(), ReportError> {
        for path in [&self.json, &self.hdr, &self.html].into_iter().flatten() {
            let opened = OpenOptions::new().append(true).create(true).open(path);
            opened.map_err(|error| ReportError::Unwritable { path: path.clone(), error })?;
        }
        Ok(())
    }

    /// Writes every file that was asked for.
    pub fn write(&self, result: &RunResult) -> Result<(), ReportError> {
        if let Some(path) = &self.json {
            write_file(path, |out| write_json(result, out))?;
        }
        if let Some(path) = &self.hdr {
            let log = hdr_log::log(result)?;
            write_file(path, |out| out.write_all(&log))?;
        }
        if let Some(path) = &self.html {
            write_page(path, &[html::Run { name: String::new(), result }])?;
        }
        Ok(())
    }
}

/// Writes a result as a table for a terminal.
pub fn write_table(result: &RunResult, out: &mut impl Write) -> io::Result<()> {
    table::write(result, out)
}

/// Shows results that were written with `--json`: as a table, as a page, as an HDR log.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
#[command(after_help = "Examples:
  ringlog-loadgen report run.json
  ringlog-loadgen report run.json --html run.html --hdr run.hlog
  ringlog-loadgen report before.json after.json --html both.html")]
pub struct ReportArgs {
    /// Results, as --json wrote them
    #[arg(required = true, value_name = "RESULT")]
    pub results: Vec<PathBuf>,
    /// Write the histogram of each second as an HDR log (V2); of one result
    #[arg(long, value_name = "FILE")]
    pub hdr: Option<PathBuf>,
    /// Write one page with plots; several results are laid over each other
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

impl ReportArgs {
    /// Writes the files that were asked for, and the tables to `out`.
    pub fn run(&self, out: &mut impl Write) -> Result<(), ReportError> {
        let mut results = Vec::new();
        for path in &self.results {
            results.push(RunResult::read(path)?);
        }
        if let Some(path) = &self.hdr {
            let [result] = results.as_slice() else { return Err(ReportError::SeveralInOneLog) };
            let log = hdr_log::log(result)?;
            write_file(path, |out| out.write_all(&log))?;
        }
        if let Some(path) = &self.html {
            // Names tell several apart; one alone needs none.
            let name = |path: &Path| match results.len() {
                1 => String::new(),
                _ => path.display().to_string(),
            };
            let named = self.results.iter().zip(&results);
            let runs: Vec<html::Run<'_>> =
                named.map(|(path, result)| html::Run { name: name(path), result }).collect();
            write_page(path, &runs)?;
        }
        for (index, result) in results.iter().enumerate() {
            if index > 0 {
                writeln!(out).map_err(ReportError::Output)?;
            }
            table::write(result, out).map_err(ReportError::Output)?;
        }
        Ok(())
    }
}

fn write_page(path: &Path, runs: &[html::Run<'_>]) -> Result<(), ReportError> {
    let page = html::page(runs)?;
    write_file(path, |out| out.write_all(page.as_bytes()))
}

fn write_json(result: &RunResult, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, result)?;
    writeln!(out)
}

fn write_file(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<(), ReportError> {
    let written = File::create(path).and_then(|file| {
        let mut out = BufWriter::new(file);
        write(&mut out)?;
        out.flush()
    });
    written.map_err(|error| ReportError::Unwritable { path: path.to_owned(), error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_comes_back_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let json = folder.path().join("run.json");
        for result in [sample::end_to_end(3), sample::sweep(3), sample::catch_up(3)] {
            let outputs = Outputs { json: Some(json.clone()), ..Outputs::default() };
            outputs.check().unwrap();
            outputs.write(&result).unwrap();
            assert!(RunResult::read(&json).unwrap() == result, "{} came back otherwise", result.command);
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_is_known_before_the_run() {
        let path = PathBuf::from("/nowhere/run.json");
        let outputs = Outputs { json: Some(path), ..Outputs::default() };
        let words = outputs.check().unwrap_err().to_string();
        assert!(words.starts_with("cannot write /nowhere/run.json: "), "{words}");
    }

    #[test]
    fn report_shows_what_was_kept() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let outputs = Outputs { json: Some(at("a.json")), ..Outputs::default() };
        outputs.write(&sample::end_to_end(3)).unwrap();
        let arguments =
            ReportArgs { results: vec![at("a.json"), at("a.json")], hdr: None, html: Some(at("a.html")) };
        let mut out = Vec::new();
        arguments.run(&mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap().matches("end-to-end against").count(), 2);
        let page = std::fs::read_to_string(at("a.html")).unwrap();
        assert!(page.starts_with("<!doctype html>") && page.contains("a.json"));
        let alone = ReportArgs { results: vec![at("a.json")], ..arguments.clone() };
        alone.run(&mut Vec::new()).unwrap();
        assert!(!std::fs::read_to_string(at("a.html")).unwrap().contains("a.json"), "one needs no name");
        let log_of_two = ReportArgs { hdr: Some(at("a.hlog")), ..arguments };
        assert!(matches!(log_of_two.run(&mut Vec::new()), Err(ReportError::SeveralInOneLog)));
    }
}
