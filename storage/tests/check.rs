//! The checker: it finds what recovery and reads find, says where, and changes nothing.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use common::folders::{bypassed, crashed, frame_of, id, rolled, segments};
use common::{Broker, Model, find_in, flip, on_ring};
use ringlog_reactor::sim::Simulation;
use ringlog_storage::check::{CheckReport, Finding, Known, Weight, check};
use ringlog_storage::format::envelope::ENVELOPE_BYTES;
use ringlog_storage::format::index::Index;

async fn checked(broker: &Broker) -> CheckReport {
    let known = Known { previous: broker.previous, partitions: broker.specs.clone(), deleted: Vec::new() };
    check(&broker.dir, &known, &mut |_| ()).await.expect("the folder can be looked at")
}

/// Every file below a folder, with what it holds and when it was written last.
fn image_of(dir: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
    let mut image = BTreeMap::new();
    for entry in fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            image.extend(image_of(&path));
            image.insert(path, (Vec::new(), SystemTime::UNIX_EPOCH));
        } else {
            let written = fs::metadata(&path).and_then(|metadata| metadata.modified()).expect("a file");
            image.insert(path.clone(), (fs::read(path).expect("a file"), written));
        }
    }
    image
}

/// Checks, and that nothing was changed by it.
fn look(broker: &Broker) -> CheckReport {
    let before = image_of(&broker.dir);
    let report = on_ring(checked(broker));
    assert!(image_of(&broker.dir) == before, "a check changes nothing");
    report
}

fn damage(report: &CheckReport) -> Vec<&Finding> {
    report.findings.iter().filter(|finding| finding.weight != Weight::Harmless).collect()
}

/// All but the place where it happened.
fn only(report: &CheckReport) -> &Finding {
    let damage = damage(report);
    assert_eq!(damage.len(), 1, "{damage:#?}");
    damage[0]
}

fn records(report: &CheckReport) -> u64 {
    report.partitions.iter().map(|partition| partition.records).sum()
}

fn entry_of(files: &[PathBuf], batch: &[u8]) -> (PathBuf, u64) {
    let found = files.iter().find_map(|path| Some((path.clone(), find_in(path, batch)?)));
    let (path, at) = found.expect("some file has the batch");
    (path, at - ENVELOPE_BYTES as u64)
}

#[test]
fn folders_of_an_orderly_and_of_a_sudden_end_are_sound() {
    type Left = fn(&Path) -> (Broker, Model);
    let all: [Left; 3] = [|dir| crashed(dir, 10), rolled, bypassed];
    for (left, is_journaled) in all.into_iter().zip([true, false, false]) {
        let dir = tempfile::tempdir().expect("a folder");
        let (broker, model) = left(dir.path());
        let report = look(&broker);
        assert!(report.is_sound(), "{:#?}", report.findings);
        let expected: usize = model.batches.values().map(|batches| 3 * batches.len()).sum();
        assert_eq!(records(&report), expected as u64);
        assert_eq!(report.partitions.len(), 2);
        assert_eq!(
            report.journal_frames > 0,
            is_journaled || report.partitions[0].segments > 0 && report.journal_frames > 0
        );
        let ends: Vec<i64> = report.partitions.iter().map(|partition| partition.end_offset).collect();
        assert_eq!(ends, [expected as i64 / 2; 2]);
    }
}

#[test]
fn a_torn_tail_is_told_as_harmless() {
    let dir = tempfile::tempdir().expect("a folder");
    let (broker, model) = crashed(dir.path(), 10);
    let (path, at) = frame_of(&broker, model.batches[&1].last().expect("there were ten"));
    flip(&path, at + 500);
    let report = look(&broker);
    assert!(report.is_sound(), "{:#?}", report.findings);
    let torn = &report.findings[0];
    assert_eq!((&torn.path, torn.offset), (&path, at));
    assert!(torn.what.contains("torn tail"), "{}", torn.what);
}

#[test]
fn what_a_start_finds_in_the_journal_is_told_before_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut broker, model) = crashed(dir.path(), 10);
    let (path, at) = frame_of(&broker, &model.batches[&0][4]);
    flip(&path, at + 500);
    let report = look(&broker);
    let found = only(&report);
    assert_eq!((&found.path, found.partition, found.weight), (&path, Some(id(0)), Weight::AtStart));
    assert!(report.partitions[0].quarantined && !report.partitions[1].quarantined);
    on_ring(async {
        let started = broker.start(1).await;
        let named = &started.summaries[0].damage[0];
        assert_eq!((&named.path, named.offset), (&found.path, found.offset));
    });
    // And behind that start the quarantine is what is left of it.
    let report = look(&broker);
    assert_eq!(only(&report).partition, Some(id(0)));
    assert!(report.findings.iter().any(|finding| finding.path.ends_with("0000000001.damaged")));
}

#[test]
fn a_damaged_batch_in_a_segment_is_told_with_its_offsets() {
    let dir = tempfile::tempdir().expect("a folder");
    let (broker, model) = rolled(dir.path());
    let (path, at) = entry_of(&segments(&broker, 0), &model.batches[&0][2]);
    flip(&path, at + 3000);
    let report = look(&broker);
    let found = only(&report);
    assert_eq!((&found.path, found.offset, found.offsets.clone()), (&path, at, Some(6..9)));
    assert_eq!((found.partition, found.weight), (Some(id(0)), Weight::OnRead));
    assert_eq!(records(&report), 3 * 39);
}

