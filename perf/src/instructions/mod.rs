//! Instructions per message of the code without I/O, counted by callgrind and held against budgets: a gate that noise
//! on a machine cannot open or close.

mod budgets;
mod cases;
mod valgrind;

use clap::Args;
use ringlog_reactor::print_line;

use crate::failure::Failure;
use budgets::{Budgets, Verdict};
use cases::CASES;

/// Every case runs this often, and once more twice as often: what the difference costs is steady.
const MESSAGES: u64 = 500;

/// What `instructions` takes.
#[derive(Args)]
pub struct Options {
    /// Writes the budgets anew from what is counted now: when a change is worth what it costs, or to keep what it won.
    #[arg(long)]
    update: bool,
    /// Only cases whose name has this in it.
    #[arg(long, value_name = "TEXT", conflicts_with = "update")]
    only: Option<String>,
}

/// Counts every case and compares with the budgets.
pub fn run(options: &Options) -> Result<(), Failure> {
    if !valgrind::is_installed() {
        print_line!("instructions: not counted, since valgrind is not installed (package valgrind)");
        return Ok(());
    }
    let path = Budgets::path();
    let budgets = if options.update { Budgets::default() } else { Budgets::read(&path)? };
    let mut counted = Budgets::default();
    let mut over = Vec::new();
    print_line!("{:<40} {:>12} {:>12} {:>9}", "instructions per message", "counted", "budget", "change");
    for case in CASES.iter().filter(|case| options.only.as_ref().is_none_or(|text| case.name.contains(text)))
    {
        let count = per_message(case.name)?;
        counted.set(case.name, count);
        let budget = budgets.get(case.name);
        let text = |value: Option<String>| value.unwrap_or_else(|| "-".into());
        let change = budget.map(|budget| format!("{:+.1} %", (count / budget as f64 - 1.0) * 100.0));
        let budget_text = text(budget.map(|budget| budget.to_string()));
        print_line!("{:<40} {count:>12.0} {budget_text:>12} {:>9}", case.name, text(change));
        if let Verdict::Over(why) = budgets.judge(case.name, count) {
            over.push(why);
        }
    }
    if options.update {
        counted.write(&path)?;
        print_line!("written: {}", path.display());
        return Ok(());
    }
    match over.as_slice() {
        [] => Ok(()),
        over => Err(format!(
            "more instructions than budgeted:\n  {}\n\
             If the change is worth it, or only the compiler is another, write the budgets anew and say why in the commit:\n  \
             cargo run --release -p ringlog-perf -- instructions --update",
            over.join("\n  ")
        )
        .into()),
    }
}

/// What one message costs, whatever the run costs once.
fn per_message(case: &str) -> Result<f64, Failure> {
    let once = valgrind::count(case, MESSAGES)?;
    let twice = valgrind::count(case, 2 * MESSAGES)?;
    let more = twice.checked_sub(once).ok_or("twice the messages took fewer instructions")?;
    match more {
        0 => Err(format!("nothing was counted of \"{case}\"").into()),
        more => Ok(more as f64 / MESSAGES as f64),
    }
}

/// Runs one case by itself: what valgrind looks at.
pub fn run_case(name: &str, count: u64) -> Result<(), Failure> {
    let case = CASES.iter().find(|case| case.name == name).ok_or_else(|| format!("no case \"{name}\""))?;
    (case.run)(count);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_runs() {
        for case in CASES {
            (case.run)(3);
        }
    }

    #[test]
    fn every_case_has_a_budget_and_every_budget_a_case() {
        let Ok(budgets) = Budgets::read(&Budgets::path()) else { return };
        let names: Vec<&str> = CASES.iter().map(|case| case.name).collect();
        assert_eq!(budgets.names().collect::<Vec<_>>(), names);
    }

    #[test]
    fn an_unknown_case_is_refused() {
        assert!(run_case("nothing", 1).is_err());
    }
}
