//! Record batches written: one growing buffer, no allocation per record.
//!
//! Invariant: the buffer is empty, or holds room for the header and then whole records, and is never longer than the
//! builder's limit.

use std::convert::Infallible;

use bytes::{BufMut, Bytes, BytesMut};

use super::header::{ATTRIBUTES, BatchHeader, Compression, HEADER_BYTES, LENGTH_FROM, crc_of};
use super::record::Header;
use super::varint::{len_i32, len_i64, put_i32, put_i64};
use crate::limits::MAX_BATCH_BYTES;

/// Why a record was not added. The builder is as it was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// It does not fit any more: finish the batch and push it into the next.
    #[error("the batch is full")]
    Full,
    /// It does not fit into an empty batch either.
    #[error("a record that makes a batch of {bytes} bytes is over the limit of {limit} bytes")]
    RecordTooLarge {
        /// What a batch with only this record would take.
        bytes: usize,
        /// The builder's limit.
        limit: usize,
    },
}

/// Builds one batch after another.
#[derive(Debug)]
pub struct BatchBuilder {
    buf: BytesMut,
    max_bytes: usize,
    records: i32,
    base_timestamp: i64,
    max_timestamp: i64,
}

impl BatchBuilder {
    /// A builder of batches of at most `max_bytes`, header included, before compression. More than
    /// [`MAX_BATCH_BYTES`] means that limit.
    pub fn new(max_bytes: usize) -> BatchBuilder {
        BatchBuilder {
            buf: BytesMut::new(),
            max_bytes: max_bytes.min(MAX_BATCH_BYTES),
            records: 0,
            base_timestamp: 0,
            max_timestamp: 0,
        }
    }

    /// The builder with memory for `bytes` of its first batch, so that it need not grow up to there.
    pub fn with_room(mut self, bytes: usize) -> BatchBuilder {
        self.buf.reserve(bytes.min(self.max_bytes));
        self
    }

