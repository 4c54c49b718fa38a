//! A run of entries on its way into a segment: whole blocks, in memory just as the segment will hold them.

use bytes::Bytes;
use ringlog_protocol::batch::BatchHeader;

use crate::blocks::BLOCK_BYTES;

/// Where in its run an entry stands, and what an index wants of it.
pub(crate) struct WriteEntry {
    pub(crate) at: usize,
    pub(crate) base_offset: i64,
    pub(crate) last_offset: i64,
    pub(crate) max_timestamp: i64,
}

/// Neighbours in memory that are written as they are.
#[derive(Default)]
pub(crate) struct WriteRun {
    pub(crate) pieces: Vec<Bytes>,
    pub(crate) bytes: usize,
    pub(crate) entries: Vec<WriteEntry>,
}

impl WriteRun {
    pub(crate) fn note(&mut self, header: &BatchHeader, at: usize) {
        self.entries.push(WriteEntry {
            at,
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            max_timestamp: header.max_timestamp,
        });
    }

    /// Whether it can be written as it is, and is what its entries' places say.
    pub(crate) fn is_whole(&self) -> bool {
        let mut at = self.pieces.first().map_or(1, |first| first.as_ptr().addr());
        let aligned = at.is_multiple_of(BLOCK_BYTES) && self.bytes.is_multiple_of(BLOCK_BYTES);
        let end = at + self.bytes;
        let in_row = self.pieces.iter().filter(|piece| !piece.is_empty()).all(|piece| {
            let follows = piece.as_ptr().addr() == at;
            at += piece.len();
            follows
        });
        aligned && in_row && at == end
    }

    pub(crate) fn first_offset(&self) -> i64 {
        self.entries.first().expect("a run has an entry").base_offset
    }

    /// The offset after its last entry.
    pub(crate) fn next_offset(&self) -> i64 {
        self.entries.last().expect("a run has an entry").last_offset + 1
    }
}
