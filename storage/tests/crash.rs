//! The storage on the simulated machine: killed at any await, power failing, faults of the disk. What was acknowledged is
//! there, byte for byte; what was not is there whole or not at all.

mod common;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use common::{
    Broker, Started, append_owned_with_room, append_with_room, batch, patched, read_all, spec, tiny, wait_for,
};
use ringlog_protocol::batch::BatchHeader;
use ringlog_reactor::sim::{SimDisk, Simulation};
use ringlog_reactor::{fs, sleep, spawn, timeout};
use ringlog_storage::{AppendError, Health, Partition, StoreStats};

const PARTITIONS: u32 = 5;
/// The partition whose topic is acknowledged in memory.
const IN_MEMORY: u32 = 1;
/// Among the sizes of the batches.
const BYPASS_BYTES: usize = 24 << 10;
const DATA: &str = "/data";

/// xorshift64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// What the outside world knows: what was acknowledged, and what was asked for and never answered.
#[derive(Default)]
struct World {
    acked: BTreeMap<u32, Vec<Bytes>>,
    asked: BTreeMap<(u32, i64), Bytes>,
    made: u64,
    seen: Seen,
}

/// The rare states, over all runs.
#[derive(Default, Debug)]
struct Seen {
    stats: StoreStats,
    replayed: u64,
    marks: u64,
    torn: u64,
    extra: u64,
}

impl Seen {
    fn add(&mut self, stats: StoreStats) {
        let sum = &mut self.stats;
        sum.rolls += stats.rolls;
        sum.recycles += stats.recycles;
        sum.checkpoints += stats.checkpoints;
        sum.evictions += stats.evictions;
        sum.cold_reads += stats.cold_reads;
        sum.index_rebuilds += stats.index_rebuilds;
        sum.refused_full += stats.refused_full;
        sum.bypasses += stats.bypasses;
        sum.marks += stats.marks;
        sum.put_back += stats.put_back;
        sum.overlapped_commits += stats.overlapped_commits;
    }
}

fn sim_broker() -> Broker {
    let mut broker = Broker::new(Path::new(DATA), PARTITIONS);
    broker.journal_file_bytes = 96 << 10;
    broker.tail_bytes = 2 << 20;
    broker.bypass_bytes = BYPASS_BYTES;
    broker.specs[IN_MEMORY as usize] = spec(IN_MEMORY, common::in_memory());
    broker
}

async fn make_data_folder() {
    fs::create_dir_all(DATA).await.expect("a folder");
    fs::sync_dir("/").await.expect("synced");
}

/// Appends batches to random partitions, one after another, noting each before it is asked for and when it is acked.
async fn produce(started: Rc<Started>, world: Rc<RefCell<World>>, mut dice: Dice, rounds: u32) {
    for _ in 0..rounds {
        let number = dice.below(PARTITIONS.into()) as u32;
        let (store, partition) = started.partition(number);
        let bytes = match dice.below(8) {
            0 => 20 + dice.below(100_000),
            1 => 30_000 + dice.below(30_000),
            2 => BYPASS_BYTES as u64 - 300 + dice.below(300),
            _ => dice.below(3000),
        };
        let batch = {
            let mut world = world.borrow_mut();
            world.made += 1;
            batch(world.made, bytes as usize)
        };
        let appended = match dice.below(2) {
            0 => append_with_room(&store, &partition, &batch).await,
            _ => append_owned_with_room(&store, &partition, &batch).await,
        };
        let stored = patched(&batch, appended.base_offset);
        world.borrow_mut().asked.insert((number, appended.base_offset), stored);
        if dice.below(3) == 0 {
            continue;
        }
        wait_for(&store, &partition, appended).await;
        note_acked(&world, number, appended.last_offset);
    }
}

/// Everything up to an acked offset is acked: commits follow the order of appends.
fn note_acked(world: &RefCell<World>, partition: u32, last_offset: i64) {
    let World { acked, asked, .. } = &mut *world.borrow_mut();
    let acked = acked.entry(partition).or_default();
    let ready: Vec<_> = asked.range((partition, 0)..=(partition, last_offset)).map(|(key, _)| *key).collect();
    acked.extend(ready.iter().filter_map(|key| asked.remove(key)));
}

/// Reads everything again and again, and compares with what was asked for. What is seen of a topic acknowledged at disk is
/// durable, whoever was told so.
async fn consume(started: Rc<Started>, world: Rc<RefCell<World>>, number: u32) {
    let (_, partition) = started.partition(number);
    loop {
        // As much as a cold read takes: it may reach into what is being written.
        let read = read_all(&partition, 1 << 20).await.expect("nothing is damaged");
        compare(&world.borrow(), number, &read);
        let last = read.last().map(|batch| BatchHeader::parse(batch).expect("a batch").last_offset());
        if let Some(last) = last.filter(|_| number != IN_MEMORY) {
            note_acked(&world, number, last);
        }
        let changed = partition.changed();
        changed.await;
        sleep(Duration::from_millis(2)).await;
    }
}

