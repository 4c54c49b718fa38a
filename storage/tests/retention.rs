//! Records go when their time has come, or when there are too many; in the simulation, where time costs nothing.

mod common;

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use common::{Broker, Started, append_with_room, spec, wait_for};
use ringlog_protocol::batch::BatchBuilder;
use ringlog_reactor::sim::Simulation;
use ringlog_reactor::{fs, sleep, wall_clock_ms};
use ringlog_storage::{PartitionConfig, ReadError};

const HOUR_MS: u64 = 60 * 60 * 1000;
const A_ROUND: Duration = Duration::from_secs(35);

fn batch(timestamp_ms: i64) -> Bytes {
    let mut builder = BatchBuilder::new(1 << 20);
    builder.push(timestamp_ms, None, Some(&[7; 8000]), []).unwrap();
    builder.finish_plain()
}

async fn broker(config: PartitionConfig) -> Broker {
    fs::create_dir_all("/data").await.unwrap();
    fs::sync_dir("/").await.unwrap();
    Broker { specs: vec![spec(0, config)], ..Broker::new(Path::new("/data"), 0) }
}

async fn append(started: &Started, count: usize, timestamp_ms: i64) {
    let (store, partition) = started.partition(0);
    for _ in 0..count {
        let appended = append_with_room(&store, &partition, &batch(timestamp_ms)).await;
        wait_for(&store, &partition, appended).await;
    }
}

async fn segment_files() -> usize {
    let entries = fs::read_dir("/data/topics/orders@7/0").await.unwrap();
    entries.iter().filter(|entry| entry.name.ends_with(".log")).count()
}

fn tiny(retention_bytes: Option<u64>, retention_ms: Option<u64>) -> PartitionConfig {
    PartitionConfig { segment_bytes: 64 << 10, retention_bytes, retention_ms, ..PartitionConfig::default() }
}

#[test]
fn records_go_when_their_time_has_come_and_stay_gone() {
    for seed in 0..10 {
        let simulation = Simulation::new(seed);
        let (start, broker) = simulation.run(async {
            let mut broker = broker(tiny(None, Some(HOUR_MS))).await;
            let started = broker.start(1).await;
            append(&started, 100, wall_clock_ms()).await;
            sleep(A_ROUND).await;
            let (store, partition) = started.partition(0);
            assert_eq!(partition.start_offset(), 0, "an hour has not passed");

            sleep(Duration::from_millis(HOUR_MS)).await;
            append(&started, 20, wall_clock_ms()).await;
            sleep(A_ROUND).await;
            let start = partition.start_offset();
            assert!((80..=100).contains(&start), "the log begins at {start}");
            assert!(store.stats().retired_files > 0);
            assert_eq!(partition.read(0, 1).await.unwrap_err(), ReadError::OutOfRange { start, end: 120 });
            assert_eq!(partition.read(start, 1).await.unwrap().next_offset, start + 1);
            (start, broker)
        });
        simulation.crash();
        let again = Simulation::with_disk(seed + 100, simulation.disk());
        again.run(async {
            let mut broker = broker;
            let started = broker.start(1).await;
            let (_, partition) = started.partition(0);
            assert_eq!(partition.start_offset(), start);
            assert_eq!(partition.quarantined(), None);
            assert_eq!(partition.high_watermark(), 120);
            assert_eq!(partition.read(start, 1).await.unwrap().next_offset, start + 1);
            started.shutdown().await;
        });
    }
}

