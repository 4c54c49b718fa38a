//! A shard's checkpoint: up to where each partition's segments are synced, and from which frame on the journal is needed.
//!
//! Everything a checkpoint names was synced before the file was replaced; it is replaced whole, or not at all.

use super::fields::{FORMAT_VERSION, FormatError, i64_at, put, u32_at, u64_at};
use super::identity::{ActiveSegment, JournalIdentity};
use crate::limits::{BLOCK_BYTES, MAX_CHECKPOINT_PARTITIONS, MAX_SEGMENT_POSITION};
use crate::partition_id::PartitionId;

/// Bytes of the header.
pub const HEADER_BYTES: usize = 48;
/// Bytes of each partition's entry.
pub const ENTRY_BYTES: usize = 48;
/// The first four bytes: "RLCK".
pub const MAGIC: u32 = u32::from_le_bytes(*b"RLCK");

const MAGIC_AT: usize = 0;
const VERSION: usize = 4;
const EPOCH: usize = 8;
const SHARD: usize = 16;
const FLAGS: usize = 20;
const JOURNAL_FROM: usize = 24;
const SALT: usize = 32;
const COUNT: usize = 40;
const CRC: usize = 44;

const TOPIC: usize = 0;
const PARTITION: usize = 8;
const ENTRY_FLAGS: usize = 12;
const START_OFFSET: usize = 16;
const NEXT_OFFSET: usize = 24;
const SEGMENT_BASE: usize = 32;
const SEGMENT_BYTES: usize = 40;

const _: () = assert!(CRC + 4 == HEADER_BYTES && SEGMENT_BYTES + 8 == ENTRY_BYTES);

const FLAG_CLEAN: u32 = 1;
const FLAG_QUARANTINED: u32 = 1;
/// What stands for the active segment's base while there is none.
const NO_SEGMENT: i64 = -1;

/// A whole checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The journal it belongs to.
    pub journal: JournalIdentity,
    /// Written by an orderly shutdown: the journal holds nothing that is not in segments.
    pub clean: bool,
    /// Frames below this sequence are not needed any more.
    pub journal_from: u64,
    /// In order of their ids, each once.
    pub partitions: Vec<PartitionPoint>,
}

/// How far one partition's segments are on stable storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionPoint {
    /// Whose.
    pub id: PartitionId,
    /// Acknowledged data is known to be missing or damaged: nothing may be appended.
    pub quarantined: bool,
    /// The first offset that may be read.
    pub start_offset: i64,
    /// The offset after the last one that the segments hold.
    pub next_offset: i64,
    /// The last segment and its synced bytes, a multiple of the block size; none while nothing was flushed.
    pub active: Option<ActiveSegment>,
}

impl Checkpoint {
    /// Whether it was made after another one of the same journal: nothing in a checkpoint ever goes back.
    pub fn is_newer_than(&self, other: &Checkpoint) -> bool {
        let said = |checkpoint: &Checkpoint| (checkpoint.journal_from, checkpoint.clean);
        let points = |checkpoint: &Checkpoint| -> Vec<_> {
            let all = checkpoint.partitions.iter();
            all.map(|point| (point.id, point.start_offset, point.next_offset, point.quarantined)).collect()
        };
        said(self).cmp(&said(other)).then_with(|| points(self).cmp(&points(other))).is_gt()
    }

