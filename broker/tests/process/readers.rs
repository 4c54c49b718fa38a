//! Readers at their own pace: one that is slow, or dead, costs nobody else anything, and the broker's memory stays
//! bounded.

use ringlog_protocol::messages::{Position, Subscribe};
use ringlog_protocol::{Kind, try_encode};

use super::helpers::{Broker, Running, folder, many_lines};
use super::wire::{Answer, Wire};

#[test]
fn two_readers_at_their_own_pace_see_the_same() {
    let data = folder();
    let broker = Broker::start(data.path());
    broker.create_topic("t", 1);
    let early = many_lines(20_000);
    broker.run_with_input(&["produce", "t"], &early);
    let live = Running::spawn(&mut broker.ringlog(&["consume", "t", "--from", "20000", "--count", "20000"]));
    let behind =
        Running::spawn(&mut broker.ringlog(&["consume", "t", "--from", "begin", "--count", "40000"]));
    let late = early.to_uppercase();
    broker.run_with_input(&["produce", "t"], &late);
    assert!(live.finish().ok().text() == late);
    assert!(behind.finish().ok().text() == early + &late);
}

#[test]
fn readers_that_never_read_hold_back_nobody_and_memory_stays_bounded() {
    const ROUNDS: usize = 6;
    let data = folder();
    let broker = Broker::start(data.path());
    broker.create_topic("t", 2);
    let mut stuck: Vec<Wire> = (0..16).map(|n| stuck_reader(&broker, n % 2)).collect();
    let input = "0123456789abcdef".repeat(60) + "\n";
    let input = input.repeat(16_000);
    for _ in 0..ROUNDS {
        broker.run_with_input(&["produce", "t"], &input);
    }
    let got = broker.run(&["consume", "t", "--until-end"]);
    assert_eq!(got.stdout.len(), ROUNDS * input.len());
    // Two shards: 128 MiB of recent log each, and what reading and journals need besides. What the stuck readers
    // were sent would be sixteen times the topic.
    let resident = broker.resident_bytes();
    assert!(resident < 640 << 20, "{} MiB resident", resident >> 20);
    // They were not forgotten: what the socket held is there.
    assert!(stuck.iter_mut().all(|wire| matches!(wire.receive(), Answer::Frame { .. })));
}

/// Subscribes with all the credit there is, and does not read again.
fn stuck_reader(broker: &Broker, partition: u32) -> Wire {
    let mut wire = Wire::greeted(broker.address);
    let handle = wire.open("t", partition);
    let subscribe = Subscribe { from: Position::Begin, credit_bytes: u32::MAX };
    wire.send(&try_encode(Kind::Subscribe, 9, handle, 0, &subscribe).expect("a subscribe fits"));
    wire
}

#[test]
fn one_client_reads_and_fills_more_partitions_of_a_shard_than_a_connection_may_have() {
    const PARTITIONS: usize = ringlog_protocol::limits::MAX_SUBSCRIPTIONS + 4;
    let data = folder();
    let broker = Broker::start_with(data.path(), &["--cores", "1"]);
    broker.create_topic("wide", PARTITIONS as u32);
    let lines: String = (0..PARTITIONS)
        .map(|partition| format!("{{\"partition\":{partition},\"value\":\"{partition}\"}}\n"))
        .collect();
    broker.run_with_input(&["produce", "wide", "--format", "json"], &lines);
    let consume = ["consume", "wide", "--format", "%p %v\\n"];
    let until_end = broker.run(&[&consume[..], &["--until-end"]].concat());
    let count = PARTITIONS.to_string();
    let live = broker.run(&[&consume[..], &["--count", &count]].concat());
    for read in [until_end, live] {
        let mut seen: Vec<usize> = Vec::new();
        for line in read.text().lines() {
            let (partition, value) = line.split_once(' ').expect("two words");
            assert_eq!(partition, value);
            seen.push(value.parse().expect("a number"));
        }
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..PARTITIONS), "every partition is read once");
    }
}
