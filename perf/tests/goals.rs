//! The benchmark on a tiny input, so that it cannot rot: it must run and print every goal.

use std::process::Command;

#[test]
fn a_tiny_run_prints_every_goal() {
    let folder = tempfile::tempdir().unwrap();
    let results = folder.path().join("results.jsonl");
    let output = Command::new(env!("CARGO_BIN_EXE_ringlog-perf"))
        .args(["goals", "--tiny"])
        .arg("--dir")
        .arg(folder.path())
        .arg("--results")
        .arg(&results)
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    for goal in (1..=11).chain([17]) {
        let row = format!("\n{goal:>4}  ");
        assert!(printed.contains(&row), "no goal {goal} in\n{printed}");
    }
    assert!(printed.contains("32 producers"), "{printed}");
    let line: serde_json::Value =
        serde_json::from_str(std::fs::read_to_string(results).unwrap().trim()).unwrap();
    assert!(line["machine"]["kernel"].is_string());
    assert_eq!(line["outcomes"].as_array().unwrap().len(), 12);
}

#[test]
fn nonsense_is_refused_before_anything_is_measured() {
    for (arguments, named) in [
        (["goals", "--goal", "12"], "12"),
        (["goals", "--wait", "busy"], "spin"),
        (["goals", "--rounds", "0"], "0"),
        (["goals", "--results", "/no/such/folder/results.jsonl"], "/no/such/folder"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_ringlog-perf")).args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(named), "{arguments:?}: {said}");
    }
}
