//! How `produce` and `consume` end before they are done: by a signal, a broker that is gone, a reader that is gone. Nothing
//! is lost, and what became of the records is said.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use super::helpers::{Broker, PATIENCE, Running, folder, run, run_with_input};

#[test]
fn a_signal_sends_and_awaits_what_was_read() {
    let data = folder();
    let broker = Broker::start(data.path());
    for (signal, code) in [("TERM", 143), ("INT", 130), ("HUP", 129)] {
        broker.create_topic(signal, 1);
        let produce = ["produce", signal, "--linger", "60s"];
        let mut producer = Running::spawn(broker.ringlog(&produce).stdin(Stdio::piped()));
        let mut input = producer.child.stdin.take().expect("it is piped");
        // Half a line is no record.
        input.write_all(b"one\ntwo\nthr").expect("it reads");
        // It lingers, so nothing shows when the lines are read; a signal that comes before would leave lines out.
        thread::sleep(Duration::from_secs(2));
        producer.signal(signal);
        let ran = producer.finish().code(code);
        assert!(ran.stderr.contains(&format!("stopped by SIG{signal}")), "{}", ran.stderr);
        assert_eq!(ran.last_words(), "acked 2 of 2 records");
        assert_eq!(broker.run(&["consume", signal, "--until-end"]).text(), "one\ntwo\n");
        drop(input);
    }
}

#[test]
fn a_signal_ends_a_reader_with_what_it_has_read() {
    let data = folder();
    let broker = Broker::start(data.path());
    broker.create_topic("t", 1);
    broker.run_with_input(&["produce", "t"], "one\ntwo\n");
    for (signal, code) in [("TERM", 143), ("INT", 130), ("HUP", 129)] {
        let mut reader = Running::spawn(&mut broker.ringlog(&["consume", "t"]));
        let lines = reader.lines();
        for expected in ["one", "two"] {
            assert_eq!(lines.recv_timeout(PATIENCE).as_deref(), Ok(expected));
        }
        reader.signal(signal);
        let status = reader.child.wait().expect("it can be waited for");
        assert_eq!(status.code(), Some(code));
    }
}

#[test]
fn the_end_of_the_input_ends_a_linger() {
    let data = folder();
    let broker = Broker::start(data.path());
    broker.create_topic("t", 1);
    let begun = Instant::now();
    broker.run_with_input(&["produce", "t", "--linger", "60s"], "one\n");
    assert!(begun.elapsed() < Duration::from_secs(50), "{:?}", begun.elapsed());
}

#[test]
fn a_reader_of_acks_that_goes_away_leaves_no_line_out() {
    const LINES: usize = 50_000;
    let data = folder();
    let broker = Broker::start(data.path());
    broker.create_topic("t", 1);
    let produce = ["produce", "t", "--print-acks", "--batch-bytes", "4k"];
    let mut producer = Running::spawn(broker.ringlog(&produce).stdin(Stdio::piped()));
    let mut input = producer.child.stdin.take().expect("it is piped");
    let feeder = thread::spawn(move || {
        for n in 0..LINES {
            writeln!(input, "{n}").expect("it reads to the end");
        }
    });
    let mut first = String::new();
    let acks = producer.child.stdout.take().expect("it is piped");
    BufReader::new(acks).read_line(&mut first).expect("an ack comes");
    assert_eq!(first, "0 0\n");
    let ran = producer.finish().code(0);
    feeder.join().expect("every line was taken");
    assert_eq!(ran.last_words(), format!("acked {LINES} of {LINES} records"));
}

#[test]
fn an_idle_reader_notices_that_nothing_reads_it() {
    let data = folder();
    let broker = Broker::start(data.path());
    broker.create_topic("t", 1);
    let mut reader = Running::spawn(&mut broker.ringlog(&["consume", "t"]));
    drop(reader.child.stdout.take());
    reader.finish().code(0);
}

#[test]
fn a_broker_that_dies_leaves_a_prefix_of_the_input() {
    let data = folder();
    let broker = Broker::start(data.path());
    broker.create_topic("t", 1);
    let address = broker.address;
    let produce = ["produce", "t", "--print-acks", "--batch-bytes", "4k"];
    let mut producer = Running::spawn(broker.ringlog(&produce).stdin(Stdio::piped()));
    let mut input = producer.child.stdin.take().expect("it is piped");
    let feeder = thread::spawn(move || (0..).take_while(|n| writeln!(input, "{n}").is_ok()).count());
    let acks = producer.lines();
    for _ in 0..1000 {
        acks.recv_timeout(PATIENCE).expect("acks come");
    }
    broker.kill();
    let broker = Broker::start_again(data.path(), address);
    let ran = producer.finish().code(1);
    feeder.join().expect("writing does not panic");
    let acked = 1000 + acks.iter().filter(|line| line.starts_with("0 ")).count();
    assert!(ran.stderr.contains(&format!("connection to {address} lost")), "{}", ran.stderr);
    assert!(ran.last_words().starts_with(&format!("acked {acked}, refused 0, unknown ")), "{}", ran.stderr);
    let log = broker.run(&["consume", "t", "--until-end"]);
    assert!(log.text().lines().count() >= acked, "what was acknowledged is there");
    let wrong = log.text().lines().enumerate().find(|(n, line)| n.to_string() != **line);
    assert_eq!(wrong, None, "the log is a prefix of the input");
}

