//! The bypass: large batches straight into their segment, and a mark in the journal behind them.
//!
//! Large batches would be written twice, into the journal and later into a segment. Past the journal they are written once, from
//! the memory they were received in; the journal only says how far the segment may be believed. While a partition
//! bypasses, all its batches do, so the journal never holds an entry whose predecessor is not durable, or before it there.
//!
//! Invariants:
//! - All a partition has in the journal is flushed, and its segment synced, before its first run is written.
//! - A mark is put into the journal only when everything below it in the segments is synced.
//! - Nobody else writes the partition's segments meanwhile: a flush finds nothing, for all that is durable is flushed.
//! - A write or sync that failed is final; only space and descriptors are waited for, before anything is written.
//! - On a full disk a batch that no write has taken leaves the log again, unless somebody was told that it is there.

use std::collections::VecDeque;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use ringlog_protocol::batch::BatchHeader;
use ringlog_reactor::sim::{mutant, reached};
use ringlog_reactor::{DIRECT_ALIGN, Instant, Task, aligned, now, sleep, spawn};

use crate::error::{AppendError, StoreError};
use crate::format::envelope::{ENVELOPE_BYTES, Envelope};
use crate::format::mark::{MARK_BYTES, Mark};
use crate::inner::Inner;
use crate::limits::{
    BYPASS_CHECKPOINT_BYTES, BYPASS_WRITE_BYTES, BYPASS_WRITES_IN_FLIGHT, DISK_FULL_PAUSE, RUN_BYTES,
    round_up,
};
use crate::partition::{ChunkId, Partition};
use crate::segment::{Segment, WriteRun};
use crate::stats::{add, count};

impl Inner {
    /// Whether a batch is to go past the journal.
    pub(crate) fn bypasses(&self, partition: &Partition, batch_bytes: usize) -> bool {
        batch_bytes >= self.config.bypass_bytes || partition.is_bypassing()
    }

    /// Appends a batch that lies in aligned memory of its own, behind room for its envelope. Takes the memory, unless it
    /// fails.
    pub(crate) fn adopt(
        self: &Rc<Self>,
        partition: &Rc<Partition>,
        memory: &mut BytesMut,
        header: &BatchHeader,
    ) -> Result<(), AppendError> {
        let (entry_bytes, bytes) = (memory.len(), round_up(memory.len()));
        let chunk = self.adopt_memory(partition, bytes)?;
        if let Err(error) = entry_in_place(memory, partition, header) {
            self.give_up_memory(chunk);
            return Err(error);
        }
        let mut memory = std::mem::take(memory);
        memory.resize(bytes, 0);
        partition.push_run(memory.freeze(), entry_bytes, header, chunk);
        self.bypassed(partition);
        Ok(())
    }

    /// Appends a copy of a batch.
    pub(crate) fn copy_past_journal(
        self: &Rc<Self>,
        partition: &Rc<Partition>,
        batch: &[u8],
        header: &BatchHeader,
    ) -> Result<(), AppendError> {
        if !partition.run_has_room(batch.len()) {
            let bytes = RUN_BYTES.max(round_up(ENVELOPE_BYTES + batch.len()));
            let chunk = self.adopt_memory(partition, bytes)?;
            partition.open_run(aligned(bytes), chunk);
        }
        if let Err(error) = partition.copy_into_run(batch, header) {
            if let Some(chunk) = partition.drop_empty_run() {
                self.give_up_memory(chunk);
            }
            return Err(error.into());
        }
        self.bypassed(partition);
        Ok(())
    }

    fn adopt_memory(&self, partition: &Rc<Partition>, bytes: usize) -> Result<ChunkId, AppendError> {
        let adopted = self.committer.journal.borrow_mut().memory().adopt(partition, bytes);
        match adopted {
            Ok((chunk, evicted)) => {
                add(&self.shared.counters.evictions, evicted);
                Ok(chunk)
            }
            Err(_) => {
                count(&self.shared.counters.refused_full);
                self.flusher.request_checkpoint();
                Err(AppendError::Full)
            }
        }
    }

    fn give_up_memory(&self, chunk: ChunkId) {
        self.committer.journal.borrow_mut().memory().give_up(chunk);
    }

