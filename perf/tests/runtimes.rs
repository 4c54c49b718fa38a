//! The comparison of runtimes on a tiny input; without them it must say how to get them.

use std::process::{Command, Output};

fn run() -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringlog-perf"))
        .args(["runtimes", "--rounds", "1", "--milliseconds", "10"])
        .output()
        .unwrap()
}

#[test]
#[cfg(feature = "runtimes")]
fn every_runtime_answers() {
    let output = run();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    for runtime in ["reactor", "tokio", "glommio", "compio"] {
        assert!(printed.contains(&format!("\n  {runtime} ")), "no {runtime} in\n{printed}");
    }
}

#[test]
#[cfg(not(feature = "runtimes"))]
fn without_them_it_says_how_to_get_them() {
    let output = run();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("--features runtimes"), "{said}");
}
