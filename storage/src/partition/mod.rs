//! One partition: its offsets, its newest entries in memory, its segments.
//!
//! Invariants:
//! - `start <= durable_end <= log_end`, `start <= flushed_end <= log_end`, `start <= high watermark <= log_end`.
//! - The high watermark never goes back. What moves it is the partition's [`Role`]: alone it follows `durable_end` for a topic
//!   acknowledged at disk and `log_end` for one acknowledged in memory.
//! - `flushed_end <= durable_end`, but while the partition bypasses the journal: what a bypass has written is durable when its
//!   mark is.
//! - `synced <= flushed_end`: a checkpoint says nothing that was not synced before.
//! - The tail holds at least everything from `flushed_end` on; the segments hold `start` to `flushed_end`. So a reader
//!   always finds an offset in one of the two, whenever the tail is evicted.
//! - An offset that somebody was told of is given to one batch for ever; a partition known to have lost acknowledged data takes no more.

mod direct_write;
mod flush;
mod read;
mod retain;
mod runs;
mod tail;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bytes::Bytes;
use ringlog_reactor::sim::{mutant, reached};
use ringlog_reactor::{Notified, Notify};

pub(crate) use tail::{ChunkId, TailEntry};

use crate::agenda::{Agenda, NEVER};
use crate::appended::Appended;
use crate::cache::ReadCache;
use crate::config::{PartitionConfig, PartitionSpec, StoreConfig, TopicAck};
use crate::descriptors::Descriptors;
use crate::error::AppendError;
use crate::folder_turn::FolderTurn;
use crate::format::checkpoint::PartitionPoint;
use crate::format::identity::ActiveSegment;
use crate::indices::{Index, Indices};
use crate::lazy_notify::LazyNotify;
use crate::limits::{MAX_SEGMENT_BYTES, MIN_RETENTION_SEGMENT_BYTES, MIN_SEGMENT_BYTES};
use crate::partition_id::PartitionId;
use crate::permits::Activity;
use crate::segment::{Segment, SegmentContext};
use crate::stats::{Counters, count};
use runs::Runs;
use tail::Tail;

/// The leader epoch that is written into batches. A node that is alone has led since the beginning.
const LEADER_EPOCH: i32 = 0;

/// What a node is to a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It leads, and nobody follows: what it has itself decides how far may be read.
    LeadsAlone,
}

/// What all partitions of a shard share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) cache: Rc<ReadCache>,
    pub(crate) counters: Rc<Counters>,
    pub(crate) descriptors: Rc<Descriptors>,
    pub(crate) agenda: Rc<Agenda>,
    pub(crate) folder_turn: FolderTurn,
    pub(crate) data_dir: Rc<Path>,
    pub(crate) indices: Indices,
}

impl Shared {
    /// For one shard.
    pub(crate) fn new(config: &StoreConfig) -> Shared {
        Shared {
            folder_turn: config.folder_turn.clone(),
            data_dir: config.data_dir.as_path().into(),
            cache: Rc::new(ReadCache::new()),
            counters: Rc::new(Counters::default()),
            agenda: Rc::default(),
            indices: Indices::default(),
            descriptors: Descriptors::new(config.open_files),
        }
    }
}

/// What is known of a partition's folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Folder {
    /// If there is one, an earlier life has made it.
    Unknown,
    /// Made by this life, and not synced yet. No sync of it has failed.
    Made,
    /// There is one, on stable storage.
    Durable,
}

/// Why a partition takes no more batches.
#[derive(Debug, Clone)]
struct Quarantine {
    reason: String,
    /// Known to have lost what was acknowledged, so that offsets could be given twice: stays over restarts.
    lasting: bool,
}

