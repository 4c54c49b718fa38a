//! One segment of a partition: a file, how much of it may be read, and its index.
//!
//! Invariants:
//! - Bytes below `written` are entries of the log and never change; nothing at or behind it is read.
//! - `written` is a multiple of the block size. It moves only after the write has succeeded.
//! - Only the last segment of a partition is written; sealed ones are read only.

mod index;
mod partial_index;
mod read;
mod walk;
mod write;
mod write_run;

use std::cell::{Cell, RefCell};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use ringlog_reactor::fs::{self, File, OpenOptions};
use ringlog_reactor::wall_clock_ms;

use partial_index::PartialIndex;
pub(crate) use partial_index::Place;
pub(crate) use read::ReadRun;
pub(crate) use walk::{WalkError, WalkedEntry};
pub(crate) use write::FlushEntry;
pub(crate) use write_run::WriteRun;

use crate::descriptors::{Descriptors, Lease, OpenFile};
use crate::format::identity::ActiveSegment;
use crate::format::segment::SegmentHeader;
use crate::layout;
use crate::limits::BLOCK_BYTES;
use crate::partition_id::PartitionId;
use crate::permits::{Activity, Permits};
use crate::reading::check_kind;
use crate::stats::Counters;

/// What a segment needs of its partition.
#[derive(Clone)]
pub(crate) struct SegmentContext {
    pub(crate) id: PartitionId,
    pub(crate) dir: PathBuf,
    pub(crate) activity: Rc<Activity>,
    pub(crate) counters: Rc<Counters>,
    pub(crate) descriptors: Rc<Descriptors>,
}

/// Why a segment could not be read.
#[derive(Debug)]
pub(crate) enum SegmentError {
    Io(io::Error),
    /// What stands there is not what was written.
    Damaged(String),
}

impl From<io::Error> for SegmentError {
    fn from(error: io::Error) -> SegmentError {
        match error.kind() {
            io::ErrorKind::InvalidInput => SegmentError::Damaged(error.to_string()),
            io::ErrorKind::NotFound => SegmentError::Damaged("the segment file is missing".to_owned()),
            _ => SegmentError::Io(error),
        }
    }
}

pub(crate) struct Segment {
    context: SegmentContext,
    base_offset: i64,
    written: Cell<u64>,
    /// The offset after the last entry.
    end_offset: Cell<i64>,
    sealed: Cell<bool>,
    /// Space was given to the file up to here, as far as this start knows.
    allocated: Cell<u64>,
    /// When its first records came, Unix milliseconds, as far as it is known.
    begun_ms: Cell<Option<i64>>,
    /// When it was last written.
    last_write_ms: Cell<Option<i64>>,
    index: RefCell<PartialIndex>,
    /// The file, as it was opened last: it may be closed by now.
    open: RefCell<Option<Rc<OpenFile>>>,
    /// Held while the file is opened and while the index is completed.
    opening: Permits,
    indexing: Permits,
}

impl Segment {
    /// A segment that was there before this start: `written` bytes, the next offset behind them.
    pub(crate) fn existing(
        context: SegmentContext,
        base_offset: i64,
        written: u64,
        end_offset: i64,
        sealed: bool,
    ) -> Segment {
        let index = PartialIndex::from(base_offset, written, end_offset);
        Segment::with(context, base_offset, (written, end_offset), sealed, index, None)
    }

    fn with(
        context: SegmentContext,
        base_offset: i64,
        (written, end_offset): (u64, i64),
        sealed: bool,
        index: PartialIndex,
        open: Option<Rc<OpenFile>>,
    ) -> Segment {
        Segment {
            context,
            base_offset,
            written: Cell::new(written),
            end_offset: Cell::new(end_offset),
            sealed: Cell::new(sealed),
            allocated: Cell::new(0),
            begun_ms: Cell::new(None),
            last_write_ms: Cell::new(None),
            index: RefCell::new(index),
            open: RefCell::new(open),
            opening: Permits::new(1),
            indexing: Permits::new(1),
        }
    }

    pub(crate) fn base_offset(&self) -> i64 {
        self.base_offset
    }

