//! One partition: opened, produced to, fetched from, asked for its offsets. All but `Open` name it by the header's
//! handle.

use rkyv::{Archive, Deserialize, Serialize};

use crate::ack::Ack;

/// Opens a partition on this connection.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Open {
    /// The topic's name.
    pub topic: String,
    /// The partition's number.
    pub partition: u32,
}

/// The partition is open; the header carries its handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Opened {
    /// The topic's number.
    pub topic_id: u64,
    /// The first offset there is.
    pub start_offset: i64,
    /// One past the last offset that may be read.
    pub high_watermark: i64,
    /// The largest batch the topic takes, in bytes.
    pub max_batch_bytes: u32,
    /// The level at which the topic's records become readable.
    pub ack: Ack,
    /// The partition is damaged: what is sound of it can be read, and it takes no batches.
    pub quarantined: bool,
}

/// A batch is acknowledged, at the level its `Produce` asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Produced {
    /// The offset of the batch's first record.
    pub base_offset: i64,
    /// The first offset there is.
    pub start_offset: i64,
}

/// Reads once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Fetch {
    /// The first offset wanted.
    pub offset: i64,
    /// Stop before this many bytes; one whole batch comes even if it is larger.
    pub max_bytes: u32,
    /// Wait until there are this many bytes; 0 answers at once.
    pub min_bytes: u32,
    /// But no longer than this, in milliseconds.
    pub max_wait_ms: u32,
}

/// What was read: the batches are the frame's payload. The first may begin before the offset that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Fetched {
    /// The first offset there is.
    pub start_offset: i64,
    /// One past the last offset that may be read.
    pub high_watermark: i64,
}

/// A place in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
#[repr(u8)]
pub enum Position {
    /// The first record there is.
    Begin,
    /// After the last record that may be read.
    End,
    /// This offset.
    Offset(i64),
    /// The first record whose timestamp is this or later, in Unix milliseconds; the end if there is none.
    Time(i64),
}

/// Asks which offset a position means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct ListOffsets {
    /// The position.
    pub at: Position,
}

/// The offset that a position means now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct ListOffsetsReply {
    /// The offset. For a time it is that of the first batch that can hold the record: its reader skips what is earlier.
    pub offset: i64,
    /// The largest timestamp of that batch in Unix milliseconds, for a time that was found; otherwise -1.
    pub timestamp: i64,
    /// The first offset there is.
    pub start_offset: i64,
    /// One past the last offset that may be read.
    pub high_watermark: i64,
}

impl From<&ArchivedPosition> for Position {
    fn from(archived: &ArchivedPosition) -> Position {
        match archived {
            ArchivedPosition::Begin => Position::Begin,
            ArchivedPosition::End => Position::End,
            ArchivedPosition::Offset(offset) => Position::Offset(offset.to_native()),
            ArchivedPosition::Time(timestamp) => Position::Time(timestamp.to_native()),
        }
    }
}
