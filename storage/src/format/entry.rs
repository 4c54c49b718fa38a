//! One entry: an envelope and the batch behind it.
//!
//! Invariant: an [`Entry`] that was decoded is whole and sane: its envelope fits its batch, and the batch's header parses
//! and has the envelope's length. Whether the records' bytes are sound is said apart ([`Entry::body_is_sound`]), because a
//! damaged body names its partition, and a damaged envelope does not.

use super::envelope::{ENVELOPE_BYTES, Envelope, EnvelopeError, KIND_AT, PREFIX_BYTES};
use super::fields::u32_at;
use crate::blocks::BLOCK_BYTES;
use crate::partition_id::PartitionId;
use ringlog_protocol::batch::{self, BatchHeader};

/// A whole entry within some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The envelope before the batch.
    pub envelope: Envelope,
    /// The batch's header.
    pub header: BatchHeader,
}

/// Why no entry could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// The bytes end before the entry does; it needs this many.
    #[error("an entry of {need} bytes is cut short")]
    Short {
        /// Bytes from the entry's first on.
        need: usize,
    },
    /// The envelope is not one.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// The envelope is sound, and the batch's header is not what it says.
    #[error("the batch header does not fit its envelope")]
    Header,
}

impl Entry {
    /// Reads the entry at the front of `bytes`. The records are not looked at.
    pub fn decode(bytes: &[u8]) -> Result<Entry, EntryError> {
        let short = EntryError::Short { need: ENVELOPE_BYTES + batch::HEADER_BYTES };
        let (front, rest) = bytes.split_first_chunk::<ENVELOPE_BYTES>().ok_or(short)?;
        let prefix = rest.first_chunk::<PREFIX_BYTES>().ok_or(short)?;
        let envelope = Envelope::decode(front, prefix)?;
        let need = ENVELOPE_BYTES + envelope.length as usize;
        if bytes.len() < need {
            return Err(EntryError::Short { need });
        }
        let header = BatchHeader::parse(rest).map_err(|_| EntryError::Header)?;
        if header.total_len() != envelope.length as usize {
            return Err(EntryError::Header);
        }
        Ok(Entry { envelope, header })
    }

    /// Whether the batch's CRC fits the bytes it covers. `entry` begins with this entry.
    pub fn body_is_sound(&self, entry: &[u8]) -> bool {
        batch::crc_of(&entry[ENVELOPE_BYTES..self.len()]) == self.header.crc
    }

    /// Whose batch it is.
    pub fn id(&self) -> PartitionId {
        self.envelope.id
    }

    /// Bytes of the envelope and the batch.
    #[allow(clippy::len_without_is_empty, reason = "an entry is never empty")]
    pub fn len(&self) -> usize {
        ENVELOPE_BYTES + self.envelope.length as usize
    }
}

/// Where in a segment the next entry may begin, seen from `position`: an envelope never crosses a block's end.
pub fn entry_start(position: u64) -> u64 {
    let block = BLOCK_BYTES as u64;
    let left = block - position % block;
    if left < ENVELOPE_BYTES as u64 { position + left } else { position }
}

/// Whether the bytes say that no entry follows in this block.
pub fn is_padding(bytes: &[u8]) -> bool {
    bytes.len() >= 4 && u32_at(bytes, KIND_AT) == 0
}
