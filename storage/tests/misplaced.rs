//! Blocks and entries that are sound by themselves and stand in the wrong place, as a misdirected write, a lost write or a
//! stale block leave them: a batch's own CRC fits, and still none of it is served as something that it is not.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use common::folders::{bypassed, crashed, files_below, frame_of, id, rolled, segments};
use common::{Broker, Model, find_in, flip, on_ring, read_all, tiny};
use ringlog_storage::format::envelope::ENVELOPE_BYTES;
use ringlog_storage::format::index::Index;
use ringlog_storage::{PartitionConfig, ReadError};

const BLOCK: usize = 4096;

/// Where a batch's entry begins, and in which of the files.
fn entry_of(files: &[PathBuf], batch: &[u8]) -> (PathBuf, usize) {
    let found = files.iter().find_map(|path| Some((path.clone(), find_in(path, batch)? as usize)));
    let (path, at) = found.expect("some file has the batch");
    (path, at - ENVELOPE_BYTES)
}

/// Puts bytes of one file over those of another, or of the same.
fn copy(from: &(PathBuf, usize), to: &(PathBuf, usize), len: usize) {
    let bytes = fs::read(&from.0).expect("a file")[from.1..from.1 + len].to_vec();
    let mut target = fs::read(&to.0).expect("a file");
    target.resize(target.len().max(to.1 + len), 0);
    target[to.1..to.1 + len].copy_from_slice(&bytes);
    fs::write(&to.0, target).expect("written");
}

fn copy_entry(files: &[PathBuf], from: &Bytes, to: &Bytes) {
    assert_eq!(from.len(), to.len(), "the entries behind it stay where they are");
    copy(&entry_of(files, from), &entry_of(files, to), ENVELOPE_BYTES + to.len());
}

/// Both partitions' segments.
fn all_segments(broker: &Broker) -> Vec<PathBuf> {
    [segments(broker, 0), segments(broker, 1)].concat()
}

#[test]
fn an_entry_of_the_same_partition_at_a_wrong_offset_is_not_served() {
    for (stale, replaced) in [(1, 3), (3, 1), (0, 12), (12, 0)] {
        let dir = tempfile::tempdir().expect("a folder");
        let (mut broker, model) = rolled(dir.path());
        let batches = &model.batches[&0];
        copy_entry(&segments(&broker, 0), &batches[stale], &batches[replaced]);
        refuses_only(&mut broker, &model, replaced);
    }
}

#[test]
fn an_entry_of_another_partition_is_not_served() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut broker, model) = rolled(dir.path());
    // The same offsets, the same length.
    copy_entry(&all_segments(&broker), &model.batches[&1][3], &model.batches[&0][3]);
    refuses_only(&mut broker, &model, 3);
}

/// Of partition 0 everything before the batch is served, and nothing in its place; of partition 1 everything.
fn refuses_only(broker: &mut Broker, model: &Model, replaced: usize) {
    on_ring(async {
        let started = broker.start(1).await;
        assert!(started.summaries[0].damage.is_empty(), "a start does not read sealed segments");
        let (_, partition) = started.partition(0);
        for (number, expected) in model.batches[&0][..replaced].iter().enumerate() {
            let read = partition.read(number as i64 * 3, 1).await.expect("sound");
            assert_eq!(read.batches, std::slice::from_ref(expected));
        }
        let offset = replaced as i64 * 3;
        let refused = partition.read(offset, 1).await;
        assert!(matches!(refused, Err(ReadError::Corrupt { .. })), "{refused:?}");
        let (_, other) = started.partition(1);
        common::check_partition(&other, &model.batches[&1]).await;
    });
}

#[test]
fn below_a_mark_a_misplaced_entry_quarantines_its_partition() {
    for from_other in [false, true] {
        let dir = tempfile::tempdir().expect("a folder");
        let (mut broker, mut model) = bypassed(dir.path());
        let stale = model.batches[&u32::from(from_other)][1].clone();
        let replaced = model.batches[&0][2].clone();
        copy_entry(&all_segments(&broker), &stale, &replaced);
        on_ring(async {
            let started = broker.start(1).await;
            assert_eq!(started.summaries[0].quarantined, [id(0)], "{:?}", started.summaries[0].damage);
            model.batches.remove(&0);
            model.check(&started).await;
        });
    }
}

