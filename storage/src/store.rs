//! One shard's storage: what the broker holds.
//!
//! Invariants:
//! - No borrow of a `RefCell` is held across an await; whoever is woken finds all of them free.
//! - Once failed, always failed: nothing is acknowledged or checkpointed any more. Reads go on.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::rc::Rc;

use bytes::BytesMut;
use ringlog_protocol::TopicName;
use ringlog_protocol::batch::{BatchHeader, check_for_produce};
use ringlog_reactor::sim::reached;
use ringlog_reactor::{Notified, Notify, fs, yield_now};

use crate::bulk;
use crate::checkpoint::in_parallel;
use crate::config::{PartitionId, PartitionSpec, StoreConfig};
use crate::error::{AppendError, StoreError, StoreFailure};
use crate::folders::absent_is_fine;
use crate::format::checkpoint::PartitionPoint;
use crate::format::envelope::ENVELOPE_BYTES;
use crate::journal::{Journal, NoRoom};
use crate::journal_files::JournalFiles;
use crate::layout;
use crate::limits::SYNCS_IN_FLIGHT;
use crate::partition::{Partition, Shared, TailEntry};
use crate::permits::Permits;
use crate::reserve::Reserve;
use crate::stats::{StoreStats, add, count};

/// The sequence of a commit. Zero is before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct CommitSeq(pub(crate) u64);

/// Where a batch went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The offset of its first record.
    pub base_offset: i64,
    /// The offset of its last.
    pub last_offset: i64,
    /// The batch is on stable storage once [`Store::durable`] has reached this. None if it went past the journal: then it
    /// is once the partition's [`durable_end`](Partition::durable_end) is behind it, which [`Store::take_bypassed`] tells. A full
    /// disk may take it out of the log before: see [`Partition::take_refused`].
    pub commit: Option<CommitSeq>,
}

/// Whether a store takes appends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Ok,
    /// Not until there is space on the disk: it looks again every second.
    DiskFull,
    /// Not any more: a write or sync failed. Only a restart, which recovers from what is on the disk, helps.
    Failed(String),
}

/// One shard's storage. Clones are handles to the same thing.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Rc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) config: StoreConfig,
    /// The folder of this shard's journal and checkpoint.
    pub(crate) dir: PathBuf,
    pub(crate) partitions: RefCell<BTreeMap<PartitionId, Rc<Partition>>>,
    pub(crate) journal: RefCell<Journal>,
    pub(crate) files: JournalFiles,
    pub(crate) shared: Shared,
    pub(crate) health: RefCell<Health>,
    /// There is something to commit, or the store is closing.
    pub(crate) commit_wake: Notify,
    /// A commit has ended, the disk is full, or the store has failed.
    pub(crate) committed: Notify,
    /// An append that was refused may succeed now.
    pub(crate) room: Notify,
    /// Something is to be flushed, a checkpoint is due, or the store is closing.
    pub(crate) flush_wake: Notify,
    /// Held by whoever flushes or checkpoints, be it several partitions at the same time.
    pub(crate) flush_lock: Permits,
    pub(crate) checkpoint_due: Cell<bool>,
    /// Kept for a full disk.
    pub(crate) reserve: Reserve,
    /// The first frame that the last checkpoint still needs.
    pub(crate) journal_from: Cell<u64>,
    /// Files that retention has let go, until a checkpoint has the new start offsets and they are removed.
    pub(crate) expired: RefCell<Vec<PathBuf>>,
    /// Partitions with unflushed entries.
    pub(crate) dirty: RefCell<BTreeMap<PartitionId, Rc<Partition>>>,
    /// Partitions with so much unflushed that they do not wait for a checkpoint.
    pub(crate) eager: RefCell<VecDeque<Rc<Partition>>>,
    /// Partitions that bypass the journal.
    pub(crate) bypassing: Cell<usize>,
    pub(crate) bypassed_since_checkpoint: Cell<u64>,
    /// Partitions of which something that went past the journal has become durable.
    bypassed: RefCell<Vec<Rc<Partition>>>,
    /// How often batches were taken out of the log again.
    refusals: Cell<u64>,
    /// Appends are refused from now on.
    pub(crate) closing: Cell<bool>,
    /// The tasks end.
    pub(crate) closed: Cell<bool>,
}

