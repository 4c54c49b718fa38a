//! The 61 bytes before the records. Every offset of a field is written here, once.

use super::error::BatchError;
use crate::limits::MAX_BATCH_BYTES;

/// Bytes of a batch header: where the records begin.
pub const HEADER_BYTES: usize = 61;
/// The first byte that the CRC covers.
pub const CRC_FROM: usize = ATTRIBUTES;
/// The magic of this format.
pub const MAGIC: i8 = 2;
/// The timestamp of a record that has none (Kafka's `NO_TIMESTAMP`).
pub const NO_TIMESTAMP: i64 = -1;

pub(super) const BASE_OFFSET: usize = 0;
pub(super) const BATCH_LENGTH: usize = 8;
pub(super) const LEADER_EPOCH: usize = 12;
pub(super) const MAGIC_AT: usize = 16;
pub(super) const CRC: usize = 17;
pub(super) const ATTRIBUTES: usize = 21;
pub(super) const LAST_OFFSET_DELTA: usize = 23;
pub(super) const BASE_TIMESTAMP: usize = 27;
pub(super) const MAX_TIMESTAMP: usize = 35;
pub(super) const PRODUCER_ID: usize = 43;
pub(super) const PRODUCER_EPOCH: usize = 51;
pub(super) const BASE_SEQUENCE: usize = 53;
pub(super) const RECORD_COUNT: usize = 57;
/// The batch length counts what follows its own field.
pub(super) const LENGTH_FROM: usize = BATCH_LENGTH + 4;

const COMPRESSION_BITS: i16 = 0x07;
const LOG_APPEND_TIME_BIT: i16 = 0x08;
const TRANSACTIONAL_BIT: i16 = 0x10;
const CONTROL_BIT: i16 = 0x20;
const DELETE_HORIZON_BIT: i16 = 0x40;
/// Attribute bits that mean nothing yet.
pub(super) const UNKNOWN_BITS: i16 = !0x7f;

/// How the records of a batch are compressed: bits 0 to 2 of its attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Compression {
    /// Not at all.
    #[default]
    None = 0,
    /// gzip.
    Gzip = 1,
    /// snappy.
    Snappy = 2,
    /// lz4, in its frame format.
    Lz4 = 3,
    /// zstd.
    Zstd = 4,
}

impl Compression {
    /// The codec of a batch's attributes, if they name one.
    pub const fn from_attributes(attributes: i16) -> Option<Compression> {
        match attributes & COMPRESSION_BITS {
            0 => Some(Compression::None),
            1 => Some(Compression::Gzip),
            2 => Some(Compression::Snappy),
            3 => Some(Compression::Lz4),
            4 => Some(Compression::Zstd),
            _ => None,
        }
    }

    /// The word for it in configuration and on the command line (Kafka's `compression.type`).
    pub const fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }
}

