//! The table of limits on a tiny input: it must run and print every limit.

use std::process::Command;

#[test]
fn a_tiny_run_prints_every_limit() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_ringlog-perf"))
        .args(["limits", "--operations", "20", "--seconds", "1", "--megabytes", "8", "--dir"])
        .arg(folder.path())
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    for limit in ["\nE ", "\nC ", "\nD ", "\nS ", "\nN "] {
        assert!(printed.contains(limit), "no {limit:?} in\n{printed}");
    }
}