impl Inner {
    pub(crate) fn new(
        config: StoreConfig,
        journal: Journal,
        partitions: BTreeMap<PartitionId, Rc<Partition>>,
        shared: Shared,
    ) -> Inner {
        let dir = layout::shard_dir(&config.data_dir, config.epoch, config.shard);
        Inner {
            reserve: Reserve::of(&dir),
            journal_from: Cell::new(1),
            dir,
            files: JournalFiles::new(config.journal_file_bytes),
            config,
            partitions: RefCell::new(partitions),
            journal: RefCell::new(journal),
            shared,
            health: RefCell::new(Health::Ok),
            commit_wake: Notify::new(),
            committed: Notify::new(),
            room: Notify::new(),
            flush_wake: Notify::new(),
            flush_lock: Permits::new(1),
            checkpoint_due: Cell::new(false),
            expired: RefCell::default(),
            dirty: RefCell::default(),
            eager: RefCell::default(),
            bypassing: Cell::new(0),
            bypassed_since_checkpoint: Cell::new(0),
            bypassed: RefCell::default(),
            refusals: Cell::new(0),
            closing: Cell::new(false),
            closed: Cell::new(false),
        }
    }

    pub(crate) fn failure(&self) -> Option<StoreFailure> {
        match &*self.health.borrow() {
            Health::Failed(reason) => Some(StoreFailure(reason.clone())),
            _ => None,
        }
    }

    /// Stops acknowledging for ever.
    pub(crate) fn fail(&self, reason: String) {
        if self.failure().is_some() {
            return;
        }
        reached("storage failed");
        tracing::error!(
            shard = self.config.shard,
            reason,
            "the storage has failed; nothing is acknowledged any more"
        );
        *self.health.borrow_mut() = Health::Failed(reason);
        for notify in [&self.committed, &self.room, &self.commit_wake, &self.flush_wake] {
            notify.notify_all();
        }
    }

    pub(crate) fn is_disk_full(&self) -> bool {
        *self.health.borrow() == Health::DiskFull
    }

    /// Has the flusher say whether the disk is still full, if it was.
    pub(crate) fn look_for_space(&self) {
        if self.is_disk_full() {
            self.request_checkpoint();
        }
    }

    pub(crate) fn set_disk_full(&self, full: bool) {
        let next = if full { Health::DiskFull } else { Health::Ok };
        let changed = {
            let mut health = self.health.borrow_mut();
            let changed = !matches!(*health, Health::Failed(_)) && *health != next;
            if changed {
                *health = next;
            }
            changed
        };
        if changed && full {
            // Those who wait for room are refused now, instead of waiting for space.
            self.shared.agenda.wake();
            self.committed.notify_all();
            self.room.notify_all();
            tracing::error!(
                shard = self.config.shard,
                "the disk is full; appends are refused until there is space"
            );
        }
        if changed && !full {
            reached("full disk waited out");
            tracing::info!(shard = self.config.shard, "there is space on the disk again");
            self.room.notify_all();
        }
    }

    pub(crate) fn hurry(&self) {
        if self.journal.borrow_mut().hurry() {
            self.commit_wake.notify_all();
        }
    }

    pub(crate) fn request_checkpoint(&self) {
        if !self.checkpoint_due.replace(true) {
            self.flush_wake.notify_all();
        }
    }

    fn check_appendable(&self) -> Result<(), AppendError> {
        if self.closing.get() {
            return Err(AppendError::ShuttingDown);
        }
        match &*self.health.borrow() {
            Health::Ok => Ok(()),
            Health::DiskFull => Err(AppendError::DiskFull),
            Health::Failed(reason) => Err(AppendError::Failed(reason.clone())),
        }
    }

    /// Has [`Store::take_bypassed`] tell of a partition.
    pub(crate) fn note_bypassed(&self, partition: &Rc<Partition>) {
        if !partition.bypass_noted.replace(true) {
            self.bypassed.borrow_mut().push(Rc::clone(partition));
        }
    }

    /// The same of batches that have left the log.
    pub(crate) fn note_refused(&self, partition: &Rc<Partition>) {
        self.refusals.set(self.refusals.get() + 1);
        self.note_bypassed(partition);
    }

    pub(crate) fn make_room(&self, need: usize) -> Result<(), AppendError> {
        let room = self.journal.borrow_mut().make_room(need, &self.files);
        match room {
            Ok(evicted) => {
                add(&self.shared.counters.evictions, evicted);
                Ok(())
            }
            Err(reason) => {
                reached("append waits for room");
                count(&self.shared.counters.refused_full);
                if matches!(reason, NoRoom::Files) {
                    reached("append waits for a journal file");
                }
                if !matches!(reason, NoRoom::Queue) {
                    self.request_checkpoint();
                }
                // What was open is sealed now, and must be committed for room to come.
                self.commit_wake.notify_all();
                Err(AppendError::Full)
            }
        }
    }

