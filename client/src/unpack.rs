//! Received batches unpacked into records: checked, decompressed, and filtered to what was asked for.

use std::sync::Arc;

use bytes::Bytes;
use ringlog_protocol::batch::{BatchHeader, Compression, Record, RecordIter, records_section, verify_crc};

use crate::compression;
use crate::error::ConsumeError;
use crate::inbox::{Inbox, Taken};
use crate::record::{ConsumedBatch, ConsumedRecord, Header};

/// The wanted records of a batch.
pub(crate) fn unpack(inbox: &Inbox, taken: &Taken) -> Result<ConsumedBatch, ConsumeError> {
    let header = &taken.received.header;
    let bad = |reason: String| ConsumeError::BadBatch {
        partition: taken.partition,
        offset: header.base_offset,
        reason: Arc::from(reason),
    };
    let mut batch =
        ConsumedBatch { partition: taken.partition, base_offset: header.base_offset, records: Vec::new() };
    if header.is_control() {
        return Ok(batch);
    }
    if inbox.check_crc {
        verify_crc(header, &taken.received.bytes).map_err(|error| bad(error.to_string()))?;
    }
    let section = section(header, &taken.received.bytes).map_err(bad)?;
    for record in RecordIter::new(header, &section) {
        let record = record.map_err(|error| bad(error.to_string()))?;
        let offset = record.offset(header);
        let timestamp_ms = record.timestamp_ms(header);
        let too_early =
            batch.records.is_empty() && taken.not_before_ms.is_some_and(|time| timestamp_ms < time);
        if offset >= taken.wanted && !too_early {
            batch.records.push(consumed(inbox, taken.partition, &section, &record, offset, timestamp_ms));
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
            compression::decompress(codec, &packed).map(Bytes::from).map_err(|error| error.to_string())
        }
        None => Err(format!("unknown compression in attributes {:#06x}", header.attributes)),
    }
}

fn consumed(
    inbox: &Inbox,
    partition: u32,
    section: &Bytes,
    record: &Record<'_>,
    offset: i64,
    timestamp_ms: i64,
) -> ConsumedRecord {
    let slice = |bytes: &[u8]| section.slice_ref(bytes);
    ConsumedRecord {
        topic: Arc::clone(&inbox.topic),
        partition,
        offset,
        timestamp_ms,
        key: record.key.map(slice),
        value: record.value.map(slice),
        headers: record
            .headers
            .map(|header| Header { name: header.key_lossy().into_owned(), value: header.value.map(slice) })
            .collect(),
    }
}