    /// Adds a record and gives its place in the batch (its offset delta). `headers` is gone through twice. For none, pass `[]`.
    pub fn push<'h, H>(
        &mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: H,
    ) -> Result<i32, PushError>
    where
        H: IntoIterator<Item = Header<'h>> + Clone,
    {
        let content = self.content_len(timestamp_ms, key, value, headers.clone());
        let grown = self.len() + content.framed();
        if grown > self.max_bytes {
            return Err(self.refusal(grown));
        }
        if self.records == 0 {
            self.buf.reserve(grown);
            self.buf.put_bytes(0, HEADER_BYTES);
            self.base_timestamp = timestamp_ms;
            self.max_timestamp = timestamp_ms;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp_ms);
        let offset_delta = self.records;
        self.write_record(content, timestamp_ms, key, value, headers);
        self.records += 1;
        Ok(offset_delta)
    }

    /// Bytes of the batch as it stands, before compression: [`HEADER_BYTES`] while there are no records.
    pub fn len(&self) -> usize {
        self.buf.len().max(HEADER_BYTES)
    }

    /// Bytes the batch would have with this record too: compare with the limit before pushing, or just push.
    pub fn len_with<'h, H>(
        &self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: H,
    ) -> usize
    where
        H: IntoIterator<Item = Header<'h>>,
    {
        self.len() + self.content_len(timestamp_ms, key, value, headers).framed()
    }

    /// Whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// How many records there are.
    pub fn record_count(&self) -> i32 {
        self.records
    }

    /// Takes the batch out, uncompressed. The builder is empty again and may be filled with the next.
    ///
    /// # Panics
    /// If there are no records: there is no empty batch.
    pub fn finish_plain(&mut self) -> Bytes {
        let plain: Result<Bytes, Infallible> = self.finish(Compression::None, |_| Ok(Vec::new()));
        match plain {
            Ok(batch) => batch,
            Err(never) => match never {},
        }
    }

    /// Takes the batch out, with its records compressed by `compress` (not called for [`Compression::None`]). Records
    /// that do not get smaller stay as they are: a batch names its own codec. If `compress` fails the batch is still in
    /// the builder.
    ///
    /// # Panics
    /// If there are no records: there is no empty batch.
    pub fn finish<E>(
        &mut self,
        codec: Compression,
        compress: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
    ) -> Result<Bytes, E> {
        assert!(self.records > 0, "a batch has at least one record");
        let compressed = match codec {
            Compression::None => None,
            _ => Some(compress(&self.buf[HEADER_BYTES..])?),
        };
        let batch = match compressed {
            Some(section) if HEADER_BYTES + section.len() < self.buf.len() => {
                let mut batch = BytesMut::with_capacity(HEADER_BYTES + section.len());
                batch.put_bytes(0, HEADER_BYTES);
                batch.put_slice(&section);
                self.buf.clear();
                self.seal(batch, codec)
            }
            _ => {
                let batch = self.buf.split();
                self.seal(batch, Compression::None)
            }
        };
        self.records = 0;
        Ok(batch)
    }

    fn seal(&self, mut batch: BytesMut, codec: Compression) -> Bytes {
        let mut header = BatchHeader {
            base_offset: 0,
            batch_length: (batch.len() - LENGTH_FROM) as i32,
            leader_epoch: -1,
            crc: 0,
            attributes: codec as i16,
            last_offset_delta: self.records - 1,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            record_count: self.records,
        };
        let place = batch.first_chunk_mut::<HEADER_BYTES>().expect("room for the header comes first");
        header.write(place);
        header.crc = crc_of(&batch);
        batch[ATTRIBUTES - 4..ATTRIBUTES].copy_from_slice(&header.crc.to_be_bytes());
        batch.freeze()
    }

    fn refusal(&self, grown: usize) -> PushError {
        match self.records {
            0 => PushError::RecordTooLarge { bytes: grown, limit: self.max_bytes },
            _ => PushError::Full,
        }
    }

    fn write_record<'h>(
        &mut self,
        content: Content,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl IntoIterator<Item = Header<'h>>,
    ) {
        let out = &mut self.buf;
        put_i32(out, content.bytes as i32);
        out.put_u8(0);
        put_i64(out, timestamp_ms.wrapping_sub(self.base_timestamp));
        put_i32(out, self.records);
        put_nullable(out, key);
        put_nullable(out, value);
        put_i32(out, content.headers as i32);
        for header in headers {
            put_nullable(out, Some(header.key));
            put_nullable(out, header.value);
        }
    }

    fn content_len<'h>(
        &self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl IntoIterator<Item = Header<'h>>,
    ) -> Content {
        let base = if self.records == 0 { timestamp_ms } else { self.base_timestamp };
        let mut count = 0;
        let mut bytes = 1 + len_i64(timestamp_ms.wrapping_sub(base)) + len_i32(self.records);
        bytes += len_nullable(key) + len_nullable(value);
        for header in headers {
            count += 1;
            bytes += len_nullable(Some(header.key)) + len_nullable(header.value);
        }
        Content { bytes: bytes + len_i64(count as i64), headers: count }
    }
}

/// What a record takes behind its length field.
#[derive(Clone, Copy)]
struct Content {
    bytes: usize,
    headers: usize,
}

impl Content {
    /// With its length field.
    fn framed(self) -> usize {
        len_i64(self.bytes as i64) + self.bytes
    }
}

fn len_nullable(bytes: Option<&[u8]>) -> usize {
    match bytes {
        None => len_i32(-1),
        Some(bytes) => len_i64(bytes.len() as i64) + bytes.len(),
    }
}

fn put_nullable(out: &mut BytesMut, bytes: Option<&[u8]>) {
    match bytes {
        None => put_i32(out, -1),
        Some(bytes) => {
            put_i64(out, bytes.len() as i64);
            out.put_slice(bytes);
        }
    }
}
