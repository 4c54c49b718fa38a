//! `ringlog consume`: where it begins, where it ends, and what it prints.

use std::io::Write;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use super::helpers::{Broker, PATIENCE, Running, folder, many_lines, run};

#[test]
fn positions_choose_where_to_begin() {
    let data = folder();
    let broker = Broker::start(data.path());
    broker.create_topic("numbers", 1);
    broker.run_with_input(&["produce", "numbers"], "0\n1\n2\n");
    let timed = broker.run(&["consume", "numbers", "--until-end", "--format", "%T\\n"]);
    let last = timed.text().lines().last().expect("three lines").to_owned();
    thread::sleep(Duration::from_millis(5));
    broker.run_with_input(&["produce", "numbers"], "3\n4\n");

    let from = |position: &str| broker.run(&["consume", "numbers", "--from", position, "--until-end"]).stdout;
    assert_eq!(from("begin"), b"0\n1\n2\n3\n4\n");
    assert_eq!(from("end"), b"");
    assert_eq!(from("3"), b"3\n4\n");
    assert!(from(&format!("time:{last}")).ends_with(b"2\n3\n4\n"));
    assert_eq!(from("time:2100-01-01T00:00:00Z"), b"");
    assert_eq!(broker.run(&["consume", "numbers", "--from", "1", "--count", "2"]).text(), "1\n2\n");
    assert_eq!(broker.run(&["consume", "numbers", "--count", "0"]).text(), "");
}

#[test]
fn an_offset_that_is_not_there_is_an_error() {
    let data = folder();
    let broker = Broker::start(data.path());
    broker.create_topic("short", 1);
    run(&mut broker.ringlog(&["consume", "short", "--from", "5"])).code(1);
}

#[test]
fn wrong_words_are_a_wrong_command_line() {
    for flags in [["--from", "start"], ["--format", "%x"], ["--count", "-1"]] {
        run(super::helpers::ringlog().args(["consume", "t"]).args(flags)).code(2);
    }
}

#[test]
fn the_format_prints_all_parts_of_a_record() {
    let data = folder();
    let broker = Broker::start(data.path());
    broker.create_topic("parts", 1);
    let header = ["--header", "a=1", "--header", "b=two"];
    broker.run_with_input(&[&["produce", "parts", "--key-sep", "="][..], &header].concat(), "k=v\n");
    let format = "%t|%p|%o|%k|%v|%h|%%\\t.\\n";
    let got = broker.run(&["consume", "parts", "--until-end", "--format", format]);
    assert_eq!(got.text(), "parts|0|0|k|v|a=1,b=two|%\t.\n");
}

#[test]
fn a_live_reader_sees_each_record_as_it_is_acknowledged() {
    let data = folder();
    let broker = Broker::start(data.path());
    broker.create_topic("live", 2);
    let mut reader = Running::spawn(&mut broker.ringlog(&["consume", "live"]));
    let lines = reader.lines();
    let mut writer = Running::spawn(broker.ringlog(&["produce", "live"]).stdin(Stdio::piped()));
    let mut input = writer.child.stdin.take().expect("it is piped");
    for n in 0..20 {
        writeln!(input, "{n}").expect("the producer reads");
        assert_eq!(lines.recv_timeout(PATIENCE).expect("it comes without another"), n.to_string());
    }
    drop(input);
    writer.finish().ok();
}

#[test]
fn a_reader_that_starts_at_the_end_sees_only_what_comes_later() {
    let data = folder();
    let broker = Broker::start(data.path());
    broker.create_topic("late", 1);
    broker.run_with_input(&["produce", "late"], "old\n");
    let mut reader = Running::spawn(&mut broker.ringlog(&["consume", "late", "--from", "end"]));
    let lines = reader.lines();
    // It cannot tell when it has subscribed: so records come until one is seen.
    let seen = (0..).find_map(|n: u32| {
        broker.run_with_input(&["produce", "late"], format!("new {n}\n"));
        lines.recv_timeout(Duration::from_millis(200)).ok()
    });
    assert!(seen.is_some_and(|line| line.starts_with("new ")));
}

#[test]
fn until_end_does_not_wait_for_what_comes_while_it_reads() {
    let data = folder();
    let broker = Broker::start(data.path());
    broker.create_topic("busy", 3);
    broker.run_with_input(&["produce", "busy", "--batch-bytes", "2k"], many_lines(5_000));
    let mut writer = Running::spawn(broker.ringlog(&["produce", "busy"]).stdin(Stdio::piped()));
    let mut input = writer.child.stdin.take().expect("it is piped");
    let feeder = thread::spawn(move || while input.write_all(b"more\n").is_ok() {});
    let got = broker.run(&["consume", "busy", "--until-end"]);
    assert!(got.text().lines().filter(|line| *line != "more").count() == 5_000);
    drop(writer);
    feeder.join().expect("the feeder ends with the producer");
}

#[test]
fn a_reader_of_an_empty_topic_ends_at_once() {
    let data = folder();
    let broker = Broker::start(data.path());
    broker.create_topic("empty", 2);
    assert_eq!(broker.run(&["consume", "empty", "--until-end"]).text(), "");
}

#[test]
fn a_closed_pipe_is_a_quiet_end() {
    let data = folder();
    let broker = Broker::start(data.path());
    broker.create_topic("long", 1);
    broker.run_with_input(&["produce", "long"], many_lines(50_000));
    let mut reader = Running::spawn(&mut broker.ringlog(&["consume", "long"]));
    drop(reader.child.stdout.take());
    let ran = reader.finish();
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
}
