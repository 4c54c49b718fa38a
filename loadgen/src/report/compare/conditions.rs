//! Whether two sides may be compared, and in what else they differ.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::result::RunResult;

use super::super::{units, verdict};

/// Settings that name where results go: they change nothing that is measured.
const OUTPUTS: [&str; 3] = ["json", "hdr", "html"];

/// Why they must not be compared; empty when they may.
pub fn refusals(a: &[RunResult], b: &[RunResult]) -> Vec<String> {
    let mut refusals = Vec::new();
    for (side, number, result) in numbered("A", a).chain(numbered("B", b)) {
        let name = if number == 0 { side.to_owned() } else { format!("{side} (result {})", number + 1) };
        for problem in verdict::problems(result) {
            refusals.push(format!("{name} is {}: {}", problem.word, units::plain(&problem.text)));
        }
    }
    let commands = distinct(a, b, |result| result.command.to_string());
    if commands.len() > 1 {
        refusals.push(format!("they are of different commands: {}", commands.join(", ")));
    }
    let classes = distinct(a, b, |result| result.environment.target.ack_class.to_string());
    if classes.len() > 1 {
        refusals.push(format!(
            "their acknowledgements mean different things: {}; latencies are compared within an ack class only",
            classes.join(", ")
        ));
    }
    refusals
}

fn numbered<'a>(
    side: &'a str,
    results: &'a [RunResult],
) -> impl Iterator<Item = (&'a str, usize, &'a RunResult)> {
    results.iter().enumerate().map(move |(number, result)| (side, number, result))
}

fn distinct(a: &[RunResult], b: &[RunResult], of: impl Fn(&RunResult) -> String) -> Vec<String> {
    let all: BTreeSet<String> = a.iter().chain(b).map(of).collect();
    all.into_iter().collect()
}

/// Every setting, and everything of the environment, that is not the same in all results, with its values.
pub fn differences(a: &[RunResult], b: &[RunResult]) -> Vec<String> {
    let facts_a: Vec<BTreeMap<String, String>> = a.iter().map(facts).collect();
    let facts_b: Vec<BTreeMap<String, String>> = b.iter().map(facts).collect();
    let names: BTreeSet<&String> = facts_a.iter().chain(&facts_b).flat_map(BTreeMap::keys).collect();
    let values = |facts: &[BTreeMap<String, String>], name: &str| {
        let values: BTreeSet<String> =
            facts.iter().map(|facts| facts.get(name).cloned().unwrap_or_else(|| "-".to_owned())).collect();
        values.into_iter().collect::<Vec<String>>()
    };
    names
        .into_iter()
        .filter_map(|name| {
            let (of_a, of_b) = (values(&facts_a, name), values(&facts_b, name));
            let same = of_a == of_b && of_a.len() == 1;
            (!same).then(|| format!("{name}: A {}, B {}", of_a.join(" | "), of_b.join(" | ")))
        })
        .collect()
}

fn facts(result: &RunResult) -> BTreeMap<String, String> {
    let (environment, target) = (&result.environment, &result.environment.target);
    let option = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".to_owned());
    let named = [
        ("kernel", environment.kernel.clone()),
        ("CPU", environment.cpu.clone()),
        ("CPUs", environment.cpus.to_string()),
        ("memory", units::memory(environment.memory_bytes)),
        ("file system", option(&environment.filesystem)),
        ("disk", option(&environment.disk)),
        ("loadgen version", environment.loadgen_version.clone()),
        ("client driver", environment.client_driver.clone()),
        ("target", format!("{} {}", target.name, target.version)),
    ];
    let named = named.into_iter().map(|(name, value)| (name.to_owned(), units::plain(&value)));
    let settings = |prefix: &'static str, map: &BTreeMap<String, Value>| {
        let kept = map.iter().filter(|(name, _)| !OUTPUTS.contains(&name.as_str()));
        kept.map(|(name, value)| (units::plain(&format!("{prefix} {name}")), units::setting(value)))
            .collect::<Vec<_>>()
    };
    named
        .chain(settings("setting", &result.settings))
        .chain(settings("target's setting", &target.settings))
        .collect()
}
