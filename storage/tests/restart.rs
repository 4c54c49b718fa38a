//! What was acknowledged is there after a restart, whatever the way of the end and the number of shards.

mod common;

use std::path::Path;
use std::time::Duration;

use common::{
    Broker, Model, append_with_room, batch, check_partition, in_memory, on_ring, read_all, spec, wait_for,
};
use ringlog_reactor::sim::Simulation;
use ringlog_reactor::{fs, now, sleep};
use ringlog_storage::{Health, ReadError};

#[test]
fn what_was_acked_is_there_after_a_crash() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut broker = Broker::new(dir.path(), 3);
    let mut model = Model::default();
    on_ring(async {
        let started = broker.start(1).await;
        for round in 0..40 {
            model.append(&started, round % 3, 500 + 37 * round as usize).await;
        }
        model.check(&started).await;
    });
    on_ring(async {
        let started = broker.start(1).await;
        assert!(started.summaries[0].replayed_batches > 0);
        assert!(started.summaries[0].damage.is_empty());
        model.check(&started).await;
        model.append(&started, 1, 100).await;
        model.check(&started).await;
    });
}

#[test]
fn an_orderly_end_leaves_nothing_to_replay() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut broker = Broker::new(dir.path(), 2);
    let mut model = Model::default();
    on_ring(async {
        let started = broker.start(1).await;
        for round in 0..10 {
            model.append(&started, round % 2, 3000).await;
        }
        started.shutdown().await;
    });
    on_ring(async {
        let started = broker.start(1).await;
        assert_eq!(started.summaries[0].replayed_batches, 0);
        model.check(&started).await;
        assert_eq!(started.stores[0].stats().index_rebuilds, 0, "the index was saved");
    });
}

#[test]
fn the_number_of_shards_may_change_between_starts() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut broker = Broker::new(dir.path(), 6);
    let mut model = Model::default();
    for shards in [1, 3, 2, 2, 4, 1] {
        on_ring(async {
            let started = broker.start(shards).await;
            assert!(started.summaries.iter().all(|summary| summary.damage.is_empty()));
            model.check(&started).await;
            for round in 0..30 {
                model.append(&started, round % 6, 2000).await;
            }
            model.check(&started).await;
        });
    }
}

#[test]
fn recovering_twice_equals_recovering_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut broker = Broker::new(dir.path(), 2);
    let mut model = Model::default();
    on_ring(async {
        let started = broker.start(1).await;
        for round in 0..60 {
            model.append(&started, round % 2, 5000).await;
        }
    });
    // Each time the machine stops before the new epoch is durable; the number of shards is not the same either.
    let once = on_ring(broker.recover_only(1));
    let twice = on_ring(broker.recover_only(1));
    assert_eq!(once, twice);
    on_ring(broker.recover_only(3));
    on_ring(async {
        let started = broker.start(2).await;
        model.check(&started).await;
        assert!(started.summaries.iter().all(|summary| summary.damage.is_empty()));
        for partition in 0..2 {
            let names: Vec<_> =
                std::fs::read_dir(broker.partition_dir(partition)).expect("a folder").collect();
            let aside = names.iter().filter(|entry| {
                entry.as_ref().expect("an entry").file_name().to_string_lossy().contains("unsynced")
            });
            assert_eq!(aside.count(), 0, "superseded segments are removed");
        }
    });
}

#[test]
fn segments_roll_files_are_recycled_and_chunks_evicted() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut broker = Broker::new(dir.path(), 2);
    let mut model = Model::default();
    on_ring(async {
        let started = broker.start(1).await;
        for round in 0..400 {
            model.append(&started, round % 2, 20_000).await;
        }
        let stats = started.stores[0].stats();
        assert!(stats.rolls > 10, "{stats:?}");
        assert!(stats.recycles > 10, "{stats:?}");
        assert!(stats.checkpoints > 10, "{stats:?}");
        assert!(stats.evictions > 0, "{stats:?}");
        assert!(stats.tail_bytes <= broker.tail_bytes, "{stats:?}");
        model.check(&started).await;
        let stats = started.stores[0].stats();
        assert!(stats.cold_reads > 0 && stats.cached_reads > 0, "{stats:?}");
        assert_eq!(stats.corrupt_reads, 0);
    });
    on_ring(async {
        let started = broker.start(1).await;
        model.check(&started).await;
        for round in 0..100 {
            model.append(&started, round % 2, 20_000).await;
        }
        started.shutdown().await;
    });
    on_ring(async {
        let started = broker.start(1).await;
        model.check(&started).await;
    });
}

