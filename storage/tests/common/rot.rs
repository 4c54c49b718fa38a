//! Bytes that rot, and blocks that land in another place, between two lives; and what the next starts owe then: damage is
//! named, nothing wrong is read, the rest is served, nothing of what is damaged is changed.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::PathBuf;

use bytes::{Bytes, BytesMut};
use ringlog_protocol::batch::BatchHeader;
use ringlog_reactor::fs::{self, File, OpenOptions, Sync};
use ringlog_storage::format::checkpoint::Checkpoint;
use ringlog_storage::format::entry::Entry;
use ringlog_storage::format::frame::FrameStep;
use ringlog_storage::limits::BLOCK_BYTES;
use ringlog_storage::{AppendError, Partition, PreviousEpoch, ReadError};

use super::lives::{PARTITIONS, Run, World, compare, look_up, start};
use super::{Broker, Started, batch};

/// What became of a place on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rot {
    /// A bit of a journal frame that had certainly been durable.
    Frame,
    /// A bit of a segment or an index.
    Segment,
    /// A block of one segment stands in another one, too.
    Misdirected,
    /// A segment has the index of another partition's: sound by itself, and wrong.
    Index,
    /// Of each checkpoint one copy is damaged, or an old one.
    Checkpoint,
}

impl Run {
    /// Rot, then two starts.
    pub fn rot(&mut self, rot: Rot, prepare: impl Fn(&ringlog_reactor::sim::Simulation)) {
        match rot {
            Rot::Frame => self.rot_frame(),
            Rot::Segment => self.rot_segment(),
            Rot::Misdirected => self.misdirect(),
            Rot::Index => self.exchange_index(),
            Rot::Checkpoint => self.rot_checkpoints(),
        }
        let mut quarantined = BTreeSet::new();
        for shards in [2, 1] {
            let files = self.segment_files();
            let simulation = self.simulation();
            prepare(&simulation);
            simulation.run(async {
                let started = start(&self.broker, shards).await;
                let now: BTreeSet<u32> = started
                    .summaries
                    .iter()
                    .flat_map(|summary| summary.quarantined.iter().map(|id| id.partition))
                    .collect();
                assert!(quarantined.is_subset(&now), "{quarantined:?} were quarantined, now {now:?}");
                quarantined = now;
                for number in 0..PARTITIONS {
                    match rot {
                        // A cache, or one of two copies: nothing is lost.
                        Rot::Index | Rot::Checkpoint => check_whole(&started, &self.world, number).await,
                        _ => check(&started, &self.world, number).await,
                    }
                }
            });
            let kept = self.segment_files();
            let is_theirs = |(path, _): &&(PathBuf, u64)| {
                quarantined.iter().any(|number| path.starts_with(self.broker.borrow().partition_dir(*number)))
            };
            let lost: Vec<_> = files.iter().filter(is_theirs).filter(|file| !kept.contains(file)).collect();
            assert!(lost.is_empty(), "of quarantined partitions these were changed: {lost:?}");
        }
    }

    fn segment_files(&self) -> Vec<(PathBuf, u64)> {
        let files = self.disk.files().into_iter();
        files.filter(|(path, _)| path.extension().is_some_and(|extension| extension == "log")).collect()
    }

    fn rot_frame(&mut self) {
        let broker = self.broker.borrow().clone();
        let Some(previous) = broker.previous else { return };
        let frames = self.simulation().run(durable_frames(&broker, previous));
        if frames.is_empty() {
            return;
        }
        let (path, at, len) = &frames[self.dice.below(frames.len() as u64) as usize];
        let at = at + self.dice.below(*len);
        assert!(self.disk.flip_bit(path, at, self.dice.below(8) as u8));
    }

    fn rot_segment(&mut self) {
        let topics = self.broker.borrow().dir.join("topics");
        let all = self.disk.files().into_iter();
        let files: Vec<_> = all.filter(|(path, len)| path.starts_with(&topics) && *len > 0).collect();
        if files.is_empty() {
            return;
        }
        let (path, len) = &files[self.dice.below(files.len() as u64) as usize];
        assert!(self.disk.flip_bit(path, self.dice.below(*len), self.dice.below(8) as u8));
    }

    fn rot_checkpoints(&mut self) {
        let broker = self.broker.borrow().clone();
        let Some(previous) = broker.previous else { return };
        for shard in 0..previous.shards {
            let name = ["checkpoint", "checkpoint.copy"][self.dice.below(2) as usize];
            let path = broker.shard_dir(shard).join(name);
            let is_flipped = self.dice.below(2) == 0;
            let at = self.dice.below(48);
            if is_flipped && self.disk.flip_bit(&path, at, self.dice.below(8) as u8) {
                continue;
            }
            self.simulation().run(async {
                let bytes = fs::read(&path).await.expect("read");
                let newest = Checkpoint::decode(&bytes).expect("a sound checkpoint");
                let first = Checkpoint { journal_from: 1, clean: false, partitions: Vec::new(), ..newest };
                fs::replace(&path, &first.encode()).await.expect("replaced");
            });
        }
    }

    fn exchange_index(&mut self) {
        let all = self.disk.files().into_iter().map(|(path, _)| path);
        let files: Vec<_> =
            all.filter(|path| path.extension().is_some_and(|ending| ending == "index")).collect();
        let pairs: Vec<_> = files
            .iter()
            .flat_map(|one| files.iter().map(move |other| (one, other)))
            .filter(|(one, other)| one != other && one.file_name() == other.file_name())
            .collect();
        if pairs.is_empty() {
            return;
        }
        let (from, to) = pairs[self.dice.below(pairs.len() as u64) as usize];
        self.simulation().run(async {
            let index = fs::read(from).await.expect("read");
            fs::replace(to, &index).await.expect("replaced");
        });
    }