    /// A batch has joined the runs: somebody must write them.
    fn bypassed(self: &Rc<Self>, partition: &Rc<Partition>) {
        count(&self.shared.counters.bypasses);
        if partition.begin_bypass() {
            reached("bypass begun");
            self.direct.active.set(self.direct.active.get() + 1);
            partition.note_unflushed();
            spawn(run(Rc::clone(self), Rc::clone(partition))).detach();
        }
        partition.runs_wake().notify_all();
    }

    /// The largest backlog of a partition that fits into one frame, and is too small to be written past the journal.
    fn small_backlog(&self) -> usize {
        self.config.bypass_bytes.min(self.committer.journal.borrow().max_batch_bytes())
    }

    /// Puts a mark into the journal, if there is room.
    fn try_mark(&self, partition: &Rc<Partition>, mark: &Mark) -> Result<(), AppendError> {
        self.make_room(MARK_BYTES)?;
        let bytes = mark.encode();
        self.committer.journal.borrow_mut().put(partition, &bytes, Mark::crc_of(&bytes), mark.next_offset);
        reached("mark put");
        count(&self.shared.counters.marks);
        self.committer.wake.notify_all();
        Ok(())
    }

    /// Puts the few entries that are left into the journal, all or none, and ends the bypass.
    fn try_put_back(&self, partition: &Rc<Partition>) -> Result<(), AppendError> {
        let entries = partition.pending_entries();
        if !entries.is_empty() {
            reached("batches put back into the journal");
            self.make_room(entries.iter().map(Bytes::len).sum())?;
            let mut journal = self.committer.journal.borrow_mut();
            for entry in entries.iter().skip(usize::from(entries.len() > 1 && mutant("put-back-loses-one"))) {
                let front = entry.first_chunk().expect("an entry begins with its envelope");
                let header = BatchHeader::parse(&entry[ENVELOPE_BYTES..]).expect("it was parsed before");
                journal.put(partition, entry, Envelope::crc_of(front), header.next_offset());
                count(&self.shared.counters.put_back);
            }
            drop(journal);
            self.flusher.note_dirty(partition);
            self.committer.wake.notify_all();
        }
        partition.end_bypass();
        Ok(())
    }
}

fn entry_in_place(
    memory: &mut BytesMut,
    partition: &Partition,
    header: &BatchHeader,
) -> Result<(), AppendError> {
    Ok(crate::entry::finish_in_place(memory, partition.id(), partition.bypassed_kind(header), header)?)
}

/// Whether a batch's memory can be written as it is.
pub(crate) fn is_adoptable(memory: &BytesMut) -> bool {
    memory.as_ptr().addr().is_multiple_of(DIRECT_ALIGN) && memory.capacity() >= round_up(memory.len())
}

/// A write under way.
struct Writing {
    runs: Vec<WriteRun>,
    task: Task<Result<(), StoreError>>,
}

struct Bypass {
    inner: Rc<Inner>,
    partition: Rc<Partition>,
    /// Oldest first, one behind the other in the active segment.
    writing: VecDeque<Writing>,
    /// Where the next write goes.
    position: u64,
    /// The journal does not say yet how far the segment is written.
    unmarked: bool,
    /// No write is begun before: the disk was full.
    full_until: Option<Instant>,
}

/// Writes a partition's runs until no large ones are left.
async fn run(inner: Rc<Inner>, partition: Rc<Partition>) {
    let activity = Rc::clone(partition.activity());
    let working = activity.enter();
    let mut bypass = Bypass {
        inner: Rc::clone(&inner),
        partition,
        writing: VecDeque::new(),
        position: 0,
        unmarked: false,
        full_until: None,
    };
    let result = if working.is_some() { bypass.run().await } else { Ok(()) };
    // Nothing may write into the folder once this is no longer counted as working there.
    for writing in bypass.writing.drain(..) {
        let _ = writing.task.await;
    }
    if let Err(error) = result {
        inner.health.fail(error.to_string());
    }
    if bypass.partition.is_deleted() {
        // What was to be written is nobody's, and its memory is wanted.
        bypass.partition.end_bypass();
    }
    drop(working);
    inner.look_for_space();
    inner.direct.active.set(inner.direct.active.get() - 1);
    inner.committer.committed.notify_all();
}

