//! Entries into a segment: whole blocks, large writes, no sync of their own.
//!
//! Invariants:
//! - A write begins at `written` and ends at a block's end, so no block is written twice, but after a write that failed for
//!   lack of space: nothing stands there yet that anybody was told about.
//! - A new segment's folder entry is synced before the segment is used, a sealed one's bytes before the next begins.

use std::rc::Rc;

use bytes::{BufMut, Bytes, BytesMut};
use ringlog_reactor::fs::{OpenOptions, Sync};
use ringlog_reactor::sim::{mutant, reached};
use ringlog_reactor::{spawn, wall_clock_ms};

use super::partial_index::PartialIndex;
use super::write_run::WriteRun;
use super::{Segment, SegmentContext};
use crate::descriptors::Lease;
use crate::error::{SYNCING, StoreError};
use crate::format::entry::entry_start;
use crate::format::segment::SegmentHeader;
use crate::layout;
use crate::limits::{BLOCK_BYTES, MAX_ALLOCATE_BYTES, MIN_ALLOCATE_BYTES, round_up, round_up_position};
use crate::stats::{add, count};

const BLOCK: u64 = BLOCK_BYTES as u64;

/// One entry to be written.
pub(crate) struct FlushEntry {
    pub(crate) base_offset: i64,
    pub(crate) last_offset: i64,
    pub(crate) max_timestamp: i64,
    /// Envelope and batch.
    pub(crate) bytes: Bytes,
}

impl Segment {
    /// Makes the file of a new segment. Everything of the partition below `durable_end` is on stable storage, if it is given.
    pub(crate) async fn create(
        context: SegmentContext,
        base_offset: i64,
        durable_end: Option<i64>,
    ) -> Result<Segment, StoreError> {
        let path = layout::segment_file(&context.dir, base_offset);
        // A file of that name can only be what an attempt before this one, in this process, has left: recovery puts
        // others aside.
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(true).direct(true);
        let descriptors = Rc::clone(&context.descriptors);
        let file = descriptors.open(&path, &options).await.map_err(StoreError::io("creating", &path))?;
        let (index, open) = (PartialIndex::empty(base_offset), file.kept());
        // What fails from here on closes the file.
        let segment = Segment::with(context, base_offset, (BLOCK, base_offset), false, index, Some(open));
        segment.begun_at(wall_clock_ms());
        segment.write_header(file, durable_end).await.map_err(StoreError::io("writing", &path))?;
        if !mutant("segment-entry-unsynced") {
            let synced = descriptors.sync_dir(segment.dir()).await;
            synced.map_err(StoreError::io(SYNCING, segment.dir()))?;
        }
        Ok(segment)
    }

    async fn write_header(&self, file: Lease, durable_end: Option<i64>) -> std::io::Result<()> {
        let mut block = ringlog_reactor::aligned(BLOCK_BYTES);
        let (id, base_offset) = (self.context.id, self.base_offset);
        let durable_end = durable_end.map(|end| end.min(base_offset));
        block.put_slice(&SegmentHeader { id, base_offset, durable_end }.encode());
        block.put_bytes(0, BLOCK_BYTES - block.len());
        file.will_write();
        file.write_at(vec![block.freeze()], 0, Sync::None).await
    }

    /// Whether an entry may still go into this segment.
    pub(crate) fn has_room(&self, position: u64, entry: &FlushEntry, segment_bytes: u64) -> bool {
        let start = if position == BLOCK { position } else { entry_start(position) };
        self.has_room_for(start, entry.last_offset, entry.bytes.len(), segment_bytes)
    }

    /// Whether `bytes` bytes, the last of them an entry up to `last_offset`, may still go into this segment at `position`.
    pub(crate) fn has_room_for(
        &self,
        position: u64,
        last_offset: i64,
        bytes: usize,
        segment_bytes: u64,
    ) -> bool {
        let relative = last_offset - self.base_offset;
        let fits = relative <= i64::from(i32::MAX) && position + bytes as u64 <= segment_bytes;
        position == BLOCK || fits
    }

    /// Writes entries behind what is there, padded to a whole block.
    pub(crate) async fn append(&self, entries: &[FlushEntry]) -> Result<(), StoreError> {
        let from = self.written();
        let (block_run, positions) = lay_out(entries, from);
        let bytes = block_run.len() as u64;
        let file = self.file_to_write().await?;
        file.will_write();
        let write = async move { file.write_at(vec![block_run.freeze()], from, Sync::None).await };
        if mutant("sync-races-write") {
            spawn(write).detach();
        } else {
            write.await.map_err(StoreError::io("writing", self.path()))?;
        }
        let mut index = self.index.borrow_mut();
        for (entry, position) in entries.iter().zip(positions) {
            let offsets = (entry.base_offset, entry.last_offset + 1);
            index.push(offsets, entry.max_timestamp, position);
            self.end_offset.set(entry.last_offset + 1);
        }
        index.cover(from + bytes);
        self.written.set(from + bytes);
        self.note_write();
        count(&self.context.counters.flushes);
        add(&self.context.counters.flushed_bytes, bytes);
        Ok(())
    }