#[test]
fn a_partition_that_gets_no_more_records_lets_its_last_ones_go() {
    Simulation::new(3).run(async {
        let mut broker = broker(tiny(None, Some(HOUR_MS))).await;
        let started = broker.start(1).await;
        append(&started, 30, wall_clock_ms()).await;
        started.shutdown().await;
        let started = broker.start(1).await;
        sleep(Duration::from_millis(2 * HOUR_MS)).await;
        let (_, partition) = started.partition(0);
        assert_eq!((partition.start_offset(), partition.high_watermark()), (30, 30));
        assert_eq!(segment_files().await, 1, "the new, empty one");
        started.shutdown().await;

        let started = broker.start(1).await;
        append(&started, 1, wall_clock_ms()).await;
        let (_, partition) = started.partition(0);
        assert_eq!(partition.read(30, 1).await.unwrap().next_offset, 31, "offsets go on where they were");
        started.shutdown().await;
    });
}

#[test]
fn a_partition_keeps_as_many_bytes_as_it_may() {
    Simulation::new(4).run(async {
        let mut broker = broker(tiny(Some(256 << 10), None)).await;
        let started = broker.start(1).await;
        append(&started, 200, 0).await;
        started.shutdown().await;
        let before = segment_files().await;
        let started = broker.start(1).await;
        sleep(A_ROUND).await;
        let (_, partition) = started.partition(0);
        let kept = (partition.high_watermark() - partition.start_offset()) * 8000;
        assert!((240 << 10..400 << 10).contains(&kept), "{kept} bytes are kept");
        assert!(segment_files().await < before);
        started.shutdown().await;
    });
}

#[test]
fn a_crash_at_any_await_of_a_round_loses_nothing_that_is_kept() {
    for seed in 0..60 {
        let simulation = Simulation::new(seed);
        let broker = simulation.run(async {
            let mut broker = broker(tiny(Some(128 << 10), None)).await;
            let started = broker.start(1).await;
            append(&started, 60, 0).await;
            started.shutdown().await;
            broker
        });
        let mut second = broker.clone();
        let noted = std::cell::Cell::new(None);
        let noted = &noted;
        let again = Simulation::with_disk(seed + 100, simulation.disk());
        again.run_for(40 + seed * 9, async {
            let started = second.start_noting(1, |epoch| noted.set(Some(epoch))).await;
            sleep(A_ROUND).await;
            started.shutdown().await;
        });
        again.crash();
        let mut third = Broker { previous: noted.get().or(broker.previous), ..broker };
        Simulation::with_disk(seed + 200, again.disk()).run(async {
            let started = third.start(1).await;
            let (_, partition) = started.partition(0);
            assert_eq!(partition.quarantined(), None, "seed {seed}");
            assert_eq!(partition.high_watermark(), 60, "seed {seed}");
            for offset in partition.start_offset()..60 {
                assert!(partition.read(offset, 1).await.is_ok(), "seed {seed}: {offset} cannot be read");
            }
        });
    }
}

#[test]
fn damage_is_kept() {
    let simulation = Simulation::new(8);
    let segment = "/data/topics/orders@7/0/00000000000000000000.log";
    let mut broker = simulation.run(async {
        let mut broker = broker(tiny(None, Some(1))).await;
        let started = broker.start(1).await;
        append(&started, 3, 1_000).await;
        started.shutdown().await;
        fs::remove_file(segment.replace(".log", ".index")).await.unwrap();
        broker
    });
    let second_entry = 4096 + 24 + batch(1_000).len() as u64;
    assert!(simulation.disk().flip_bit(segment, second_entry, 3));
    Simulation::with_disk(9, simulation.disk()).run(async {
        let started = broker.start(1).await;
        sleep(2 * A_MINUTE).await;
        let (store, damaged) = started.partition(0);
        assert_eq!(damaged.start_offset(), 0, "records were let go");
        assert_eq!(store.stats().retired_files, 0);
        assert_eq!(damaged.read(0, 1).await.unwrap().next_offset, 1);
        assert!(matches!(damaged.offset_for_time(2_000).await, Err(ReadError::Corrupt { .. })));
    });
}

/// How much longer than `retention.ms` a record may stay, where that is short.
const A_MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_record_goes_from_a_quiet_topic_though_nothing_else_comes() {
    for ahead_ms in [0, 1_000_000_000_000] {
        (0..5).for_each(|seed| common::aging::the_only_record_goes(seed, ahead_ms, None));
    }
}