    /// Log memory grows with the journal; with large batches faster. A checkpoint in time keeps appends from waiting.
    fn checkpoint_if_grown(&self) {
        let due = self.journal.borrow_mut().memory().growth() > self.config.tail_bytes / 2;
        if due {
            self.request_checkpoint();
        }
    }
}

impl Store {
    /// A partition of this shard.
    pub fn partition(&self, id: PartitionId) -> Option<Rc<Partition>> {
        self.inner.partitions.borrow().get(&id).cloned()
    }

    /// All partitions of this shard, in the order of their ids.
    pub fn partitions(&self) -> Vec<Rc<Partition>> {
        self.inner.partitions.borrow().values().cloned().collect()
    }

    /// Makes a new partition. Its folder is made with its first segment; that of its topic, by
    /// [`make_topic`](crate::make_topic), should be there.
    pub fn create_partition(&self, spec: PartitionSpec) -> Result<Rc<Partition>, StoreError> {
        TopicName::check(&spec.topic_name)?;
        let id = spec.id;
        let mut partitions = self.inner.partitions.borrow_mut();
        if partitions.contains_key(&id) {
            return Err(StoreError::Exists(id));
        }
        let partition = Partition::new(spec, &PartitionPoint::new(id), &[], self.inner.shared.clone());
        let partition = Rc::new(partition);
        partitions.insert(id, Rc::clone(&partition));
        Ok(partition)
    }

    /// Deletes a partition and its files. Readers are told; what the journal has of it is passed over by recovery, because
    /// the metadata does not name it any more: the caller has made that durable first.
    pub async fn delete_partition(&self, id: PartitionId) -> Result<(), StoreError> {
        let removed = self.inner.partitions.borrow_mut().remove(&id);
        let partition = removed.ok_or(StoreError::Unknown(id))?;
        if partition.is_bypassing() {
            reached("partition deleted during a bypass");
        }
        partition.delete();
        self.inner.dirty.borrow_mut().remove(&id);
        // A bypass that waits for something must see it, and end.
        self.inner.room.notify_all();
        self.inner.committed.notify_all();
        partition.activity().left().await;
        partition.forget_segments();
        // The files are closed at the end of this turn.
        yield_now().await;
        let dir = partition.dir();
        let removed = self.inner.shared.descriptors.with_one(|| fs::remove_dir_all(&dir)).await;
        absent_is_fine(removed).map_err(StoreError::io("removing", &dir))
    }

    /// Deletes partitions, several at a time: see [`Store::delete_partition`]. Those that are not there are passed over.
    pub async fn delete_partitions(&self, ids: impl Iterator<Item = PartitionId>) -> Result<(), StoreError> {
        let there: Vec<_> = ids.filter(|id| self.partition(*id).is_some()).collect();
        in_parallel(SYNCS_IN_FLIGHT, there.iter(), |id| {
            let store = self.clone();
            async move { store.delete_partition(id).await }
        })
        .await
    }

    /// Appends one batch to a partition's log. It does not wait: [`Appended::commit`] says which commit makes it durable. A
    /// partition of a topic that is acknowledged in memory is in no hurry: see [`Store::hurry`].
    ///
    /// The batch's header is checked, its CRC in the same pass as the copy into log memory. Base offset and leader epoch
    /// are assigned. After [`AppendError::Full`], wait for a [`Store::room`] that was made before the append.
    ///
    /// Records are not looked into: [`Store::check`] comes first where they come from outside.
    pub fn append(&self, partition: &Rc<Partition>, batch: &[u8]) -> Result<Appended, AppendError> {
        let header = self.check(partition, batch)?;
        self.append_checked(partition, batch, &header)
    }

    /// The same as [`Store::append_checked`] for a batch in memory of its own, behind [`ENVELOPE_BYTES`] bytes that belong to nobody. Aligned as
    /// [`ringlog_reactor::aligned`] makes it, and with room up to a block's end, a large batch is not copied: its memory is
    /// taken.
    pub fn append_owned(
        &self,
        partition: &Rc<Partition>,
        memory: &mut BytesMut,
        header: &BatchHeader,
    ) -> Result<Appended, AppendError> {
        let bytes = memory.len() - ENVELOPE_BYTES;
        if bytes < self.inner.config.bypass_bytes || !bulk::is_adoptable(memory) {
            return self.append_checked(partition, &memory[ENVELOPE_BYTES..], header);
        }
        self.inner.adopt(partition, memory, header)?;
        Ok(self.appended(header, bytes, None))
    }

