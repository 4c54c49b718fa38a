//! A partition's newest entries, in memory.
//!
//! Invariants:
//! - Entries are consecutive: each begins where the one before it ends; the last ends at the log end.
//! - The last `unflushed` of them stand in no segment; all before them, and all that were here once, do.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::format::envelope::ENVELOPE_BYTES;
use crate::limits::MAX_READ_SLICES;
use crate::read_batches::ReadBatches;
use crate::segment::FlushEntry;

/// Numbers chunks of log memory in the order they were opened.
pub(crate) type ChunkId = u64;

pub(crate) struct TailEntry {
    pub(crate) base_offset: i64,
    pub(crate) last_offset: i64,
    pub(crate) max_timestamp: i64,
    pub(crate) chunk: ChunkId,
    /// Envelope and batch.
    pub(crate) bytes: Bytes,
}

impl TailEntry {
    fn batch(&self) -> Bytes {
        self.bytes.slice(ENVELOPE_BYTES..)
    }
}

#[derive(Default)]
pub(crate) struct Tail {
    entries: VecDeque<TailEntry>,
    unflushed: usize,
    unflushed_bytes: usize,
}

impl Tail {
    pub(crate) fn push(&mut self, entry: TailEntry) {
        debug_assert!(self.entries.back().is_none_or(|last| last.last_offset + 1 == entry.base_offset));
        self.unflushed += 1;
        self.unflushed_bytes += entry.bytes.len();
        self.entries.push_back(entry);
    }

    pub(crate) fn unflushed_bytes(&self) -> usize {
        self.unflushed_bytes
    }

    pub(crate) fn has_unflushed(&self) -> bool {
        self.unflushed > 0
    }

    fn first_unflushed(&self) -> usize {
        self.entries.len() - self.unflushed
    }

    /// The entries to be flushed next, oldest first, that end below `until`, as long as `more` says so.
    pub(crate) fn to_flush(&self, until: i64, mut more: impl FnMut(&FlushEntry) -> bool) -> Vec<FlushEntry> {
        let unflushed = self.entries.range(self.first_unflushed()..);
        let entries = unflushed.take_while(|entry| entry.last_offset < until).map(|entry| FlushEntry {
            base_offset: entry.base_offset,
            last_offset: entry.last_offset,
            max_timestamp: entry.max_timestamp,
            bytes: entry.bytes.clone(),
        });
        entries.take_while(|entry| more(entry)).collect()
    }

    /// Notes that the oldest `count` unflushed entries stand in a segment.
    pub(crate) fn flushed(&mut self, count: usize) {
        let first = self.first_unflushed();
        let bytes: usize = self.entries.range(first..first + count).map(|entry| entry.bytes.len()).sum();
        self.unflushed -= count;
        self.unflushed_bytes -= bytes;
    }

    /// Takes out the entries from `offset` on, none of which stands in a segment.
    pub(crate) fn take_back(&mut self, offset: i64) {
        while let Some(entry) = self.entries.pop_back_if(|entry| entry.base_offset >= offset) {
            self.unflushed =
                self.unflushed.checked_sub(1).expect("what stands in a segment is not taken back");
            self.unflushed_bytes -= entry.bytes.len();
        }
    }

    /// Whether nothing of a chunk is unflushed.
    pub(crate) fn has_flushed_chunk(&self, chunk: ChunkId) -> bool {
        self.entries.get(self.first_unflushed()).is_none_or(|entry| entry.chunk > chunk)
    }

    /// Forgets the entries up to a chunk, all flushed.
    pub(crate) fn evict_chunk(&mut self, chunk: ChunkId) {
        // They are the first few of many: a search would touch cold memory all over the tail.
        while self.entries.pop_front_if(|entry| entry.chunk <= chunk).is_some() {}
        assert!(self.unflushed <= self.entries.len(), "an entry that is in no segment stays in memory");
        if self.entries.is_empty() {
            self.entries.shrink_to(0);
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Tail::default();
    }

    /// The first offset in memory.
    fn start(&self) -> Option<i64> {
        self.entries.front().map(|entry| entry.base_offset)
    }

    /// Batches from the one that holds `offset` on, below `until`. None if that one is not in memory.
    pub(crate) fn read(&self, offset: i64, until: i64, max_bytes: usize) -> Option<ReadBatches> {
        if self.start()? > offset {
            return None;
        }
        let first = self.entries.partition_point(|entry| entry.last_offset < offset);
        let mut read = ReadBatches::empty(offset);
        for entry in self.entries.range(first..).take_while(|entry| entry.base_offset < until) {
            let len = entry.bytes.len() - ENVELOPE_BYTES;
            let full = read.bytes + len > max_bytes || read.batches.len() == MAX_READ_SLICES;
            if full && !read.batches.is_empty() {
                break;
            }
            read.push(entry.batch(), entry.last_offset + 1);
        }
        (!read.batches.is_empty()).then_some(read)
    }

    /// The first batch at or behind `from` and below `until` with a timestamp of at least `timestamp`: its base offset
    /// and its largest timestamp.
    pub(crate) fn find_time(&self, from: i64, until: i64, timestamp: i64) -> Option<(i64, i64)> {
        let first = self.entries.partition_point(|entry| entry.last_offset < from);
        let mut readable = self.entries.range(first..).take_while(|entry| entry.base_offset < until);
        let found = readable.find(|entry| entry.max_timestamp >= timestamp)?;
        Some((found.base_offset, found.max_timestamp))
    }
}