    /// Gives the file space from `position`, where the next write goes, to `end` at least, and further if the segment may
    /// grow, to `most` bytes. When there is none, nothing is written, and what was got of it is given back: `StorageFull` is to
    /// be waited out.
    pub(crate) async fn allocate(&self, position: u64, end: u64, most: u64) -> Result<(), StoreError> {
        if end <= self.allocated.get() {
            return Ok(());
        }
        let step = end.clamp(MIN_ALLOCATE_BYTES, MAX_ALLOCATE_BYTES);
        let until = (end + step).min(round_up_position(most)).max(end);
        match self.allocate_until(position, until).await {
            Err(error) if error.is_disk_full() => self.allocate_until(position, end).await,
            allocated => allocated,
        }
    }

    async fn allocate_until(&self, position: u64, until: u64) -> Result<(), StoreError> {
        let file = self.file_to_write().await?;
        let Err(error) = file.allocate(position, until - position).await else {
            self.allocated.set(until);
            return Ok(());
        };
        // Not every file system can; then the end of the file moves with each write.
        if error.kind() == std::io::ErrorKind::Unsupported {
            self.allocated.set(u64::MAX);
            return Ok(());
        }
        let error = StoreError::io("allocating", self.path())(error);
        if error.is_disk_full() {
            reached("no space ahead of a large batch");
            // Part of it may be there, and others need it more. All writes under way end below.
            file.will_write();
            file.truncate(position).await.map_err(StoreError::io("truncating", self.path()))?;
            self.allocated.set(position);
        }
        Err(error)
    }

    /// Writes whole blocks at `position` into the segment's `file`, and waits until they are on stable storage. What came of it is
    /// not known after an error, and it must not be tried again.
    pub(crate) async fn write_synced(
        &self,
        file: Lease,
        pieces: Vec<Bytes>,
        position: u64,
    ) -> Result<(), StoreError> {
        assert!(position >= self.written() && position.is_multiple_of(BLOCK), "nothing is written twice");
        let sync = if mutant("mark-before-sync") { Sync::None } else { Sync::Data };
        file.write_at(pieces, position, sync).await.map_err(StoreError::io(SYNCING, self.path()))
    }

    /// The file, to be written.
    pub(crate) async fn file_to_write(&self) -> Result<Lease, StoreError> {
        let file = self.file().await.map_err(|error| self.write_error(error))?;
        file.kept().check().map_err(|error| self.write_error(error.into()))?;
        Ok(file)
    }

    /// Notes that a run stands behind what is there.
    pub(crate) fn hold(&self, run: &WriteRun) {
        let from = self.written();
        let end = from + run.bytes as u64;
        let mut index = self.index.borrow_mut();
        for entry in &run.entries {
            let offsets = (entry.base_offset, entry.last_offset + 1);
            index.push(offsets, entry.max_timestamp, from + entry.at as u64);
        }
        index.cover(end);
        self.end_offset.set(run.next_offset());
        self.written.set(end);
        self.note_write();
    }

    /// Waits until what is written is on stable storage. A file that is not open has nothing that is not.
    pub(crate) async fn sync(&self) -> Result<(), StoreError> {
        let open = self.open.borrow().clone();
        let Some(open) = open else { return Ok(()) };
        self.context.descriptors.sync(&open).await.map_err(StoreError::io(SYNCING, self.path()))
    }

    /// Ends the segment: its file has exactly what was written, on stable storage.
    pub(crate) async fn seal(&self) -> Result<(), StoreError> {
        let file = self.file_to_write().await?;
        file.will_write();
        file.truncate(self.written()).await.map_err(StoreError::io("truncating", self.path()))?;
        if !mutant("sealed-unsynced") {
            let synced = self.context.descriptors.sync(&file.kept()).await;
            synced.map_err(StoreError::io(SYNCING, self.path()))?;
        }
        drop(file);
        self.save_index().await;
        self.sealed.set(true);
        Ok(())
    }

    fn write_error(&self, error: super::SegmentError) -> StoreError {
        let error = match error {
            super::SegmentError::Io(error) => error,
            super::SegmentError::Damaged(reason) => {
                std::io::Error::new(std::io::ErrorKind::InvalidData, reason)
            }
        };
        StoreError::io("opening", self.path())(error)
    }
}

/// Copies entries into one aligned run of blocks that will stand at `from`. Returns it with each entry's position.
fn lay_out(entries: &[FlushEntry], from: u64) -> (BytesMut, Vec<u64>) {
    let mut positions = Vec::with_capacity(entries.len());
    let mut end = from;
    for entry in entries {
        positions.push(entry_start(end));
        end = entry_start(end) + entry.bytes.len() as u64;
    }
    let len = round_up((end - from) as usize);
    let mut out = ringlog_reactor::aligned(len);
    for (entry, position) in entries.iter().zip(&positions) {
        let gap = (position - from) as usize - out.len();
        out.put_bytes(0, gap);
        out.put_slice(&entry.bytes);
    }
    let rest = len - out.len();
    out.put_bytes(0, rest);
    (out, positions)
}
