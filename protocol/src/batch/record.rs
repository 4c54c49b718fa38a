//! The records inside a batch, read from an **uncompressed** records section.
//!
//! ```text
//! length varint | attributes i8 | timestamp delta varlong | offset delta varint
//!   | key length varint (-1 = null) | key | value length varint (-1 = null) | value
//!   | header count varint | per header: key length varint, key, value length varint (-1 = null), value
//! ```
//! Keys, values and headers are slices of the section itself: a caller that holds the section as `Bytes` makes owned
//! ones without a copy by `Bytes::slice_ref`. A record is checked to its last byte before it is handed out.

use super::header::BatchHeader;
use super::varint::{take_i32, take_i64};

/// Why a records section cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The record at this index is cut short, has an impossible length, or does not fill the length it states.
    #[error("record {0} of its batch is malformed")]
    Malformed(i32),
    /// The record at this index has an offset that is not after its predecessor's, or is past the batch's last.
    #[error("record {0} of its batch has an impossible offset")]
    Offset(i32),
    /// Bytes are left after the last record.
    #[error("{0} bytes follow the last record of a batch")]
    Trailing(usize),
}

/// One record, borrowed from its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its offset less the batch's base offset.
    pub offset_delta: i32,
    /// Its timestamp less the batch's base timestamp, milliseconds. See [`Record::timestamp_ms`].
    pub timestamp_delta: i64,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Its headers.
    pub headers: Headers<'a>,
}

impl Record<'_> {
    /// Its offset.
    pub fn offset(&self, batch: &BatchHeader) -> i64 {
        batch.base_offset + i64::from(self.offset_delta)
    }

    /// Its timestamp, Unix milliseconds: the batch's when the broker gave it, else its own.
    pub fn timestamp_ms(&self, batch: &BatchHeader) -> i64 {
        match batch.is_log_append_time() {
            true => batch.max_timestamp,
            false => batch.base_timestamp.wrapping_add(self.timestamp_delta),
        }
    }
}

/// One header of a record. Its key is UTF-8 by Kafka's rule, but a foreign producer may have broken it, and one bad key
/// must not make a partition unreadable: so it is bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// Its key.
    pub key: &'a [u8],
    /// Its value.
    pub value: Option<&'a [u8]>,
}

impl<'a> Header<'a> {
    /// A header with a value.
    pub fn new(key: &'a str, value: &'a [u8]) -> Header<'a> {
        Header { key: key.as_bytes(), value: Some(value) }
    }

    /// Its key as text, with replacement characters where it is not UTF-8.
    pub fn key_lossy(&self) -> std::borrow::Cow<'a, str> {
        String::from_utf8_lossy(self.key)
    }
}

/// The headers of a record, in order: an iterator over bytes that were checked when the record was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers<'a> {
    left: usize,
    rest: &'a [u8],
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        self.left = self.left.checked_sub(1)?;
        Some(take_header(&mut self.rest).expect("headers were checked when their record was read"))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Headers<'_> {}

/// Reads the records of a batch in order. An error is the last item.
#[derive(Debug, Clone)]
pub struct RecordIter<'a> {
    rest: &'a [u8],
    index: i32,
    count: i32,
    last_offset_delta: i32,
    previous_delta: i32,
}

impl<'a> RecordIter<'a> {
    /// The records of the batch with this header, in `section`: [`records_section`](super::records_section) of the
    /// batch, decompressed if it was compressed.
    pub fn new(header: &BatchHeader, section: &'a [u8]) -> RecordIter<'a> {
        RecordIter {
            rest: section,
            index: 0,
            count: header.record_count,
            last_offset_delta: header.last_offset_delta,
            previous_delta: -1,
        }
    }

    fn read(&mut self) -> Result<Record<'a>, RecordError> {
        let index = self.index;
        let record = take_record(&mut self.rest).ok_or(RecordError::Malformed(index))?;
        if record.offset_delta <= self.previous_delta || record.offset_delta > self.last_offset_delta {
            return Err(RecordError::Offset(index));
        }
        self.previous_delta = record.offset_delta;
        self.index += 1;
        Ok(record)
    }

    fn end(&mut self) {
        self.rest = &[];
        self.index = self.count;
    }
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = Result<Record<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.index >= self.count {
            let trailing = self.rest.len();
            self.end();
            return (trailing > 0).then_some(Err(RecordError::Trailing(trailing)));
        }
        let record = self.read();
        if record.is_err() {
            self.end();
        }
        Some(record)
    }
}

impl std::iter::FusedIterator for RecordIter<'_> {}

fn take_record<'a>(rest: &mut &'a [u8]) -> Option<Record<'a>> {
    let mut record = take_bytes(rest)?;
    // No attribute of a record means anything in this format.
    let (_attributes, after) = record.split_first()?;
    record = after;
    let timestamp_delta = take_i64(&mut record)?;
    let offset_delta = take_i32(&mut record)?;
    let key = take_nullable(&mut record)?;
    let value = take_nullable(&mut record)?;
    let headers = take_headers(&mut record)?;
    record.is_empty().then_some(Record { offset_delta, timestamp_delta, key, value, headers })
}

/// Walks over the headers once, so that iterating them later cannot fail.
fn take_headers<'a>(record: &mut &'a [u8]) -> Option<Headers<'a>> {
    let left = usize::try_from(take_i32(record)?).ok()?;
    let start = *record;
    for _ in 0..left {
        take_header(record)?;
    }
    Some(Headers { left, rest: &start[..start.len() - record.len()] })
}

fn take_header<'a>(record: &mut &'a [u8]) -> Option<Header<'a>> {
    Some(Header { key: take_bytes(record)?, value: take_nullable(record)? })
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    take_nullable(rest)?
}

/// The outer `None` is malformed, the inner one is null.
fn take_nullable<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    match take_i32(rest)? {
        -1 => Some(None),
        length => {
            let (bytes, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            *rest = after;
            Some(Some(bytes))
        }
    }
}