/// A partition of this shard.
pub struct Partition {
    spec: PartitionSpec,
    start: Cell<i64>,
    flushed_end: Cell<i64>,
    durable_end: Cell<i64>,
    log_end: Cell<i64>,
    high_watermark: Cell<i64>,
    role: Cell<Role>,
    /// Somebody was told before they were durable that the batches below are in the log.
    told_end: Cell<i64>,
    /// A full disk has taken the batches from here on out of the log, and who waits for them does not know.
    refused_from: Cell<Option<i64>>,
    synced: Cell<(i64, Option<ActiveSegment>)>,
    /// Something was written into the active segment since it was last synced.
    unsynced: Cell<bool>,
    /// Something was flushed since the start.
    grown: Cell<bool>,
    /// What is in memory was put there by recovery: only the old journal has it, be it on stable storage or not.
    is_replayed: Cell<bool>,
    tail: RefCell<Tail>,
    segments: RefCell<Vec<Rc<Segment>>>,
    /// Base offsets of the sealed segments that are open, the one used last at the back.
    open_sealed: RefCell<VecDeque<i64>>,
    quarantine: RefCell<Option<Quarantine>>,
    runs: RefCell<Runs>,
    /// There is something new for the task that writes the runs.
    runs_wake: LazyNotify,
    activity: Rc<Activity>,
    changed: LazyNotify,
    shared: Shared,
    /// The chunk of log memory in which the partition was noted last.
    last_chunk: Cell<ChunkId>,
    /// The frame the partition was noted in last, and its place in that frame's list.
    frame_slot: Cell<(u64, usize)>,
    /// When retention looks at it.
    retention_due: Cell<i64>,
    /// Since when something is in no segment, Unix milliseconds, to a round of retention; of no meaning if nothing is.
    unflushed_since: Cell<i64>,
    folder: Cell<Folder>,
    /// Waits for an eager flush.
    pub(crate) flush_queued: Cell<bool>,
    /// Waits to be taken by [`Store::advanced`](crate::Store::advanced).
    pub(crate) advance_noted: Cell<bool>,
    /// Its place among the partitions of the shard.
    index: Index,
}

impl Partition {
    /// A partition as a checkpoint (or nothing, for a new one) describes it. `sealed` are its other segments: base offset
    /// and length in bytes, in order.
    pub(crate) fn new(
        spec: PartitionSpec,
        point: &PartitionPoint,
        sealed: &[(i64, u64)],
        shared: Shared,
    ) -> Partition {
        let partition = Partition {
            spec,
            start: Cell::new(point.start_offset),
            flushed_end: Cell::new(point.next_offset),
            durable_end: Cell::new(point.next_offset),
            log_end: Cell::new(point.next_offset),
            high_watermark: Cell::new(point.next_offset),
            role: Cell::new(Role::LeadsAlone),
            told_end: Cell::new(0),
            refused_from: Cell::new(None),
            synced: Cell::new((point.next_offset, point.active)),
            unsynced: Cell::new(false),
            grown: Cell::new(false),
            is_replayed: Cell::new(false),
            tail: RefCell::default(),
            segments: RefCell::default(),
            open_sealed: RefCell::default(),
            quarantine: RefCell::new(point.quarantined.then(|| Quarantine {
                reason: "damage was found at an earlier start".to_owned(),
                lasting: true,
            })),
            runs: RefCell::default(),
            runs_wake: LazyNotify::default(),
            activity: Rc::default(),
            changed: LazyNotify::default(),
            index: shared.indices.take(),
            shared,
            last_chunk: Cell::new(0),
            frame_slot: Cell::new((0, 0)),
            folder: Cell::new(if point.active.is_some() { Folder::Durable } else { Folder::Unknown }),
            flush_queued: Cell::new(false),
            advance_noted: Cell::new(false),
            retention_due: Cell::new(NEVER),
            unflushed_since: Cell::new(0),
        };
        *partition.segments.borrow_mut() = partition.known_segments(point, sealed);
        partition
    }

    /// The same for somebody who only looks: no file of it is opened for writing.
    pub(crate) fn at_rest(
        spec: PartitionSpec,
        point: &PartitionPoint,
        sealed: &[(i64, u64)],
        shared: Shared,
    ) -> Partition {
        let partition = Partition::new(spec, point, sealed, shared);
        partition.segments.borrow().iter().for_each(|segment| segment.only_read());
        partition
    }

    fn known_segments(&self, point: &PartitionPoint, sealed: &[(i64, u64)]) -> Vec<Rc<Segment>> {
        let Some(active) = point.active else { return Vec::new() };
        let ends = sealed.iter().skip(1).map(|(base, _)| *base).chain([active.base_offset]);
        let sealed = sealed.iter().zip(ends).map(|((base, bytes), end)| (*base, *bytes, end, true));
        let all = sealed.chain([(active.base_offset, active.bytes, point.next_offset, false)]);
        all.map(|(base, bytes, end, is_sealed)| {
            Rc::new(Segment::existing(self.segment_context(), base, bytes, end, is_sealed))
        })
        .collect()
    }

    fn segment_context(&self) -> SegmentContext {
        SegmentContext {
            id: self.spec.id,
            dir: self.dir(),
            activity: Rc::clone(&self.activity),
            counters: Rc::clone(&self.shared.counters),
            descriptors: Rc::clone(&self.shared.descriptors),
        }
    }

