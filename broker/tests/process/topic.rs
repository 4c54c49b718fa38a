//! `ringlog topic`.

use serde_json::Value;

use super::helpers::{Broker, folder, run};

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("--json prints JSON")
}

#[test]
fn a_topic_is_created_listed_described_and_deleted() {
    let data = folder();
    let broker = Broker::start(data.path());
    let create = ["topic", "create", "orders", "--partitions", "3", "--set", "ack=memory", "--json"];
    let created = json(broker.run(&create).text());
    assert_eq!((&created["name"], &created["partitions"]), (&"orders".into(), &3.into()));
    assert_eq!(created["config"]["ack"], "memory");

    let listed = json(broker.run(&["topic", "list", "--json"]).text());
    assert_eq!(listed[0]["name"], "orders");
    assert!(broker.run(&["topic", "list"]).text().contains("orders"));

    broker.run_with_input(&["produce", "orders", "--partition", "1"], "a\nb\n");
    let described = json(broker.run(&["topic", "describe", "orders", "--json"]).text());
    let ends: Vec<i64> = (0..3)
        .map(|at| described["partition_offsets"][at]["end_offset"].as_i64().expect("an offset"))
        .collect();
    assert_eq!(ends, [0, 2, 0]);
    assert!(broker.run(&["topic", "describe", "orders"]).text().contains("ack = memory"));

    broker.run(&["topic", "delete", "orders"]);
    assert_eq!(json(broker.run(&["topic", "list", "--json"]).text()), Value::Array(vec![]));
}

/// A deletion succeeds although an operator has removed the files before.
#[test]
fn a_topic_whose_files_are_gone_is_deleted() {
    let data = folder();
    let broker = Broker::start(data.path());
    for name in ["whole", "half", "all"] {
        broker.create_topic(name, 2);
        broker.run_with_input(&["produce", name], "a\nb\n");
    }
    // A stop flushes: a partition has a folder once it has a segment.
    assert_eq!(broker.stop_by("TERM").0, Some(0));
    let broker = Broker::start(data.path());
    let topics = data.path().join("topics");
    let folder_of = |name: &str| {
        let found = std::fs::read_dir(&topics).expect("it is there").flatten();
        let named = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with(name);
        found.map(|entry| (named(&entry), entry.path())).find(|(named, _)| *named).expect("it is there").1
    };
    std::fs::remove_dir_all(folder_of("whole@")).expect("it can be removed");
    let partition = std::fs::read_dir(folder_of("half@")).expect("it is there").flatten().next();
    std::fs::remove_dir_all(partition.expect("it has partitions").path()).expect("it can be removed");
    broker.run(&["topic", "delete", "whole"]);
    broker.run(&["topic", "delete", "half"]);
    std::fs::remove_dir_all(&topics).expect("it can be removed");
    broker.run(&["topic", "delete", "all"]);
    assert_eq!(json(broker.run(&["topic", "list", "--json"]).text()), Value::Array(vec![]));
    broker.create_topic("whole", 2);
    broker.run_with_input(&["produce", "whole"], "c\n");
    let (code, said) = broker.stop_by("TERM");
    assert_eq!(code, Some(0), "{said}");
    let broker = Broker::start(data.path());
    assert_eq!(broker.run(&["consume", "whole", "--until-end"]).text(), "c\n");
}

#[test]
fn topics_outlive_their_broker() {
    let data = folder();
    let broker = Broker::start(data.path());
    broker.create_topic("kept", 2);
    broker.create_topic("dropped", 1);
    broker.run(&["topic", "delete", "dropped"]);
    broker.kill();

    let broker = Broker::start(data.path());
    let listed = broker.run(&["topic", "list"]);
    assert!(listed.text().contains("kept") && !listed.text().contains("dropped"), "{}", listed.text());
}

#[test]
fn a_topic_that_is_there_already_is_not_created_again() {
    let data = folder();
    let broker = Broker::start(data.path());
    broker.create_topic("orders", 1);
    let again = run(&mut broker.ringlog(&["topic", "create", "orders"])).code(1);
    assert!(again.stderr.contains("orders"), "{}", again.stderr);
}

#[test]
fn names_that_could_not_be_folders_are_refused() {
    let data = folder();
    let broker = Broker::start(data.path());
    let long = "x".repeat(250);
    for name in ["", ".", "..", "a/b", "a b", "a\u{7}b", "é", long.as_str()] {
        run(&mut broker.ringlog(&["topic", "create", "--", name])).code(1);
    }
    assert_eq!(broker.run(&["topic", "list", "--json"]).text().trim(), "[]");
}

#[test]
fn counts_and_settings_that_make_no_sense_are_refused() {
    let data = folder();
    let broker = Broker::start(data.path());
    for flags in
        [["--partitions", "0"], ["--partitions", "10001"], ["--set", "colour=red"], ["--set", "ack=maybe"]]
    {
        let refused = run(&mut broker.ringlog(&["topic", "create", "orders", flags[0], flags[1]])).code(1);
        assert!(!refused.stderr.is_empty());
    }
    run(&mut broker.ringlog(&["topic", "create", "orders", "--set", "novalue"])).code(2);
}

#[test]
fn a_topic_that_is_not_there_is_named() {
    let data = folder();
    let broker = Broker::start(data.path());
    for arguments in [
        &["topic", "describe", "nowhere"][..],
        &["topic", "delete", "nowhere"],
        &["produce", "nowhere"],
        &["consume", "nowhere"],
        &["consume", "nowhere", "--until-end"],
    ] {
        let failed = run(&mut broker.ringlog(arguments)).code(1);
        assert!(failed.stderr.contains("nowhere"), "{arguments:?} said: {}", failed.stderr);
    }
}

#[test]
fn a_broker_that_is_not_there_is_named() {
    let failed = run(super::helpers::ringlog().args(["topic", "list", "--broker", "127.0.0.1:1"])).code(1);
    assert!(failed.stderr.contains("127.0.0.1:1"), "{}", failed.stderr);
}