    /// Checks the header, and gives the batch the offsets that it has if it is the next to be appended. Pass the result to
    /// [`Store::append_checked`] or [`Store::append_owned`] before anything else is awaited.
    pub fn check(&self, partition: &Rc<Partition>, batch: &[u8]) -> Result<BatchHeader, AppendError> {
        let inner = &*self.inner;
        inner.check_appendable()?;
        partition.check_appendable()?;
        let mut limit = partition.config().max_batch_bytes as usize;
        if batch.len() < inner.config.bypass_bytes {
            limit = limit.min(inner.journal.borrow().max_batch_bytes());
        }
        if batch.len() > limit {
            return Err(AppendError::TooLarge { bytes: batch.len(), limit });
        }
        let mut header = check_for_produce(batch)?;
        header.base_offset = partition.log_end();
        header.leader_epoch = partition.leader_epoch();
        match header.base_offset.checked_add(i64::from(header.record_count)) {
            Some(_) => Ok(header),
            None => Err(AppendError::OffsetsExhausted),
        }
    }

    /// The same for a batch whose header [`Store::check`] gave.
    pub fn append_checked(
        &self,
        partition: &Rc<Partition>,
        batch: &[u8],
        header: &BatchHeader,
    ) -> Result<Appended, AppendError> {
        let inner = &self.inner;
        if inner.bypasses(partition, batch.len()) {
            inner.copy_past_journal(partition, batch, header)?;
            return Ok(self.appended(header, batch.len(), None));
        }
        inner.make_room(ENVELOPE_BYTES + batch.len())?;
        let carved = inner.journal.borrow_mut().copy_in(partition, batch, header)?;
        if !partition.has_unflushed() {
            inner.dirty.borrow_mut().insert(partition.id(), Rc::clone(partition));
            partition.note_unflushed();
        }
        partition.push(TailEntry {
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            max_timestamp: header.max_timestamp,
            chunk: carved.chunk,
            bytes: carved.entry,
        });
        if carved.news {
            inner.commit_wake.notify_all();
            inner.checkpoint_if_grown();
        }
        Ok(self.appended(header, batch.len(), Some(carved.sequence)))
    }

    fn appended(&self, header: &BatchHeader, bytes: usize, commit: Option<CommitSeq>) -> Appended {
        let counters = &self.inner.shared.counters;
        count(&counters.appends);
        add(&counters.appended_bytes, bytes as u64);
        Appended { base_offset: header.base_offset, last_offset: header.last_offset(), commit }
    }

    /// Has everything appended so far committed now. Without this, a topic that is acknowledged in memory is committed a few
    /// milliseconds later, with what comes meanwhile.
    pub fn hurry(&self) {
        self.inner.hurry();
    }

    /// Resolves when an append that was refused as [`AppendError::Full`] or [`AppendError::DiskFull`] after this call may
    /// succeed. Make it before the append.
    pub fn room(&self) -> Notified {
        self.inner.room.notified()
    }

    /// The last commit on stable storage.
    pub fn durable(&self) -> CommitSeq {
        self.inner.journal.borrow().durable()
    }

    /// The partitions of which something that went past the journal has become durable since the last call, or was refused: see
    /// [`Partition::take_refused`].
    pub fn take_bypassed(&self) -> Vec<Rc<Partition>> {
        let taken = self.inner.bypassed.take();
        taken.iter().for_each(|partition| partition.bypass_noted.set(false));
        taken
    }

    /// Waits until more than `after` is on stable storage, or a batch was refused, and says how much is. Fails, for ever, once
    /// the store has failed.
    pub async fn committed(&self, after: CommitSeq) -> Result<CommitSeq, StoreFailure> {
        let refusals = self.inner.refusals.get();
        loop {
            let committed = self.inner.committed.notified();
            let durable = self.durable();
            if durable > after || self.inner.refusals.get() != refusals {
                return Ok(durable);
            }
            if let Some(failure) = self.inner.failure() {
                return Err(failure);
            }
            committed.await;
        }
    }

    /// Whether appends are taken.
    pub fn health(&self) -> Health {
        self.inner.health.borrow().clone()
    }

    /// What has happened since the start.
    pub fn stats(&self) -> StoreStats {
        let tail_bytes = self.inner.journal.borrow_mut().memory().bytes();
        self.inner.shared.counters.tail_bytes.set(tail_bytes);
        self.inner.shared.counters.snapshot()
    }
}
