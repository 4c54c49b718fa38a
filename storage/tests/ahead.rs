//! Small flushes write zeros behind themselves, and land on those of an earlier one.

mod common;

use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{Broker, Model};
use ringlog_reactor::sim::{DiskFaults, SimDisk, Simulation};
use ringlog_reactor::{fs, timeout};
use ringlog_storage::limits::BLOCK_BYTES;

const PARTITIONS: u32 = 8;

async fn broker() -> Broker {
    fs::create_dir_all("/data").await.expect("the folder is made");
    fs::sync_dir("/").await.expect("the folder is durable");
    Broker::new(Path::new("/data"), PARTITIONS)
}

/// A partition's segments, the oldest first, with their lengths.
fn segments(disk: &SimDisk, broker: &Broker, partition: u32) -> Vec<(PathBuf, u64)> {
    let dir = broker.partition_dir(partition);
    let mut files = disk.files();
    files.retain(|(path, _)| path.parent() == Some(&*dir) && path.extension().is_some_and(|is| is == "log"));
    files.sort();
    files
}

#[test]
fn most_small_flushes_move_no_end_of_file_and_a_sealed_segment_has_no_zeros_behind_it() {
    let simulation = Simulation::new(3);
    let disk = simulation.disk();
    let (mut broker, model) = simulation.run(async {
        let (mut broker, mut model) = (broker().await, Model::default());
        let started = broker.start(1).await;
        let store = started.stores[0].clone();
        let (mut lengths, mut moved) = (vec![0; PARTITIONS as usize], 0);
        for round in 0..400 {
            for partition in 0..PARTITIONS {
                model.append(&started, partition, 900).await;
                let (_, len) = segments(&disk, &broker, partition).last().cloned().unwrap_or_default();
                moved += u64::from(lengths[partition as usize] != len);
                lengths[partition as usize] = len;
            }
            let stats = store.stats();
            assert!(
                stats.ahead_bytes <= (stats.checkpoints + 1) * broker.journal_file_bytes,
                "round {round}"
            );
        }
        let stats = store.stats();
        assert!(stats.ahead_bytes > 0 && stats.rolls >= 10, "{stats:?}");
        assert!(3 * moved < stats.flushes, "{moved} of {stats:?}");
        (broker, model)
    });
    simulation.crash();
    Simulation::with_disk(4, simulation.disk()).run(async {
        let started = broker.start(1).await;
        model.check(&started).await;
        for partition in 0..PARTITIONS {
            let mut files = segments(&disk, &broker, partition);
            files.pop();
            for (path, len) in files {
                let bytes = fs::read(&path).await.expect("a sealed segment is read");
                let last = &bytes[len as usize - BLOCK_BYTES..];
                assert!(last.iter().any(|byte| *byte != 0), "{}", path.display());
            }
        }
        started.shutdown().await;
    });
}

#[test]
fn where_space_is_short_no_zeros_are_written_and_those_that_were_are_given_back() {
    let simulation = Simulation::new(5);
    let disk = simulation.disk();
    let (mut broker, model) = simulation.run(async {
        let (mut broker, mut model) = (broker().await, Model::default());
        broker.specs.iter_mut().for_each(|spec| spec.config.segment_bytes = 4 << 20);
        let started = broker.start(1).await;
        let store = started.stores[0].clone();
        while store.stats().ahead_bytes < 3 * broker.journal_file_bytes {
            for partition in 0..PARTITIONS {
                model.append(&started, partition, 900).await;
            }
        }
        // Not even a checkpoint's data has room now, but in the place of those zeros.
        disk.set_faults(DiskFaults { full_after_bytes: Some(0), ..DiskFaults::default() });
        let before = store.stats();
        let more = async {
            while store.stats().checkpoints == before.checkpoints {
                for partition in 0..PARTITIONS {
                    model.append(&started, partition, 900).await;
                }
            }
        };
        timeout(Duration::from_secs(60), more).await.expect("the disk is full no longer");
        assert_eq!(store.stats().ahead_bytes, before.ahead_bytes);
        (broker, model)
    });
    for state in ["no space for zeros ahead", "space ahead given back"] {
        assert!(simulation.reached().contains_key(state), "{state}");
    }
    simulation.crash();
    disk.set_faults(DiskFaults::default());
    Simulation::with_disk(6, disk).run(async {
        let started = broker.start(1).await;
        model.check(&started).await;
        started.shutdown().await;
    });
}
