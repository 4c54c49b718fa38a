//! What a consumer reads, and where it goes on when that is gone.

use ringlog_protocol::messages::Position;

use crate::inbox::Reading;

/// Where a consumer goes on when its next offset is not in the log (Kafka's `auto.offset.reset`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OffsetReset {
    /// Nowhere: the partition ends with [`ConsumeError::OffsetOutOfRange`](crate::ConsumeError::OffsetOutOfRange).
    #[default]
    Error,
    /// With the oldest record there is.
    Earliest,
    /// With what comes from now on.
    Latest,
}

/// What a consumer reads.
#[derive(Clone, Debug)]
pub(crate) struct ConsumerPlan {
    /// None means all partitions.
    pub partitions: Option<Vec<u32>>,
    pub from: Position,
    /// The topic must have this number.
    pub topic_id: Option<u64>,
    pub reset: OffsetReset,
    /// Where single partitions begin, if not at `from`.
    pub offsets: Vec<(u32, i64)>,
    pub prefetch_bytes: usize,
    pub reading: Reading,
}
