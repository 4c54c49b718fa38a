//! The results: a table as they come, and a JSON line for each case.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use ringlog_reactor::print_line;

use super::case::{Case, Measured};
use super::class::Class;
use crate::failure::Failure;
use crate::machine::Machine;
use crate::stats::median;

/// Prints and appends.
pub struct Table {
    machine: Machine,
    results: PathBuf,
    class: Class,
    /// What was driven with which settings, as far as it was said already.
    said: Vec<String>,
}

/// A line of the results file.
#[derive(Serialize)]
struct Line<'a> {
    at: String,
    machine: &'a Machine,
    class: &'a str,
    case: &'a str,
    contender: &'a str,
    runs: &'a [Measured],
}

/// A contender's runs of a case, by their medians.
struct Row<'a> {
    name: &'a str,
    per_second: f64,
    p50_us: f64,
    p99_us: f64,
    client_cpu: f64,
    megabytes: f64,
    void: bool,
}

impl Row<'_> {
    fn of<'a>(name: &'a str, runs: &[Measured]) -> Row<'a> {
        let median = |value: fn(&Measured) -> f64| median(&runs.iter().map(value).collect::<Vec<_>>());
        Row {
            name,
            per_second: median(|run| run.per_second),
            p50_us: median(|run| run.p50_us),
            p99_us: median(|run| run.p99_us),
            client_cpu: median(|run| run.client_cpu),
            megabytes: median(Measured::megabytes_per_second),
            void: runs.iter().any(Measured::is_void),
        }
    }
}

impl Table {
    /// An empty one.
    pub fn new(machine: Machine, results: &Path) -> Table {
        print_line!("{}", machine.line());
        print_line!(
            "brokers on one CPU, clients on another; medians of interleaved runs; ratios are Ringlog's to the peer's"
        );
        Table { machine, results: results.to_path_buf(), class: Class::Memory, said: Vec::new() }
    }

    /// Begins a class.
    pub fn begin(&mut self, class: Class, contenders: usize) {
        self.class = class;
        print_line!("\nack class: {}", name_of(class));
        if contenders <= 2 {
            print_line!("(no peer in this class: give its address, and see scripts/peers/)");
        }
    }

    /// Adds a case: every contender's runs, Ringlog's first.
    pub fn add(&mut self, case: Case, runs: &[(String, Vec<Measured>)]) -> Result<(), Failure> {
        let rows: Vec<Row<'_>> = runs.iter().map(|(name, runs)| Row::of(name, runs)).collect();
        print_line!("");
        print_line!(
            "{:<34} {:>10} {:>8} {:>10} {:>10} {:>7} {:>7} {:>7}",
            case.title(),
            "records/s",
            "MB/s",
            "p50 µs",
            "p99 µs",
            "client",
            "rate ×",
            "p50 ×"
        );
        for row in &rows {
            // Ringlog's first row is what all are compared with.
            let ratio = |ours: f64, theirs: f64| match std::ptr::eq(row, &rows[0]) {
                true => "-".to_string(),
                false => format!("{:.2}", ours / theirs),
            };
            print_line!(
                "  {:<32} {:>10.0} {:>8.1} {:>10.1} {:>10.1} {:>6.0}% {:>7} {:>7}{}",
                row.name,
                row.per_second,
                row.megabytes,
                row.p50_us,
                row.p99_us,
                row.client_cpu * 100.0,
                ratio(rows[0].per_second, row.per_second),
                ratio(rows[0].p50_us, row.p50_us),
                if row.void { "  VOID: the generator itself was late" } else { "" },
            );
        }
        for (_, runs) in runs {
            self.say_settings(runs);
        }
        self.append(case, runs)
    }

    fn say_settings(&mut self, runs: &[Measured]) {
        for run in runs {
            if !self.said.contains(&run.driven) {
                print_line!("    {}", run.driven);
                self.said.push(run.driven.clone());
            }
        }
    }

    fn append(&self, case: Case, runs: &[(String, Vec<Measured>)]) -> Result<(), Failure> {
        if let Some(folder) = self.results.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut file = OpenOptions::new().create(true).append(true).open(&self.results)?;
        for (contender, runs) in runs {
            let line = Line {
                at: jiff::Timestamp::now().to_string(),
                machine: &self.machine,
                class: name_of(self.class),
                case: case.title(),
                contender,
                runs,
            };
            writeln!(file, "{}", serde_json::to_string(&line)?)?;
        }
        Ok(())
    }
}

fn name_of(class: Class) -> &'static str {
    match class {
        Class::Memory => "memory",
        Class::Flushed => "flushed",
    }
}
