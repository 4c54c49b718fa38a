//! kill -9 in the middle of producing, over and over: every line that was acknowledged is there once, in its place, in
//! order, and nothing is there twice.

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc::RecvTimeoutError;
use std::thread;

use super::helpers::{Broker, PATIENCE, Running, folder};

const PARTITIONS: u32 = 3;
const CYCLES: usize = 10;
/// Acks before the first kill; later ones wait for more.
const FEWEST: usize = 200;

/// Where a line was acknowledged.
type Place = (u32, i64);

#[test]
fn what_was_acknowledged_is_there_once_in_order_after_ten_kills() {
    kill_and_check(|_| "2");
}

#[test]
fn what_was_acknowledged_is_there_once_in_order_when_the_cores_change_between_kills() {
    kill_and_check(|cycle| ["2", "1", "3", "1", "2"][cycle % 5]);
}

fn kill_and_check(cores: impl Fn(usize) -> &'static str) {
    let data = folder();
    let mut acked = HashMap::new();
    for cycle in 0..CYCLES {
        let broker = Broker::start_with(data.path(), &["--cores", cores(cycle)]);
        if cycle == 0 {
            broker.create_topic("t", PARTITIONS);
        } else {
            check(&broker, &acked);
        }
        // Some lines more each time, so that the kill does not always meet the same moment.
        produce_and_kill(broker, cycle, FEWEST + 700 * cycle, &mut acked);
    }
    finish(data.path(), cores(CYCLES), &acked);
}

/// After the last kill, and once more after an orderly stop: recovering twice equals recovering once.
fn finish(data: &Path, cores: &str, acked: &HashMap<String, Place>) {
    for _ in 0..2 {
        let broker = Broker::start_with(data, &["--cores", cores]);
        check(&broker, acked);
        let (code, said) = broker.stop_by("TERM");
        assert_eq!(code, Some(0), "{said}");
    }
}

/// Feeds lines without an end, kills the broker after `enough` acks, and notes what was acknowledged.
fn produce_and_kill(broker: Broker, cycle: usize, enough: usize, acked: &mut HashMap<String, Place>) {
    let produce = ["produce", "t", "--print-acks", "--batch-bytes", "2k", "--delivery-timeout", "1s"];
    let mut producer = Running::spawn(broker.ringlog(&produce).stdin(Stdio::piped()));
    let lines = producer.lines();
    let mut input = producer.child.stdin.take().expect("it is piped");
    let feeder = thread::spawn(move || (0..).find(|n| writeln!(input, "{}", line(cycle, *n)).is_err()));

    let mut broker = Some(broker);
    let mut answers = 0;
    loop {
        match lines.recv_timeout(PATIENCE) {
            Ok(answer) => {
                if let Some(place) = place(&answer) {
                    acked.insert(line(cycle, answers), place);
                }
                answers += 1;
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => panic!("no answer after {answers} lines"),
        }
        if answers >= enough
            && let Some(broker) = broker.take()
        {
            broker.kill();
        }
    }
    assert!(acked.len() >= (cycle + 1) * FEWEST, "too little was acknowledged to show anything");
    let ran = producer.finish().code(1);
    assert!(ran.last_words().starts_with("acked "), "{}", ran.stderr);
    feeder.join().expect("the feeder ends with the producer");
}

fn line(cycle: usize, n: usize) -> String {
    format!("{cycle:03} {n:08}")
}

/// `partition offset`, or nothing for a line that failed.
fn place(answer: &str) -> Option<Place> {
    let (partition, offset) = answer.split_once(' ').expect("two words a line");
    Some((partition.parse().ok()?, offset.parse().expect("an offset")))
}

fn check(broker: &Broker, acked: &HashMap<String, Place>) {
    let got = broker.run(&["consume", "t", "--until-end", "--format", "%p %o %v\\n"]);
    let mut found: HashMap<&str, Place> = HashMap::new();
    let mut last: HashMap<u32, (i64, &str)> = HashMap::new();
    let mut seen = HashSet::new();
    for record in got.text().lines() {
        let mut parts = record.splitn(3, ' ');
        let mut part = || parts.next().expect("three parts a line");
        let (partition, offset) = (part().parse().expect("a partition"), part().parse().expect("an offset"));
        let value = part();
        assert!(seen.insert(value), "{value:?} is there twice");
        found.insert(value, (partition, offset));
        let before = last.insert(partition, (offset, value)).unwrap_or((-1, ""));
        assert_eq!(before.0 + 1, offset, "a gap in partition {partition}");
        assert!(before.1 < value, "{value:?} stands behind {:?} in partition {partition}", before.1);
    }
    for (line, place) in acked {
        assert_eq!(found.get(line.as_str()), Some(place), "{line:?} was acknowledged there");
    }
}
