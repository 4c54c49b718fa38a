//! Damage is seen, named and kept: nothing with a bad checksum is served, nothing is deleted, and what is sound goes on.

mod common;

use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use common::folders::{bypassed, crashed, files_below, frame_of, id, rolled, segments};
use common::lost_end::{Size, lives_with_a_lost_end};
use common::{Broker, Model, Started, batch, flip, on_ring, patched, read_all};
use ringlog_storage::format::checkpoint::Checkpoint;
use ringlog_storage::format::{envelope, frame, identity};
use ringlog_storage::{AppendError, Appended, ReadError, RecoveryError, recover};
use tempfile::TempDir;

const BLOCK: u64 = 4096;

#[test]
fn a_torn_last_frame_is_cut() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut broker, mut model) = crashed(dir.path(), 10);
    let last = model.batches.get_mut(&1).and_then(Vec::pop).expect("there were ten");
    let (path, at) = frame_of(&broker, &last);
    flip(&path, at + 500);
    on_ring(async {
        let started = broker.start(1).await;
        let summary = &started.summaries[0];
        assert!(summary.damage.is_empty() && summary.quarantined.is_empty());
        assert!(summary.torn_tail_bytes > 900, "{summary:?}");
        let (_, partition) = started.partition(1);
        assert_eq!(partition.log_end(), 27);
        model.check(&started).await;
        model.append(&started, 1, 1000).await;
        model.check(&started).await;
    });
}

/// Appends a batch to partition 0 and lets the commit task take it, without waiting for the disk.
async fn append_and_go_on(started: &Started, model: &mut Model) -> (Bytes, Appended) {
    let batch = model.batch(1000);
    let appended = model.append_unacked(started, 0, &batch).await;
    ringlog_reactor::yield_now().await;
    ringlog_reactor::yield_now().await;
    (batch, appended)
}

/// A broker that was killed when two frames had been under way together, each with a batch of partition 0; the first of these.
fn two_under_way(behind: usize) -> (TempDir, Broker, Model, Bytes) {
    // Where the machine is busy with something else, the first may be there before the second begins.
    for _ in 0..100 {
        let dir = tempfile::tempdir().expect("a folder");
        let (mut broker, mut model) = crashed(dir.path(), 3);
        let (overlapped, first) = on_ring(async {
            let started = broker.start(1).await;
            let (first, _) = append_and_go_on(&started, &mut model).await;
            let (_, second) = append_and_go_on(&started, &mut model).await;
            common::wait_for(&started.stores[0], &started.partition(0).1, second).await;
            let overlapped = started.stores[0].stats().overlapped_commits;
            for _ in 0..behind {
                model.append(&started, 1, 1000).await;
            }
            (overlapped, patched(&first, 9))
        });
        if overlapped == 1 {
            return (dir, broker, model, first);
        }
    }
    panic!("two commits are never under way together");
}

#[test]
fn frames_that_were_under_way_together_are_cut_from_the_first_torn_one_on() {
    let (_dir, mut broker, model, torn) = two_under_way(0);
    let (path, at) = frame_of(&broker, &torn);
    flip(&path, at + 500);
    on_ring(async {
        let started = broker.start(1).await;
        assert!(started.summaries[0].damage.is_empty(), "{:?}", started.summaries[0].damage);
        assert!(started.summaries[0].torn_tail_bytes > 0);
        assert_eq!(started.partition(0).1.log_end(), 9, "nor is the sound frame behind it taken");
        model.check(&started).await;
    });
}

#[test]
fn a_later_frame_shows_that_those_under_way_together_were_durable() {
    let (_dir, mut broker, mut model, damaged) = two_under_way(1);
    let (path, at) = frame_of(&broker, &damaged);
    flip(&path, at + 500);
    on_ring(async {
        let started = broker.start(1).await;
        assert_eq!(started.summaries[0].quarantined, [id(0)]);
        model.batches.remove(&0);
        model.check(&started).await;
    });
}