    fn misdirect(&mut self) {
        let files = self.segment_files();
        let blocks = self.simulation().run(entry_blocks(files));
        if blocks.is_empty() {
            return;
        }
        let mut pick = || blocks[self.dice.below(blocks.len() as u64) as usize].clone();
        let ((from, block_from), (to, block_to)) = (pick(), pick());
        self.simulation().run(async {
            let source = File::open(&from, &OpenOptions::new().read(true)).await.expect("opened");
            let block = source.read_at(BytesMut::with_capacity(BLOCK_BYTES), block_from, BLOCK_BYTES).await;
            let target = File::open(&to, &OpenOptions::new().write(true)).await.expect("opened");
            let block = block.expect("read").freeze();
            target.write_at(vec![block], block_to, Sync::Data).await.expect("written");
        });
    }
}

/// Nothing is damaged, and everything is found.
async fn check_whole(started: &Started, world: &RefCell<World>, number: u32) {
    let (_, partition) = started.partition(number);
    look_up(&partition, world, number).await;
    check(started, world, number).await;
    assert_eq!(partition.quarantined(), None);
}

/// The blocks of segments that begin with an entry: one that lands where another was shows nothing wrong by itself.
async fn entry_blocks(files: Vec<(PathBuf, u64)>) -> Vec<(PathBuf, u64)> {
    let mut blocks = Vec::new();
    for (path, _) in files {
        let bytes = fs::read(&path).await.expect("read");
        let begins = |at: &usize| Entry::decode(&bytes[*at..]).is_ok();
        let found = (BLOCK_BYTES..bytes.len()).step_by(BLOCK_BYTES).filter(begins);
        blocks.extend(found.map(|at| (path.clone(), at as u64)));
    }
    blocks
}

/// File, place and length of every frame that the next start needs, and that a later frame shows to have been durable.
async fn durable_frames(broker: &Broker, previous: PreviousEpoch) -> Vec<(PathBuf, u64, u64)> {
    let mut frames = Vec::new();
    for shard in 0..previous.shards {
        let dir = broker.shard_dir(shard);
        let Ok(checkpoint) = fs::read(dir.join("checkpoint")).await else { continue };
        let checkpoint = Checkpoint::decode(&checkpoint).expect("a sound checkpoint");
        let mut found = Vec::new();
        let mut proven = 0;
        for entry in fs::read_dir(&dir).await.expect("listed") {
            let path = dir.join(&entry.name);
            if !entry.name.starts_with("journal-") {
                continue;
            }
            let bytes = fs::read(&path).await.expect("read");
            for at in (0..bytes.len()).step_by(BLOCK_BYTES) {
                let Some(header) = checkpoint.journal.frame_at(&bytes[at..]) else { continue };
                if header.sequence < checkpoint.journal_from {
                    continue;
                }
                proven = proven.max(header.shows_durable());
                let mut walk = checkpoint.journal.walk(&bytes[at..], header.sequence);
                let length = loop {
                    match walk.step() {
                        Ok(FrameStep::End { length }) => break Some(length),
                        Ok(_) => {}
                        Err(_) => break None,
                    }
                };
                let Some(length) = length else { continue };
                found.push((header.sequence, (path.clone(), at as u64, length as u64)));
            }
        }
        let durable = found.into_iter().filter(|(sequence, _)| *sequence <= proven && !checkpoint.clean);
        frames.extend(durable.map(|(_, frame)| frame));
    }
    frames
}

/// What is read of a partition was written there; what was acknowledged is there, or the partition says that it is damaged,
/// and then takes no more.
async fn check(started: &Started, world: &RefCell<World>, number: u32) {
    let (store, partition) = started.partition(number);
    let (read, error) = read_what_can_be(&partition).await;
    let world = world.borrow();
    compare(&world, number, &read);
    let found: BTreeSet<i64> =
        read.iter().map(|batch| BatchHeader::parse(batch).expect("a batch").base_offset).collect();
    let missing: Vec<i64> = world
        .acked
        .range((number, 0)..=(number, i64::MAX))
        .map(|(key, _)| key.1)
        .filter(|offset| !found.contains(offset))
        .collect();
    let damaged = partition.quarantined();
    assert!(missing.is_empty() || damaged.is_some(), "partition {number} lost {missing:?} and says nothing");
    assert!(error.is_none() || damaged.is_some(), "partition {number}: {error:?}, and no quarantine");
    if damaged.is_some() {
        let refused = store.append(&partition, &batch(0, 10));
        assert!(matches!(refused, Err(AppendError::Quarantined(_))), "{refused:?}");
    }
}

/// Every batch that can be read, and what was in the way of one, if something was.
async fn read_what_can_be(partition: &Partition) -> (Vec<Bytes>, Option<ReadError>) {
    let (mut read, mut error) = (Vec::new(), None);
    let mut offset = partition.start_offset();
    while offset < partition.high_watermark() {
        match partition.read(offset, 40_000).await {
            Ok(more) => {
                assert!(more.next_offset > offset, "at {offset} the log goes back to {}", more.next_offset);
                offset = more.next_offset;
                read.extend(more.batches);
            }
            Err(found) => {
                error = Some(found);
                offset += 1;
            }
        }
    }
    (read, error)
}