    /// As it stands on disk.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; HEADER_BYTES + self.partitions.len() * ENTRY_BYTES];
        put(&mut out, MAGIC_AT, &MAGIC.to_le_bytes());
        put(&mut out, VERSION, &FORMAT_VERSION.to_le_bytes());
        put(&mut out, EPOCH, &self.journal.epoch.to_le_bytes());
        put(&mut out, SHARD, &self.journal.shard.to_le_bytes());
        put(&mut out, FLAGS, &(if self.clean { FLAG_CLEAN } else { 0 }).to_le_bytes());
        put(&mut out, JOURNAL_FROM, &self.journal_from.to_le_bytes());
        put(&mut out, SALT, &self.journal.salt.to_le_bytes());
        put(&mut out, COUNT, &(self.partitions.len() as u32).to_le_bytes());
        for (point, slot) in self.partitions.iter().zip(out[HEADER_BYTES..].chunks_exact_mut(ENTRY_BYTES)) {
            point.encode(slot);
        }
        let crc = checksum(&out);
        put(&mut out, CRC, &crc.to_le_bytes());
        out
    }

    /// Reads a whole checkpoint file.
    pub fn decode(bytes: &[u8]) -> Result<Checkpoint, FormatError> {
        let header = bytes.first_chunk::<HEADER_BYTES>().ok_or(FormatError::Short)?;
        if u32_at(header, MAGIC_AT) != MAGIC {
            return Err(FormatError::Magic);
        }
        if checksum(bytes) != u32_at(header, CRC) {
            return Err(FormatError::Checksum);
        }
        if u32_at(header, VERSION) != FORMAT_VERSION {
            return Err(FormatError::Version(u32_at(header, VERSION)));
        }
        let count = u32_at(header, COUNT) as usize;
        if count > MAX_CHECKPOINT_PARTITIONS || bytes.len() != HEADER_BYTES + count * ENTRY_BYTES {
            return Err(FormatError::Field("partition count"));
        }
        let flags = u32_at(header, FLAGS);
        if flags & !FLAG_CLEAN != 0 {
            return Err(FormatError::Field("flags"));
        }
        let journal = JournalIdentity {
            epoch: u64_at(header, EPOCH),
            shard: u32_at(header, SHARD),
            salt: u64_at(header, SALT),
        };
        let entries = bytes[HEADER_BYTES..].chunks_exact(ENTRY_BYTES);
        let partitions = entries.map(PartitionPoint::decode).collect::<Result<Vec<_>, _>>()?;
        if !partitions.windows(2).all(|pair| pair[0].id < pair[1].id) {
            return Err(FormatError::Field("order of partitions"));
        }
        let journal_from = u64_at(header, JOURNAL_FROM);
        Ok(Checkpoint { journal, clean: flags & FLAG_CLEAN != 0, journal_from, partitions })
    }
}

impl PartitionPoint {
    /// A partition that holds nothing yet.
    pub fn new(id: PartitionId) -> PartitionPoint {
        PartitionPoint { id, quarantined: false, start_offset: 0, next_offset: 0, active: None }
    }

    fn encode(&self, out: &mut [u8]) {
        let (base, bytes) = self.active.map_or((NO_SEGMENT, 0), |active| (active.base_offset, active.bytes));
        put(out, TOPIC, &self.id.topic.to_le_bytes());
        put(out, PARTITION, &self.id.partition.to_le_bytes());
        put(out, ENTRY_FLAGS, &(if self.quarantined { FLAG_QUARANTINED } else { 0 }).to_le_bytes());
        put(out, START_OFFSET, &self.start_offset.to_le_bytes());
        put(out, NEXT_OFFSET, &self.next_offset.to_le_bytes());
        put(out, SEGMENT_BASE, &base.to_le_bytes());
        put(out, SEGMENT_BYTES, &bytes.to_le_bytes());
    }

    fn decode(bytes: &[u8]) -> Result<PartitionPoint, FormatError> {
        let flags = u32_at(bytes, ENTRY_FLAGS);
        let (base_offset, segment_bytes) = (i64_at(bytes, SEGMENT_BASE), u64_at(bytes, SEGMENT_BYTES));
        let active = match base_offset {
            NO_SEGMENT => None,
            _ => Some(ActiveSegment { base_offset, bytes: segment_bytes }),
        };
        let point = PartitionPoint {
            id: PartitionId { topic: u64_at(bytes, TOPIC), partition: u32_at(bytes, PARTITION) },
            quarantined: flags & FLAG_QUARANTINED != 0,
            start_offset: i64_at(bytes, START_OFFSET),
            next_offset: i64_at(bytes, NEXT_OFFSET),
            active,
        };
        if flags & !FLAG_QUARANTINED != 0 {
            return Err(FormatError::Field("flags"));
        }
        if point.start_offset < 0 || point.start_offset > point.next_offset {
            return Err(FormatError::Field("offset"));
        }
        let possible =
            point.active.map_or(segment_bytes == 0, |active| active.is_possible(point.next_offset));
        if !possible {
            return Err(FormatError::Field("segment"));
        }
        Ok(point)
    }
}

impl ActiveSegment {
    /// Whether a segment can be so, when the offset after its last is `next_offset`.
    pub(super) fn is_possible(&self, next_offset: i64) -> bool {
        let block = BLOCK_BYTES as u64;
        (0..=next_offset).contains(&self.base_offset)
            && (block..=MAX_SEGMENT_POSITION).contains(&self.bytes)
            && self.bytes.is_multiple_of(block)
    }
}

/// Over everything but the checksum itself.
fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..CRC]), &bytes[HEADER_BYTES..])
}