#[test]
fn a_last_frame_torn_in_its_header_is_cut() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut broker, mut model) = crashed(dir.path(), 10);
    let last = model.batches.get_mut(&1).and_then(Vec::pop).expect("there were ten");
    let (path, at) = frame_of(&broker, &last);
    flip(&path, at + 9);
    on_ring(async {
        let started = broker.start(1).await;
        assert!(started.summaries[0].damage.is_empty());
        assert_eq!(started.partition(1).1.log_end(), 27);
        model.check(&started).await;
    });
}

#[test]
fn a_damaged_batch_in_the_middle_quarantines_its_partition_only() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut broker, mut model) = crashed(dir.path(), 10);
    let damaged = model.batches.remove(&0).expect("there were ten");
    let (path, at) = frame_of(&broker, &damaged[4]);
    flip(&path, at + 500);
    let old = broker.shard_dir(0);
    let before = files_below(&old);
    on_ring(async {
        let started = broker.start(1).await;
        let summary = &started.summaries[0];
        assert_eq!(summary.quarantined, [id(0)]);
        assert_eq!(summary.damage.len(), 1, "{:?}", summary.damage);
        assert_eq!((&summary.damage[0].path, summary.damage[0].partition), (&path, Some(id(0))));
        assert!(summary.journal_damaged);
        model.check(&started).await;
        model.append(&started, 1, 1000).await;
        let (store, partition) = started.partition(0);
        assert!(matches!(store.append(&partition, &batch(1, 10)), Err(AppendError::Quarantined(_))));
        let end = partition.log_end();
        assert!(matches!(partition.read(end, 1000).await, Err(ReadError::Corrupt { .. })));
        model.check(&started).await;
    });
    // The journal is kept as it was.
    let kept = old.parent().expect("an epoch").with_extension("damaged");
    let after = files_below(&kept.join("shard-0"));
    let contents =
        |files: Vec<(PathBuf, Vec<u8>)>| files.into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>();
    assert!(contents(before) == contents(after), "nothing was changed or deleted");
    // And the quarantine stays.
    on_ring(async {
        let started = broker.start(1).await;
        assert_eq!(started.summaries[0].quarantined, [id(0)]);
        model.check(&started).await;
    });
}

#[test]
fn every_shard_sees_that_a_journal_is_damaged() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut broker, mut model) = crashed(dir.path(), 10);
    let damaged = model.batches.remove(&0).expect("there were ten");
    let (path, at) = frame_of(&broker, &damaged[4]);
    flip(&path, at + 500);
    on_ring(async {
        let started = broker.start(2).await;
        assert!(started.summaries.iter().all(|summary| summary.journal_damaged));
        assert_eq!(started.summaries[0].quarantined, [id(0)]);
        assert!(started.summaries[1].quarantined.is_empty());
        assert!(
            started.stores.iter().all(|store| store.stats().journal_files_made > 0),
            "nothing is recycled"
        );
        model.check(&started).await;
    });
}

#[test]
fn an_unreadable_frame_spares_only_those_who_are_shown_to_be_complete() {
    let in_front = (frame::HEADER_BYTES + envelope::ENVELOPE_BYTES) as u64;
    for part in ["magic", "sequence", "envelope", "end marker"] {
        let dir = tempfile::tempdir().expect("a folder");
        let (mut broker, mut model) = crashed(dir.path(), 10);
        let damaged = model.batches.remove(&0).expect("there were ten");
        let (path, at) = frame_of(&broker, &damaged[4]);
        flip(
            &path,
            match part {
                "magic" => at,
                "sequence" => at + 16,
                "envelope" => at + 40,
                _ => at + in_front + damaged[4].len() as u64 + 3,
            },
        );
        on_ring(async {
            let started = broker.start(1).await;
            let summary = &started.summaries[0];
            assert_eq!(summary.quarantined, [id(0)], "{part}: {:?}", summary.damage);
            assert!(summary.damage.iter().any(|damage| damage.partition.is_none()), "{:?}", summary.damage);
            model.check(&started).await;
        });
    }
}

