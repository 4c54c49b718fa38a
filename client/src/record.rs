//! What goes in and what comes out: a record to be produced, and one that was consumed.

use std::sync::Arc;

use bytes::Bytes;

/// A named value that travels with a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The name; names may repeat.
    pub name: String,
    /// The value; Kafka's format allows none.
    pub value: Option<Bytes>,
}

/// A record to be sent. Without a key it goes to a partition that changes from batch to batch; with one, to the
/// partition that Kafka's murmur2 partitioner names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    pub(crate) key: Option<Bytes>,
    pub(crate) value: Option<Bytes>,
    pub(crate) headers: Vec<Header>,
    pub(crate) timestamp_ms: Option<i64>,
    pub(crate) partition: Option<u32>,
}

impl Record {
    /// A record with this value, no key and no headers.
    pub fn new(value: impl Into<Bytes>) -> Self {
        Self { value: Some(value.into()), ..Self::default() }
    }

    /// A record with this key and no value: what a compacted topic takes as a deletion.
    pub fn tombstone(key: impl Into<Bytes>) -> Self {
        Self { key: Some(key.into()), ..Self::default() }
    }

    /// Gives the record a key; records of one key keep their order.
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.headers.push(Header { name: name.into(), value: Some(value.into()) });
        self
    }

    /// Adds a header without a value, which is another thing than an empty value.
    pub fn null_header(mut self, name: impl Into<String>) -> Self {
        self.headers.push(Header { name: name.into(), value: None });
        self
    }

    /// Sets the time of the event, in Unix milliseconds; without it the time of `send` is taken.
    pub fn timestamp_ms(mut self, timestamp_ms: i64) -> Self {
        self.timestamp_ms = Some(timestamp_ms);
        self
    }

    /// Sends the record to this partition, whatever its key.
    pub fn partition(mut self, partition: u32) -> Self {
        self.partition = Some(partition);
        self
    }
}

/// A record as it was read. Key, value and header values are slices of the batch that was received: keeping one
/// keeps the batch's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumedRecord {
    /// The topic it came from.
    pub topic: Arc<str>,
    /// The partition it came from.
    pub partition: u32,
    /// Its place in the partition.
    pub offset: i64,
    /// Its time, in Unix milliseconds.
    pub timestamp_ms: i64,
    /// Its key, if it has one.
    pub key: Option<Bytes>,
    /// Its value; none is a tombstone.
    pub value: Option<Bytes>,
    /// Its headers, in their order.
    pub headers: Vec<Header>,
}

/// The records of one batch, in the order of their offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumedBatch {
    /// The partition it came from.
    pub partition: u32,
    /// The offset of the batch's first record. When consumption begins inside a batch, `records` begins later than this.
    pub base_offset: i64,
    /// The records from the wanted offset on.
    pub records: Vec<ConsumedRecord>,
}
