//! Is this machine, and this folder, fit for a broker? Each line says ok, warning or fail, and what to do about it.
//!
//! `ringlog doctor` prints all lines; `ringlog serve` looks at those that can fail and refuses to start with the
//! same words. Only what makes a broker impossible is a fail; what makes it slow, or short-lived, is a warning.

mod folder;
mod line;
mod machine;
mod synced_write;

use std::fmt;
use std::io::{self, Write};
use std::path::Path;

pub use line::{Line, Status};

/// Everything that was looked at.
#[derive(Clone, Debug)]
pub struct Report {
    lines: Vec<Line>,
}

impl Report {
    /// What was found, in the order to print it.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Whether no line is a fail.
    pub fn is_fit(&self) -> bool {
        self.lines.iter().all(|line| line.status != Status::Fail)
    }

    /// Writes a line for each thing.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn print(&self, out: &mut impl Write) -> io::Result<()> {
        self.lines.iter().try_for_each(|line| writeln!(out, "{line}"))
    }
}

/// The lines that keep a broker from starting.
#[derive(Clone, Debug, thiserror::Error)]
pub struct Unfit {
    /// All of them are fails.
    pub failures: Vec<Line>,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a broker cannot run here")?;
        self.failures.iter().try_for_each(|line| write!(f, "\n{line}"))
    }
}

/// Looks at everything, and measures for two seconds what a synced write costs below `data_dir`. Blocks the calling
/// thread, which must not be a core. Leaves nothing behind.
pub fn run(data_dir: &Path) -> Report {
    let mut lines = machine::lines();
    lines.extend(folder::lines(data_dir));
    let fit = Report { lines };
    if !fit.is_fit() {
        return fit;
    }
    let mut lines = fit.lines;
    lines.push(synced_write::line(data_dir));
    Report { lines }
}

/// Looks at what can keep a broker from running, without the measurement.
///
/// # Errors
/// When something does; the words are those that [`run`] reports.
pub fn refuse_if_unfit(data_dir: &Path) -> Result<(), Unfit> {
    let lines = machine::lines().into_iter().chain(folder::lines(data_dir));
    let failures: Vec<Line> = lines.filter(|line| line.status == Status::Fail).collect();
    if failures.is_empty() { Ok(()) } else { Err(Unfit { failures }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sound_machine_is_fit_and_is_measured() {
        let folder = tempfile::tempdir().unwrap();
        let report = run(&folder.path().join("not/there/yet"));
        assert!(report.is_fit(), "{report:?}");
        assert_eq!(report.lines().last().map(|line| line.what), Some(synced_write::WHAT));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "something was left behind");
    }

    #[test]
    fn a_folder_below_a_file_is_refused_with_the_doctors_words() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let report = run(&file.join("data"));
        let refusal = refuse_if_unfit(&file.join("data")).unwrap_err().to_string();
        let failure = report.lines().iter().find(|line| line.status == Status::Fail).unwrap();
        assert!(refusal.contains(&failure.to_string()), "{refusal}");
    }

    #[test]
    fn advice_stands_below_its_line() {
        let line = Line::warning("thing", "is odd", "do this");
        assert_eq!(line.to_string(), "warning  thing: is odd\n         → do this");
    }
}