#[test]
fn an_index_of_what_was_not_synced_is_removed_by_recovery() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut broker = Broker::new(dir.path(), 1);
    broker.journal_file_bytes = 16 << 20;
    broker.tail_bytes = 32 << 20;
    std::rc::Rc::make_mut(&mut broker.specs[0].config).segment_bytes = 1 << 20;
    let mut model = Model::default();
    for _ in 0..2 {
        // Enough for eager flushes, and so for sealed segments with indexes, without a checkpoint.
        on_ring(async {
            let started = broker.start(1).await;
            for _ in 0..250 {
                model.append(&started, 0, 10_000).await;
            }
            let stats = started.stores[0].stats();
            assert_eq!((stats.checkpoints, stats.rolls > 0), (0, true), "{stats:?}");
        });
    }
    let names = |extension: &str| {
        let entries = std::fs::read_dir(broker.partition_dir(0)).expect("a folder");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        paths.filter(|path| path.extension().is_some_and(|found| found == extension)).count()
    };
    let before = names("index");
    on_ring(broker.recover_only(1));
    assert!(names("index") < before, "{} of {before}", names("index"));
    on_ring(async {
        let started = broker.start(1).await;
        model.check(&started).await;
        // From the back, by index.
        let (store, partition) = started.partition(0);
        for (number, expected) in model.batches[&0].iter().enumerate().rev().step_by(7) {
            let read = partition.read(number as i64 * 3, 1).await.expect("sound");
            assert_eq!(&read.batches[..], std::slice::from_ref(expected));
        }
        assert_eq!(store.stats().corrupt_reads, 0);
    });
}

#[test]
fn one_turn_of_appends_shares_a_commit() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut broker = Broker::new(dir.path(), 4);
    on_ring(async {
        let started = broker.start(1).await;
        let (store, _) = started.partition(0);
        let mut last = None;
        for round in 0..20 {
            let (_, partition) = started.partition(round % 4);
            last = Some(store.append(&partition, &batch(round.into(), 200)).expect("there is room"));
        }
        wait_for(&store, &started.partition(3).1, last.expect("there was one")).await;
        assert_eq!(store.stats().commits, 1);
        assert_eq!(store.stats().appends, 20);
    });
}

#[test]
fn a_disk_topic_is_read_only_when_it_is_durable_and_a_memory_topic_at_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut broker = Broker::new(dir.path(), 1);
    broker.specs.push(spec(1, in_memory()));
    on_ring(async {
        let started = broker.start(1).await;
        let (store, disk) = started.partition(0);
        let (_, memory) = started.partition(1);
        let batch = batch(1, 100);
        let appended = store.append(&disk, &batch).expect("there is room");
        store.append(&memory, &batch).expect("there is room");
        assert_eq!((disk.log_end(), disk.high_watermark()), (3, 0));
        assert_eq!((memory.log_end(), memory.high_watermark()), (3, 3));
        assert_eq!(disk.try_read_tail(0, 1000).expect("in memory").batches.len(), 0);
        assert_eq!(memory.try_read_tail(0, 1000).expect("in memory").batches.len(), 1);
        let changed = disk.changed();
        wait_for(&store, &disk, appended).await;
        changed.await;
        assert_eq!(disk.high_watermark(), 3);
        assert_eq!(disk.read(4, 1000).await, Err(ReadError::OutOfRange { start: 0, end: 3 }));
    });
}