fn compare(world: &World, number: u32, read: &[Bytes]) {
    let none = Vec::new();
    let acked = world.acked.get(&number).unwrap_or(&none);
    for (at, batch) in read.iter().enumerate() {
        let base_offset = BatchHeader::parse(batch).expect("a batch").base_offset;
        let expected = acked.get(at).or_else(|| world.asked.get(&(number, base_offset)));
        assert_eq!(Some(batch), expected, "partition {number} offset {base_offset}");
    }
}

/// After a restart: the acked is all there; the rest was asked for. From now on all of it is durable.
async fn settle(started: &Started, world: &RefCell<World>) {
    for number in 0..PARTITIONS {
        let (_, partition) = started.partition(number);
        let read = read_all(&partition, 40_000).await.expect("nothing is damaged");
        let mut world = world.borrow_mut();
        compare(&world, number, &read);
        let acked = world.acked.entry(number).or_default();
        assert!(read.len() >= acked.len(), "partition {number}: {} of {} acked", read.len(), acked.len());
        let extra = (read.len() - acked.len()) as u64;
        *acked = read;
        world.seen.extra += extra;
    }
    world.borrow_mut().asked.clear();
}

/// One life of the broker, to its orderly end if it is not killed before.
async fn live(broker: &RefCell<Broker>, world: &Rc<RefCell<World>>, seed: u64, stats: &Cell<StoreStats>) {
    let mut dice = Dice(seed);
    make_data_folder().await;
    // Out of its cell, so that being killed leaves behind what was durable.
    let shards = 1 + dice.below(3) as u32;
    let started = start(broker, shards).await;
    for summary in &started.summaries {
        assert!(summary.damage.is_empty(), "{:?}", summary.damage);
        world.borrow_mut().seen.replayed += summary.replayed_batches;
        world.borrow_mut().seen.marks += summary.marks;
        world.borrow_mut().seen.torn += u64::from(summary.torn_tail_bytes > 0);
    }
    settle(&started, world).await;
    let started = Rc::new(started);
    let readers: Vec<_> =
        (0..PARTITIONS).map(|number| spawn(consume(Rc::clone(&started), Rc::clone(world), number))).collect();
    let producers: Vec<_> = (0..4)
        .map(|_| spawn(produce(Rc::clone(&started), Rc::clone(world), Dice(dice.below(1 << 40) | 1), 60)))
        .collect();
    for producer in producers {
        producer.await;
        stats.set(started.stores[0].stats());
    }
    drop(readers);
    for store in &started.stores {
        store.shutdown().await.expect("an orderly end");
    }
}

/// Starts, with the change of epoch noted the moment it would be durable.
async fn start(broker: &RefCell<Broker>, shards: u32) -> Started {
    let mut copy = broker.borrow().clone();
    let starting = copy.start_noting(shards, |previous| broker.borrow_mut().previous = Some(previous));
    starting.await
}

fn run_lives(seed: u64, lives: u32) -> (Seen, u64) {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let broker = RefCell::new(sim_broker());
    let world: Rc<RefCell<World>> = Rc::default();
    let disk = SimDisk::new(seed);
    let mut hash = 0;
    for life in 0..lives {
        let simulation = Simulation::with_disk(seed ^ (u64::from(life) << 32), disk.clone());
        let polls = if dice.below(4) == 0 { u64::MAX } else { dice.below(6000) };
        let stats = Cell::new(StoreStats::default());
        broker.borrow_mut().bypass_bytes =
            [BYPASS_BYTES / 3, BYPASS_BYTES, 3 * BYPASS_BYTES][dice.below(3) as usize];
        let segment_bytes = [64 << 10, 64 << 10, 1 << 20][dice.below(3) as usize];
        broker.borrow_mut().specs.iter_mut().for_each(|spec| spec.config.segment_bytes = segment_bytes);
        let seed = dice.below(1 << 40) | 1;
        simulation.run_for(polls, live(&broker, &world, seed, &stats));
        world.borrow_mut().seen.add(stats.get());
        hash ^= simulation.trace_hash().rotate_left(life);
        if dice.below(3) > 0 {
            disk.crash();
        }
    }
    let seen = std::mem::take(&mut world.borrow_mut().seen);
    (seen, hash)
}

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
        fail_and_check(bytes, |disk| disk.fail_next_write(libc_eio()));
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
        disk.fail_next_sync(libc_eio());
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

/// EIO, as Linux numbers it.
fn libc_eio() -> i32 {
    5
}

#[test]
fn a_full_disk_refuses_appends_serves_reads_and_recovers_by_itself() {
    for bytes in [20_000, BYPASS_BYTES + 20_000] {
        fill_and_check(bytes);
    }
}

fn fill_and_check(bytes: usize) {
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
        let refused = fill(&store, &partition, &world, bytes).await;
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
        fill(&store, &partition, &world, bytes).await;
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
    bytes: usize,
) -> AppendError {
    loop {
        let made = world.borrow().made + 1;
        let batch = batch(made, bytes);
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
            let producing = spawn(produce(Rc::clone(&started), Rc::clone(&world), Dice(seed), 120));
            for number in 100..110 {
                let made = store.create_partition(spec(number, tiny())).await.expect("made");
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
            let made = store.create_partition(spec(number, tiny())).await.expect("made");
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
