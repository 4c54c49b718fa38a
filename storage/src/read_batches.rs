//! What a read gives.

use bytes::Bytes;

/// Whole batches, one after another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadBatches {
    /// The batches. The first may begin before the offset that was asked for.
    pub batches: Vec<Bytes>,
    /// Their bytes together.
    pub bytes: usize,
    /// Where to read on: the offset after the last batch, or the one asked for if there is none.
    pub next_offset: i64,
}

impl ReadBatches {
    pub(crate) fn empty(offset: i64) -> ReadBatches {
        ReadBatches { batches: Vec::new(), bytes: 0, next_offset: offset }
    }

    pub(crate) fn push(&mut self, batch: Bytes, next_offset: i64) {
        self.bytes += batch.len();
        self.batches.push(batch);
        self.next_offset = next_offset;
    }
}
