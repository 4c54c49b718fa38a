//! Reading: from the tail without a copy, or from segments by large direct reads.
//!
//! Nothing past the high watermark is read. Every batch handed out was checked, when it was appended or when it was read.

use std::path::PathBuf;
use std::rc::Rc;

use ringlog_protocol::batch::BatchHeader;

use super::Partition;
use crate::error::ReadError;
use crate::format::checkpoint::PartitionPoint;
use crate::limits::{BLOCK_BYTES, COLD_READ_BYTES, OPEN_SEALED_SEGMENTS};
use crate::read_batches::ReadBatches;
use crate::segment::{Place, ReadRun, Segment, SegmentError, WalkError, WalkedEntry};
use crate::stats::count;

impl Partition {
    /// Batches from `offset` on: at least one if one may be read, no more than `max_bytes` otherwise, and no more than
    /// [`MAX_READ_SLICES`](crate::limits::MAX_READ_SLICES). None at the high watermark.
    pub async fn read(&self, offset: i64, max_bytes: usize) -> Result<ReadBatches, ReadError> {
        loop {
            self.check_readable(offset)?;
            if let Some(read) = self.try_read_tail(offset, max_bytes) {
                return Ok(read);
            }
            if let Some(read) = self.shared.cache.read(self.id(), offset, self.high_watermark(), max_bytes) {
                count(&self.shared.counters.cached_reads);
                return Ok(read);
            }
            self.load_run(offset).await?;
        }
    }

    /// The same without waiting: `None` if it is not in memory, or not readable, and [`Partition::read`] must be asked.
    pub fn try_read_tail(&self, offset: i64, max_bytes: usize) -> Option<ReadBatches> {
        let until = self.high_watermark();
        if self.is_deleted() || offset < self.start_offset() || offset > until {
            return None;
        }
        if offset == until {
            // Behind a lasting quarantine there was more once: the reader is told, and does not wait for ever.
            let lasting = self.quarantine.borrow().as_ref().is_some_and(|quarantine| quarantine.lasting);
            return (!lasting).then(|| ReadBatches::empty(offset));
        }
        self.tail.borrow().read(offset, until, max_bytes)
    }

    fn check_readable(&self, offset: i64) -> Result<(), ReadError> {
        if self.is_deleted() {
            return Err(ReadError::Deleted);
        }
        let (start, end) = (self.start_offset(), self.high_watermark());
        let lost = self.quarantine.borrow().as_ref().filter(|quarantine| quarantine.lasting).cloned();
        match lost {
            Some(lost) if offset >= end => Err(ReadError::Corrupt { offset, reason: lost.reason }),
            _ if offset < start || offset > end => Err(ReadError::OutOfRange { start, end }),
            _ => Ok(()),
        }
    }

    /// Reads the run of batches that holds `offset` from its segment into the cache.
    async fn load_run(&self, offset: i64) -> Result<(), ReadError> {
        let _permit = self.shared.cache.permit().await;
        if self.is_deleted() {
            return Err(ReadError::Deleted);
        }
        self.check_readable(offset)?;
        let Some(segment) = self.segment_of(offset) else {
            return Err(self.corrupt(offset, "no segment holds the offset".to_owned()));
        };
        self.keep_open(&segment);
        match self.read_segment(&segment, offset).await {
            Ok(run) => {
                self.shared.cache.keep(self.id(), segment.base_offset(), run);
                Ok(())
            }
            // The folder is removed only after the partition was marked.
            Err(_) if self.is_deleted() => Err(ReadError::Deleted),
            // Retention was faster: the file may be gone.
            Err(_) if offset < self.start_offset() => self.check_readable(offset),
            Err(SegmentError::Io(error)) => Err(ReadError::Io(error.to_string())),
            Err(SegmentError::Damaged(reason)) => Err(self.corrupt(offset, reason)),
        }
    }

    async fn read_segment(&self, segment: &Segment, offset: i64) -> Result<ReadRun, SegmentError> {
        if let Some(position) = self.shared.cache.position_after(self.id(), segment.base_offset(), offset) {
            let place = Place { position, base_offset: Some(offset) };
            return segment.read_run(place, offset).await;
        }
        let place = segment.place_of(offset).await?;
        match segment.read_run(place, offset).await {
            // The index may be what is wrong.
            Err(SegmentError::Damaged(_)) if segment.distrust_index().await? => {
                let place = segment.place_of(offset).await?;
                segment.read_run(place, offset).await
            }
            result => result,
        }
    }

