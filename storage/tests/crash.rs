//! The storage on the simulated machine: killed at any await, power failing, faults of the disk. What was acknowledged is
//! there, byte for byte; what was not is there whole or not at all.

mod common;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use common::lives::{
    BYPASS_BYTES, Dice, EIO, Seen, Trouble, World, compare, make_data_folder, note_acked, produce, run_lives,
    settle, sim_broker, start,
};
use common::{append_with_room, batch, patched, read_all, spec, tiny, wait_for};
use ringlog_reactor::sim::{SimDisk, Simulation};
use ringlog_reactor::{fs, sleep, spawn, timeout};
use ringlog_storage::{AppendError, Health, Partition};

/// Twenty, or those of `RINGLOG_SEEDS=from..to` for a longer search.
fn seeds() -> std::ops::Range<u64> {
    let given = std::env::var("RINGLOG_SEEDS").ok();
    let parsed = given.as_deref().and_then(|range| {
        let (from, to) = range.split_once("..")?;
        Some(from.parse().ok()?..to.parse().ok()?)
    });
    assert!(parsed.is_some() || given.is_none(), "RINGLOG_SEEDS is a range like 100..200");
    parsed.unwrap_or(1..21)
}

#[test]
fn what_was_acked_survives_kills_and_power_failures_at_any_await() {
    let mut all = Seen::default();
    for seed in seeds() {
        let (seen, _) = run_lives(seed, 8);
        all.add(seen.stats);
        all.replayed += seen.replayed;
        all.marks += seen.marks;
        all.torn += seen.torn;
        all.extra += seen.extra;
    }
    let stats = &all.stats;
    for (name, count) in [
        ("commits under way together", stats.overlapped_commits),
        ("rolls", stats.rolls),
        ("recycles", stats.recycles),
        ("checkpoints", stats.checkpoints),
        ("evictions", stats.evictions),
        ("cold reads", stats.cold_reads),
        ("index rebuilds", stats.index_rebuilds),
        ("refusals for want of memory", stats.refused_full),
        ("batches past the journal", stats.bypasses),
        ("marks", stats.marks),
        ("batches put back into the journal", stats.put_back),
        ("marks that a recovery followed", all.marks),
        ("replayed batches", all.replayed),
        ("torn tails", all.torn),
        ("unacked batches that survived", all.extra),
    ] {
        assert!(count > 0, "no {name} in any run: {all:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    assert_eq!(run_lives(77, 3).1, run_lives(77, 3).1);
    assert_ne!(run_lives(77, 3).1, run_lives(78, 3).1);
}

#[test]
fn a_failed_write_ends_acknowledging_for_ever() {
    for bytes in [100, BYPASS_BYTES + 100] {
        fail_and_check(bytes, |disk| disk.fail_next_write(EIO));
    }
}

#[test]
fn a_failed_sync_ends_acknowledging_for_ever() {
    let simulation = Simulation::new(3);
    let disk = simulation.disk();
    simulation.run(async {
        make_data_folder().await;
        let mut broker = sim_broker();
        let started = broker.start(1).await;
        let (store, partition) = started.partition(0);
        wait_for(&store, &partition, append_with_room(&store, &partition, &batch(1, 100)).await).await;
        // The journal files are made, so the next sync is a checkpoint's.
        sleep(Duration::from_secs(5)).await;
        disk.fail_next_sync(EIO);
        assert!(store.shutdown().await.is_err());
        let (_, partition) = started.partition(0);
        assert_eq!(read_all(&partition, 1000).await.expect("reads go on").len(), 1);
    });
}

fn fail_and_check(bytes: usize, fault: impl Fn(&SimDisk)) {
    let simulation = Simulation::new(3);
    let disk = simulation.disk();
    let broker = RefCell::new(sim_broker());
    let kept = simulation.run(async {
        make_data_folder().await;
        let started = start(&broker, 1).await;
        let (store, partition) = started.partition(0);
        let first = batch(1, bytes);
        wait_for(&store, &partition, append_with_room(&store, &partition, &first).await).await;
        sleep(Duration::from_secs(5)).await;
        fault(&disk);
        let durable = store.durable();
        store.append(&partition, &batch(2, bytes)).expect("there is room");
        assert!(store.committed(durable).await.is_err());
        assert!(store.committed(durable).await.is_err());
        assert!(matches!(store.health(), Health::Failed(_)));
        assert!(matches!(store.append(&partition, &batch(3, 10)), Err(AppendError::Failed(_))));
        assert_eq!(partition.high_watermark(), 3);
        assert!(store.shutdown().await.is_err());
        read_all(&partition, 1000).await.expect("reads go on")
    });
    disk.crash();
    Simulation::with_disk(4, disk).run(async {
        let started = start(&broker, 1).await;
        let (_, partition) = started.partition(0);
        let read = read_all(&partition, 1000).await.expect("nothing is damaged");
        assert_eq!(read[..1], kept[..1]);
    });
}

#[test]
fn a_full_disk_refuses_appends_serves_reads_and_recovers_by_itself() {
    let simulation = Simulation::new(5);
    let disk = simulation.disk();
    let broker = RefCell::new(sim_broker());
    let world: Rc<RefCell<World>> = Rc::default();
    simulation.run(async {
        make_data_folder().await;
        let started = start(&broker, 1).await;
        let (store, partition) = started.partition(0);
        sleep(Duration::from_secs(5)).await;
        disk.set_full(true);
        let refused = fill(&store, &partition, &world).await;
        assert_eq!(refused, AppendError::DiskFull);
        assert_eq!(store.health(), Health::DiskFull);
        let read = read_all(&partition, 40_000).await.expect("reads go on");
        compare(&world.borrow(), 0, &read);
        // Still full after a while.
        sleep(Duration::from_secs(10)).await;
        assert_eq!(store.append(&partition, &batch(9999, 10)), Err(AppendError::DiskFull));
        let room = store.room();
        disk.set_full(false);
        timeout(Duration::from_secs(5), room).await.expect("it looks again by itself");
        sleep(Duration::from_secs(1)).await;
        assert_eq!(store.health(), Health::Ok);
        disk.set_full(true);
        fill(&store, &partition, &world).await;
    });
    // Killed while it is full: the next start finds everything.
    disk.set_full(false);
    disk.crash();
    Simulation::with_disk(6, disk).run(async {
        let started = start(&broker, 2).await;
        settle(&started, &world).await;
    });
}

/// Appends until something other than room is missing.
async fn fill(
    store: &ringlog_storage::Store,
    partition: &Rc<Partition>,
    world: &RefCell<World>,
) -> AppendError {
    loop {
        let made = world.borrow().made + 1;
        let batch = batch(made, 20_000);
        let room = store.room();
        match store.append(partition, &batch) {
            Ok(appended) => {
                world.borrow_mut().made = made;
                let stored = patched(&batch, appended.base_offset);
                world.borrow_mut().asked.insert((0, appended.base_offset), stored);
                // Not waited for: a full disk may hold the commit back.
                if timeout(Duration::from_secs(1), wait_for(store, partition, appended)).await.is_ok() {
                    note_acked(world, 0, appended.last_offset);
                }
            }
            Err(AppendError::Full) => drop(timeout(Duration::from_secs(1), room).await),
            Err(error) => return error,
        }
    }
}

#[test]
fn partitions_are_deleted_and_made_while_others_work() {
    for seed in 1..20 {
        let simulation = Simulation::new(seed);
        let disk = simulation.disk();
        let broker = RefCell::new(sim_broker());
        let world: Rc<RefCell<World>> = Rc::default();
        simulation.run(async {
            make_data_folder().await;
            let started = Rc::new(start(&broker, 1).await);
            let store = started.stores[0].clone();
            let producing =
                spawn(produce(Rc::clone(&started), Rc::clone(&world), Dice(seed), 120, Trouble::default()));
            for number in 100..110 {
                let made = store.create_partition(spec(number, tiny())).expect("made");
                for round in 0..40 {
                    let bytes = if round % 3 == seed % 3 { BYPASS_BYTES + 100 } else { 8000 };
                    append_with_room(&store, &made, &batch(round, bytes)).await;
                }
                sleep(Duration::from_micros(200 * seed)).await;
                store.delete_partition(made.id()).await.expect("deleted");
                let dir = broker.borrow().partition_dir(number);
                assert!(!fs::exists(dir).await.expect("looked"));
            }
            producing.await;
            // What was acknowledged in memory is durable soon, not at once.
            sleep(Duration::from_secs(1)).await;
            settle(&started, &world).await;
        });
        disk.crash();
        Simulation::with_disk(seed, disk).run(async {
            let started = start(&broker, 1).await;
            assert!(started.summaries[0].damage.is_empty());
            settle(&started, &world).await;
        });
    }
}

#[test]
fn a_partition_whose_large_batches_wait_for_space_can_be_deleted() {
    let simulation = Simulation::new(8);
    let disk = simulation.disk();
    let broker = RefCell::new(sim_broker());
    simulation.run(async {
        make_data_folder().await;
        let started = start(&broker, 1).await;
        let (store, partition) = started.partition(0);
        sleep(Duration::from_secs(5)).await;
        for number in 100..103 {
            let made = store.create_partition(spec(number, tiny())).expect("made");
            for round in 0..number - 100 {
                let appended =
                    append_with_room(&store, &made, &batch(round.into(), BYPASS_BYTES + 100)).await;
                wait_for(&store, &made, appended).await;
            }
            disk.set_full(true);
            while store.append(&made, &batch(9, BYPASS_BYTES + 100)) != Err(AppendError::DiskFull) {
                sleep(Duration::from_secs(1)).await;
            }
            let deleted = timeout(Duration::from_secs(5), store.delete_partition(made.id())).await;
            deleted.expect("it does not wait for space").expect("deleted");
            disk.set_full(false);
            sleep(Duration::from_secs(2)).await;
            assert_eq!(store.health(), Health::Ok);
        }
        wait_for(&store, &partition, append_with_room(&store, &partition, &batch(1, 50_000)).await).await;
        store.shutdown().await.expect("an orderly end");
    });
}