#[test]
fn behind_an_unreadable_frame_a_silent_partition_is_quarantined_too() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut broker = Broker::new(dir.path(), 3);
    let mut model = Model::default();
    on_ring(async {
        let started = broker.start(1).await;
        for partition in [0, 1, 2, 0, 1, 1, 1] {
            model.append(&started, partition, 1000).await;
        }
    });
    let (path, at) = frame_of(&broker, &model.batches[&0][1]);
    flip(&path, at);
    on_ring(async {
        let started = broker.start(1).await;
        // 0 has lost something, 2 might have, 1 has gone on without a gap.
        assert_eq!(started.summaries[0].quarantined, [id(0), id(2)]);
        model.batches.retain(|partition, _| *partition == 1);
        model.check(&started).await;
    });
}

#[test]
fn a_stale_entry_that_is_valid_by_itself_is_not_taken() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut broker, mut model) = crashed(dir.path(), 10);
    // As if the last frame's body had not reached the medium, and an older frame's stood there, of the same length.
    let last = model.batches.get_mut(&1).and_then(Vec::pop).expect("there were ten");
    let (path, at) = frame_of(&broker, &last);
    let (old_path, old_at) = frame_of(&broker, &model.batches[&1][8]);
    assert_eq!(path, old_path);
    let mut bytes = fs::read(&path).expect("a file");
    let (from, to) = (old_at as usize + frame::HEADER_BYTES, old_at as usize + BLOCK as usize);
    bytes.copy_within(from..to, at as usize + frame::HEADER_BYTES);
    fs::write(&path, bytes).expect("written");
    on_ring(async {
        let started = broker.start(1).await;
        let summary = &started.summaries[0];
        assert!(summary.damage.is_empty() && summary.torn_tail_bytes > 0, "{summary:?}");
        assert_eq!(started.partition(1).1.log_end(), 27);
        model.check(&started).await;
    });
}

#[test]
fn frames_left_in_recycled_files_are_not_replayed() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut broker, mut model) = crashed(dir.path(), 10);
    for _ in 0..3 {
        on_ring(async {
            // The files come from the epoch before, full of its frames.
            let started = broker.start(1).await;
            assert!(started.summaries[0].damage.is_empty());
            assert_eq!(started.summaries[0].torn_tail_bytes, 0);
            model.check(&started).await;
            model.append(&started, 0, 1000).await;
            assert_eq!(started.stores[0].stats().journal_files_made, 0);
        });
    }
    on_ring(async {
        let started = broker.start(1).await;
        assert_eq!(started.summaries[0].replayed_batches, 1);
    });
}

/// A batch that has the header of a later frame of the first journal wherever a block may begin.
fn forged(salt: u64) -> bytes::Bytes {
    let header = identity::JournalIdentity { epoch: 1, shard: 0, salt }.header(1000, 0);
    let build = |value: &[u8]| {
        let mut builder = ringlog_protocol::batch::BatchBuilder::new(1 << 20);
        builder.push(1, None, Some(value), []).expect("it fits");
        builder.finish_plain()
    };
    let marks = build(&[0xee; 64 << 10]);
    let value_at = marks.iter().position(|byte| *byte == 0xee).expect("the value is there");
    let before = frame::HEADER_BYTES + envelope::ENVELOPE_BYTES + value_at;
    let value: Vec<u8> = (before..).map(|at| header[at % header.len()]).take(64 << 10).collect();
    build(&value)
}

/// Tears the last frame, which holds that batch, and recovers. True if the forged header was taken for a frame's.
fn forgery_succeeds(salt: Option<u64>) -> bool {
    let dir = tempfile::tempdir().expect("a folder");
    let mut broker = Broker::new(dir.path(), 1);
    let batch = on_ring(async {
        let started = broker.start(1).await;
        let checkpoint = fs::read(broker.shard_dir(0).join("checkpoint")).expect("a file");
        let secret = Checkpoint::decode(&checkpoint).expect("sound").journal.salt;
        let batch = forged(salt.unwrap_or(secret));
        let appended = Model::default().append_unacked(&started, 0, &batch).await;
        common::wait_for(&started.stores[0], &started.partition(0).1, appended).await;
        batch
    });
    let (path, at) = frame_of(&broker, &patched(&batch, 0));
    flip(&path, at + 100);
    on_ring(async { !broker.start(1).await.summaries[0].damage.is_empty() })
}

