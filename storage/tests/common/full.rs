//! A disk that is full by bytes: under partitions that keep only so much, and under batches that go past the journal.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use ringlog_protocol::batch::BatchHeader;
use ringlog_reactor::sim::{DiskFaults, Simulation};
use ringlog_reactor::{fs, sleep, spawn, timeout};
use ringlog_storage::{Appended, Health, Partition, PartitionConfig, Store};

use super::lives::Dice;
use super::{
    Broker, append_owned, append_with_room, batch, check_partition, owned, patched, read_all, spec, wait_for,
};

/// What the disk has room for, beyond what a start has made.
const ROOM: u64 = 600 << 10;
/// Batches of this length and more go past the journal.
const BYPASSED: u64 = 16 << 10;
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

/// What became of the appends to a partition that is filled faster than its disk takes it: offsets, and batches as they are stored.
#[derive(Default)]
struct Ledger {
    waiting: BTreeMap<i64, Bytes>,
    /// Durable, or in the journal.
    kept: BTreeMap<i64, Bytes>,
    /// Their producers were told at once: they stay, but for a crash.
    told: BTreeMap<i64, Bytes>,
    refused: usize,
}

impl Ledger {
    fn note(&mut self, appended: Appended, stored: Bytes, is_told: bool) {
        let noted = match appended.commit {
            _ if is_told => &mut self.told,
            Some(_) => &mut self.kept,
            None => &mut self.waiting,
        };
        noted.insert(appended.base_offset, stored);
    }
}

/// Does what a broker does with the store's answers.
async fn answer(store: Store, ledger: Rc<RefCell<Ledger>>) {
    loop {
        for partition in store.advanced().await.expect("the store has not failed") {
            let ledger = &mut *ledger.borrow_mut();
            let end = partition.durable_end();
            if let Some(from) = partition.take_refused() {
                assert!(end <= from, "what is durable is not refused");
                ledger.refused += ledger.waiting.split_off(&from).len();
            }
            let behind = ledger.waiting.split_off(&end);
            ledger.kept.append(&mut std::mem::replace(&mut ledger.waiting, behind));
        }
    }
}

async fn append_some(store: &Store, partition: &Rc<Partition>, dice: &mut Dice, ledger: &RefCell<Ledger>) {
    for _ in 0..30 {
        let bytes = if dice.below(4) == 0 { 100 } else { BYPASSED + dice.below(20_000) };
        let batch = batch(dice.below(1 << 30), bytes as usize);
        let Ok(appended) = append_owned(store, partition, &mut owned(&batch)) else { continue };
        let stored = patched(&batch, appended.base_offset);
        let is_told = dice.below(8) == 0;
        if is_told {
            partition.told(&appended);
        }
        ledger.borrow_mut().note(appended, stored, is_told);
        if dice.below(3) == 0 {
            sleep(Duration::from_micros(dice.below(400))).await;
        }
    }
}

/// Large batches are appended until the disk is full, and again when there is some space. Nobody waits for longer than until the
/// disk is looked at again, and what was acknowledged, or told at once, is there after a crash. Returns how many were refused.
pub fn refuses(seed: u64, mutant: Option<&'static str>) -> usize {
    let simulation = Simulation::new(seed);
    set_mutant(&simulation, mutant);
    let disk = simulation.disk();
    let ledger = Rc::new(RefCell::new(Ledger::default()));
    let mut broker = simulation.run(async {
        fs::create_dir_all("/data").await.unwrap();
        fs::sync_dir("/").await.unwrap();
        let mut broker = Broker { bypass_bytes: BYPASSED as usize, ..Broker::new(Path::new("/data"), 1) };
        let started = broker.start(1).await;
        let (store, partition) = started.partition(0);
        let answering = spawn(answer(store.clone(), Rc::clone(&ledger)));
        sleep(Duration::from_secs(1)).await;
        let mut dice = Dice(seed * 7919 + 1);
        for _ in 0..3 {
            let full_after_bytes = Some(dice.below(400 << 10));
            disk.set_faults(DiskFaults { full_after_bytes, ..DiskFaults::default() });
            append_some(&store, &partition, &mut dice, &ledger).await;
            sleep(HEALED_WITHIN).await;
            let Ledger { waiting, told, .. } = &*ledger.borrow();
            let last_told = told.last_key_value().map_or(0, |(offset, _)| *offset);
            // A small batch may share its run with one that stays.
            let large = waiting.range(last_told..).filter(|(_, batch)| batch.len() as u64 >= BYPASSED);
            let unanswered: Vec<_> = large.map(|(offset, _)| offset).collect();
            assert!(unanswered.is_empty(), "the appends at {unanswered:?} are not answered");
        }
        if dice.below(4) > 0 {
            disk.set_faults(DiskFaults::default());
            sleep(HEALED_WITHIN).await;
            let Ledger { waiting, kept, told, .. } = &mut *ledger.borrow_mut();
            assert!(waiting.is_empty(), "there is space for all that waits");
            kept.append(told);
        }
        drop(answering);
        broker
    });
    disk.set_faults(DiskFaults::default());
    simulation.crash();
    Simulation::with_disk(seed + 100, simulation.disk()).run(async {
        let started = broker.start(1).await;
        let (_, partition) = started.partition(0);
        let log = read_all(&partition, 1 << 20).await.unwrap();
        let offset_of = |batch: &Bytes| BatchHeader::parse(batch).unwrap().base_offset;
        let log: BTreeMap<_, _> = log.into_iter().map(|batch| (offset_of(&batch), batch)).collect();
        for (offset, batch) in &ledger.borrow().kept {
            assert!(log.get(offset) == Some(batch), "another batch, or none, is at {offset}");
        }
    });
    ledger.borrow().refused
}

#[cfg(feature = "mutants")]
pub fn set_mutant(simulation: &Simulation, mutant: Option<&'static str>) {
    simulation.set_mutant(mutant);
}

#[cfg(not(feature = "mutants"))]
pub fn set_mutant(_: &Simulation, mutant: Option<&'static str>) {
    assert!(mutant.is_none());
}
