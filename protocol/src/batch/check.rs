//! What a producer may send.

use super::error::BatchError;
use super::header::{BatchHeader, UNKNOWN_BITS, crc_of};

/// Checks that `batch` is exactly one batch that a producer may send, all but the CRC: that is computed in the same
/// pass as the copy into the log.
///
/// Beyond [`BatchHeader::parse`]: the length is exact; there is at least one record and as many as there are offsets;
/// the codec exists; the base timestamp is not later than the largest; not transactional, not a control batch, no
/// delete horizon, no log append time, no unknown attribute.
pub fn check_for_produce(batch: &[u8]) -> Result<BatchHeader, BatchError> {
    let header = BatchHeader::parse(batch)?;
    let need = header.total_len();
    if batch.len() < need {
        return Err(BatchError::Truncated { have: batch.len(), need });
    }
    if batch.len() > need {
        return Err(BatchError::Trailing(batch.len() - need));
    }
    let (records, last_offset_delta) = (header.record_count, header.last_offset_delta);
    if records < 1 || records - 1 != last_offset_delta {
        return Err(BatchError::Count { records, last_offset_delta });
    }
    if header.base_timestamp > header.max_timestamp {
        return Err(BatchError::Timestamps { base: header.base_timestamp, max: header.max_timestamp });
    }
    let forbidden = header.is_transactional()
        || header.is_control()
        || header.has_delete_horizon()
        || header.is_log_append_time()
        || header.attributes & UNKNOWN_BITS != 0;
    if forbidden || header.compression().is_none() {
        return Err(BatchError::Attributes(header.attributes));
    }
    Ok(header)
}

/// Checks the CRC of one whole batch whose header was parsed.
pub fn verify_crc(header: &BatchHeader, batch: &[u8]) -> Result<(), BatchError> {
    if batch.len() != header.total_len() {
        return Err(BatchError::Truncated { have: batch.len(), need: header.total_len() });
    }
    match crc_of(batch) {
        computed if computed == header.crc => Ok(()),
        computed => Err(BatchError::Crc { stated: header.crc, computed }),
    }
}

/// Cuts batches that stand back to back. Each is whole and has a sane header; CRCs are not checked. An error is the
/// last item.
pub fn split_batches(bytes: &[u8]) -> SplitBatches<'_> {
    SplitBatches { rest: bytes }
}

/// The iterator of [`split_batches`].
#[derive(Debug, Clone)]
pub struct SplitBatches<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for SplitBatches<'a> {
    type Item = Result<(BatchHeader, &'a [u8]), BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let rest = std::mem::take(&mut self.rest);
        let header = match BatchHeader::parse(rest) {
            Ok(header) => header,
            Err(error) => return Some(Err(error)),
        };
        let need = header.total_len();
        let Some((batch, rest)) = rest.split_at_checked(need) else {
            return Some(Err(BatchError::Truncated { have: rest.len(), need }));
        };
        self.rest = rest;
        Some(Ok((header, batch)))
    }
}

impl std::iter::FusedIterator for SplitBatches<'_> {}