#[test]
fn a_misplaced_entry_in_a_durable_frame_is_damage() {
    for from_other in [false, true] {
        let dir = tempfile::tempdir().expect("a folder");
        let (mut broker, mut model) = crashed(dir.path(), 10);
        let replaced = model.batches.remove(&0).expect("there were ten");
        let stale = if from_other { &model.batches[&1][2] } else { &replaced[2] };
        let files = vec![frame_of(&broker, &replaced[4]).0];
        copy_entry(&files, stale, &replaced[4]);
        on_ring(async {
            let started = broker.start(1).await;
            assert_eq!(started.summaries[0].quarantined, [id(0)], "{:?}", started.summaries[0].damage);
            model.check(&started).await;
        });
    }
}

#[test]
fn a_whole_frame_over_another_is_damage() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut broker, mut model) = crashed(dir.path(), 10);
    let replaced = model.batches.remove(&0).expect("there were ten");
    copy(&place(frame_of(&broker, &replaced[2])), &place(frame_of(&broker, &replaced[4])), BLOCK);
    on_ring(async {
        let started = broker.start(1).await;
        assert_eq!(started.summaries[0].quarantined, [id(0)], "{:?}", started.summaries[0].damage);
        model.check(&started).await;
    });
}

fn place((path, at): (PathBuf, u64)) -> (PathBuf, usize) {
    (path, at as usize)
}

/// A broker that ended without a checkpoint behind frames of several blocks, the last of them too.
fn crashed_behind_long_frames(dir: &Path) -> (Broker, Model) {
    let (mut broker, mut model) = crashed(dir, 3);
    on_ring(async {
        let started = broker.start(1).await;
        for partition in [0, 1, 0, 1, 1] {
            model.append(&started, partition, 9000).await;
        }
    });
    (broker, model)
}

#[test]
fn the_header_of_the_last_frame_in_a_second_place_does_not_cut_the_frame() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut broker, mut model) = crashed_behind_long_frames(dir.path());
    let last = frame_of(&broker, model.batches[&1].last().expect("there are some"));
    let first = frame_of(&broker, &model.batches[&0][3]);
    copy(&place(last), &place(first), BLOCK);
    on_ring(async {
        let started = broker.start(1).await;
        assert_eq!(started.summaries[0].quarantined, [id(0)], "{:?}", started.summaries[0].damage);
        assert_eq!(started.summaries[0].torn_tail_bytes, 0, "the last frame is whole in its own place");
        model.batches.remove(&0);
        model.check(&started).await;
    });
}

#[test]
fn a_journal_file_that_lost_its_end_is_damage_and_not_a_short_journal() {
    for bytes in [0, 100, 3 * BLOCK as u64, 6 * BLOCK as u64 + 100] {
        let dir = tempfile::tempdir().expect("a folder");
        let (mut broker, model) = crashed(dir.path(), 10);
        let (path, _) = frame_of(&broker, &model.batches[&0][0]);
        let file = fs::OpenOptions::new().write(true).open(&path).expect("a file");
        file.set_len(bytes).expect("cut");
        on_ring(async {
            let started = broker.start(1).await;
            let summary = &started.summaries[0];
            assert_eq!(summary.quarantined, [id(0), id(1)], "cut to {bytes} bytes");
            let named = summary.damage.iter().any(|damage| damage.path == path && damage.offset == bytes);
            assert!(named, "{:?}", summary.damage);
        });
    }
}

#[test]
fn a_journal_file_that_is_missing_before_another_is_damage() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut broker, model) = crashed(dir.path(), 10);
    let (path, _) = frame_of(&broker, &model.batches[&0][0]);
    fs::remove_file(&path).expect("removed");
    on_ring(async {
        // Nothing but the gap in the numbers tells of it.
        let started = broker.start(1).await;
        assert!(started.summaries[0].damage.is_empty(), "no frame and no checkpoint: it was never begun");
    });
    let dir = tempfile::tempdir().expect("a folder");
    let (mut broker, mut model) = crashed(dir.path(), 2);
    on_ring(async {
        let started = broker.start(1).await;
        for round in 0..40 {
            model.append(&started, round % 2, 9000).await;
        }
        assert!(started.stores[0].stats().checkpoints > 0);
    });
    let missing = broker.shard_dir(0).join("journal-0");
    fs::remove_file(&missing).expect("removed");
    on_ring(async {
        let started = broker.start(1).await;
        assert_eq!(started.summaries[0].quarantined, [id(0), id(1)]);
        assert!(started.summaries[0].damage.iter().any(|damage| damage.path == missing));
    });
}

