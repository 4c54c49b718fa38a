//! What an append gives: offsets, and the commit that makes them durable.

/// The sequence of a commit. Zero is before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct CommitSeq(pub(crate) u64);

/// Where a batch went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The offset of its first record.
    pub base_offset: i64,
    /// The offset of its last.
    pub last_offset: i64,
    /// The batch is on stable storage once [`Store::durable`](crate::Store::durable) has reached this. None if it went past the
    /// journal: then it is once the partition's [`durable_end`](crate::Partition::durable_end) is behind it, unless a full disk takes
    /// it out of the log before: see [`Partition::take_refused`](crate::Partition::take_refused).
    pub commit: Option<CommitSeq>,
}
