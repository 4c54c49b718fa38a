//! Lives of a broker's storage on one simulated disk: work, an end at any await, the next start, and what must be there then.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::path::Path;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use ringlog_protocol::batch::BatchHeader;
use ringlog_reactor::sim::{SimDisk, Simulation};
use ringlog_reactor::{Notify, fs, now, sleep, spawn, timeout};
use ringlog_storage::{AppendError, Appended, Partition, PartitionId, Store, StoreStats};

use super::{Broker, Started, append_owned, batch, in_memory, owned, patched, read_all, spec};

pub const PARTITIONS: u32 = 5;
/// The partition whose topic is acknowledged in memory.
pub const IN_MEMORY: u32 = 1;
/// The partition of which only the newest segments stay, where there is retention.
pub const RETAINED: u32 = 2;
/// Among the sizes of the batches.
pub const BYPASS_BYTES: usize = 24 << 10;
const DATA: &str = "/data";
/// As Linux numbers it.
pub const EIO: i32 = 5;

/// xorshift64.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    /// A seed for other dice.
    pub fn seed(&mut self) -> u64 {
        self.below(1 << 40) | 1
    }
}

/// What goes wrong, beside the ends of the lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trouble {
    /// Writes and syncs fail now and then.
    pub io_errors: bool,
    /// Old segments go.
    pub retention: bool,
}

/// A batch's partition and base offset.
type Key = (u32, i64);

/// What the outside world knows: what was acknowledged, and what was asked for and never answered.
#[derive(Default)]
pub struct World {
    pub acked: BTreeMap<Key, Bytes>,
    pub asked: BTreeMap<Key, Bytes>,
    pub made: u64,
    pub seen: Seen,
    /// How far the stores have said that what went past the journal is durable. Of this life.
    told: BTreeMap<PartitionId, i64>,
    /// The partitions of this life whose topics are acknowledged at disk, once it has started.
    watched: Vec<Weak<Partition>>,
    /// The largest high watermark of each of them: no crash takes what may have been read.
    watermarks: BTreeMap<u32, i64>,
    /// The life ends when so many batches more are acked: at no time could more be lost that must not be.
    acks_left: Option<u64>,
    /// Or when a high watermark has moved so many times more.
    moves_left: Option<u64>,
    over: Notify,
}

/// The rare states, over all runs.
#[derive(Default, Debug)]
pub struct Seen {
    pub stats: StoreStats,
    pub replayed: u64,
    pub marks: u64,
    pub torn: u64,
    pub extra: u64,
}