#[test]
fn a_producer_cannot_forge_a_frame_inside_its_batch() {
    assert!(forgery_succeeds(None), "with the salt it would be taken for a frame");
    assert!(!forgery_succeeds(Some(0)), "all else can be guessed, but not the salt");
}

#[test]
fn without_any_copy_of_a_checkpoint_its_partitions_are_quarantined_and_nothing_is_lost() {
    for missing in [false, true] {
        let dir = tempfile::tempdir().expect("a folder");
        let (mut broker, _) = crashed(dir.path(), 10);
        let copies = ["checkpoint", "checkpoint.copy"].map(|name| broker.shard_dir(0).join(name));
        for copy in &copies {
            match missing {
                true => fs::remove_file(copy).expect("removed"),
                false => flip(copy, 30),
            }
        }
        let old = broker.shard_dir(0);
        let before = files_below(&old);
        on_ring(async {
            let started = broker.start(1).await;
            assert_eq!(started.summaries[0].quarantined, [id(0), id(1)]);
            let named =
                |path: &PathBuf| started.summaries[0].damage.iter().any(|damage| damage.path == *path);
            assert!(copies.iter().all(named), "{:?}", started.summaries[0].damage);
            let (store, partition) = started.partition(0);
            assert!(matches!(store.append(&partition, &batch(1, 10)), Err(AppendError::Quarantined(_))));
        });
        let kept = old.parent().expect("an epoch").with_extension("damaged").join("shard-0");
        assert_eq!(files_below(&kept).len(), before.len());
    }
}

/// The two copies of the checkpoint.
fn checkpoints(broker: &Broker) -> [PathBuf; 2] {
    ["checkpoint", "checkpoint.copy"].map(|name| broker.shard_dir(0).join(name))
}

#[test]
fn one_copy_of_a_checkpoint_is_enough() {
    let wounds: [fn(&PathBuf); 5] = [
        |path| fs::write(path, b"").expect("emptied"),
        |path| flip(path, 30),
        |path| fs::remove_file(path).expect("removed"),
        |path| {
            fs::remove_file(path).expect("removed");
            fs::create_dir(path).expect("a folder in its place");
        },
        |path| {
            let mut other = Checkpoint::decode(&fs::read(path).expect("a file")).expect("sound");
            other.journal.shard += 1;
            fs::write(path, other.encode()).expect("written");
        },
    ];
    for (wound, which) in wounds.iter().flat_map(|wound| [(wound, 0), (wound, 1)]) {
        let dir = tempfile::tempdir().expect("a folder");
        let (mut broker, mut model) = crashed(dir.path(), 10);
        let damaged = checkpoints(&broker)[which].clone();
        wound(&damaged);
        on_ring(async {
            let started = broker.start(1).await;
            let summary = &started.summaries[0];
            assert!(summary.damage.is_empty() && summary.quarantined.is_empty(), "{:?}", summary.damage);
            assert!(!summary.journal_damaged);
            let named: Vec<_> = summary.spare_copies.iter().map(|copy| &copy.path).collect();
            assert_eq!(named, [&damaged]);
            model.check(&started).await;
            model.append(&started, 0, 1000).await;
        });
        assert!(checkpoints(&broker).iter().all(|path| Checkpoint::decode(&fs::read(path).unwrap()).is_ok()));
        on_ring(async {
            let started = broker.start(1).await;
            assert!(started.summaries[0].spare_copies.is_empty(), "both were written again");
            model.check(&started).await;
        });
    }
}

#[test]
fn of_two_sound_copies_of_a_checkpoint_the_newer_counts() {
    for which in [0, 1] {
        let dir = tempfile::tempdir().expect("a folder");
        let mut broker = Broker::new(dir.path(), 2);
        let mut model = Model::default();
        let old = on_ring(async {
            let started = broker.start(1).await;
            let old = fs::read(&checkpoints(&broker)[which]).expect("a file");
            for round in 0..40 {
                model.append(&started, round % 2, 9000).await;
            }
            assert!(started.stores[0].stats().checkpoints > 0);
            old
        });
        // As if the medium had lost every write of it since.
        fs::write(&checkpoints(&broker)[which], old).expect("written");
        on_ring(async {
            let started = broker.start(1).await;
            assert!(started.summaries[0].damage.is_empty(), "{:?}", started.summaries[0].damage);
            model.check(&started).await;
        });
    }
}