impl Bypass {
    async fn run(&mut self) -> Result<(), StoreError> {
        self.flush_journaled().await?;
        while !self.partition.is_deleted() {
            self.inner.health.check()?;
            let wake = self.partition.runs_wake().notified();
            self.take_written().await?;
            let room = self.inner.committer.room.notified();
            self.mark();
            // Without room for a mark, even a little is written: it may hold the very memory that is wanted.
            let backlog = self.inner.small_backlog();
            if self.write_more_if_space(if self.unmarked { 1 } else { backlog }).await? {
                continue;
            }
            if !self.writing.is_empty() {
                wake.await;
            } else if self.unmarked {
                room.await;
            } else if let Some(full_until) = self.full_until {
                sleep(full_until.saturating_since(now())).await;
                self.full_until = None;
                self.inner.look_for_space();
            } else {
                let small = self.partition.pending_bytes() < backlog;
                if small && self.inner.try_put_back(&self.partition).is_ok() {
                    return Ok(());
                }
                self.write_more_if_space(1).await?;
            }
        }
        Ok(())
    }

    /// Starts writes, unless the disk was full just now. False if it is: then it is looked at again in a while, and nobody waits
    /// for that who can be refused.
    async fn write_more_if_space(&mut self, least: usize) -> Result<bool, StoreError> {
        if self.full_until.is_some() {
            return Ok(false);
        }
        match self.write_more(least).await {
            Err(error) if error.is_disk_full() => {
                self.refuse_unwritten();
                self.full_until = Some(now() + DISK_FULL_PAUSE);
                Ok(false)
            }
            any => any,
        }
    }

    fn refuse_unwritten(&self) {
        self.inner.health.set_disk_full(true);
        if self.partition.refuse_unwritten() && !mutant("refusal-untold") {
            self.inner.committer.note_advanced(&self.partition);
        }
        // A shutdown looks at this, too.
        self.inner.committer.committed.notify_all();
    }

    /// Brings everything that is in the journal into a segment, and syncs that.
    async fn flush_journaled(&mut self) -> Result<(), StoreError> {
        let (inner, partition) = (Rc::clone(&self.inner), Rc::clone(&self.partition));
        let first = partition.pending_start();
        while partition.flushed_end() < first && partition.durable_end() < first {
            let committed = inner.committer.committed.notified();
            inner.health.check()?;
            if partition.is_deleted() {
                return Ok(());
            }
            if partition.durable_end() < first {
                inner.committer.hurry();
                committed.await;
            }
        }
        while let Err(error) = self.flush_and_sync().await {
            if error.is_disk_full() {
                self.refuse_unwritten();
            } else if !error.is_out_of_descriptors() {
                return Err(error);
            }
            sleep(DISK_FULL_PAUSE).await;
            inner.health.check()?;
        }
        inner.look_for_space();
        self.position = partition.active_segment().map_or(0, |active| active.written());
        Ok(())
    }

    async fn flush_and_sync(&self) -> Result<(), StoreError> {
        let _lock = self.inner.flusher.lock.acquire().await;
        self.inner.health.check()?;
        self.partition.flush().await?;
        if self.partition.is_unsynced() && !mutant("bypass-before-flush-is-synced") {
            self.partition.sync().await?;
        }
        Ok(())
    }

    /// Starts as many writes as there may be while at least `least` bytes are pending. True if there was one to start.
    async fn write_more(&mut self, least: usize) -> Result<bool, StoreError> {
        let mut any = false;
        while self.writing.len() < BYPASS_WRITES_IN_FLIGHT
            && self.partition.pending_bytes() >= least
            && !self.partition.is_deleted()
        {
            let usable = |active: &Rc<Segment>| !active.is_sealed() && !self.partition.is_too_old(active);
            let active = self.partition.active_segment().filter(usable);
            let next = active.and_then(|active| {
                let bytes = self.partition.next_runs(&active, self.position, BYPASS_WRITE_BYTES)?;
                Some((active, bytes))
            });
            match next {
                Some((active, bytes)) => self.write(active, bytes).await?,
                None if self.writing.is_empty() => self.roll().await?,
                None => break,
            }
            any = true;
        }
        Ok(any)
    }