#[test]
fn damage_to_a_batch_that_nobody_needs_is_named_too() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut broker, model) = crashed(dir.path(), 10);
    let (path, at) = frame_of(&broker, &model.batches[&0][4]);
    flip(&path, at + 500);
    broker.specs.remove(0);
    on_ring(async {
        let started = broker.start(1).await;
        let summary = &started.summaries[0];
        assert!(summary.journal_damaged && summary.quarantined.is_empty(), "{summary:?}");
        assert_eq!(summary.damage.len(), 1, "{:?}", summary.damage);
        assert_eq!(summary.damage[0].path, path);
    });
}

#[test]
fn a_sealed_segment_cut_in_the_middle_of_a_block_is_damage_and_no_failure() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut broker, model) = rolled(dir.path());
    let sealed = &segments(&broker, 0)[0];
    let at = entry_of(std::slice::from_ref(sealed), &model.batches[&0][3]).1;
    fs::OpenOptions::new().write(true).open(sealed).expect("a file").set_len(at as u64 + 100).expect("cut");
    on_ring(async {
        let started = broker.start(1).await;
        let (_, partition) = started.partition(0);
        let refused = read_all(&partition, 1 << 20).await;
        assert!(matches!(refused, Err(ReadError::Corrupt { .. })), "{refused:?}");
        for (number, expected) in model.batches[&0][..2].iter().enumerate() {
            let read = partition.read(number as i64 * 3, 1).await.expect("in whole blocks");
            assert_eq!(read.batches, std::slice::from_ref(expected));
        }
    });
}

#[test]
fn an_entry_that_goes_on_behind_a_sealed_segments_end_is_not_served() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut broker, mut model) = rolled(dir.path());
    let files = segments(&broker, 0);
    // What comes first in the second segment, but as an earlier life had it: other records, never acknowledged.
    let base: i64 =
        files[1].file_stem().and_then(|name| name.to_str()).expect("a name").parse().expect("an offset");
    let never_acked = common::patched(&model.batch(9000), base);
    let envelope = ringlog_storage::format::envelope::Envelope::of(
        id(0),
        ringlog_storage::format::envelope::EntryKind::Journaled,
        never_acked.len() as u32,
        never_acked.first_chunk().expect("a batch is longer"),
    );
    let mut bytes = fs::read(&files[0]).expect("a file");
    bytes.extend_from_slice(&envelope.encode());
    bytes.extend_from_slice(&never_acked);
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    fs::write(&files[0], bytes).expect("written");
    on_ring(async { model.check(&broker.start(1).await).await });
}

#[test]
fn what_an_index_finds_behind_damage_is_served_though_the_index_is_built_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut broker = Broker::new(dir.path(), 1);
    broker.specs[0].config = PartitionConfig { segment_bytes: 1 << 20, ..tiny() }.into();
    let mut model = Model::default();
    on_ring(async {
        let started = broker.start(1).await;
        for _ in 0..60 {
            model.append(&started, 0, 9000).await;
        }
        started.shutdown().await;
    });
    let batches = &model.batches[&0];
    let files = segments(&broker, 0);
    let (path, at) = entry_of(&files, &batches[10]);
    flip(&path, at as u64 + 1);
    let index = Index::decode(&fs::read(path.with_extension("index")).expect("a file")).expect("sound");
    let behind = index.entries.iter().find(|entry| entry.position as usize > at).expect("there is more");
    let readable_from = behind.relative_offset as usize / 3;
    assert!(readable_from < 30);
    for _ in 0..2 {
        on_ring(async {
            let started = broker.start(1).await;
            let (store, partition) = started.partition(0);
            for (number, expected) in batches.iter().enumerate() {
                let read = partition.read(number as i64 * 3, 1).await;
                match number {
                    10.. if number < readable_from => {
                        assert!(matches!(read, Err(ReadError::Corrupt { .. })), "{number}: {read:?}");
                    }
                    _ => assert_eq!(read.expect("sound").batches, std::slice::from_ref(expected), "{number}"),
                }
            }
            assert!(store.stats().index_rebuilds > 0);
        });
    }
    assert!(files_below(dir.path()).len() > 3);
}