#[test]
fn large_batches_get_memory_of_their_own() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut broker = Broker::new(dir.path(), 2);
    broker.journal_file_bytes = 16 << 20;
    broker.tail_bytes = 32 << 20;
    broker
        .specs
        .iter_mut()
        .for_each(|spec| std::rc::Rc::make_mut(&mut spec.config).max_batch_bytes = 8 << 20);
    let mut model = Model::default();
    on_ring(async {
        let started = broker.start(1).await;
        for bytes in [100, 3 << 20, 1 << 20, (1 << 20) - 300, 200, 8_000_000, 50_000, 8_000_000, 8_000_000] {
            model.append(&started, 0, bytes).await;
            model.append(&started, 1, bytes / 2).await;
        }
        model.check(&started).await;
        assert!(started.stores[0].stats().evictions > 0);
    });
    on_ring(async {
        let started = broker.start(1).await;
        model.check(&started).await;
    });
}

#[test]
fn many_unacked_appends_wait_for_room_and_none_is_lost() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut broker = Broker::new(dir.path(), 1);
    on_ring(async {
        let started = broker.start(1).await;
        let (store, partition) = started.partition(0);
        let mut expected = Vec::new();
        let mut last = None;
        for round in 0..1000 {
            let batch = batch(round, 10_000);
            let appended = append_with_room(&store, &partition, &batch).await;
            expected.push(common::patched(&batch, appended.base_offset));
            last = Some(appended);
        }
        wait_for(&store, &partition, last.expect("there was one")).await;
        assert!(store.stats().refused_full > 0);
        assert!(store.stats().commits < 1000);
        check_partition(&partition, &expected).await;
        assert_eq!(store.health(), Health::Ok);
    });
}

#[test]
fn a_bad_batch_is_refused_and_leaves_nothing() {
    use ringlog_protocol::batch::BatchError;
    use ringlog_storage::AppendError;
    let dir = tempfile::tempdir().expect("a folder");
    let mut broker = Broker::new(dir.path(), 1);
    let mut model = Model::default();
    on_ring(async {
        let started = broker.start(1).await;
        let (store, partition) = started.partition(0);
        let good = batch(1, 300);
        let mut bad = good.to_vec();
        let last = bad.len() - 1;
        bad[last] ^= 1;
        for _ in 0..3 {
            let refused = store.append(&partition, &bad);
            assert!(matches!(refused, Err(AppendError::Batch(BatchError::Crc { .. }))), "{refused:?}");
        }
        assert_eq!(partition.log_end(), 0);
        model.append(&started, 0, 300).await;
        let refused = store.append(&partition, &bad);
        assert!(matches!(refused, Err(AppendError::Batch(BatchError::Crc { .. }))), "{refused:?}");
        model.append(&started, 0, 300).await;
        let refused = store.append(&partition, &batch(1, 2 << 20));
        assert!(matches!(refused, Err(AppendError::TooLarge { .. })), "{refused:?}");
        assert!(store.append(&partition, &good[..40]).is_err());
        model.check(&started).await;
    });
    on_ring(async {
        let started = broker.start(1).await;
        assert!(started.summaries[0].damage.is_empty());
        model.check(&started).await;
    });
}

/// How many files of a folder this process has open, removed ones too.
fn open_files_in(dir: &Path) -> usize {
    let open = std::fs::read_dir("/proc/self/fd").expect("procfs is there");
    let targets = open.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
    targets.filter(|target| target.starts_with(dir)).count()
}

