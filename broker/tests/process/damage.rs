//! A stopped broker's files damaged at random: checker and start agree on what is wrong, the rest is served, nothing is served
//! where it was not acknowledged, and nothing that is damaged is thrown away. `scripts/damage-loop` runs many cycles.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::check::{check, files};
use super::helpers::{Broker, folder, ringlog, run, run_with_input};
use super::vandal::{Random, Wound, damage, files_of, is_kept};

const CYCLES: u64 = 4;
const TOPICS: [(&str, u32, &str); 2] =
    [("small", 3, "segment.bytes=65536"), ("large", 2, "segment.bytes=1048576")];

/// What was acknowledged: topic and partition, then the records in the order of their offsets.
type Acked = BTreeMap<String, Vec<String>>;

#[test]
fn damage_at_random_is_named_and_kept_and_the_rest_is_served() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    let cycles = number("RINGLOG_DAMAGE_CYCLES").unwrap_or(CYCLES);
    let seed = number("RINGLOG_DAMAGE_SEED").unwrap_or(1);
    (seed..seed + cycles).for_each(one_cycle);
}

fn one_cycle(seed: u64) {
    println!("RINGLOG_DAMAGE_SEED={seed}");
    let data = folder();
    let mut random = Random::new(seed);
    let acked = fill(data.path(), &mut random);
    let all = files_of(data.path());
    let wounds: Vec<Wound> = (0..1 + random.below(3)).filter_map(|_| damage(&all, &mut random)).collect();
    println!("{wounds:#?}");
    let checked = check(data.path(), &["--json"]);
    let report: Value = serde_json::from_slice(&checked.stdout).expect("JSON");
    println!("{:#}", report["findings"]);
    assert_eq!(checked.code, Some(if report["sound"] == true { 0 } else { 1 }));
    if found(&report, |finding| finding["weight"] == "refuses-start") {
        return refuses(data.path());
    }
    let is_named = |wound: &&Wound| {
        let path = wound.path.strip_prefix(data.path()).expect("it is below").to_str().expect("text");
        // One of two copies, and the other is sound.
        let is_spare = |finding: &Value| finding["outcome"].as_str().unwrap().starts_with("nothing is lost");
        let names = |finding: &Value| finding["weight"] != "harmless" && finding["file"] == path;
        found(&report, |finding| names(finding) && !is_spare(finding)) && is_kept(data.path(), wound)
    };
    let to_keep: Vec<&Wound> = wounds.iter().filter(is_named).collect();

    let broker = Broker::start_with(data.path(), &["--cores", ["1", "2", "3"][random.below(3)]]);
    let told = broker.ready.contains("DAMAGED") || broker.ready.contains("QUARANTINED");
    assert_eq!(told, found(&report, |finding| finding["weight"] == "at-start"), "{}", broker.ready);
    let in_journals = |wound: &Wound| wound.path.starts_with(data.path().join("journal"));
    for partition in report["partitions"].as_array().expect("a list") {
        let name = partition["partition"].as_str().expect("a name");
        let acked = acked.get(name).map_or(&[][..], Vec::as_slice);
        let end = partition["end_offset"].as_u64().expect("an offset") as usize;
        let may_end_early = partition["quarantined"] == true || wounds.iter().any(in_journals);
        assert!(
            end == acked.len() || end < acked.len() && may_end_early,
            "{name} ends at {end} of {}",
            acked.len()
        );
        let served = serve(&broker, name, end, acked, &report);
        assert_eq!(served, partition["records"], "of {name} as much is served as was told");
    }
    let (code, said) = broker.stop_by("TERM");
    assert_eq!(code, Some(0), "{said}");
    for wound in to_keep {
        assert!(is_kept(data.path(), wound), "{wound:?} is gone");
    }
}

fn found(report: &Value, is_meant: impl Fn(&Value) -> bool) -> bool {
    report["findings"].as_array().expect("a list").iter().any(is_meant)
}

/// Records of all kinds: journaled and past the journal, over several segments, behind ends of both kinds.
fn fill(data: &Path, random: &mut Random) -> Acked {
    let mut acked = Acked::new();
    for life in 0..1 + random.below(3) {
        let broker = Broker::start_with(data, &["--cores", ["1", "2"][random.below(2)]]);
        for (topic, partitions, setting) in TOPICS {
            if life == 0 {
                let partitions = partitions.to_string();
                broker.run(&["topic", "create", topic, "--partitions", &partitions, "--set", setting]);
            }
            let lines: Vec<String> = match topic {
                "small" => (0..500 + random.below(2000))
                    .map(|n| format!("{life} {n} {}", "x".repeat(n % 97)))
                    .collect(),
                _ => (0..random.below(1200)).map(|n| format!("{life} {n} {}", "y".repeat(3000))).collect(),
            };
            let batch_bytes = if topic == "small" { "4k" } else { "600k" };
            let produce = ["produce", topic, "--print-acks", "--batch-bytes", batch_bytes];
            let mut input = lines.join("\n");
            input.push('\n');
            if lines.is_empty() {
                continue;
            }
            let ran = run_with_input(&mut broker.ringlog(&produce), input.as_bytes()).ok();
            note(topic, &lines, ran.text(), &mut acked);
        }
        match random.one_in(2) {
            true => broker.kill(),
            false => assert_eq!(broker.stop_by("TERM").0, Some(0)),
        }
    }
    acked
}

/// `partition offset` for each line.
fn note(topic: &str, lines: &[String], answers: &str, acked: &mut Acked) {
    let mut places: Vec<(&str, usize, &String)> = Vec::new();
    for (line, answer) in lines.iter().zip(answers.lines()) {
        let (partition, offset) = answer.split_once(' ').expect("two words a line");
        places.push((partition, offset.parse().expect("an offset"), line));
    }
    assert_eq!(places.len(), lines.len());
    places.sort();
    for (partition, offset, line) in places {
        let records = acked.entry(format!("{topic}/{partition}")).or_default();
        assert_eq!(records.len(), offset, "offsets have no gaps");
        records.push(line.clone());
    }
}