#[test]
fn a_file_of_a_newer_format_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let (broker, _) = crashed(dir.path(), 3);
    let path = broker.shard_dir(0).join("checkpoint");
    let mut bytes = fs::read(&path).expect("a file");
    bytes[4] = 2;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..44]), &bytes[48..]);
    bytes[44..48].copy_from_slice(&crc.to_le_bytes());
    fs::write(&path, bytes).expect("written");
    let config = ringlog_storage::StoreConfig {
        previous: broker.previous,
        ..ringlog_storage::StoreConfig::new(dir.path(), 0, 2)
    };
    let refused = on_ring(recover(config, broker.specs.clone()));
    assert!(matches!(refused, Err(RecoveryError::Format { .. })), "{refused:?}");
}

#[test]
fn a_damaged_entry_in_a_segment_is_not_served_and_the_rest_is() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut broker, model) = rolled(dir.path());
    let batches = &model.batches[&0];
    let sealed = &segments(&broker, 0)[0];
    let at = common::find_in(sealed, &batches[2]).expect("the first segment has the third batch");
    flip(sealed, at + 3000);
    on_ring(async {
        let started = broker.start(1).await;
        let (store, partition) = started.partition(0);
        assert!(matches!(read_all(&partition, 1 << 20).await, Err(ReadError::Corrupt { offset: 6, .. })));
        assert_eq!(partition.read(0, 1).await.expect("sound").batches, [batches[0].clone()]);
        assert_eq!(partition.read(9, 1).await.expect("sound").batches, [batches[3].clone()]);
        let last = partition.log_end() - 1;
        assert_eq!(
            partition.read(last, 1).await.expect("sound").batches,
            [batches[batches.len() - 1].clone()]
        );
        assert!(partition.quarantined().is_some());
        assert!(matches!(store.append(&partition, &batch(1, 10)), Err(AppendError::Quarantined(_))));
        assert!(store.stats().corrupt_reads > 0);
        let (_, other) = started.partition(1);
        common::check_partition(&other, &model.batches[&1]).await;
    });
}

#[test]
fn damaged_segment_headers_are_seen() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut broker, model) = rolled(dir.path());
    let all = segments(&broker, 0);
    // A sealed one when it is read, the active one by recovery.
    flip(&all[1], 10);
    flip(&segments(&broker, 1)[all.len() - 1], 10);
    on_ring(async {
        let started = broker.start(1).await;
        assert_eq!(started.summaries[0].quarantined, [id(1)]);
        let (_, partition) = started.partition(0);
        let read = read_all(&partition, 1000).await;
        assert!(matches!(read, Err(ReadError::Corrupt { .. })), "{read:?}");
        let (_, other) = started.partition(1);
        assert_eq!(other.read(0, 1).await.expect("sound").batches, [model.batches[&1][0].clone()]);
    });
}

#[test]
fn a_segment_in_the_place_of_another_is_seen() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut broker, _) = rolled(dir.path());
    let (ours, others) = (segments(&broker, 0), segments(&broker, 1));
    fs::copy(&others[0], &ours[0]).expect("copied");
    fs::remove_file(&ours[1]).expect("removed");
    on_ring(async {
        let started = broker.start(1).await;
        let (_, partition) = started.partition(0);
        assert!(matches!(partition.read(0, 1000).await, Err(ReadError::Corrupt { .. })));
        assert!(matches!(read_all(&partition, 1000).await, Err(ReadError::Corrupt { .. })));
    });
}

#[test]
fn a_short_active_segment_is_damage() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut broker, model) = rolled(dir.path());
    let active = segments(&broker, 0).pop().expect("there are some");
    let len = fs::metadata(&active).expect("a file").len();
    fs::OpenOptions::new().write(true).open(&active).and_then(|file| file.set_len(len - BLOCK)).expect("cut");
    on_ring(async {
        let started = broker.start(1).await;
        assert_eq!(started.summaries[0].quarantined, [id(0)]);
        assert_eq!(started.summaries[0].damage[0].path, active);
        let (_, other) = started.partition(1);
        common::check_partition(&other, &model.batches[&1]).await;
    });
}

