//! The 24 bytes before every batch, in the journal and in segments.
//!
//! A batch's own CRC leaves out its base offset, length, leader epoch and magic, and knows nothing of the partition: a
//! misdirected write, a stale block or a flipped epoch passes it. The envelope's checksum covers exactly these. The two
//! together cover every byte of an entry once.

use super::fields::{put, u32_at, u64_at};
use crate::partition_id::PartitionId;
use ringlog_protocol::batch;
use ringlog_protocol::limits::MAX_BATCH_BYTES;

/// Bytes of an envelope.
pub const ENVELOPE_BYTES: usize = 24;
/// The first four bytes of an entry that is in the journal before it is in a segment: "RLEN". Zero there means: no entry, go on
/// at the next block.
pub const JOURNALED: u32 = u32::from_le_bytes(*b"RLEN");
/// Of an entry that goes past the journal, or that a recovery put into a segment: "RLEP".
pub const UNPROVEN: u32 = u32::from_le_bytes(*b"RLEP");
/// Of one before which everything was on stable storage when it was made: "RLEQ".
pub const BYPASSED_NEXT: u32 = u32::from_le_bytes(*b"RLEQ");
/// The front of a batch that the envelope's checksum covers: what the batch's CRC leaves out, and that CRC.
pub const PREFIX_BYTES: usize = batch::CRC_FROM;

pub(super) const KIND_AT: usize = 0;
pub(super) const LENGTH: usize = 4;
pub(super) const TOPIC: usize = 8;
pub(super) const PARTITION: usize = 16;
pub(super) const CRC: usize = 20;

const _: () = assert!(CRC + 4 == ENVELOPE_BYTES && PREFIX_BYTES == 21);

/// How an entry gets into a segment. It tells what its presence there proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// Through the journal: only what is on stable storage there is written into a segment.
    Journaled,
    /// Past the journal: it is in the segment before it is known to be on stable storage. Or by a recovery, from a frame that may
    /// go with the power: a process that was killed did not see the end of its write.
    Unproven,
    /// Past the journal, and everything before it in the partition was on stable storage when it was made.
    BypassedNext,
}

impl EntryKind {
    fn code(self) -> u32 {
        match self {
            EntryKind::Journaled => JOURNALED,
            EntryKind::Unproven => UNPROVEN,
            EntryKind::BypassedNext => BYPASSED_NEXT,
        }
    }

    fn of(code: u32) -> Option<EntryKind> {
        let all = [EntryKind::Journaled, EntryKind::Unproven, EntryKind::BypassedNext];
        all.into_iter().find(|kind| kind.code() == code)
    }
}

/// An envelope's fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope {
    /// Bytes of the batch that follows.
    pub length: u32,
    /// Whose batch it is.
    pub id: PartitionId,
    /// How it gets into a segment.
    pub kind: EntryKind,
    /// Checksum over the fields above and the batch's first [`PREFIX_BYTES`].
    pub crc: u32,
}

/// Why 24 bytes are not an envelope that may be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// The kind is not an entry's.
    #[error("no entry begins here")]
    Kind,
    /// No batch has this length.
    #[error("impossible batch length {0}")]
    Length(u32),
    /// The checksum does not fit the envelope and the batch's front.
    #[error("envelope checksum does not match")]
    Checksum,
}

impl Envelope {
    /// The envelope of a batch, whose base offset and leader epoch are final. Only the batch's first
    /// [`PREFIX_BYTES`] are looked at.
    pub fn of(id: PartitionId, kind: EntryKind, length: u32, prefix: &[u8; PREFIX_BYTES]) -> Envelope {
        let mut envelope = Envelope { length, id, kind, crc: 0 };
        envelope.crc = checksum(&envelope.encode(), prefix);
        envelope
    }

    /// As it stands on disk.
    pub fn encode(&self) -> [u8; ENVELOPE_BYTES] {
        let mut out = [0; ENVELOPE_BYTES];
        put(&mut out, KIND_AT, &self.kind.code().to_le_bytes());
        put(&mut out, LENGTH, &self.length.to_le_bytes());
        put(&mut out, TOPIC, &self.id.topic.to_le_bytes());
        put(&mut out, PARTITION, &self.id.partition.to_le_bytes());
        put(&mut out, CRC, &self.crc.to_le_bytes());
        out
    }

    /// The checksum of an encoded envelope.
    pub fn crc_of(encoded: &[u8; ENVELOPE_BYTES]) -> u32 {
        u32_at(encoded, CRC)
    }

    /// Reads an envelope and checks it against the front of the batch behind it.
    pub fn decode(
        bytes: &[u8; ENVELOPE_BYTES],
        prefix: &[u8; PREFIX_BYTES],
    ) -> Result<Envelope, EnvelopeError> {
        let kind = EntryKind::of(u32_at(bytes, KIND_AT)).ok_or(EnvelopeError::Kind)?;
        let length = u32_at(bytes, LENGTH);
        if !(batch::HEADER_BYTES..=MAX_BATCH_BYTES).contains(&(length as usize)) {
            return Err(EnvelopeError::Length(length));
        }
        let crc = u32_at(bytes, CRC);
        if checksum(bytes, prefix) != crc {
            return Err(EnvelopeError::Checksum);
        }
        let id = PartitionId { topic: u64_at(bytes, TOPIC), partition: u32_at(bytes, PARTITION) };
        Ok(Envelope { length, id, kind, crc })
    }
}

fn checksum(envelope: &[u8; ENVELOPE_BYTES], prefix: &[u8; PREFIX_BYTES]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&envelope[..CRC]), prefix)
}