/// Reads a partition over the places that were told, and over no others, as a user would. Returns how many records came.
fn serve(broker: &Broker, name: &str, end: usize, acked: &[String], report: &Value) -> usize {
    let (topic, partition) = name.split_once('/').expect("topic and number");
    let (mut offset, mut served) = (0, 0);
    while offset < end {
        let from = offset.to_string();
        let consume = [
            "consume",
            topic,
            "--partition",
            partition,
            "--from",
            &from,
            "--until-end",
            "--format",
            "%o %v\\n",
        ];
        let ran = run(&mut broker.ringlog(&consume));
        for line in ran.text().lines() {
            let (at, value) = line.split_once(' ').expect("two parts a line");
            assert_eq!(at, offset.to_string(), "offsets are consecutive");
            assert_eq!(value, acked[offset], "{name} at offset {offset}");
            (offset, served) = (offset + 1, served + 1);
        }
        // A quarantined partition ends with an error.
        if ran.code == Some(0) || offset >= end {
            break;
        }
        let told = report["findings"].as_array().expect("a list").iter();
        let mut lost = told.filter(|finding| finding["partition"] == name).map(|finding| &finding["offsets"]);
        let holds = |range: &&Value| {
            let bound = |at: usize| range[at].as_u64().unwrap_or(0) as usize;
            (bound(0)..bound(1)).contains(&offset)
        };
        let lost = lost.find(holds).unwrap_or_else(|| panic!("{name} at {offset}: {}", ran.stderr));
        offset = lost[1].as_u64().expect("an offset") as usize;
    }
    served
}

/// A start says in words that it will not, and changes nothing.
fn refuses(data: &Path) {
    let before = files(data);
    let refused =
        run(ringlog().args(["serve", "--listen", "127.0.0.1:0", "--cores", "2", "--data"]).arg(data)).code(1);
    assert!(
        refused.stderr.contains("nothing was changed") || refused.stderr.contains("newer"),
        "{}",
        refused.stderr
    );
    assert!(files(data) == before, "nothing was changed");
}

#[test]
fn what_is_sound_of_a_quarantined_partition_is_copied_to_a_new_topic() {
    let data = folder();
    let broker = Broker::start(data.path());
    broker.create_topic("t", 1);
    broker.run_with_input(&["produce", "t"], "one\ntwo\n");
    broker.stop_by("TERM");
    let broker = Broker::start(data.path());
    for line in ["to be damaged\n", "behind it\n"] {
        broker.run_with_input(&["produce", "t"], line);
    }
    broker.kill();
    flip_in_journal(data.path(), b"to be damaged");
    check(data.path(), &[]).code(1);
    for _ in 0..2 {
        // Told at every start, not only at the one that found it.
        let broker = Broker::start(data.path());
        assert!(broker.ready.contains("1 partition QUARANTINED"), "{}", broker.ready);
        let refused = run_with_input(&mut broker.ringlog(&["produce", "t"]), b"more\n").code(1);
        assert!(refused.stderr.contains("quarantined"), "{}", refused.stderr);
        broker.stop_by("TERM");
    }
    let broker = Broker::start(data.path());
    let consume = ["consume", "t", "--partition", "0", "--until-end", "--format", "json"];
    let sound = run(&mut broker.ringlog(&consume)).code(1);
    assert!(sound.stderr.contains("quarantined"), "{}", sound.stderr);
    broker.create_topic("t-2", 1);
    broker.run_with_input(&["produce", "t-2", "--format", "json"], &sound.stdout);
    broker.run(&["topic", "delete", "t"]);
    broker.run_with_input(&["produce", "t-2"], "three\n");
    assert_eq!(broker.run(&["consume", "t-2", "--until-end"]).text(), "one\ntwo\nthree\n");
    broker.stop_by("TERM");
    check(data.path(), &[]).ok();
}

#[test]
fn records_without_a_key_leave_a_quarantined_partition_out() {
    let data = folder();
    let broker = Broker::start(data.path());
    broker.create_topic("t", 2);
    for line in ["to be damaged\n", "behind it\n"] {
        broker.run_with_input(&["produce", "t", "--partition", "0"], line);
    }
    broker.kill();
    flip_in_journal(data.path(), b"to be damaged");
    let broker = Broker::start(data.path());
    // A producer begins with a partition at random.
    for n in 0..12 {
        let places = broker.run_with_input(&["produce", "t", "--print-acks"], format!("{n}\n"));
        assert_eq!(places.text(), format!("1 {n}\n"));
    }
    let many: String = (0..1000).map(|n| format!("{n}\n")).collect();
    broker.run_with_input(&["produce", "t", "--batch-bytes", "200"], many);
    let named = run_with_input(&mut broker.ringlog(&["produce", "t", "--partition", "0"]), b"x\n").code(1);
    assert!(named.stderr.contains("quarantined"), "{}", named.stderr);
    let described = broker.run(&["topic", "describe", "t"]);
    assert!(described.text().lines().any(|line| line.ends_with("QUARANTINED")), "{}", described.text());
}

/// Changes a byte of what one of the journal files holds.
fn flip_in_journal(data: &Path, what: &[u8]) {
    for path in files_of(&data.join("journal")) {
        let mut bytes = std::fs::read(&path).expect("a file");
        let found = bytes.windows(what.len()).position(|window| window == what);
        if let Some(at) = found {
            bytes[at] ^= 1;
            return std::fs::write(path, bytes).expect("written");
        }
    }
    panic!("no journal file holds it");
}