#[test]
fn a_missing_or_damaged_index_is_rebuilt() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut broker, model) = rolled(dir.path());
    let indexes: Vec<_> = segments(&broker, 0).iter().map(|path| path.with_extension("index")).collect();
    assert!(indexes.iter().all(|path| path.exists()));
    fs::remove_file(&indexes[0]).expect("removed");
    flip(&indexes[1], 60);
    fs::write(&indexes[2], b"nonsense").expect("written");
    on_ring(async {
        let started = broker.start(1).await;
        let (store, partition) = started.partition(0);
        // From the back, so that indexes are needed.
        for (number, expected) in model.batches[&0].iter().enumerate().rev() {
            let read = partition.read(number as i64 * 3, 1).await.expect("sound");
            assert_eq!(&read.batches[..], std::slice::from_ref(expected));
        }
        assert!(store.stats().index_rebuilds >= 2, "{:?}", store.stats());
        assert_eq!(store.stats().corrupt_reads, 0);
    });
    assert!(indexes[0].exists(), "it was written again");
}

#[test]
fn an_index_that_is_sound_but_wrong_is_not_trusted() {
    use ringlog_storage::format::index::{Index, IndexEntry};
    let dir = tempfile::tempdir().expect("a folder");
    let (mut broker, model) = rolled(dir.path());
    let segment = &segments(&broker, 0)[0];
    let path = segment.with_extension("index");
    let mut index = Index::decode(&fs::read(&path).expect("a file")).expect("sound");
    let timestamp_before = index.max_timestamp;
    index.entries.push(IndexEntry { relative_offset: 3, position: 20_000, timestamp_before });
    fs::write(&path, index.encode()).expect("written");
    on_ring(async {
        let started = broker.start(1).await;
        let (store, partition) = started.partition(0);
        let read = partition.read(3, 1).await.expect("sound");
        assert_eq!(read.batches, [model.batches[&0][1].clone()]);
        assert!(store.stats().index_rebuilds > 0);
        assert_eq!(partition.quarantined(), None);
    });
}

#[test]
fn large_batches_are_found_again_by_their_marks() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut broker, model) = bypassed(dir.path());
    on_ring(async {
        let twice = [broker.recover_only(1).await, broker.recover_only(1).await];
        assert_eq!(twice[0], twice[1]);
        let started = broker.start(1).await;
        assert!(started.summaries[0].damage.is_empty(), "{:?}", started.summaries[0].damage);
        assert!(started.summaries[0].marks > 0);
        assert_eq!(started.summaries[0].replayed_batches, 0);
        model.check(&started).await;
    });
}

#[test]
fn rot_below_a_mark_is_named_and_quarantines_its_partition_only() {
    for number in 0..5 {
        let dir = tempfile::tempdir().expect("a folder");
        let (mut broker, mut model) = bypassed(dir.path());
        let damaged = model.batches.remove(&0).expect("there were five");
        let all = segments(&broker, 0);
        let found = all.iter().find_map(|path| Some((path, common::find_in(path, &damaged[number])?)));
        let (path, at) = found.expect("some segment has it");
        flip(path, at + 3000);
        on_ring(async {
            let started = broker.start(1).await;
            let summary = &started.summaries[0];
            assert_eq!(summary.quarantined, [id(0)], "batch {number}");
            assert_eq!((&summary.damage[0].path, summary.damage[0].partition), (path, Some(id(0))));
            let (store, partition) = started.partition(0);
            let refused = store.append(&partition, &batch(1, 10));
            assert!(matches!(refused, Err(AppendError::Quarantined(_))));
            model.check(&started).await;
            model.append(&started, 1, 20_000).await;
        });
    }
}

#[test]
fn a_segment_that_a_mark_names_is_missed() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut broker, model) = bypassed(dir.path());
    for missing in segments(&broker, 0) {
        let bytes = fs::read(&missing).expect("a file");
        fs::remove_file(&missing).expect("removed");
        let summaries = on_ring(broker.recover_only(1));
        assert_eq!(summaries[0].quarantined, [id(0)], "without {missing:?}");
        fs::write(&missing, bytes).expect("written");
        fs::remove_dir_all(dir.path().join("journal").join("0000000002")).expect("removed");
    }
    on_ring(async { model.check(&broker.start(1).await).await });
}

