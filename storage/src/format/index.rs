//! A segment's index: where some of its batches stand, by offset and by time. A cache: it can be rebuilt from the segment,
//! and is when it is missing, damaged or of another segment.
//!
//! Invariant of a decoded index: entries go up in offset and position, and their timestamps never go down.

use super::fields::{FORMAT_VERSION, FormatError, i64_at, put, u32_at, u64_at};
use crate::limits::{BLOCK_BYTES, MAX_INDEX_ENTRIES, MAX_SEGMENT_POSITION};

/// Bytes of the header.
pub const HEADER_BYTES: usize = 48;
/// Bytes of each entry.
pub const ENTRY_BYTES: usize = 16;
/// The first four bytes: "RLIX".
pub const MAGIC: u32 = u32::from_le_bytes(*b"RLIX");

const MAGIC_AT: usize = 0;
const VERSION: usize = 4;
const SEGMENT_BASE: usize = 8;
const COVERED_BYTES: usize = 16;
const NEXT_OFFSET: usize = 24;
const MAX_TIMESTAMP: usize = 32;
const COUNT: usize = 40;
const CRC: usize = 44;

const RELATIVE_OFFSET: usize = 0;
const POSITION: usize = 4;
const TIMESTAMP_BEFORE: usize = 8;

const _: () = assert!(CRC + 4 == HEADER_BYTES && TIMESTAMP_BEFORE + 8 == ENTRY_BYTES);

/// One entry: a batch that stands at `position`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexEntry {
    /// The batch's base offset less the segment's.
    pub relative_offset: u32,
    /// Where in the segment file its envelope begins.
    pub position: u32,
    /// The largest timestamp of all batches before it in the segment, Unix milliseconds; `i64::MIN` before the first.
    pub timestamp_before: i64,
}

/// The index of the first `covered_bytes` bytes of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// The segment's base offset.
    pub segment_base: i64,
    /// Bytes of the segment file that the entries stand for.
    pub covered_bytes: u64,
    /// The offset after the last batch covered.
    pub next_offset: i64,
    /// The largest timestamp covered, Unix milliseconds; `i64::MIN` if there is none.
    pub max_timestamp: i64,
    /// Sparse, in order.
    pub entries: Vec<IndexEntry>,
}

impl Index {
    /// The index of a segment without entries.
    pub fn empty(segment_base: i64) -> Index {
        Index {
            segment_base,
            covered_bytes: BLOCK_BYTES as u64,
            next_offset: segment_base,
            max_timestamp: i64::MIN,
            entries: Vec::new(),
        }
    }

    /// The last entry whose batch begins at or before `offset`.
    pub fn entry_at_or_before(&self, offset: i64) -> Option<&IndexEntry> {
        let begins = |entry: &IndexEntry| self.segment_base + i64::from(entry.relative_offset);
        let after = self.entries.partition_point(|entry| begins(entry) <= offset);
        after.checked_sub(1).map(|at| &self.entries[at])
    }

    /// As it stands on disk.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; HEADER_BYTES + self.entries.len() * ENTRY_BYTES];
        put(&mut out, MAGIC_AT, &MAGIC.to_le_bytes());
        put(&mut out, VERSION, &FORMAT_VERSION.to_le_bytes());
        put(&mut out, SEGMENT_BASE, &self.segment_base.to_le_bytes());
        put(&mut out, COVERED_BYTES, &self.covered_bytes.to_le_bytes());
        put(&mut out, NEXT_OFFSET, &self.next_offset.to_le_bytes());
        put(&mut out, MAX_TIMESTAMP, &self.max_timestamp.to_le_bytes());
        put(&mut out, COUNT, &(self.entries.len() as u32).to_le_bytes());
        for (entry, slot) in self.entries.iter().zip(out[HEADER_BYTES..].chunks_exact_mut(ENTRY_BYTES)) {
            put(slot, RELATIVE_OFFSET, &entry.relative_offset.to_le_bytes());
            put(slot, POSITION, &entry.position.to_le_bytes());
            put(slot, TIMESTAMP_BEFORE, &entry.timestamp_before.to_le_bytes());
        }
        let crc = checksum(&out);
        put(&mut out, CRC, &crc.to_le_bytes());
        out
    }

    /// Reads a whole index file.
    pub fn decode(bytes: &[u8]) -> Result<Index, FormatError> {
        let header = bytes.first_chunk::<HEADER_BYTES>().ok_or(FormatError::Short)?;
        if u32_at(header, MAGIC_AT) != MAGIC {
            return Err(FormatError::Magic);
        }
        if u32_at(header, VERSION) != FORMAT_VERSION {
            return Err(FormatError::Version(u32_at(header, VERSION)));
        }
        let count = u32_at(header, COUNT) as usize;
        if count > MAX_INDEX_ENTRIES || bytes.len() != HEADER_BYTES + count * ENTRY_BYTES {
            return Err(FormatError::Field("entry count"));
        }
        if checksum(bytes) != u32_at(header, CRC) {
            return Err(FormatError::Checksum);
        }
        let index = Index {
            segment_base: i64_at(header, SEGMENT_BASE),
            covered_bytes: u64_at(header, COVERED_BYTES),
            next_offset: i64_at(header, NEXT_OFFSET),
            max_timestamp: i64_at(header, MAX_TIMESTAMP),
            entries: bytes[HEADER_BYTES..].chunks_exact(ENTRY_BYTES).map(decode_entry).collect(),
        };
        index.check()?;
        Ok(index)
    }

    fn check(&self) -> Result<(), FormatError> {
        let block = BLOCK_BYTES as u64;
        if self.segment_base < 0 || self.next_offset < self.segment_base {
            return Err(FormatError::Field("offset"));
        }
        if !(block..=MAX_SEGMENT_POSITION).contains(&self.covered_bytes) {
            return Err(FormatError::Field("covered length"));
        }
        let span = (self.next_offset - self.segment_base) as u64;
        let fits = |entry: &IndexEntry| {
            let position = u64::from(entry.position);
            (block..self.covered_bytes).contains(&position)
                && u64::from(entry.relative_offset) < span
                && entry.timestamp_before <= self.max_timestamp
        };
        let rises = |pair: &[IndexEntry]| {
            pair[0].relative_offset < pair[1].relative_offset
                && pair[0].position < pair[1].position
                && pair[0].timestamp_before <= pair[1].timestamp_before
        };
        if !self.entries.iter().all(fits) || !self.entries.windows(2).all(rises) {
            return Err(FormatError::Field("entry"));
        }
        Ok(())
    }
}

fn decode_entry(bytes: &[u8]) -> IndexEntry {
    IndexEntry {
        relative_offset: u32_at(bytes, RELATIVE_OFFSET),
        position: u32_at(bytes, POSITION),
        timestamp_before: i64_at(bytes, TIMESTAMP_BEFORE),
    }
}

/// Over everything but the checksum itself.
fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..CRC]), &bytes[HEADER_BYTES..])
}
