//! The file of budgets: a line a case, its name and what one message may cost.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// A count may be over its budget by this before the gate closes: alignment of a buffer or the order of two functions
/// moves a count by less.
const TOLERANCE: f64 = 0.03;

const HEAD: &str = "\
# Instructions that one message may cost, by callgrind: `cargo run --release -p ringlog-perf -- instructions`.
# Written by `instructions --update`; a commit that raises one says why.
";

/// What each case may cost, in the order of the file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Budgets {
    lines: Vec<(String, u64)>,
}

/// What a count comes to.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may pass.
    Within,
    /// It may not, and why.
    Over(String),
}

impl Budgets {
    /// The file for this processor family: another one has other instructions.
    pub fn path() -> PathBuf {
        let file = format!("budgets/{}.txt", std::env::consts::ARCH);
        Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
    }

    /// Reads a file; one that is missing has no budgets.
    pub fn read(path: &Path) -> Result<Budgets, Failure> {
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(Budgets::parse(&text).map_err(|line| format!("{}: {line}", path.display()))?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Budgets::default()),
            Err(error) => Err(format!("{}: {error}", path.display()).into()),
        }
    }

    fn parse(text: &str) -> Result<Budgets, String> {
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
        let parsed = lines.map(|line| {
            let parts = line.trim_end().rsplit_once(' ');
            parts
                .and_then(|(name, count)| Some((name.trim_end().to_string(), count.parse().ok()?)))
                .ok_or_else(|| format!("no name and number: {line}"))
        });
        Ok(Budgets { lines: parsed.collect::<Result<_, _>>()? })
    }

    /// Writes them as a file.
    pub fn write(&self, path: &Path) -> Result<(), Failure> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(path, self.text()).map_err(|error| format!("{}: {error}", path.display()).into())
    }

    fn text(&self) -> String {
        let mut text = HEAD.to_string();
        for (name, count) in &self.lines {
            let _ = writeln!(text, "{name:<40} {count:>8}");
        }
        text
    }

    /// Notes what a case that was not noted yet costs.
    pub fn set(&mut self, case: &str, count: f64) {
        self.lines.push((case.to_string(), count.round() as u64));
    }

    /// What a case may cost.
    pub fn get(&self, case: &str) -> Option<u64> {
        self.lines.iter().find(|(name, _)| name == case).map(|(_, count)| *count)
    }

    /// The cases there are.
    #[cfg(test)]
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(|(name, _)| name.as_str())
    }

    /// Whether a count may pass. A case without a budget may not, unless there are no budgets for this processor at all.
    pub fn judge(&self, case: &str, count: f64) -> Verdict {
        match self.get(case) {
            _ if self.lines.is_empty() => Verdict::Within,
            None => Verdict::Over(format!("{case}: {count:.0}, and no budget: add it by --update")),
            Some(budget) if count <= budget as f64 * (1.0 + TOLERANCE) => Verdict::Within,
            Some(budget) => {
                let percent = (count / budget as f64 - 1.0) * 100.0;
                let allowed = TOLERANCE * 100.0;
                Verdict::Over(format!(
                    "{case}: {count:.0}, budget {budget}: {percent:.1} % over, {allowed:.0} % are allowed"
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budgets() -> Budgets {
        Budgets::parse("# a comment\nclient: send a batch   1000\n\nbroker: acknowledge 50\n")
            .expect("good lines")
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(Budgets::parse(&budgets().text()), Ok(budgets()));
        assert_eq!(budgets().get("client: send a batch"), Some(1000));
    }

    #[test]
    fn a_count_above_the_tolerance_is_over_and_named() {
        assert_eq!(budgets().judge("client: send a batch", 1029.0), Verdict::Within);
        assert_eq!(budgets().judge("client: send a batch", 500.0), Verdict::Within);
        let Verdict::Over(why) = budgets().judge("client: send a batch", 1100.0) else { panic!("10 % over") };
        assert!(why.contains("client: send a batch") && why.contains("10.0 % over"), "{why}");
    }

    #[test]
    fn a_case_without_a_budget_is_over() {
        assert!(matches!(budgets().judge("new", 1.0), Verdict::Over(_)));
        assert_eq!(Budgets::default().judge("new", 1.0), Verdict::Within);
    }

    #[test]
    fn a_line_without_a_number_is_refused() {
        assert!(Budgets::parse("client: send a batch\n").is_err());
    }
}