/// The header of a batch, as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// The offset of the first record; the broker assigns it.
    pub base_offset: i64,
    /// Bytes after this field.
    pub batch_length: i32,
    /// The epoch of the leader that appended the batch; the broker writes it. -1 from a producer.
    pub leader_epoch: i32,
    /// CRC-32C of everything from the attributes on.
    pub crc: u32,
    /// Compression, timestamp type, transactional, control, delete horizon.
    pub attributes: i16,
    /// The last record's offset less the base offset.
    pub last_offset_delta: i32,
    /// The first record's timestamp, Unix milliseconds.
    pub base_timestamp: i64,
    /// The largest timestamp in the batch, Unix milliseconds.
    pub max_timestamp: i64,
    /// The idempotent producer, or -1.
    pub producer_id: i64,
    /// Its epoch, or -1.
    pub producer_epoch: i16,
    /// The sequence number of the first record, or -1.
    pub base_sequence: i32,
    /// How many records there are.
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads a header from the front of `bytes`, which may hold less or more than the whole batch.
    ///
    /// Checked: at least [`HEADER_BYTES`] are there; the length is that of a batch; the magic; counts, deltas and
    /// offsets are not negative, fit each other and do not overflow. Not checked: the CRC, and what only a producer
    /// must keep to (see [`check_for_produce`](super::check_for_produce)).
    pub fn parse(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        let Some(bytes) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(BatchError::Truncated { have: bytes.len(), need: HEADER_BYTES });
        };
        if bytes[MAGIC_AT] as i8 != MAGIC {
            return Err(BatchError::Magic(bytes[MAGIC_AT] as i8));
        }
        let header = BatchHeader {
            base_offset: i64_at(bytes, BASE_OFFSET),
            batch_length: i32_at(bytes, BATCH_LENGTH),
            leader_epoch: i32_at(bytes, LEADER_EPOCH),
            crc: i32_at(bytes, CRC) as u32,
            attributes: i16_at(bytes, ATTRIBUTES),
            last_offset_delta: i32_at(bytes, LAST_OFFSET_DELTA),
            base_timestamp: i64_at(bytes, BASE_TIMESTAMP),
            max_timestamp: i64_at(bytes, MAX_TIMESTAMP),
            producer_id: i64_at(bytes, PRODUCER_ID),
            producer_epoch: i16_at(bytes, PRODUCER_EPOCH),
            base_sequence: i32_at(bytes, BASE_SEQUENCE),
            record_count: i32_at(bytes, RECORD_COUNT),
        };
        header.check_numbers()?;
        Ok(header)
    }

    fn check_numbers(&self) -> Result<(), BatchError> {
        let length = self.batch_length;
        if length < (HEADER_BYTES - LENGTH_FROM) as i32 {
            return Err(BatchError::Length(length));
        }
        if length > (MAX_BATCH_BYTES - LENGTH_FROM) as i32 {
            return Err(BatchError::TooLarge { bytes: self.total_len(), limit: MAX_BATCH_BYTES });
        }
        let (count, delta) = (self.record_count, self.last_offset_delta);
        // Fewer records than offsets is what compaction leaves behind; more is impossible.
        if count < 0 || delta < 0 || i64::from(count) > i64::from(delta) + 1 {
            return Err(BatchError::Count { records: count, last_offset_delta: delta });
        }
        // One past the last offset is a number too: the next batch's.
        if self.base_offset < 0 || self.base_offset.checked_add(i64::from(delta) + 1).is_none() {
            return Err(BatchError::Offset(self.base_offset));
        }
        Ok(())
    }

    /// Writes the header into the first [`HEADER_BYTES`] of `out`.
    pub fn write(&self, out: &mut [u8; HEADER_BYTES]) {
        out[BASE_OFFSET..BATCH_LENGTH].copy_from_slice(&self.base_offset.to_be_bytes());
        out[BATCH_LENGTH..LEADER_EPOCH].copy_from_slice(&self.batch_length.to_be_bytes());
        out[LEADER_EPOCH..MAGIC_AT].copy_from_slice(&self.leader_epoch.to_be_bytes());
        out[MAGIC_AT] = MAGIC as u8;
        out[CRC..ATTRIBUTES].copy_from_slice(&self.crc.to_be_bytes());
        out[ATTRIBUTES..LAST_OFFSET_DELTA].copy_from_slice(&self.attributes.to_be_bytes());
        out[LAST_OFFSET_DELTA..BASE_TIMESTAMP].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        out[BASE_TIMESTAMP..MAX_TIMESTAMP].copy_from_slice(&self.base_timestamp.to_be_bytes());
        out[MAX_TIMESTAMP..PRODUCER_ID].copy_from_slice(&self.max_timestamp.to_be_bytes());
        out[PRODUCER_ID..PRODUCER_EPOCH].copy_from_slice(&self.producer_id.to_be_bytes());
        out[PRODUCER_EPOCH..BASE_SEQUENCE].copy_from_slice(&self.producer_epoch.to_be_bytes());
        out[BASE_SEQUENCE..RECORD_COUNT].copy_from_slice(&self.base_sequence.to_be_bytes());
        out[RECORD_COUNT..HEADER_BYTES].copy_from_slice(&self.record_count.to_be_bytes());
    }

    /// Bytes of the whole batch, header included.
    pub fn total_len(&self) -> usize {
        LENGTH_FROM + self.batch_length as usize
    }

    /// The offset of the last record.
    pub fn last_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta)
    }

    /// One past the last offset: where the next batch begins.
    pub fn next_offset(&self) -> i64 {
        self.last_offset() + 1
    }

    /// How the records are compressed; `None` if the attributes name no codec there is.
    pub fn compression(&self) -> Option<Compression> {
        Compression::from_attributes(self.attributes)
    }

    /// Whether every record has the batch's max timestamp, given by the broker.
    pub fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME_BIT != 0
    }

    /// Gives every record the broker's time instead of its own: [`stamp`] writes that into the batch.
    pub fn set_log_append_time(&mut self, at_ms: i64) {
        self.attributes |= LOG_APPEND_TIME_BIT;
        self.max_timestamp = at_ms;
    }

    /// Whether the batch belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    /// Whether the batch holds control records, which are not for applications.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }

    /// Whether the base timestamp is a delete horizon (KIP-534).
    pub fn has_delete_horizon(&self) -> bool {
        self.attributes & DELETE_HORIZON_BIT != 0
    }
}