#[test]
fn a_deleted_partition_is_gone_and_its_readers_are_told() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut broker = Broker::new(dir.path(), 2);
    let mut model = Model::default();
    on_ring(async {
        let started = broker.start(1).await;
        for round in 0..500 {
            model.append(&started, round % 2, 20_000).await;
        }
        let (store, partition) = started.partition(0);
        let changed = partition.changed();
        let mut reading = Box::pin(read_all(&partition, 50_000));
        // Polled once, so that a read is in flight.
        let first =
            std::future::poll_fn(|cx| std::task::Poll::Ready(reading.as_mut().poll(cx).is_ready())).await;
        assert!(!first, "a cold read takes time");
        store.delete_partition(partition.id()).await.expect("deleted");
        changed.await;
        assert_eq!(reading.await, Err(ReadError::Deleted));
        assert!(store.append(&partition, &batch(1, 10)).is_err());
        assert!(!broker.partition_dir(0).exists());
        assert_eq!(open_files_in(&broker.partition_dir(0)), 0, "whoever has a handle keeps no file open");
        drop(partition);
        model.batches.remove(&0);
        for _ in 0..50 {
            model.append(&started, 1, 10_000).await;
        }
        model.check(&started).await;
    });
    broker.specs.remove(0);
    on_ring(async {
        let started = broker.start(1).await;
        assert!(started.summaries[0].damage.is_empty());
        model.check(&started).await;
        let made = started.stores[0].create_partition(spec(9, common::tiny())).expect("made");
        broker.specs.push(made.spec().clone());
        model.append(&started, 9, 10).await;
    });
    on_ring(async {
        let started = broker.start(1).await;
        model.check(&started).await;
    });
}

#[test]
fn the_first_batch_not_older_than_a_time_is_found() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut broker = Broker::new(dir.path(), 1);
    let mut model = Model::default();
    on_ring(async {
        let started = broker.start(1).await;
        // Batch n has the timestamp n seconds, n from 1.
        for _ in 0..300 {
            model.append(&started, 0, 20_000).await;
        }
        find_times(&started).await;
    });
    on_ring(async {
        let started = broker.start(1).await;
        find_times(&started).await;
    });
}

async fn find_times(started: &common::Started) {
    let (_, partition) = started.partition(0);
    assert_eq!(partition.offset_for_time(0).await, Ok(Some((0, 1000))));
    for second in [1, 2, 77, 150, 299, 300] {
        let found = partition.offset_for_time(second * 1000 - 500).await;
        assert_eq!(found, Ok(Some(((second - 1) * 3, second * 1000))), "second {second}");
    }
    assert_eq!(partition.offset_for_time(300_001).await, Ok(None));
}

#[test]
fn a_topic_acknowledged_in_memory_shares_commits_and_is_durable_soon() {
    let mut broker = Broker::new(Path::new("/data"), 1);
    broker.specs[0] = spec(0, in_memory());
    Simulation::new(3).run(async {
        fs::create_dir_all("/data").await.expect("a folder");
        let started = broker.start(1).await;
        let (store, partition) = started.partition(0);
        let mut last = None;
        for round in 0..20 {
            last = Some(store.append(&partition, &batch(round, 300)).expect("there is room"));
            sleep(Duration::from_micros(100)).await;
        }
        assert_eq!(store.stats().commits, 0, "nobody waits for them");
        wait_for(&store, &partition, last.expect("there were twenty")).await;
        assert_eq!(store.stats().commits, 1);
        let one_more = store.append(&partition, &batch(20, 300)).expect("there is room");
        store.hurry();
        let begun = now();
        wait_for(&store, &partition, one_more).await;
        assert!(begun.elapsed() < Duration::from_millis(5), "somebody waits for it");
    });
}

#[test]
fn a_checkpoint_makes_the_new_segments_of_many_partitions_at_the_same_time() {
    const PARTITIONS: u32 = 64;
    for seed in 0..5 {
        let mut broker = Broker::new(Path::new("/data"), PARTITIONS);
        Simulation::new(seed).run(async {
            fs::create_dir_all("/data").await.expect("a folder");
            fs::sync_dir("/").await.expect("synced");
            let mut model = Model::default();
            let mut ends = Vec::new();
            for _life in 0..2 {
                let started = broker.start(1).await;
                for partition in 0..PARTITIONS {
                    model.append(&started, partition, 300).await;
                }
                let begun = now();
                started.shutdown().await;
                ends.push(begun.elapsed());
            }
            // The second life goes on with the segments of the first.
            assert!(ends[0] < 2 * ends[1], "{ends:?}");
        });
    }
}