#[test]
fn what_stands_behind_the_last_mark_is_nobodys() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut broker, mut model) = bypassed(dir.path());
    let active = segments(&broker, 0).pop().expect("there are some");
    // As if a write of a later batch had got there, but for its mark; and another only in part.
    let last = model.batches[&0].last().expect("there were five").clone();
    let mut bytes = fs::read(&active).expect("a file");
    let at = common::find_in(&active, &last).expect("the last segment has it") as usize - 24;
    let entry = bytes[at..at + 24 + last.len()].to_vec();
    let end = (at + entry.len()).next_multiple_of(BLOCK as usize);
    bytes.resize(end, 0);
    bytes.extend_from_slice(&entry);
    bytes.extend_from_slice(&[0x77; 5000]);
    fs::write(&active, bytes).expect("written");
    on_ring(async {
        let started = broker.start(1).await;
        assert!(started.summaries[0].damage.is_empty(), "{:?}", started.summaries[0].damage);
        assert_eq!(started.partition(0).1.log_end(), 15);
        for bytes in [100, 20_000] {
            model.append(&started, 0, bytes).await;
        }
        model.check(&started).await;
        started.shutdown().await;
        model.check(&broker.start(1).await).await;
    });
}

#[test]
fn a_segment_shows_that_the_end_of_the_journal_is_lost() {
    for (seed, size) in [(1, Size::Small), (2, Size::Large)] {
        // In segments that nothing else knows, and in the active one.
        for segment_bytes in [64 << 10, 1 << 30] {
            lives_with_a_lost_end(seed, size, segment_bytes, |_| ());
        }
    }
}

#[test]
fn a_checkpoint_shows_that_the_end_of_the_journal_is_lost() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut broker = Broker::new(dir.path(), 2);
    let mut model = Model::default();
    let old = on_ring(async {
        let started = broker.start(1).await;
        model.append(&started, 0, 1000).await;
        while started.stores[0].stats().journal_files_made < broker.journal_files.into() {
            ringlog_reactor::sleep(std::time::Duration::from_millis(1)).await;
        }
        let old: Vec<_> = files_below(&broker.shard_dir(0));
        for round in 0..40 {
            model.append(&started, round % 2, 9000).await;
        }
        assert!(started.stores[0].stats().checkpoints > 0);
        old
    });
    for (path, bytes) in old.into_iter().filter(|(path, _)| !path.to_str().unwrap().contains("checkpoint")) {
        fs::write(path, bytes).expect("written");
    }
    on_ring(async {
        let started = broker.start(1).await;
        assert_eq!(started.summaries[0].quarantined, [id(0), id(1)]);
        let damage = &started.summaries[0].damage;
        assert!(damage.iter().any(|damage| damage.reason.contains("lost")), "{damage:?}");
    });
}

#[test]
fn without_any_copy_of_a_checkpoint_what_segments_show_is_served() {
    type Left = fn(&std::path::Path) -> (Broker, Model);
    for left in [rolled as Left, bypassed] {
        let dir = tempfile::tempdir().expect("a folder");
        let (mut broker, model) = left(dir.path());
        for copy in checkpoints(&broker) {
            fs::write(copy, b"").expect("emptied");
        }
        for _ in 0..2 {
            on_ring(async {
                let started = broker.start(1).await;
                assert_eq!(started.summaries[0].quarantined, [id(0), id(1)]);
                for (number, batches) in &model.batches {
                    let (_, partition) = started.partition(*number);
                    assert_eq!(partition.log_end(), 3 * batches.len() as i64);
                }
                model.check(&started).await;
            });
        }
    }
}