#[test]
fn a_reader_says_that_its_broker_is_gone_and_gives_up_in_time() {
    let data = folder();
    let broker = Broker::start(data.path());
    broker.create_topic("t", 1);
    let input: String = (0..400_000).map(|n| format!("{n}\n")).collect();
    broker.run_with_input(&["produce", "t"], input);
    let address = broker.address.to_string();
    let consume = ["consume", "t", "--until-end", "--timeout", "1s"];
    let mut reader = Running::spawn(&mut broker.ringlog(&consume));
    let mut first = [0; 2];
    let mut records = reader.child.stdout.take().expect("it is piped");
    std::io::Read::read_exact(&mut records, &mut first).expect("records come");
    broker.kill();
    let drain = thread::spawn(move || std::io::copy(&mut records, &mut std::io::sink()));
    let ran = reader.finish().code(1);
    drain.join().expect("reading does not panic").expect("a pipe can be read");
    let lost =
        ran.stderr.lines().filter(|line| line.contains(&format!("connection to {address} lost"))).count();
    assert_eq!(lost, 1, "{}", ran.stderr);
    assert!(ran.last_words().contains("no record came for 1s"), "{}", ran.stderr);
}

#[test]
fn until_end_of_an_offset_that_is_not_there_is_an_error_like_without_it() {
    let data = folder();
    let broker = Broker::start(data.path());
    broker.create_topic("t", 1);
    broker.run_with_input(&["produce", "t"], "x\n");
    let consume = ["consume", "t", "--from", "99", "--until-end"];
    let failed = run(&mut broker.ringlog(&consume)).code(1);
    assert!(failed.stderr.contains("offset 99 is not in the log, which has 0 to 1"), "{}", failed.stderr);
    let reset = broker.run(&[&consume[..], &["--reset", "earliest"]].concat());
    assert_eq!(reset.text(), "x\n");
    run(&mut broker.ringlog(&[&consume[..], &["--reset", "latest"]].concat())).code(2);
}

#[test]
fn a_consumer_and_a_description_do_not_take_one_topic_for_another_of_its_name() {
    let data = folder();
    let broker = Broker::start(data.path());
    broker.create_topic("t", 1);
    broker.run_with_input(&["produce", "t"], "old\n");
    let address = broker.address;
    let mut reader = Running::spawn(&mut broker.ringlog(&["consume", "t"]));
    let lines = reader.lines();
    assert_eq!(lines.recv_timeout(PATIENCE).as_deref(), Ok("old"));
    reader.signal("STOP");
    broker.stop_by("TERM");
    let broker = Broker::start_again(data.path(), address);
    broker.run(&["topic", "delete", "t"]);
    broker.create_topic("t", 1);
    broker.run_with_input(&["produce", "t"], "new 1\nnew 2\n");
    reader.signal("CONT");
    let ran = reader.finish().code(1);
    assert!(ran.stderr.contains("topic `t` was deleted, and made again"), "{}", ran.stderr);
    assert_eq!(lines.iter().next(), None, "nothing of the new topic");
    let failed = run_with_input(&mut broker.ringlog(&["produce", "gone"]), b"x\n").code(1);
    assert!(failed.stderr.contains("there is no topic `gone`"), "{}", failed.stderr);
}

#[test]
fn several_brokers_may_be_named_and_the_first_that_answers_is_used() {
    let data = folder();
    let broker = Broker::start(data.path());
    broker.create_topic("t", 1);
    let both = format!("127.0.0.1:1,{}", broker.address);
    let listed = run(super::helpers::ringlog().args(["topic", "list", "--broker", &both])).code(0);
    assert!(listed.text().contains("t "), "{}", listed.text());
    run(super::helpers::ringlog().env("RINGLOG_BROKER", &both).args(["topic", "list"])).code(0);
    let unknown =
        run(super::helpers::ringlog().args(["topic", "list", "--broker", "host.invalid:1"])).code(1);
    assert!(unknown.stderr.contains("the host of `host.invalid:1` is not known"), "{}", unknown.stderr);
}
