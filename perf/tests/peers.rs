//! The comparison on a tiny input: Ringlog alone, through the load generator and the bundled client.

use std::process::Command;

#[test]
fn ringlog_alone_is_measured_and_noted() {
    let folder = tempfile::tempdir().expect("a folder");
    let results = folder.path().join("results.jsonl");
    let output = Command::new(env!("CARGO_BIN_EXE_ringlog-perf"))
        .args(["peers", "--rounds", "1", "--seconds", "1", "--class", "memory", "--case", "one"])
        .arg("--dir")
        .arg(folder.path())
        .arg("--results")
        .arg(&results)
        .output()
        .expect("the program runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("1 producer, one at a time") && said.contains("Ringlog"), "{said}");
    let lines = std::fs::read_to_string(&results).expect("a results file");
    let line: serde_json::Value = serde_json::from_str(lines.lines().next().expect("a line")).expect("JSON");
    assert!(line["runs"][0]["per_second"].as_f64().expect("a rate") > 0.0);
}

#[test]
fn an_open_loop_without_a_rate_says_what_to_do() {
    let output = Command::new(env!("CARGO_BIN_EXE_ringlog-perf"))
        .args(["peers", "--rounds", "1", "--seconds", "1", "--class", "memory", "--case", "rate"])
        .output()
        .expect("the program runs");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("--rate"));
}