/// The CRC-32C of a batch's bytes, from its attributes to its end.
///
/// # Panics
/// If `batch` has fewer than [`CRC_FROM`] bytes.
pub fn crc_of(batch: &[u8]) -> u32 {
    crc32c::crc32c(&batch[CRC_FROM..])
}

/// The bytes behind a batch's header: its records, or what a codec made of them. Empty if there is no whole header.
pub fn records_section(batch: &[u8]) -> &[u8] {
    batch.get(HEADER_BYTES..).unwrap_or_default()
}

/// Writes what a broker assigns: the base offset and the leader epoch, both outside the CRC.
///
/// # Panics
/// If `batch` has no whole header.
pub fn patch(batch: &mut [u8], base_offset: i64, leader_epoch: i32) {
    assert!(batch.len() >= HEADER_BYTES, "only a batch with a header is patched");
    batch[BASE_OFFSET..BATCH_LENGTH].copy_from_slice(&base_offset.to_be_bytes());
    batch[LEADER_EPOCH..MAGIC_AT].copy_from_slice(&leader_epoch.to_be_bytes());
}

/// Writes the header's attributes and largest timestamp into the batch, and the checksum that it has with them. `front` has
/// at least the batch's header; the checksum that stands there is right. What follows it is not read again: a CRC is
/// linear, so what the changed bytes do to it is known from those alone.
///
/// # Panics
/// If `front` has no whole header.
pub fn stamp(front: &mut [u8], header: &BatchHeader) {
    assert!(front.len() >= HEADER_BYTES, "only a batch with a header is stamped");
    let stated = u32::from_be_bytes(front[CRC..ATTRIBUTES].try_into().expect("four bytes"));
    let before = crc32c::crc32c(&front[ATTRIBUTES..PRODUCER_ID]);
    front[ATTRIBUTES..LAST_OFFSET_DELTA].copy_from_slice(&header.attributes.to_be_bytes());
    front[MAX_TIMESTAMP..PRODUCER_ID].copy_from_slice(&header.max_timestamp.to_be_bytes());
    let after = crc32c::crc32c(&front[ATTRIBUTES..PRODUCER_ID]);
    let crc = stated ^ crc32c::crc32c_combine(before ^ after, 0, header.total_len() - PRODUCER_ID);
    front[CRC..ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
}

fn i64_at(bytes: &[u8; HEADER_BYTES], at: usize) -> i64 {
    i64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn i32_at(bytes: &[u8; HEADER_BYTES], at: usize) -> i32 {
    i32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn i16_at(bytes: &[u8; HEADER_BYTES], at: usize) -> i16 {
    i16::from_be_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}
