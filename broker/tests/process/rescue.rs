//! JSON lines, the form of records that loses nothing, and README's way out of a damaged partition, which uses them.

use serde_json::{Value, json};

use super::check::check;
use super::helpers::{Broker, folder, run, run_with_input};
use super::vandal::files_of;

/// Records that a text form changes: what is null or empty, what holds separators and line feeds, what is no text.
const ODD: &str = r#"{"partition":1,"timestamp":1700000000123,"key":"host:1","value":"x","headers":[]}
{"partition":1,"timestamp":0,"key":null,"value":"no key","headers":[]}
{"partition":1,"timestamp":1,"key":"","value":"","headers":[]}
{"partition":1,"timestamp":1700000000124,"key":"k","value":null,"headers":[]}
{"partition":0,"timestamp":1700000000125,"key":null,"value":null,"headers":[]}
{"partition":1,"timestamp":2,"key":"a\nb","value":"two\nlines\r\n","headers":[{"name":"h","value":"1"},{"name":"h","value":null}]}
{"partition":0,"timestamp":3,"key":{"base64":"/w=="},"value":{"base64":"AP8KgA=="},"headers":[{"name":"","value":{"base64":"/g=="}}]}
"#;

/// The records of JSON lines without what says where they came from.
fn records(lines: &str) -> Vec<Value> {
    let record = |line: &str| {
        let mut record: Value = serde_json::from_str(line).expect("JSON");
        let fields = record.as_object_mut().expect("an object");
        fields.remove("topic");
        fields.remove("offset");
        record
    };
    let mut records: Vec<Value> = lines.lines().map(record).collect();
    // Partitions come interleaved, each in its order.
    records.sort_by_key(|record| record["partition"].as_u64());
    records
}

#[test]
fn json_lines_take_every_record_to_another_topic_as_it_is() {
    let data = folder();
    let broker = Broker::start(data.path());
    for topic in ["source", "copy"] {
        broker.create_topic(topic, 2);
    }
    broker.run_with_input(&["produce", "source", "--format", "json"], ODD);
    let printed = broker.run(&["consume", "source", "--until-end", "--format", "json"]);
    assert_eq!(records(printed.text()), records(ODD));
    broker.run_with_input(&["produce", "copy", "--format", "json"], &printed.stdout);
    let copied = broker.run(&["consume", "copy", "--until-end", "--format", "json"]);
    assert_eq!(records(copied.text()), records(ODD));
}

#[test]
fn a_line_that_is_no_record_is_named_and_nothing_after_it_is_sent() {
    let data = folder();
    let broker = Broker::start(data.path());
    broker.create_topic("strict", 1);
    let input = "{\"value\":\"one\"}\n\n{\"valeu\":\"two\"}\n{\"value\":\"three\"}\n";
    let produce = ["produce", "strict", "--format", "json"];
    let failed = run_with_input(&mut broker.ringlog(&produce), input.as_bytes()).code(1);
    assert!(failed.stderr.contains("line 3 is no record: unknown field `valeu`"), "{}", failed.stderr);
    assert_eq!(failed.last_words(), "acked 1 of 1 records");
    assert_eq!(broker.run(&["consume", "strict", "--until-end"]).text(), "one\n");
}

#[test]
fn text_has_a_word_for_null_in_both_directions() {
    let data = folder();
    let broker = Broker::start(data.path());
    broker.create_topic("nulls", 1);
    let lines = "k:NULL\nNULL:v\n:\n";
    broker.run_with_input(&["produce", "nulls", "--key-sep", ":", "--null", "NULL"], lines);
    let consume = ["consume", "nulls", "--until-end", "--null", "NULL", "--format", "%k:%v\\n"];
    assert_eq!(broker.run(&consume).text(), lines);
}

#[test]
fn a_partition_with_a_damaged_place_is_copied_from_before_and_after_it() {
    let data = folder();
    let broker = Broker::start(data.path());
    broker.run(&["topic", "create", "t", "--partitions", "2"]);
    let produce = ["produce", "t", "--format", "json"];
    // Batches of their own.
    broker.run_with_input(&produce, ODD);
    let victim = json!({"partition": 1, "value": "to be damaged ".repeat(1000)});
    broker.run_with_input(&produce, victim.to_string());
    broker.run_with_input(&produce, ODD);
    broker.stop_by("TERM");
    flip_in(data.path(), b"to be damaged to be");
    let report: Value = serde_json::from_slice(&check(data.path(), &["--json"]).stdout).expect("JSON");
    let findings = report["findings"].as_array().expect("a list");
    let lost = findings.iter().find(|finding| finding["partition"] == "t/1").expect("it is found");
    let after = lost["offsets"][1].to_string();

    let broker = Broker::start(data.path());
    let consume = |from: &str| {
        let consume = ["consume", "t", "--partition", "1", "--from", from, "--until-end", "--format", "json"];
        run(&mut broker.ringlog(&consume))
    };
    let before = consume("begin").code(1);
    let rest = consume(&after);
    broker.create_topic("t-2", 2);
    for part in [&before, &rest] {
        broker.run_with_input(&["produce", "t-2", "--format", "json"], &part.stdout);
    }
    let copied = broker.run(&["consume", "t-2", "--until-end", "--format", "json"]);
    let expected: Vec<Value> =
        records(&ODD.repeat(2)).into_iter().filter(|record| record["partition"] == 1).collect();
    assert_eq!(records(copied.text()), expected);
}

/// Changes a byte where this stands in a segment.
fn flip_in(data: &std::path::Path, what: &[u8]) {
    for path in files_of(&data.join("topics")) {
        let mut bytes = std::fs::read(&path).expect("a file");
        if let Some(at) = bytes.windows(what.len()).position(|window| window == what) {
            bytes[at] ^= 1;
            return std::fs::write(path, bytes).expect("written");
        }
    }
    panic!("no segment holds it");
}