#[test]
fn without_any_copy_of_a_checkpoint_a_damaged_last_segment_ends_the_log() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut broker, model) = rolled(dir.path());
    for copy in checkpoints(&broker) {
        fs::remove_file(copy).expect("removed");
    }
    let last = segments(&broker, 0).pop().expect("there are some");
    flip(&last, 10);
    on_ring(async {
        let started = broker.start(1).await;
        let (_, partition) = started.partition(0);
        let end = partition.log_end() as usize / 3;
        assert!(end > 5 && end < model.batches[&0].len(), "{end}");
        common::check_partition(&partition, &model.batches[&0][..end]).await;
    });
    assert!(last.exists(), "nothing is removed");
}

/// What may stand where a file belongs.
fn replace_by(path: &std::path::Path, what: &str) {
    fs::remove_file(path).expect("removed");
    match what {
        "a folder" => fs::create_dir(path).expect("made"),
        "a symbolic link" => std::os::unix::fs::symlink("/etc/hostname", path).expect("made"),
        "a pipe" => {
            let made = std::process::Command::new("mkfifo").arg(path).status().expect("it runs");
            assert!(made.success());
        }
        _ => panic!("{what}"),
    }
}

#[test]
fn what_stands_in_the_place_of_a_journal_file_costs_its_journal_only() {
    for what in ["a folder", "a symbolic link", "a pipe"] {
        let dir = tempfile::tempdir().expect("a folder");
        let (mut broker, model) = crashed(dir.path(), 10);
        let path = frame_of(&broker, &model.batches[&0][0]).0;
        replace_by(&path, what);
        on_ring(async {
            let started = broker.start(1).await;
            let summary = &started.summaries[0];
            assert_eq!(summary.quarantined, [id(0), id(1)]);
            assert!(summary.damage.iter().any(|damage| damage.path == path), "{:?}", summary.damage);
        });
    }
}

#[test]
fn what_stands_in_the_place_of_an_active_segment_costs_its_partition_only() {
    for what in ["a folder", "a symbolic link", "a pipe"] {
        let dir = tempfile::tempdir().expect("a folder");
        let (mut broker, model) = rolled(dir.path());
        let active = segments(&broker, 0).pop().expect("there are some");
        replace_by(&active, what);
        on_ring(async {
            let started = broker.start(1).await;
            assert_eq!(started.summaries[0].quarantined, [id(0)]);
            let found = &started.summaries[0].damage[0];
            assert_eq!(found.path, active);
            assert!(found.reason.contains("not a file"), "{}", found.reason);
            let (_, partition) = started.partition(0);
            assert_eq!(partition.read(0, 1).await.expect("sound").batches, [model.batches[&0][0].clone()]);
            common::check_partition(&started.partition(1).1, &model.batches[&1]).await;
        });
    }
}

#[test]
fn a_file_in_the_place_of_a_partitions_folder_costs_that_partition_only() {
    for left in [rolled as fn(&std::path::Path) -> (Broker, Model), |dir| crashed(dir, 3)] {
        let dir = tempfile::tempdir().expect("a folder");
        let (mut broker, model) = left(dir.path());
        // One without a segment has none.
        let _ = fs::remove_dir_all(broker.partition_dir(0));
        fs::create_dir_all(broker.partition_dir(0).parent().expect("a topic's")).expect("made");
        fs::write(broker.partition_dir(0), b"").expect("made");
        on_ring(async {
            let started = broker.start(1).await;
            assert_eq!(started.summaries[0].quarantined, [id(0)], "{:?}", started.summaries[0].damage);
            common::check_partition(&started.partition(1).1, &model.batches[&1]).await;
        });
    }
}

#[test]
fn an_error_of_the_medium_that_does_not_come_again_is_no_damage() {
    use ringlog_reactor::sim::{SimDisk, Simulation};
    let disk = SimDisk::new(1);
    let mut broker = Broker::new(std::path::Path::new("/data"), 2);
    let mut model = Model::default();
    Simulation::with_disk(1, disk.clone()).run(async {
        let started = broker.start(1).await;
        for round in 0..20 {
            model.append(&started, round % 2, 1000).await;
        }
    });
    disk.fail_next_read(common::lives::EIO);
    Simulation::with_disk(2, disk).run(async {
        let started = broker.start(1).await;
        let summary = &started.summaries[0];
        assert!(summary.damage.is_empty() && summary.spare_copies.is_empty(), "{summary:?}");
        model.check(&started).await;
    });
}
