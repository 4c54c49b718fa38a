//! A segment's index in memory.
//!
//! Invariant: the index stands for the bytes from `from_position` to `covered_bytes`, which are whole flushes. It is whole
//! when it begins behind the segment's header.

use ringlog_reactor::sim::mutant;

use crate::format::index::{Index, IndexEntry};
use crate::limits::{BLOCK_BYTES, INDEX_INTERVAL_BYTES};

/// The largest timestamp of a segment of which something cannot be read.
pub(super) const UNKNOWN_TIME: i64 = i64::MAX;
pub(super) const FIRST_ENTRY: u64 = BLOCK_BYTES as u64;

/// An index that may not reach back to the segment's beginning.
pub(crate) struct PartialIndex {
    pub(super) index: Index,
    pub(super) from_position: u64,
    pub(super) from_offset: i64,
    /// Some of it was read from a file, which may be wrong.
    pub(super) from_file: bool,
}

/// Where to begin to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// An entry begins there, or padding before one.
    pub(crate) position: u64,
    /// Its base offset, if it is known.
    pub(crate) base_offset: Option<i64>,
}

impl PartialIndex {
    /// The index of a new segment: whole, and empty.
    pub(super) fn empty(base_offset: i64) -> PartialIndex {
        PartialIndex::from(base_offset, FIRST_ENTRY, base_offset)
    }

    /// An index that knows nothing of what is there already.
    pub(super) fn from(base_offset: i64, position: u64, offset: i64) -> PartialIndex {
        let index = Index { covered_bytes: position, next_offset: offset, ..Index::empty(base_offset) };
        PartialIndex { index, from_position: position, from_offset: offset, from_file: false }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.from_position == FIRST_ENTRY
    }

    /// Notes a batch at `position`, behind all noted before: its base offset and the next one's, and its largest timestamp.
    pub(super) fn push(&mut self, offsets: (i64, i64), max_timestamp: i64, position: u64) {
        push(&mut self.index, offsets, max_timestamp, position, false);
    }

    pub(super) fn cover(&mut self, position: u64) {
        self.index.covered_bytes = position;
    }

    /// Where to begin to look for `offset`: at or before the entry that holds it. Unknown if the index does not reach back
    /// that far.
    pub(super) fn place_of(&self, offset: i64) -> Option<Place> {
        if offset < self.from_offset && !self.is_whole() {
            return None;
        }
        let base = self.index.segment_base;
        let entry = self.index.entry_at_or_before(offset);
        let first = Place { position: self.from_position, base_offset: Some(self.from_offset) };
        Some(entry.map_or(first, |entry| Place {
            position: u64::from(entry.position),
            base_offset: Some(base + i64::from(entry.relative_offset)),
        }))
    }

    /// The offset from which on the first batch with a timestamp of at least `timestamp` is found; none if there is no
    /// such batch in the segment. The index must be whole.
    pub(super) fn offset_of_time(&self, timestamp: i64) -> Option<i64> {
        if self.index.max_timestamp < timestamp {
            return None;
        }
        let after = self.index.entries.partition_point(|entry| entry.timestamp_before < timestamp);
        let entry = after.checked_sub(1).map(|at| &self.index.entries[at]);
        let base = self.index.segment_base;
        Some(entry.map_or(base, |entry| base + i64::from(entry.relative_offset)))
    }

    /// Puts what stands before this index in front of it.
    pub(super) fn prepend(&mut self, front: Index, from_file: bool) {
        self.from_file = from_file;
        let mut entries = front.entries;
        entries.extend(self.index.entries.iter().map(|entry| IndexEntry {
            timestamp_before: match mutant("index-times-not-raised") {
                true => entry.timestamp_before,
                false => entry.timestamp_before.max(front.max_timestamp),
            },
            ..*entry
        }));
        self.index.entries = entries;
        self.index.max_timestamp = self.index.max_timestamp.max(front.max_timestamp);
        self.from_position = FIRST_ENTRY;
        self.from_offset = self.index.segment_base;
    }
}

pub(super) fn push(
    index: &mut Index,
    (base_offset, next_offset): (i64, i64),
    max_timestamp: i64,
    position: u64,
    must_be_found: bool,
) {
    let far =
        |last: &IndexEntry| must_be_found || position - u64::from(last.position) >= INDEX_INTERVAL_BYTES;
    if index.entries.last().is_none_or(far) {
        let relative = base_offset - index.segment_base;
        index.entries.push(IndexEntry {
            relative_offset: u32::try_from(relative).expect("a segment rolls before its offsets need more"),
            position: u32::try_from(position).expect("a segment rolls before its positions need more"),
            timestamp_before: index.max_timestamp,
        });
    }
    index.next_offset = next_offset;
    // A producer may say any time; this one says that something cannot be read.
    index.max_timestamp = index.max_timestamp.max(max_timestamp.min(UNKNOWN_TIME - 1));
}
