//! One shard's storage: what the broker holds.
//!
//! Once it has failed, nothing is acknowledged or checkpointed any more. Reads go on.

use std::rc::Rc;

use bytes::BytesMut;
use ringlog_protocol::TopicName;
use ringlog_protocol::batch::{BatchHeader, check_for_produce};
use ringlog_reactor::sim::reached;
use ringlog_reactor::{Notified, fs, yield_now};

use crate::appended::{Appended, CommitSeq};
use crate::bulk;
use crate::config::PartitionSpec;
use crate::error::{AppendError, StoreError, StoreFailure};
use crate::folders::absent_is_fine;
use crate::format::checkpoint::PartitionPoint;
use crate::format::envelope::ENVELOPE_BYTES;
use crate::health::Health;
use crate::inner::Inner;
use crate::limits::SYNCS_IN_FLIGHT;
use crate::parallel::in_parallel;
use crate::partition::{Partition, TailEntry};
use crate::partition_id::PartitionId;
use crate::stats::{StoreStats, add, count};

/// One shard's storage. Clones are handles to the same thing.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Rc<Inner>,
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
        self.inner.flusher.dirty.borrow_mut().remove(&id);
        // A bypass that waits for something must see it, and end.
        self.inner.committer.room.notify_all();
        self.inner.committer.committed.notify_all();
        partition.activity().left().await;
        partition.forget_segments();
        // The files are closed at the end of this turn.
        yield_now().await;
        let dir = partition.dir();
        let removed = self.inner.shared.descriptors.with_one(|| fs::remove_dir_all(&dir)).await;
        absent_is_fine(removed).map_err(StoreError::io("removing", &dir))
    }

    /// Has these partitions take no more, and readers of them be told, until [`Store::delete_partitions`] deletes them.
    pub fn close_partitions(&self, ids: impl Iterator<Item = PartitionId>) {
        ids.filter_map(|id| self.partition(id)).for_each(|partition| partition.delete());
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
        if inner.closing.get() {
            return Err(AppendError::ShuttingDown);
        }
        inner.health.check_appendable()?;
        partition.check_appendable()?;
        let mut limit = partition.config().max_batch_bytes as usize;
        if batch.len() < inner.config.bypass_bytes {
            limit = limit.min(inner.committer.journal.borrow().max_batch_bytes());
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
        let carved = inner.committer.journal.borrow_mut().copy_in(partition, batch, header)?;
        if !partition.has_unflushed() {
            inner.flusher.note_dirty(partition);
        }
        partition.push(TailEntry {
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            max_timestamp: header.max_timestamp,
            chunk: carved.chunk,
            bytes: carved.entry,
        });
        if carved.news {
            inner.committer.wake.notify_all();
            self.checkpoint_if_grown();
        }
        Ok(self.appended(header, batch.len(), Some(carved.sequence)))
    }

    /// Log memory grows with the journal; with large batches faster. A checkpoint in time keeps appends from waiting.
    fn checkpoint_if_grown(&self) {
        let inner = &self.inner;
        let due = inner.committer.journal.borrow_mut().memory().growth() > inner.config.tail_bytes / 2;
        if due {
            inner.flusher.request_checkpoint();
        }
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
        self.inner.committer.hurry();
    }

    /// Resolves when an append that was refused as [`AppendError::Full`] or [`AppendError::DiskFull`] after this call may
    /// succeed. Make it before the append.
    pub fn room(&self) -> Notified {
        self.inner.committer.room.notified()
    }

    /// The last commit on stable storage.
    pub fn durable(&self) -> CommitSeq {
        self.inner.committer.journal.borrow().durable()
    }

    /// Waits until something has become durable, or was refused (see [`Partition::take_refused`]), and says of which partitions.
    /// Fails, for ever, once the store has failed and all that was durable before is told.
    pub async fn advanced(&self) -> Result<Vec<Rc<Partition>>, StoreFailure> {
        let committer = &self.inner.committer;
        loop {
            let committed = committer.committed.notified();
            let advanced = committer.take_advanced();
            if !advanced.is_empty() {
                return Ok(advanced);
            }
            self.inner.health.check()?;
            committed.await;
        }
    }

    /// Waits until more than `after` is on stable storage and says how much. Fails, for ever, once the store has failed.
    pub async fn committed(&self, after: CommitSeq) -> Result<CommitSeq, StoreFailure> {
        loop {
            let committed = self.inner.committer.committed.notified();
            let durable = self.durable();
            if durable > after {
                return Ok(durable);
            }
            if let Some(failure) = self.inner.health.failure() {
                return Err(failure);
            }
            committed.await;
        }
    }

    /// Whether appends are taken.
    pub fn health(&self) -> Health {
        self.inner.health.now()
    }

    /// What has happened since the start.
    pub fn stats(&self) -> StoreStats {
        let tail_bytes = self.inner.committer.journal.borrow_mut().memory().bytes();
        self.inner.shared.counters.tail_bytes.set(tail_bytes);
        self.inner.shared.counters.snapshot()
    }
}