    /// Reads all batches behind `point`, to where the segments end. Fails with the file in which something is wrong.
    pub(crate) async fn check_from(&self, point: &PartitionPoint) -> Result<(), (PathBuf, WalkError)> {
        for segment in self.segments().iter().filter(|segment| segment.end_offset() > point.next_offset) {
            let known = point.active.filter(|active| active.base_offset == segment.base_offset());
            let first = (BLOCK_BYTES as u64, segment.base_offset());
            let (position, offset) = known.map_or(first, |active| (active.bytes, point.next_offset));
            let mut unsound = None;
            let mut see = |entry: &WalkedEntry| unsound = unsound.take().or_else(|| entry.damage());
            let walked = segment.walk(position, offset, &mut see).await;
            let whole = unsound.map_or(walked.map(|_| ()), Err);
            whole.map_err(|error| (segment.path(), error))?;
        }
        Ok(())
    }

    /// All its segments, in order.
    pub(crate) fn segments(&self) -> Vec<Rc<Segment>> {
        self.segments.borrow().clone()
    }

    fn corrupt(&self, offset: i64, reason: String) -> ReadError {
        self.quarantine_for_now(&format!("at offset {offset}: {reason}"));
        ReadError::Corrupt { offset, reason }
    }

    /// The segment whose offsets hold `offset`.
    fn segment_of(&self, offset: i64) -> Option<Rc<Segment>> {
        let segments = self.segments.borrow();
        let after = segments.partition_point(|segment| segment.base_offset() <= offset);
        let segment = &segments[after.checked_sub(1)?];
        (offset < segment.end_offset()).then(|| Rc::clone(segment))
    }

    /// Notes that a sealed segment is used, and closes the one not used for longest if too many are open.
    pub(super) fn keep_open(&self, segment: &Segment) {
        if !segment.is_sealed() {
            return;
        }
        let mut open = self.open_sealed.borrow_mut();
        open.retain(|base| *base != segment.base_offset());
        open.push_back(segment.base_offset());
        if open.len() > OPEN_SEALED_SEGMENTS {
            let oldest = open.pop_front();
            let segments = self.segments.borrow();
            segments
                .iter()
                .filter(|segment| Some(segment.base_offset()) == oldest)
                .for_each(|segment| segment.close());
        }
    }

    /// The first batch that may be read and has a timestamp of at least `timestamp_ms`: its base offset and its largest
    /// timestamp, both of the whole batch. None if there is none.
    pub async fn offset_for_time(&self, timestamp_ms: i64) -> Result<Option<(i64, i64)>, ReadError> {
        self.check_readable(self.start_offset()).or_else(|error| match error {
            ReadError::Corrupt { .. } => Ok(()),
            other => Err(other),
        })?;
        let segments = self.segments();
        let start = self.start_offset();
        // A bypass writes ahead of what may be read.
        let until = self.high_watermark();
        for segment in segments.iter().filter(|segment| segment.end_offset() > start) {
            self.keep_open(segment);
            let found = segment.offset_of_time(timestamp_ms).await;
            if found.is_err() && segment.end_offset() <= self.start_offset() {
                continue;
            }
            let found = found.map_err(|error| match error {
                _ if self.is_deleted() => ReadError::Deleted,
                SegmentError::Io(error) => ReadError::Io(error.to_string()),
                SegmentError::Damaged(reason) => self.corrupt(segment.base_offset(), reason),
            })?;
            if let Some(from) = found {
                let until = segment.end_offset().min(until);
                let found = self.scan_for_time(from.max(start), until, timestamp_ms).await?;
                if found.is_some() {
                    return Ok(found);
                }
            }
        }
        // What came in after the list of segments was taken is still in the tail or is newer than all that was looked at.
        let from = segments.last().map_or(start, |segment| segment.end_offset().min(until));
        self.scan_tail_for_time(from, timestamp_ms).await
    }

    async fn scan_tail_for_time(
        &self,
        from: i64,
        timestamp_ms: i64,
    ) -> Result<Option<(i64, i64)>, ReadError> {
        let until = self.high_watermark();
        let in_memory = self.tail.borrow().read(from, until, 0).is_some();
        if in_memory || from >= until {
            return Ok(self.tail.borrow().find_time(from, until, timestamp_ms));
        }
        self.scan_for_time(from, until, timestamp_ms).await
    }

    async fn scan_for_time(
        &self,
        from: i64,
        until: i64,
        timestamp: i64,
    ) -> Result<Option<(i64, i64)>, ReadError> {
        let mut offset = from;
        while offset < until {
            let read = self.read(offset, COLD_READ_BYTES).await?;
            let headers = read.batches.iter().filter_map(|batch| BatchHeader::parse(batch).ok());
            for header in headers.take_while(|header| header.base_offset < until) {
                if header.max_timestamp >= timestamp {
                    return Ok(Some((header.base_offset, header.max_timestamp)));
                }
            }
            if read.next_offset == offset {
                return Ok(None);
            }
            offset = read.next_offset;
        }
        Ok(None)
    }
}
