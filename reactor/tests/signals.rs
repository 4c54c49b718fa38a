//! Signals concern a whole process, and the test harness has threads that would take them: so this one runs
//! without the harness.

use std::process::Command;
use std::time::Duration;

use ringlog_reactor::{CoreConfig, run, signal, sleep, spawn, timeout};

fn main() {
    sigterm_ends_the_wait();
    println!("test sigterm_ends_the_wait ... ok");
}

fn sigterm_ends_the_wait() {
    signal::block_termination().expect("blocking a signal is allowed");
    let core = run(CoreConfig::default(), async {
        assert!(timeout(Duration::from_millis(2), signal::termination()).await.is_err(), "none came yet");
        let waiting = spawn(signal::termination());
        sleep(Duration::from_millis(2)).await;
        let us = std::process::id().to_string();
        Command::new("kill").args(["-TERM", &us]).status().expect("kill(1) is there");
        timeout(Duration::from_secs(10), waiting).await.expect("the signal is seen");
    });
    core.expect("the core runs");
}
