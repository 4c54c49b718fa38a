//! The first block of a segment: whose log it is and where in it the segment begins.

use super::fields::{FORMAT_VERSION, FormatError, i64_at, put, u32_at, u64_at};
use crate::partition_id::PartitionId;

/// Bytes of the header; zeros follow to the end of the first block.
pub const HEADER_BYTES: usize = 36;
/// The first four bytes: "RLSG".
pub const MAGIC: u32 = u32::from_le_bytes(*b"RLSG");

const MAGIC_AT: usize = 0;
const VERSION: usize = 4;
const TOPIC: usize = 8;
const PARTITION: usize = 16;
const BEFORE: usize = 20;
const BASE_OFFSET: usize = 24;
const CRC: usize = 32;

const _: () = assert!(CRC + 4 == HEADER_BYTES);

/// A segment's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Whose log.
    pub id: PartitionId,
    /// The base offset of its first batch.
    pub base_offset: i64,
    /// Everything below this offset was on stable storage when the segment was made; at most the base offset. Not said by the
    /// segments of older versions, nor where it is far below.
    pub durable_end: Option<i64>,
}

impl SegmentHeader {
    /// As it stands on disk.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        put(&mut out, MAGIC_AT, &MAGIC.to_le_bytes());
        put(&mut out, VERSION, &FORMAT_VERSION.to_le_bytes());
        put(&mut out, TOPIC, &self.id.topic.to_le_bytes());
        put(&mut out, PARTITION, &self.id.partition.to_le_bytes());
        put(&mut out, BEFORE, &self.before().to_le_bytes());
        put(&mut out, BASE_OFFSET, &self.base_offset.to_le_bytes());
        let crc = crc32c::crc32c(&out[..CRC]);
        put(&mut out, CRC, &crc.to_le_bytes());
        out
    }

    /// Reads the front of a segment file.
    pub fn decode(bytes: &[u8]) -> Result<SegmentHeader, FormatError> {
        let header = bytes.first_chunk::<HEADER_BYTES>().ok_or(FormatError::Short)?;
        if u32_at(header, MAGIC_AT) != MAGIC {
            return Err(FormatError::Magic);
        }
        if crc32c::crc32c(&header[..CRC]) != u32_at(header, CRC) {
            return Err(FormatError::Checksum);
        }
        if u32_at(header, VERSION) != FORMAT_VERSION {
            return Err(FormatError::Version(u32_at(header, VERSION)));
        }
        let id = PartitionId { topic: u64_at(header, TOPIC), partition: u32_at(header, PARTITION) };
        let base_offset = i64_at(header, BASE_OFFSET);
        if base_offset < 0 {
            return Err(FormatError::Field("base offset"));
        }
        let before = u32_at(header, BEFORE);
        let durable_end = before.checked_sub(1).map(|before| base_offset - i64::from(before));
        if durable_end.is_some_and(|end| end < 0) {
            return Err(FormatError::Field("durable end"));
        }
        Ok(SegmentHeader { id, base_offset, durable_end })
    }

    /// How far the durable end is before the base offset, and one more; zero if it is not said.
    fn before(&self) -> u32 {
        let before = self.durable_end.map(|end| self.base_offset - end + 1);
        before.and_then(|before| u32::try_from(before).ok()).unwrap_or(0)
    }
}