impl Seen {
    pub fn add(&mut self, stats: StoreStats) {
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

pub fn sim_broker() -> Broker {
    let mut broker = Broker::new(Path::new(DATA), PARTITIONS);
    broker.journal_file_bytes = 96 << 10;
    broker.tail_bytes = 2 << 20;
    broker.bypass_bytes = BYPASS_BYTES;
    broker.specs[IN_MEMORY as usize] = spec(IN_MEMORY, in_memory());
    broker
}

pub async fn make_data_folder() {
    fs::create_dir_all(DATA).await.expect("a folder");
    fs::sync_dir("/").await.expect("synced");
}

/// Appends batches to random partitions, one after another, noting each before it is asked for and when it is acked. Ends
/// early if the store fails.
pub async fn produce(
    started: Rc<Started>,
    world: Rc<RefCell<World>>,
    mut dice: Dice,
    rounds: u32,
    trouble: Trouble,
) {
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
        let Some(appended) = append(&store, &partition, &batch, dice.below(2) == 0).await else { return };
        let stored = patched(&batch, appended.base_offset);
        world.borrow_mut().asked.insert((number, appended.base_offset), stored);
        if trouble.retention && dice.below(16) == 0 {
            sleep(Duration::from_millis(dice.below(20_000))).await;
        }
        if dice.below(3) == 0 {
            continue;
        }
        if !wait(&store, &partition, appended, &world).await {
            return;
        }
        note_acked(&world, number, appended.last_offset);
    }
}

/// Appends when there is room. None once the store has failed.
async fn append(store: &Store, partition: &Rc<Partition>, batch: &[u8], copied: bool) -> Option<Appended> {
    let mut memory = owned(batch);
    loop {
        let room = store.room();
        let appended = match copied {
            true => store.append(partition, batch),
            false => append_owned(store, partition, &mut memory),
        };
        match appended {
            Ok(appended) => return Some(appended),
            Err(AppendError::Full | AppendError::DiskFull) => {
                timeout(TOLD_WITHIN, room).await.expect("there is room again in time");
            }
            Err(AppendError::Failed(_)) => return None,
            Err(error) => panic!("append failed: {error}"),
        }
    }
}

/// In virtual time; a commit takes far less.
const TOLD_WITHIN: Duration = Duration::from_secs(60);

/// Waits until it is durable and the store has told of that. False if the store fails before.
async fn wait(store: &Store, partition: &Partition, appended: Appended, world: &RefCell<World>) -> bool {
    let until = now() + TOLD_WITHIN;
    loop {
        // Another producer may be told of this one's partition.
        match timeout(Duration::from_millis(1), store.advanced()).await {
            Ok(Ok(advanced)) => {
                let told = advanced.iter().map(|partition| (partition.id(), partition.durable_end()));
                world.borrow_mut().told.extend(told);
            }
            Ok(Err(_)) => return false,
            Err(_) => assert!(now() < until, "somebody is told of it"),
        }
        let is_told = world.borrow().told.get(&partition.id()).is_some_and(|end| *end > appended.last_offset);
        if is_told {
            return true;
        }
    }
}

/// Notes how far the partitions may be read. Called after every poll: a life can end behind any.
fn note_watermarks(world: &RefCell<World>) {
    let World { watched, watermarks, moves_left, over, .. } = &mut *world.borrow_mut();
    for partition in watched.iter().filter_map(Weak::upgrade) {
        let noted = watermarks.entry(partition.id().partition).or_default();
        let before = std::mem::replace(noted, partition.high_watermark().max(*noted));
        if let Some(left) = moves_left.as_mut().filter(|_| *noted > before) {
            *left = left.saturating_sub(1);
            if *left == 0 {
                over.notify_all();
            }
        }
    }
}

/// Everything up to an acked offset is acked: commits follow the order of appends.
pub fn note_acked(world: &RefCell<World>, partition: u32, last_offset: i64) {
    let World { acked, asked, acks_left, over, .. } = &mut *world.borrow_mut();
    let ready: Vec<Key> =
        asked.range((partition, 0)..=(partition, last_offset)).map(|(key, _)| *key).collect();
    acked.extend(ready.iter().filter_map(|key| Some((*key, asked.remove(key)?))));
    if let Some(left) = acks_left {
        *left = left.saturating_sub(ready.len() as u64);
        if *left == 0 {
            over.notify_all();
        }
    }
}

/// Reads everything again and again, and compares with what was asked for. What is seen of a topic acknowledged at disk is
/// durable, whoever was told so.
async fn consume(started: Rc<Started>, world: Rc<RefCell<World>>, number: u32) {
    let (_, partition) = started.partition(number);
    loop {
        // As much as a cold read takes: it may reach into what is being written.
        match read_all(&partition, 1 << 20).await {
            Ok(read) => {
                compare(&world.borrow(), number, &read);
                let last = read.last().map(|batch| BatchHeader::parse(batch).expect("a batch").last_offset());
                if let Some(last) = last.filter(|_| number != IN_MEMORY) {
                    note_acked(&world, number, last);
                }
            }
            // Retention was faster than the reader.
            Err(ringlog_storage::ReadError::OutOfRange { .. }) if number == RETAINED => {}
            Err(error) => panic!("partition {number}: {error}"),
        }
        let changed = partition.changed();
        changed.await;
        sleep(Duration::from_millis(2)).await;
    }
}

/// Every batch that was read is one that was asked for, at its place.
pub fn compare(world: &World, number: u32, read: &[Bytes]) {
    for batch in read {
        let key = (number, BatchHeader::parse(batch).expect("a batch").base_offset);
        let expected = world.acked.get(&key).or_else(|| world.asked.get(&key));
        assert_eq!(Some(batch), expected, "partition {number} offset {}", key.1);
    }
}

/// After a restart: the acked is all there; the rest was asked for. From now on all of it is durable.
pub async fn settle(started: &Started, world: &RefCell<World>) {
    for number in 0..PARTITIONS {
        let (_, partition) = started.partition(number);
        look_up(&partition, world, number).await;
        let read = read_all(&partition, 40_000).await.expect("nothing is damaged");
        let mut world = world.borrow_mut();
        let watermark = world.watermarks.get(&number).copied().unwrap_or_default();
        let end = partition.high_watermark();
        assert!(end >= watermark, "partition {number} ends at {end}, and was readable up to {watermark}");
        compare(&world, number, &read);
        let acked = world.acked.range((number, partition.start_offset())..=(number, i64::MAX)).count();
        assert!(read.len() >= acked, "partition {number}: {} of {acked} acked", read.len());
        world.seen.extra += (read.len() - acked) as u64;
        world.acked.retain(|key, _| key.0 != number);
        let keyed = read.into_iter().map(|batch| {
            let base_offset = BatchHeader::parse(&batch).expect("a batch").base_offset;
            ((number, base_offset), batch)
        });
        world.acked.extend(keyed);
    }
    let mut world = world.borrow_mut();
    world.asked.clear();
    world.told.clear();
    let durable = (0..PARTITIONS).filter(|number| *number != IN_MEMORY);
    world.watched = durable.map(|number| Rc::downgrade(&started.partition(number).1)).collect();
}

/// Lets a write or a sync fail, some time.
async fn fail_once(disk: SimDisk, mut dice: Dice) {
    sleep(Duration::from_micros(1 << dice.below(16))).await;
    match dice.below(2) {
        0 => disk.fail_next_write(EIO),
        _ => disk.fail_next_sync(EIO),
    }
}

/// Reads here and there, backwards: what an index says is asked for only where no read has just been before.
pub async fn look_up(partition: &Partition, world: &RefCell<World>, number: u32) {
    let start = partition.start_offset();
    let acked: Vec<(i64, Bytes)> = {
        let world = world.borrow();
        let of_partition = world.acked.range((number, start)..=(number, i64::MAX));
        of_partition.map(|(key, batch)| (key.1, batch.clone())).collect()
    };
    for (offset, batch) in acked.iter().rev().step_by(acked.len() / 6 + 1) {
        let read = partition.read(*offset, 1).await.expect("nothing is damaged");
        assert_eq!(read.batches.first(), Some(batch), "partition {number} offset {offset}");
    }
}

/// A failure that nothing has met is not for the next life.
fn spend_failures(disk: &SimDisk) {
    Simulation::with_disk(0, disk.clone())
        .run(async { while fs::replace("/scratch", b"written and synced").await.is_err() {} });
}

/// One life of the broker, to its orderly end if it is not killed before.
async fn live(run: &Run, seed: u64, stats: &Cell<StoreStats>) {
    let mut dice = Dice(seed);
    make_data_folder().await;
    // Out of its cell, so that being killed leaves behind what was durable.
    let shards = [1, 1, 2, 3][dice.below(4) as usize];
    let started = start(&run.broker, shards).await;
    for summary in &started.summaries {
        assert!(summary.damage.is_empty(), "{:?}", summary.damage);
        assert!(summary.spare_copies.is_empty(), "{:?}", summary.spare_copies);
        let seen = &mut run.world.borrow_mut().seen;
        seen.replayed += summary.replayed_batches;
        seen.marks += summary.marks;
        seen.torn += u64::from(summary.torn_tail_bytes > 0);
    }
    settle(&started, &run.world).await;
    let started = Rc::new(started);
    let failing = run.trouble.io_errors.then(|| spawn(fail_once(run.disk.clone(), Dice(dice.seed()))));
    let readers: Vec<_> = (0..PARTITIONS)
        .map(|number| spawn(consume(Rc::clone(&started), Rc::clone(&run.world), number)))
        .collect();
    // Many keep two commits under way, most of the time.
    let count = [4, 12, 48][dice.below(3) as usize];
    let producers: Vec<_> = (0..count)
        .map(|_| {
            let (started, world) = (Rc::clone(&started), Rc::clone(&run.world));
            spawn(produce(started, world, Dice(dice.seed()), 240 / count, run.trouble))
        })
        .collect();
    for producer in producers {
        producer.await;
        stats.set(started.stores[0].stats());
    }
    drop(readers);
    let mut in_order = true;
    for store in &started.stores {
        let ended = store.shutdown().await;
        assert!(ended.is_ok() || run.trouble.io_errors, "an orderly end: {ended:?}");
        in_order &= ended.is_ok();
    }
    if in_order {
        // Whoever waited for it or not.
        (0..PARTITIONS).for_each(|number| note_acked(&run.world, number, i64::MAX));
    }
    drop(failing);
}

/// Ends with the one or the other.
async fn first(one: impl Future<Output = ()>, other: impl Future<Output = ()>) {
    let (mut one, mut other) = (pin!(one), pin!(other));
    poll_fn(|context| match one.as_mut().poll(context) {
        Poll::Ready(()) => Poll::Ready(()),
        Poll::Pending => other.as_mut().poll(context),
    })
    .await;
}

/// Starts, with the change of epoch noted the moment it would be durable.
pub async fn start(broker: &RefCell<Broker>, shards: u32) -> Started {
    let mut copy = broker.borrow().clone();
    let starting = copy.start_noting(shards, |previous| broker.borrow_mut().previous = Some(previous));
    starting.await
}

/// Lives one after the other.
pub struct Run {
    pub disk: SimDisk,
    pub broker: RefCell<Broker>,
    pub world: Rc<RefCell<World>>,
    pub trouble: Trouble,
    pub dice: Dice,
    seed: u64,
    lives: u64,
    hash: u64,
}

impl Run {
    pub fn new(seed: u64, trouble: Trouble) -> Run {
        let mut broker = sim_broker();
        if trouble.retention {
            std::rc::Rc::make_mut(&mut broker.specs[RETAINED as usize].config).retention_bytes =
                Some(100 << 10);
        }
        let disk = SimDisk::new(seed);
        // As the broker does before a topic is known: the topic's folder is on stable storage.
        Simulation::with_disk(0, disk.clone()).run(async {
            fs::create_dir_all("/data/topics/orders@7").await.expect("a folder");
            for folder in ["/data/topics", "/data", "/"] {
                fs::sync_dir(folder).await.expect("synced");
            }
        });
        Run {
            disk,
            broker: RefCell::new(broker),
            world: Rc::default(),
            trouble,
            seed,
            dice: Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            lives: 0,
            hash: 0,
        }
    }

