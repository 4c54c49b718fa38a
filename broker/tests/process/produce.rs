//! `ringlog produce`: what goes in, where it goes, and what the exit code and the last line say.

use std::collections::BTreeMap;
use std::fs;

use ringlog_protocol::partitioner::partition_for_key;

use super::helpers::{Broker, folder, many_lines, run, run_with_input};

#[test]
fn a_hundred_thousand_lines_with_keys_come_back_in_order_where_kafka_would_put_them() {
    const LINES: usize = 100_000;
    const PARTITIONS: u32 = 4;
    let data = folder();
    let input = data.path().join("input.txt");
    fs::write(&input, many_lines(LINES)).expect("a file can be written");
    let broker = Broker::start(&data.path().join("data"));
    broker.create_topic("lines", PARTITIONS);

    let file = input.to_str().expect("a temporary path is text");
    let produced =
        broker.run(&["produce", "lines", "--file", file, "--key-sep", ":", "--header", "from=test"]);
    assert_eq!(produced.last_words(), format!("acked {LINES} of {LINES} records"));

    let mut expected: BTreeMap<u32, String> = BTreeMap::new();
    for line in many_lines(LINES).lines() {
        let (key, _) = line.split_once(':').expect("each line has a key");
        let partition = partition_for_key(key.as_bytes(), PARTITIONS);
        *expected.entry(partition).or_default() += &format!("{line} from=test\n");
    }
    for (partition, expected) in expected {
        let partition = partition.to_string();
        let format = "%k:%v %h\\n";
        let consume = ["consume", "lines", "--partition", &partition, "--until-end", "--format", format];
        let got = broker.run(&consume).stdout;
        assert_eq!(
            crc32c::crc32c(&got),
            crc32c::crc32c(expected.as_bytes()),
            "digests of partition {partition}"
        );
        assert!(got == expected.as_bytes(), "partition {partition} differs");
    }
}

#[test]
fn bytes_are_kept_as_they_are() {
    let data = folder();
    let broker = Broker::start(data.path());
    broker.create_topic("bytes", 1);
    let input = b"\xff\x00\r\n\nno line feed at the end";
    broker.run_with_input(&["produce", "bytes"], input);
    let got = broker.run(&["consume", "bytes", "--until-end"]).stdout;
    assert_eq!(got, [&input[..], b"\n"].concat());
}

#[test]
fn every_codec_and_every_ack_level_gives_the_same_records_back() {
    let data = folder();
    let broker = Broker::start(data.path());
    let input = many_lines(2_000);
    for (flag, values) in
        [("--compression", &["none", "gzip", "snappy", "lz4", "zstd"][..]), ("--ack", &["memory", "disk"])]
    {
        for value in values {
            broker.create_topic(value, 1);
            broker.run_with_input(
                &["produce", value, flag, value, "--batch-bytes", "8k", "--linger", "1ms"],
                &input,
            );
            let got = broker.run(&["consume", value, "--until-end"]);
            assert!(got.text() == input, "{flag} {value}");
        }
    }
}

#[test]
fn no_ack_is_wanted_and_the_records_come_all_the_same() {
    let data = folder();
    let broker = Broker::start(data.path());
    broker.create_topic("unacked", 1);
    let input = many_lines(500);
    broker.run_with_input(&["produce", "unacked", "--ack", "none"], &input);
    // Nobody said when they would be there: so wait for as many as there are.
    let got = broker.run(&["consume", "unacked", "--count", "500"]);
    assert!(got.text() == input);
}

#[test]
fn records_without_a_key_are_spread_and_all_there() {
    let data = folder();
    let broker = Broker::start(data.path());
    broker.create_topic("spread", 4);
    let input = many_lines(20_000);
    broker.run_with_input(&["produce", "spread", "--batch-bytes", "4k"], &input);
    let mut got: Vec<String> =
        broker.run(&["consume", "spread", "--until-end"]).text().lines().map(str::to_owned).collect();
    let mut expected: Vec<String> = input.lines().map(str::to_owned).collect();
    got.sort();
    expected.sort();
    assert!(got == expected);
    let described = broker.run(&["topic", "describe", "spread", "--json"]);
    assert!(!described.text().contains("\"end_offset\": 0"), "a partition is empty: {}", described.text());
}

#[test]
fn no_input_is_no_records_and_no_failure() {
    let data = folder();
    let broker = Broker::start(data.path());
    broker.create_topic("empty", 1);
    assert_eq!(broker.run(&["produce", "empty"]).last_words(), "acked 0 of 0 records");
}

#[test]
fn each_line_has_its_place_printed() {
    let data = folder();
    let broker = Broker::start(data.path());
    broker.create_topic("places", 2);
    let first = broker.run_with_input(&["produce", "places", "--partition", "1", "--print-acks"], "a\nb\n");
    assert_eq!(first.text(), "1 0\n1 1\n");
    let second = broker.run_with_input(&["produce", "places", "--partition", "1", "--print-acks"], "c\n");
    assert_eq!(second.text(), "1 2\n");
}

#[test]
fn a_line_that_is_too_large_is_refused_and_counted() {
    let data = folder();
    let broker = Broker::start(data.path());
    broker.run(&["topic", "create", "small", "--set", "max.message.bytes=1024"]);
    let input = format!("fits\n{}\n", "x".repeat(5_000));
    let produce = ["produce", "small", "--print-acks"];
    let produced = run_with_input(&mut broker.ringlog(&produce), input.as_bytes()).code(1);
    assert_eq!(produced.text(), "0 0\n- refused\n");
    assert_eq!(produced.last_words(), "acked 1, refused 1, unknown 0, not sent 0 of 2 records");
    assert!(produced.stderr.contains("line 2 failed"), "{}", produced.stderr);
    assert_eq!(broker.run(&["consume", "small", "--until-end"]).text(), "fits\n");
}

#[test]
fn a_partition_that_does_not_exist_is_refused() {
    let data = folder();
    let broker = Broker::start(data.path());
    broker.create_topic("few", 2);
    let produce = ["produce", "few", "--partition", "2"];
    let produced = run_with_input(&mut broker.ringlog(&produce), b"a\n").code(1);
    assert!(produced.last_words().starts_with("acked 0, refused 1"), "{}", produced.stderr);
    run(&mut broker.ringlog(&["consume", "few", "--partition", "2"])).code(1);
    run(&mut broker.ringlog(&["consume", "few", "--partition", "2", "--until-end"])).code(1);
}

#[test]
fn an_input_file_that_is_not_there_is_named() {
    let data = folder();
    let broker = Broker::start(data.path());
    broker.create_topic("orders", 1);
    let failed = run(&mut broker.ringlog(&["produce", "orders", "--file", "/not/here.txt"])).code(1);
    assert!(failed.stderr.contains("/not/here.txt"), "{}", failed.stderr);
}
