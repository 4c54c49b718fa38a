//! `ringlog demo`: the first minute, with each of its inputs, and nothing left behind.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::helpers::{PATIENCE, Running, folder, many_lines, ringlog, run, run_with_input};

fn demo(dir: &Path) -> Command {
    let mut command = ringlog();
    command.args(["demo", "--records", "5000", "--dir"]).arg(dir);
    command
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).expect("it is there").count() == 0
}

#[test]
fn without_input_it_publishes_the_repositorys_own_text() {
    let dir = folder();
    let ran = run(&mut demo(dir.path())).ok();
    for part in [
        "own repository",
        "8,000",
        "every record came back",
        "records/s",
        "MB/s",
        "p99.9",
        "publish → subscriber",
    ] {
        assert!(ran.text().contains(part), "{part:?} is missing in\n{}", ran.text());
    }
    assert!(is_empty(dir.path()), "something was left behind");
}

#[test]
fn a_pipe_and_a_file_are_published_whole() {
    let dir = folder();
    let lines = many_lines(12_345);
    let piped = run_with_input(&mut demo(dir.path()), lines.as_bytes()).ok();
    assert!(
        piped.text().contains("standard input") && piped.text().contains("12,345 records"),
        "{}",
        piped.text()
    );
    assert!(is_empty(dir.path()), "something was left behind");

    let file = folder();
    let path = file.path().join("lines.txt");
    fs::write(&path, &lines).expect("a file can be written");
    let read = run(demo(dir.path()).arg("--file").arg(&path)).ok();
    assert!(read.text().contains("lines.txt") && read.text().contains("12,345 records"), "{}", read.text());
}

#[test]
fn an_interrupt_leaves_nothing_behind() {
    let dir = folder();
    let mut running = Running::spawn(demo(dir.path()).stdin(Stdio::piped()));
    let mut input = running.child.stdin.take().expect("it is piped");
    let feeder = thread::spawn(move || while input.write_all(b"one more line\n").is_ok() {});
    let begin = Instant::now();
    while is_empty(dir.path()) && begin.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(10));
    }
    // In the middle of publishing: the input has no end.
    thread::sleep(Duration::from_millis(700));
    running.signal("INT");
    running.finish().code(130);
    feeder.join().expect("the feeder ends with the demo");
    assert!(is_empty(dir.path()), "something was left behind");
}

#[test]
fn a_file_that_is_not_there_is_named_and_leaves_nothing_behind() {
    let dir = folder();
    let failed = run(demo(dir.path()).args(["--file", "/not/here.txt"])).code(1);
    assert!(failed.stderr.contains("/not/here.txt"), "{}", failed.stderr);
    assert!(is_empty(dir.path()), "something was left behind");
}