    /// Which partition it is.
    pub fn id(&self) -> PartitionId {
        self.spec.id
    }

    /// What it was made from.
    pub fn spec(&self) -> &PartitionSpec {
        &self.spec
    }

    /// Its settings.
    pub fn config(&self) -> &PartitionConfig {
        &self.spec.config
    }

    /// A small number that no other partition of the shard has: a place in a table of them. A partition that is made when this one is
    /// gone may get it.
    pub fn index(&self) -> usize {
        self.index.number()
    }

    /// The first offset that may be read.
    pub fn start_offset(&self) -> i64 {
        self.start.get()
    }

    /// The offset after the last record on stable storage.
    pub fn durable_end(&self) -> i64 {
        self.durable_end.get()
    }

    /// The offset after the last record.
    pub fn log_end(&self) -> i64 {
        self.log_end.get()
    }

    /// The offset after the last record that may be read.
    pub fn high_watermark(&self) -> i64 {
        self.high_watermark.get()
    }

    /// Moves the high watermark as far as the partition's role lets it.
    fn advance_high_watermark(&self) {
        let to = match (self.role.get(), self.spec.config.ack) {
            (Role::LeadsAlone, TopicAck::Disk) if !mutant("read-past-high-watermark") => {
                self.durable_end.get()
            }
            (Role::LeadsAlone, TopicAck::Disk | TopicAck::Memory) => self.log_end.get(),
        };
        assert!(to <= self.log_end.get(), "nothing is readable that is not there");
        if to > self.high_watermark.get() {
            self.high_watermark.set(to);
            self.changed.notify_all();
        }
    }

    /// The leader epoch that new batches get.
    pub fn leader_epoch(&self) -> i32 {
        LEADER_EPOCH
    }

    /// Why the partition takes no more batches, if it does not.
    pub fn quarantined(&self) -> Option<String> {
        self.quarantine.borrow().as_ref().map(|quarantine| quarantine.reason.clone())
    }

    /// Whether the partition was deleted.
    pub fn is_deleted(&self) -> bool {
        self.activity.is_closed()
    }

    /// Resolves when the high watermark has moved after this call, when the partition was deleted, or when it was
    /// quarantined. Make it, look at the partition, then await it.
    pub fn changed(&self) -> Notified {
        self.changed.notified()
    }

