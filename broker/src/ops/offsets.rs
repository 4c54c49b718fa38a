//! Which offset a position means now.

use ringlog_protocol::messages::Position;
use ringlog_storage::{Partition, ReadError};

/// What a position means, and how far the partition goes.
pub struct Resolved {
    /// The offset.
    pub offset: i64,
    /// Of the batch that holds it, where the position was a time and there is such a batch.
    pub timestamp: Option<i64>,
    /// The first offset that may be read.
    pub start_offset: i64,
    /// The offset after the last record that may be read.
    pub high_watermark: i64,
}

/// The offset a position means: an offset is itself, in range or not. A time may be looked for on the disk.
pub async fn resolve(partition: &Partition, at: Position) -> Result<Resolved, ReadError> {
    let (offset, timestamp) = match at {
        Position::Begin => (partition.start_offset(), None),
        Position::End => (partition.high_watermark(), None),
        Position::Offset(offset) => (offset, None),
        Position::Time(ms) => match partition.offset_for_time(ms).await? {
            Some((offset, timestamp)) => (offset, Some(timestamp)),
            None => (partition.high_watermark(), None),
        },
    };
    let (start_offset, high_watermark) = (partition.start_offset(), partition.high_watermark());
    Ok(Resolved { offset, timestamp, start_offset, high_watermark })
}
