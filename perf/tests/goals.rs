//! The benchmark on a tiny input, so that it cannot rot: it must run and print every goal.

use std::process::Command;

#[test]
fn a_tiny_run_prints_every_goal() {
    let folder = tempfile::tempdir().unwrap();
    let results = folder.path().join("results.jsonl");
    let output = Command::new(env!("CARGO_BIN_EXE_ringlog-perf"))
        .args(["goals", "--rounds", "2", "--operations", "20", "--idle-seconds", "0"])
        .arg("--dir")
        .arg(folder.path())
        .arg("--append")
        .arg(&results)
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    for goal in ["ack disk", "ack memory", "resident", "start to first accept"] {
        assert!(printed.contains(goal), "no `{goal}` in\n{printed}");
    }
    assert_eq!(std::fs::read_to_string(results).unwrap().lines().count(), 1);
}