    /// The world of the next life.
    pub fn simulation(&mut self) -> Simulation {
        let simulation = Simulation::with_disk(self.seed ^ (self.lives << 32), self.disk.clone());
        self.lives += 1;
        simulation
    }

    /// One more life, in a world that was prepared for it.
    pub fn live(&mut self, prepare: impl FnOnce(&Simulation)) {
        let simulation = self.simulation();
        prepare(&simulation);
        let dice = &mut self.dice;
        let polls = if dice.below(4) == 0 { u64::MAX } else { dice.below(6000) };
        let stats = Cell::new(StoreStats::default());
        self.broker.borrow_mut().bypass_bytes =
            [BYPASS_BYTES / 3, BYPASS_BYTES, 3 * BYPASS_BYTES][dice.below(3) as usize];
        // With many, appends seldom wait for one, and two frames are under way most of the time; few go round.
        self.broker.borrow_mut().journal_files = [3, 8][dice.below(2) as usize];
        let segment_bytes = [64 << 10, 64 << 10, 256 << 10, 1 << 20][dice.below(4) as usize];
        for spec in &mut self.broker.borrow_mut().specs {
            std::rc::Rc::make_mut(&mut spec.config).segment_bytes = segment_bytes;
        }
        let (acks, moves) = match dice.below(6) {
            0..2 => (None, None),
            2 => (Some(1 + dice.below(200)), None),
            _ => (None, Some(1 + dice.below(200))),
        };
        let more = Duration::from_micros([0, dice.below(100)][dice.below(2) as usize]);
        let seed = dice.seed();
        let over = {
            let mut world = self.world.borrow_mut();
            (world.acks_left, world.moves_left) = (acks, moves);
            world.over.notified()
        };
        let end = async {
            over.await;
            sleep(more).await;
        };
        let noting = Rc::clone(&self.world);
        simulation.run_watched(polls, || note_watermarks(&noting), first(end, live(self, seed, &stats)));
        self.world.borrow_mut().seen.add(stats.get());
        self.hash ^= simulation.trace_hash().rotate_left(self.lives as u32 - 1);
        if self.trouble.io_errors {
            spend_failures(&self.disk);
        }
        if self.dice.below(4) > 0 {
            self.disk.crash();
        }
    }

    /// What was seen, and the hash of all that has happened.
    pub fn end(self) -> (Seen, u64) {
        let seen = std::mem::take(&mut self.world.borrow_mut().seen);
        (seen, self.hash)
    }
}

/// So many lives without trouble.
pub fn run_lives(seed: u64, lives: u32) -> (Seen, u64) {
    let mut run = Run::new(seed, Trouble::default());
    (0..lives).for_each(|_| run.live(|_| ()));
    run.end()
}
