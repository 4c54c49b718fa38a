//! Received batches unpacked into records: checked, decompressed, and filtered to what was asked for.

use std::sync::Arc;

use bytes::Bytes;
use ringlog_protocol::batch::{BatchHeader, Compression, Record, RecordIter, records_section, verify_crc};
use ringlog_protocol::codec;
use ringlog_protocol::limits::{
    MAX_DECOMPRESSED_BYTES, MAX_UNPACKED_BYTES, UNPACKED_HEADER_BYTES, UNPACKED_NAME_FACTOR,
    UNPACKED_RECORD_BYTES,
};

use crate::error::ConsumeError;
use crate::inbox::{Inbox, Taken};
use crate::record::{ConsumedBatch, ConsumedRecord, Header};

/// The wanted records of a batch.
pub(crate) fn unpack(inbox: &Inbox, taken: &Taken) -> Result<ConsumedBatch, ConsumeError> {
    let header = &taken.received.header;
    let bad = |reason: String| ConsumeError::BadBatch {
        partition: taken.partition,
        offset: header.base_offset,
        last_offset: Some(header.last_offset()),
        reason: Arc::from(reason),
    };
    let mut batch =
        ConsumedBatch { partition: taken.partition, base_offset: header.base_offset, records: Vec::new() };
    if header.is_control() {
        return Ok(batch);
    }
    if inbox.reading.check_crc {
        verify_crc(header, &taken.received.bytes).map_err(|error| bad(error.to_string()))?;
    }
    let section = section(header, &taken.received.bytes).map_err(bad)?;
    let mut budget = Budget(MAX_UNPACKED_BYTES);
    for record in RecordIter::new(header, &section) {
        let record = record.map_err(|error| bad(error.to_string()))?;
        let offset = record.offset(header);
        let timestamp_ms = record.timestamp_ms(header);
        let too_early =
            batch.records.is_empty() && taken.not_before_ms.is_some_and(|time| timestamp_ms < time);
        if offset >= taken.wanted && !too_early {
            budget.charge(UNPACKED_RECORD_BYTES).map_err(bad)?;
            let headers = headers(&section, &record, &mut budget).map_err(bad)?;
            let slice = |bytes: &[u8]| section.slice_ref(bytes);
            batch.records.push(ConsumedRecord {
                topic: Arc::clone(&inbox.topic),
                partition: taken.partition,
                offset,
                timestamp_ms,
                key: record.key.map(slice),
                value: record.value.map(slice),
                headers,
            });
        }
    }
    Ok(batch)
}

/// The batch's records, uncompressed.
pub(crate) fn section(header: &BatchHeader, batch: &Bytes) -> Result<Bytes, String> {
    let packed = batch.slice_ref(records_section(batch));
    match header.compression() {
        Some(Compression::None) => Ok(packed),
        Some(codec) => {
            let unpacked = codec::decompress(codec, &packed, MAX_DECOMPRESSED_BYTES);
            unpacked.map(Bytes::from).map_err(|error| error.to_string())
        }
        None => Err(format!("unknown compression in attributes {:#06x}", header.attributes)),
    }
}

/// What unpacked records may still take, in bytes.
struct Budget(usize);

impl Budget {
    fn charge(&mut self, bytes: usize) -> Result<(), String> {
        let left = self.0.checked_sub(bytes);
        self.0 = left.ok_or_else(|| format!("its records take more than {} bytes", MAX_UNPACKED_BYTES))?;
        Ok(())
    }
}

fn headers(section: &Bytes, record: &Record<'_>, budget: &mut Budget) -> Result<Vec<Header>, String> {
    let mut headers = Vec::new();
    for header in record.headers {
        let name = header.key_lossy().into_owned();
        budget.charge(UNPACKED_HEADER_BYTES + UNPACKED_NAME_FACTOR * header.key.len())?;
        headers.push(Header { name, value: header.value.map(|value| section.slice_ref(value)) });
    }
    Ok(headers)
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use ringlog_protocol::batch::{self, BatchBuilder};

    use super::*;

    #[test]
    fn headers_beyond_the_budget_are_refused() {
        let mut builder = BatchBuilder::new(8 << 20);
        builder.push(0, None, None, vec![batch::Header::new("", b""); 100]).expect("it fits");
        let bytes = builder.finish_plain();
        let header = BatchHeader::parse(&bytes).expect("a whole batch");
        let section = section(&header, &bytes).expect("not compressed");
        let record = RecordIter::new(&header, &section).next().expect("one record").expect("a good record");
        let mut enough = Budget(100 * UNPACKED_HEADER_BYTES);
        assert_eq!(headers(&section, &record, &mut enough).map(|headers| headers.len()), Ok(100));
        let mut short = Budget(100 * UNPACKED_HEADER_BYTES - 1);
        assert!(headers(&section, &record, &mut short).is_err());
    }
}