#[test]
fn behind_a_damaged_envelope_offsets_are_lost_to_the_next_that_the_index_knows() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut broker = Broker::new(dir.path(), 1);
    std::rc::Rc::make_mut(&mut broker.specs[0].config).segment_bytes = 1 << 20;
    let mut model = Model::default();
    on_ring(async {
        let started = broker.start(1).await;
        for _ in 0..60 {
            model.append(&started, 0, 9000).await;
        }
        started.shutdown().await;
    });
    let (path, at) = entry_of(&segments(&broker, 0), &model.batches[&0][10]);
    flip(&path, at + 1);
    let index_path = path.with_extension("index");
    let index = Index::decode(&fs::read(&index_path).expect("a file")).expect("sound");
    let behind = index.entries.iter().find(|entry| u64::from(entry.position) > at).expect("there is more");
    let lost = 30..i64::from(behind.relative_offset);
    let report = look(&broker);
    assert_eq!(only(&report).offsets, Some(lost.clone()));
    assert_eq!(records(&report), 180 - (lost.end - lost.start) as u64);
    fs::remove_file(index_path).expect("removed");
    assert_eq!(only(&look(&broker)).offsets, Some(30..180), "nothing else leads behind the damage");
}

#[test]
fn a_segment_that_is_missing_or_of_another_is_told() {
    for missing in [true, false] {
        let dir = tempfile::tempdir().expect("a folder");
        let (broker, _) = rolled(dir.path());
        let (ours, others) = (segments(&broker, 0), segments(&broker, 1));
        match missing {
            true => fs::remove_file(&ours[1]).expect("removed"),
            false => fs::copy(&others[1], &ours[1]).map(drop).expect("copied"),
        }
        let report = look(&broker);
        let found = only(&report);
        assert_eq!(found.partition, Some(id(0)));
        assert!(found.offsets.as_ref().is_some_and(|lost| !lost.is_empty()), "{found:?}");
    }
}

#[test]
fn wrong_indexes_and_strange_files_are_notes() {
    let dir = tempfile::tempdir().expect("a folder");
    let (broker, _) = rolled(dir.path());
    let indexes: Vec<PathBuf> =
        segments(&broker, 0).iter().map(|path| path.with_extension("index")).collect();
    flip(&indexes[0], 60);
    let mut wrong = Index::decode(&fs::read(&indexes[1]).expect("a file")).expect("sound");
    wrong.entries[0].position += 4096;
    fs::write(&indexes[1], wrong.encode()).expect("written");
    fs::copy(&indexes[0], &indexes[2]).expect("copied");
    let strange = broker.partition_dir(1).join("notes.txt");
    let unknown = broker.partition_dir(1).join(format!("{:020}.log", 5000));
    let orphan = dir.path().join("topics").join("gone@3");
    fs::write(&strange, "hello").expect("written");
    fs::write(&unknown, "hello").expect("written");
    fs::create_dir(&orphan).expect("made");
    let report = look(&broker);
    assert!(report.is_sound(), "{:#?}", report.findings);
    for path in indexes[..3].iter().chain([&strange, &unknown, &orphan]) {
        let found = report.findings.iter().filter(|finding| finding.path == *path).count();
        assert_eq!(found, 1, "{path:?} in {:#?}", report.findings);
    }
    assert_eq!(report.findings.len(), 6, "{:#?}", report.findings);
}

#[test]
fn it_runs_in_the_simulation() {
    let simulation = Simulation::new(1);
    let report = simulation.run(async {
        let mut broker = Broker::new(Path::new("/data"), 2);
        let mut model = Model::default();
        let started = broker.start(2).await;
        for round in 0..20 {
            model.append(&started, round % 2, 9000).await;
        }
        checked(&broker).await
    });
    assert!(report.is_sound(), "{:#?}", report.findings);
    assert!(records(&report) >= 60);
}

#[test]
fn a_sealed_segment_that_is_a_link_is_said_to_be_one() {
    let dir = tempfile::tempdir().expect("a folder");
    let (broker, _) = rolled(dir.path());
    let sealed = &segments(&broker, 0)[1];
    let moved = dir.path().join("moved");
    fs::rename(sealed, &moved).expect("moved");
    std::os::unix::fs::symlink(&moved, sealed).expect("linked");
    let report = look(&broker);
    let found = only(&report);
    assert_eq!((&found.path, found.partition), (sealed, Some(id(0))));
    assert!(found.what.contains("a symbolic link"), "{}", found.what);
}

#[test]
fn everything_is_looked_at_though_some_of_it_cannot_be_read() {
    let dir = tempfile::tempdir().expect("a folder");
    let (broker, model) = rolled(dir.path());
    let files = segments(&broker, 0);
    let sealed = segments(&broker, 1)[0].clone();
    let unreadable = [files[files.len() - 1].clone(), sealed.clone(), sealed.with_extension("index")];
    for path in &unreadable {
        fs::remove_file(path).expect("removed");
        fs::create_dir(path).expect("a folder in its place");
    }
    let report = look(&broker);
    for path in &unreadable {
        assert!(report.findings.iter().any(|found| found.path == *path), "{path:?}: {:#?}", report.findings);
    }
    assert_eq!(damage(&report).len(), 2, "an index is a cache");
    assert_eq!(report.partitions.len(), 2);
    assert!(records(&report) > 3 * model.batches[&0].len() as u64);
}
