//! Signals concern a whole process, and the test harness has threads that would take them: so this one runs
//! without the harness.

use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use ringlog_reactor::signal;

fn main() {
    each_signal_ends_one_wait();
    println!("test each_signal_ends_one_wait ... ok");
}

fn each_signal_ends_one_wait() {
    signal::block_termination().expect("blocking a signal is allowed");
    let (sender, came) = mpsc::channel();
    thread::spawn(move || {
        while sender.send(signal::wait_for_termination().expect("the wait ends by a signal")).is_ok() {}
    });
    assert!(came.recv_timeout(Duration::from_millis(5)).is_err(), "none came yet");
    let us = std::process::id().to_string();
    for (name, number) in [("TERM", 15), ("INT", 2), ("HUP", 1)] {
        if name == "HUP" && hangup_is_ignored() {
            continue;
        }
        Command::new("kill").args([&format!("-{name}"), &us]).status().expect("kill(1) is there");
        let signal = came.recv_timeout(Duration::from_secs(10)).expect("the signal is seen");
        assert_eq!((signal.name(), signal.exit_code()), (format!("SIG{name}").as_str(), 128 + number));
    }
}

/// Tests may be run under nohup(1).
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("it is there");
    u64::from_str_radix(mask.trim(), 16).expect("a number in hex") & 1 != 0
}