    /// Starts a write of the oldest runs, `bytes` bytes, if they are still there once the segment has space for them.
    async fn write(&mut self, active: Rc<Segment>, bytes: usize) -> Result<(), StoreError> {
        self.allocate(&active, self.position + bytes as u64).await?;
        // Only the wait for a descriptor may be repeated, so it comes before the write.
        let file = self.wait_for_descriptor(|| active.file_to_write()).await?;
        if self.partition.is_deleted() {
            return Ok(());
        }
        let Some(runs) = self.partition.take_runs(&active, self.position, bytes) else { return Ok(()) };
        let end = self.position + runs.iter().map(|run| run.bytes as u64).sum::<u64>();
        let pieces: Vec<Bytes> = runs.iter().flat_map(|run| run.pieces.iter().cloned()).collect();
        let (position, wake) = (self.position, self.partition.runs_wake().clone());
        let task = spawn(async move {
            let written = active.write_synced(file, pieces, position).await;
            wake.notify_all();
            written
        });
        self.position = end;
        self.writing.push_back(Writing { runs, task });
        Ok(())
    }

    /// Gives the segment space up to `end`. Who deletes the partition does not wait for that.
    async fn allocate(&self, active: &Segment, end: u64) -> Result<(), StoreError> {
        let (partition, position) = (&self.partition, self.position);
        self.wait_for_descriptor(|| async move {
            if partition.is_deleted() {
                return Ok(());
            }
            active.allocate(position, end, partition.segment_bytes()).await
        })
        .await
    }

    /// Ends the active segment, which is written as far as it will be, and begins the next.
    async fn roll(&mut self) -> Result<(), StoreError> {
        let (inner, partition) = (&self.inner, &self.partition);
        self.wait_for_descriptor(|| async move {
            let _lock = inner.flusher.lock.acquire().await;
            inner.health.check()?;
            if partition.is_deleted() {
                return Ok(());
            }
            partition.roll_for_bypass().await
        })
        .await?;
        self.position = self.partition.active_segment().map_or(0, |active| active.written());
        Ok(())
    }

    /// Does what needs a descriptor, as often as it takes to get one.
    async fn wait_for_descriptor<T, F>(&self, attempt: impl Fn() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        loop {
            match attempt().await {
                Err(error) if error.is_out_of_descriptors() => {}
                done => return done,
            }
            sleep(DISK_FULL_PAUSE).await;
            self.inner.health.check()?;
        }
    }

    /// Notes the writes that have ended, in the segment's order.
    async fn take_written(&mut self) -> Result<(), StoreError> {
        while self.writing.front().is_some_and(|writing| writing.task.is_finished()) {
            let Some(Writing { runs, task }) = self.writing.pop_front() else { break };
            task.await?;
            let Some(active) = self.partition.active_segment().filter(|_| !self.partition.is_deleted())
            else {
                break;
            };
            self.partition.runs_written(&active, &runs);
            let bytes = runs.iter().map(|run| run.bytes as u64).sum();
            add(&self.inner.shared.counters.bypassed_bytes, bytes);
            self.inner.checkpoint_if_bypassed(bytes);
            self.unmarked = true;
            // What was written can be evicted.
            self.inner.committer.room.notify_all();
        }
        Ok(())
    }

    /// Has the journal say how far the segment may be believed now, if it has room for that.
    fn mark(&mut self) {
        if self.unmarked && !self.partition.is_deleted() {
            let mark = self.partition.mark().expect("what was written stands in a segment");
            self.unmarked = self.inner.try_mark(&self.partition, &mark).is_err();
        }
    }
}

impl Inner {
    /// The next start reads again what went past the journal since the last checkpoint.
    fn checkpoint_if_bypassed(&self, more: u64) {
        let bypassed = self.direct.bytes_since_checkpoint.get() + more;
        self.direct.bytes_since_checkpoint.set(bypassed);
        if bypassed >= BYPASS_CHECKPOINT_BYTES {
            self.flusher.request_checkpoint();
        }
    }
}
