//! A disk that is full by bytes, under partitions that keep only so much.

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use ringlog_reactor::sim::{DiskFaults, Simulation};
use ringlog_reactor::{fs, sleep, spawn, timeout};
use ringlog_storage::{Health, PartitionConfig};

use super::{Broker, append_with_room, batch, check_partition, patched, spec, wait_for};

/// What the disk has room for, beyond what a start has made.
const ROOM: u64 = 600 << 10;
/// More than a round of retention takes while the disk is full.
const HEALED_WITHIN: Duration = Duration::from_secs(5);

/// Appends three times as much as the disk takes, of which the partitions keep a third. Everything is taken in time; what is kept is
/// there after a crash.
pub fn heals(seed: u64, mutant: Option<&'static str>) {
    let simulation = Simulation::new(seed);
    set_mutant(&simulation, mutant);
    let disk = simulation.disk();
    let (mut broker, kept) = simulation.run(async {
        fs::create_dir_all("/data").await.unwrap();
        fs::sync_dir("/").await.unwrap();
        let config = PartitionConfig {
            segment_bytes: 32 << 10,
            retention_bytes: Some(64 << 10),
            ..PartitionConfig::default()
        };
        let specs = (0..3).map(|partition| spec(partition, config.clone())).collect();
        let mut broker = Broker { specs, ..Broker::new(Path::new("/data"), 0) };
        let started = broker.start(1).await;
        sleep(Duration::from_secs(1)).await;
        disk.set_faults(DiskFaults { full_after_bytes: Some(ROOM), ..DiskFaults::default() });
        let was_full = Rc::new(Cell::new(false));
        let (watched, seen) = (started.partition(0).0, Rc::clone(&was_full));
        let watching = spawn(async move {
            loop {
                seen.set(seen.get() || watched.health() == Health::DiskFull);
                sleep(Duration::from_millis(1)).await;
            }
        });
        let mut kept = Vec::new();
        for number in 0..450 {
            let (store, partition) = started.partition((seed + number) as u32 % 3);
            let batch = batch(seed * 1000 + number, 4000);
            let appending = append_with_room(&store, &partition, &batch);
            let appended = timeout(HEALED_WITHIN, appending).await.expect("there is space again in time");
            timeout(HEALED_WITHIN, wait_for(&store, &partition, appended)).await.expect("committed in time");
            kept.push((partition.id().partition, patched(&batch, appended.base_offset)));
        }
        drop(watching);
        assert!(was_full.get(), "the disk was full");
        (broker, kept)
    });
    disk.set_faults(DiskFaults::default());
    simulation.crash();
    let again = Simulation::with_disk(seed + 100, simulation.disk());
    again.run(async {
        let started = broker.start(1).await;
        for number in 0..3 {
            let (_, partition) = started.partition(number);
            assert_eq!(partition.quarantined(), None);
            let mine: Vec<_> =
                kept.iter().filter(|(at, _)| *at == number).map(|(_, batch)| batch.clone()).collect();
            let start = partition.start_offset() as usize / 3;
            check_partition(&partition, &mine[start..]).await;
        }
    });
}

#[cfg(feature = "mutants")]
pub fn set_mutant(simulation: &Simulation, mutant: Option<&'static str>) {
    simulation.set_mutant(mutant);
}

#[cfg(not(feature = "mutants"))]
pub fn set_mutant(_: &Simulation, mutant: Option<&'static str>) {
    assert!(mutant.is_none());
}