    pub(crate) fn written(&self) -> u64 {
        self.written.get()
    }

    pub(crate) fn end_offset(&self) -> i64 {
        self.end_offset.get()
    }

    /// When its first records came, Unix milliseconds, if it is known: see [`last_write_ms`](Segment::last_write_ms).
    pub(crate) fn begun_ms(&self) -> Option<i64> {
        self.begun_ms.get()
    }

    /// Notes when the first records came.
    pub(crate) fn begun_at(&self, ms: i64) {
        self.begun_ms.set(Some(ms));
    }

    /// When it was last written, Unix milliseconds: of a segment of an earlier start, when its file was. Then it is known when it
    /// was begun, too.
    pub(crate) async fn last_write_ms(&self) -> io::Result<i64> {
        if let Some(ms) = self.last_write_ms.get() {
            return Ok(ms);
        }
        let times = fs::times(self.path()).await?;
        // It may have been written meanwhile.
        let written = self.last_write_ms.get().unwrap_or(times.modified_ms);
        self.last_write_ms.set(Some(written));
        self.begun_ms.set(self.begun_ms.get().or(Some(times.made_ms)));
        Ok(written)
    }

    /// Notes that it is written now.
    fn note_write(&self) {
        self.last_write_ms.set(Some(wall_clock_ms()));
    }

    /// How a checkpoint or a mark names the segment when all that is written is synced.
    pub(crate) fn point(&self) -> ActiveSegment {
        ActiveSegment { base_offset: self.base_offset, bytes: self.written.get() }
    }

    pub(crate) fn is_sealed(&self) -> bool {
        self.sealed.get()
    }

    /// Takes the segment as sealed, though its partition may know better: it is not written from here.
    pub(crate) fn only_read(&self) {
        self.sealed.set(true);
    }

    pub(crate) fn path(&self) -> PathBuf {
        layout::segment_file(&self.context.dir, self.base_offset)
    }

    /// Gives the file and the index's memory up until they are needed again. Sealed segments only.
    pub(crate) fn close(&self) {
        if self.sealed.get() {
            *self.index.borrow_mut() =
                PartialIndex::from(self.base_offset, self.written.get(), self.end_offset.get());
            self.forget_file();
        }
    }

    fn forget_file(&self) {
        if let Some(open) = self.open.take() {
            self.context.descriptors.forget(&open);
        }
    }

    /// The file, open for as long as the lease. Its header is checked when it is opened.
    pub(crate) async fn file(&self) -> Result<Lease, SegmentError> {
        if let Some(lease) = self.lease() {
            return Ok(lease);
        }
        let _opening = self.opening.acquire().await;
        if let Some(lease) = self.lease() {
            return Ok(lease);
        }
        let options = OpenOptions::new().read(true).write(!self.sealed.get()).direct(true);
        let path = self.path();
        check_kind(fs::kind(&path).await?)?;
        let lease = self.context.descriptors.open(&path, &options).await?;
        if let Err(error) = self.check_header(&lease).await {
            self.context.descriptors.forget(&lease.kept());
            return Err(error);
        }
        if let Some(closed) = self.open.replace(Some(lease.kept())) {
            lease.kept().inherit(&closed);
        }
        Ok(lease)
    }

    fn lease(&self) -> Option<Lease> {
        self.open.borrow().as_ref().and_then(|open| self.context.descriptors.lease(open))
    }

    async fn check_header(&self, file: &File) -> Result<(), SegmentError> {
        let block = file.read_at(ringlog_reactor::aligned(BLOCK_BYTES), 0, BLOCK_BYTES).await?;
        let damaged = |error| SegmentError::Damaged(format!("segment header: {error}"));
        let header = SegmentHeader::decode(&block).map_err(damaged)?;
        if header.id != self.context.id || header.base_offset != self.base_offset {
            return Err(SegmentError::Damaged(format!(
                "the segment says it is of {} from offset {}",
                header.id, header.base_offset
            )));
        }
        Ok(())
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.context.dir
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        self.forget_file();
    }
}