    pub(crate) fn dir(&self) -> PathBuf {
        crate::layout::partition_dir(&self.shared.data_dir, &self.spec)
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    pub(crate) fn folder(&self) -> Folder {
        self.folder.get()
    }

    pub(crate) fn set_folder(&self, folder: Folder) {
        self.folder.set(folder);
    }

    pub(crate) fn lacks_folder(&self) -> bool {
        self.folder.get() != Folder::Durable
    }

    pub(crate) fn check_appendable(&self) -> Result<(), AppendError> {
        if self.is_deleted() {
            return Err(AppendError::Deleted);
        }
        if let Some(reason) = self.quarantined() {
            return Err(AppendError::Quarantined(reason));
        }
        match self.refused_from.get() {
            Some(_) => Err(AppendError::DiskFull),
            None => Ok(()),
        }
    }

    /// Notes that somebody is told, before it is durable, of a batch that was appended just now. It stays in the log.
    pub fn told(&self, appended: &Appended) {
        self.told_end.set(appended.last_offset + 1);
    }

    /// From which offset on batches were taken out of the log again, because the disk is full. Says it once: their offsets
    /// are given to others from now on.
    pub fn take_refused(&self) -> Option<i64> {
        self.refused_from.take()
    }

    /// Notes damage that was found by a read: the partition takes no more batches until the next start looks again.
    fn quarantine_for_now(&self, reason: &str) {
        reached("damage found by a read");
        count(&self.shared.counters.corrupt_reads);
        tracing::error!(partition = %self.id(), topic = %self.spec.topic_name, reason, "the log is damaged");
        self.refuse_appends(reason);
    }

    /// Takes no more batches until the next start, for that reason. What there is can be read.
    pub fn refuse_appends(&self, reason: &str) {
        self.quarantine
            .borrow_mut()
            .get_or_insert_with(|| Quarantine { reason: reason.to_owned(), lasting: false });
        self.changed.notify_all();
    }

    /// Notes that acknowledged data is lost or damaged.
    pub(crate) fn quarantine_for_good(&self, reason: &str) {
        reached("partition quarantined");
        *self.quarantine.borrow_mut() = Some(Quarantine { reason: reason.to_owned(), lasting: true });
    }

    /// Adds an entry behind the log end.
    pub(crate) fn push(&self, entry: TailEntry) {
        assert_eq!(entry.base_offset, self.log_end.get(), "a batch gets the next offset");
        self.log_end.set(entry.last_offset + 1);
        self.tail.borrow_mut().push(entry);
        self.advance_high_watermark();
    }

    /// Adds an entry that recovery has found in a journal: it is durable already.
    pub(crate) fn push_recovered(
        &self,
        base_offset: i64,
        last_offset: i64,
        max_timestamp: i64,
        bytes: Bytes,
    ) {
        self.is_replayed.set(true);
        self.push(TailEntry { base_offset, last_offset, max_timestamp, chunk: 0, bytes });
        self.committed(last_offset + 1);
    }

    /// Notes that everything below `end` is on stable storage.
    pub(crate) fn committed(&self, end: i64) {
        assert!(
            self.durable_end.get() <= end && end <= self.log_end.get(),
            "commits follow appends in order"
        );
        self.durable_end.set(end);
        self.advance_high_watermark();
    }

    /// What the next checkpoint says about the partition.
    pub(crate) fn point(&self) -> PartitionPoint {
        let (next_offset, active) = self.synced.get();
        let quarantined = self.quarantine.borrow().as_ref().is_some_and(|quarantine| quarantine.lasting);
        let quarantined = quarantined && !mutant("quarantine-forgotten");
        PartitionPoint { id: self.id(), quarantined, start_offset: self.start.get(), next_offset, active }
    }

    /// Marks the partition as deleted: nothing new begins, readers are told.
    pub(crate) fn delete(&self) {
        self.activity.close();
        self.tail.borrow_mut().clear();
        self.shared.cache.forget(self.id());
        self.changed.notify_all();
        self.runs_wake.notify_all();
    }

    /// Closes the files of a deleted partition that nobody works in any more; a read under way may keep one for as long as it lasts.
    /// Whoever closes a file last that was removed gives its blocks back to the file system, and that must not be this core, when
    /// a client lets go of its handle: it may take long.
    pub(crate) fn forget_segments(&self) {
        self.segments.borrow_mut().clear();
    }

    pub(crate) fn runs_wake(&self) -> &Notify {
        self.runs_wake.get()
    }

    pub(crate) fn flushed_end(&self) -> i64 {
        self.flushed_end.get()
    }

    /// The last segment, if there is one.
    pub(crate) fn active_segment(&self) -> Option<Rc<Segment>> {
        self.segments.borrow().last().cloned()
    }

    /// The work going on in the partition's folder.
    pub(crate) fn activity(&self) -> &Rc<Activity> {
        &self.activity
    }

    pub(crate) fn unflushed_bytes(&self) -> usize {
        self.tail.borrow().unflushed_bytes()
    }

    pub(crate) fn has_unflushed(&self) -> bool {
        self.tail.borrow().has_unflushed()
    }

    pub(crate) fn has_flushed_chunk(&self, chunk: ChunkId) -> bool {
        self.tail.borrow().has_flushed_chunk(chunk)
    }

    pub(crate) fn evict_chunk(&self, chunk: ChunkId) {
        self.tail.borrow_mut().evict_chunk(chunk);
    }

    pub(crate) fn swap_last_chunk(&self, chunk: ChunkId) -> ChunkId {
        self.last_chunk.replace(chunk)
    }

    pub(crate) fn frame_slot(&self) -> (u64, usize) {
        self.frame_slot.get()
    }

    pub(crate) fn set_frame_slot(&self, sequence: u64, slot: usize) {
        self.frame_slot.set((sequence, slot));
    }

    pub(crate) fn segment_bytes(&self) -> u64 {
        let config = &self.spec.config;
        let most =
            config.retention_bytes.map_or(MAX_SEGMENT_BYTES, |kept| kept.max(MIN_RETENTION_SEGMENT_BYTES));
        config.segment_bytes.min(most).clamp(MIN_SEGMENT_BYTES, MAX_SEGMENT_BYTES)
    }
}

impl std::fmt::Debug for Partition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Partition")
            .field("id", &self.spec.id)
            .field("start", &self.start.get())
            .field("flushed_end", &self.flushed_end.get())
            .field("durable_end", &self.durable_end.get())
            .field("log_end", &self.log_end.get())
            .finish_non_exhaustive()
    }
}