#[test]
fn records_go_in_time_from_a_topic_that_gets_a_few_all_the_time() {
    for keep_ms in [1_000, 30_000, 1_200_000] {
        Simulation::new(11).run(async {
            let config = PartitionConfig { segment_bytes: 1 << 30, ..tiny(None, Some(keep_ms)) };
            let mut broker = broker(config).await;
            let started = broker.start(1).await;
            let mut times = Vec::new();
            for _ in 0..300 {
                times.push(wall_clock_ms());
                append(&started, 1, wall_clock_ms()).await;
                sleep(Duration::from_millis(1_000 + keep_ms / 100)).await;
                let start = started.partition(0).1.start_offset() as usize;
                let late = Duration::from_millis(keep_ms / 10).max(A_MINUTE / 2) + A_MINUTE / 2;
                let bound = wall_clock_ms() - keep_ms as i64 - late.as_millis() as i64;
                assert!(times[start] >= bound, "{keep_ms} ms: {start} is {} ms late", bound - times[start]);
                let gone = times[..start].iter().max();
                assert!(gone.is_none_or(|time| *time < wall_clock_ms() - keep_ms as i64), "{keep_ms} ms");
            }
            assert!(started.partition(0).1.start_offset() > 0);
        });
    }
}

#[test]
fn a_record_whose_time_cannot_be_goes_by_when_it_was_written() {
    for time_ms in [1_700_000_000_000_000, i64::MAX, -1, -1_000, i64::MIN] {
        for restarted in [false, true] {
            Simulation::new(12).run(async {
                let mut broker = broker(tiny(None, Some(HOUR_MS))).await;
                let mut started = broker.start(1).await;
                // A segment of its own, and others behind it.
                append(&started, 7, time_ms).await;
                append(&started, 60, wall_clock_ms()).await;
                if restarted {
                    started.shutdown().await;
                    started = broker.start(1).await;
                }
                sleep(Duration::from_millis(HOUR_MS / 2)).await;
                assert_eq!(started.partition(0).1.start_offset(), 0, "{time_ms}: half an hour has passed");
                sleep(Duration::from_millis(HOUR_MS / 2 + HOUR_MS / 10) + A_MINUTE).await;
                assert_eq!(started.partition(0).1.start_offset(), 67, "{time_ms}, restarted: {restarted}");
            });
        }
    }
}

#[test]
fn partitions_of_which_nothing_may_go_cost_a_round_no_file() {
    Simulation::new(13).run(async {
        let mut broker = broker(tiny(None, Some(HOUR_MS))).await;
        broker.specs.extend((1..200).map(|number| spec(number, tiny(None, Some(HOUR_MS)))));
        let started = broker.start(1).await;
        for number in 0..200 {
            let (store, partition) = started.partition(number);
            let appended = append_with_room(&store, &partition, &batch(wall_clock_ms())).await;
            wait_for(&store, &partition, appended).await;
        }
        started.shutdown().await;
        let started = broker.start(1).await;
        sleep(A_MINUTE).await;
        let (store, _) = started.partition(0);
        let before = store.stats();
        sleep(10 * A_MINUTE).await;
        assert_eq!(store.stats(), before);
    });
}

#[test]
fn a_full_disk_heals_by_what_retention_lets_go() {
    (0..20).for_each(|seed| common::full::heals(seed, None));
}

#[test]
fn a_large_batch_that_a_full_disk_has_no_space_for_is_refused_and_its_offset_given_to_another() {
    let refused: usize = (0..50).map(|seed| common::full::refuses(seed, None)).sum();
    assert!(refused > 100, "{refused}");
}

#[test]
fn a_segment_of_an_earlier_start_takes_no_records_that_come_much_later() {
    (0..5).for_each(|seed| common::aging::an_old_segment_takes_nothing_new(seed, None));
}
