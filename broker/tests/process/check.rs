//! `ringlog check`: its verdict, its words and its exit code, and that it changes nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::helpers::{Broker, Ran, folder, many_lines, ringlog, run};

/// Checks a folder, and that the check leaves every file of it as it was.
pub fn check(data: &Path, flags: &[&str]) -> Ran {
    let before = files(data);
    let ran = run(ringlog().args(["check", "--data"]).arg(data).args(flags));
    assert!(files(data) == before, "a check changes nothing");
    ran
}

/// Every file but the lock, with what it holds and when it was written last.
pub fn files(dir: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if !path.ends_with("LOCK") {
            let written =
                fs::symlink_metadata(&path).and_then(|metadata| metadata.modified()).expect("a file");
            // A link that leads nowhere holds nothing.
            found.insert(path.clone(), (fs::read(path).unwrap_or_default(), written));
        }
    }
    found
}

/// A broker's folder with some thousand records in three partitions.
fn filled(data: &Path) -> Broker {
    let broker = Broker::start(data);
    broker.create_topic("orders", 3);
    broker.run_with_input(&["produce", "orders", "--key-sep", ":"], many_lines(3000));
    broker
}

fn segment(data: &Path) -> PathBuf {
    let mut segments = files(data).into_keys().filter(|path| path.to_string_lossy().ends_with(".log"));
    segments.next().expect("there is a segment")
}

#[test]
fn a_sound_folder_is_told_in_figures_after_either_end() {
    let data = folder();
    filled(data.path()).kill();
    for is_stopped in [false, true] {
        if is_stopped {
            Broker::start(data.path()).stop_by("TERM");
        }
        let ran = check(data.path(), &[]).ok();
        let figure = |what: &str| {
            let line = ran.text().lines().find(|line| line.starts_with(what)).expect("the table has it");
            line.split_whitespace().last().expect("a figure").to_owned()
        };
        assert_eq!(
            (figure("topics"), figure("partitions"), figure("records")),
            ("1".into(), "3".into(), "3,000".into())
        );
        assert!(ran.text().lines().last().is_some_and(|line| line.starts_with("sound, ")), "{}", ran.text());
    }
}

#[test]
fn damage_is_told_with_file_byte_and_offsets() {
    let data = folder();
    filled(data.path()).stop_by("TERM");
    let path = segment(data.path());
    let mut bytes = fs::read(&path).expect("a file");
    bytes[4096 + 200] ^= 1;
    fs::write(&path, bytes).expect("written");
    let ran = check(data.path(), &[]).code(1);
    let line = ran.text().lines().find(|line| line.starts_with("DAMAGE")).expect("a line says so");
    let file = path.strip_prefix(data.path()).expect("it is below").to_string_lossy().into_owned();
    for part in [&file, "at byte 4096", "(orders/", "offsets 0 to ", "checksum"] {
        assert!(line.contains(part), "{part:?} is missing in: {line}");
    }
    let json: serde_json::Value =
        serde_json::from_slice(&check(data.path(), &["--json"]).code(1).stdout).expect("JSON");
    assert_eq!(json["sound"], false);
    assert_eq!(
        (json["findings"][0]["byte"].as_u64(), json["findings"][0]["offsets"][0].as_i64()),
        (Some(4096), Some(0))
    );
}

#[test]
fn damaged_metadata_is_damage_that_refuses_a_start_if_no_copy_is_sound() {
    let data = folder();
    filled(data.path()).stop_by("TERM");
    let damage = |name: &str| {
        let path = data.path().join(name);
        let mut bytes = fs::read(&path).expect("a file");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).expect("written");
    };
    damage("metadata");
    let ran = check(data.path(), &[]).ok();
    assert!(ran.text().contains("a start uses the other copy"), "{}", ran.text());
    damage("metadata.copy");
    let ran = check(data.path(), &[]).code(1);
    assert!(ran.text().contains("a start refuses"), "{}", ran.text());
}

#[test]
fn a_folder_in_use_or_of_somebody_else_is_not_checked() {
    let data = folder();
    let broker = filled(data.path());
    let refused = run(ringlog().args(["check", "--data"]).arg(data.path())).code(2);
    assert!(refused.stderr.contains("in use by a broker"), "{}", refused.stderr);
    broker.stop_by("TERM");
    let strange = folder();
    fs::write(strange.path().join("letter.txt"), "dear").expect("written");
    let refused = check(strange.path(), &[]).code(2);
    assert!(refused.stderr.contains("holds nothing of Ringlog"), "{}", refused.stderr);
    assert!(!strange.path().join("LOCK").exists());
    run(ringlog().args(["check", "--data", "/nowhere/at/all"])).code(2);
}
