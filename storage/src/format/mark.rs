//! A mark: how far one partition's segments are on stable storage without the journal's help.
//!
//! Large batches go straight into their segment. A mark in the journal then says so, in the journal's order: all that is
//! below its `next_offset` stands in segments, synced, and entries of the partition behind the mark go on from there.

use super::fields::{i64_at, put, u32_at, u64_at};
use super::identity::ActiveSegment;
use crate::partition_id::PartitionId;

/// Bytes of a mark.
pub const MARK_BYTES: usize = 48;
/// The first four bytes: "RLMK".
pub const KIND: u32 = u32::from_le_bytes(*b"RLMK");

const KIND_AT: usize = 0;
const PARTITION: usize = 4;
const TOPIC: usize = 8;
const SEGMENT_BASE: usize = 16;
const SEGMENT_BYTES: usize = 24;
const NEXT_OFFSET: usize = 32;
const RESERVED: usize = 40;
const CRC: usize = 44;

const _: () = assert!(CRC + 4 == MARK_BYTES);

/// A mark's fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Whose.
    pub id: PartitionId,
    /// The last segment and its synced bytes. All segments before it are whole.
    pub segment: ActiveSegment,
    /// The offset after the last one that the segments hold.
    pub next_offset: i64,
}

/// Why bytes are not a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MarkError {
    /// The bytes end before the mark does.
    #[error("a mark is cut short")]
    Short,
    /// They begin with something else.
    #[error("no mark begins here")]
    Kind,
    /// The checksum does not fit, or a field has a value that nothing writes.
    #[error("a mark is damaged")]
    Damaged,
}

impl Mark {
    /// Whether a mark begins with these bytes.
    pub fn begins(bytes: &[u8]) -> bool {
        bytes.len() >= 4 && u32_at(bytes, KIND_AT) == KIND
    }

    /// As it stands in a frame.
    pub fn encode(&self) -> [u8; MARK_BYTES] {
        let mut out = [0; MARK_BYTES];
        put(&mut out, KIND_AT, &KIND.to_le_bytes());
        put(&mut out, PARTITION, &self.id.partition.to_le_bytes());
        put(&mut out, TOPIC, &self.id.topic.to_le_bytes());
        put(&mut out, SEGMENT_BASE, &self.segment.base_offset.to_le_bytes());
        put(&mut out, SEGMENT_BYTES, &self.segment.bytes.to_le_bytes());
        put(&mut out, NEXT_OFFSET, &self.next_offset.to_le_bytes());
        put(&mut out, RESERVED, &[0; 4]);
        let crc = crc32c::crc32c(&out[..CRC]);
        put(&mut out, CRC, &crc.to_le_bytes());
        out
    }

    /// The checksum of an encoded mark, which a frame's chain covers.
    pub fn crc_of(encoded: &[u8; MARK_BYTES]) -> u32 {
        u32_at(encoded, CRC)
    }

    /// Reads the mark at the front of `bytes`, and its checksum.
    pub fn decode(bytes: &[u8]) -> Result<(Mark, u32), MarkError> {
        let bytes = bytes.first_chunk::<MARK_BYTES>().ok_or(MarkError::Short)?;
        if !Mark::begins(bytes) {
            return Err(MarkError::Kind);
        }
        let crc = Mark::crc_of(bytes);
        let segment =
            ActiveSegment { base_offset: i64_at(bytes, SEGMENT_BASE), bytes: u64_at(bytes, SEGMENT_BYTES) };
        let mark = Mark {
            id: PartitionId { topic: u64_at(bytes, TOPIC), partition: u32_at(bytes, PARTITION) },
            segment,
            next_offset: i64_at(bytes, NEXT_OFFSET),
        };
        let sound = crc32c::crc32c(&bytes[..CRC]) == crc && u32_at(bytes, RESERVED) == 0;
        if !sound || mark.next_offset < 0 || !segment.is_possible(mark.next_offset) {
            return Err(MarkError::Damaged);
        }
        Ok((mark, crc))
    }
}
