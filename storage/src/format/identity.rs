//! What journals and segments are named by, in other files than their own.

/// Which journal a frame belongs to. Frames of another one are not seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalIdentity {
    /// The epoch: one per start of the broker.
    pub epoch: u64,
    /// The shard that wrote it.
    pub shard: u32,
    /// The random number that seeds its checksums.
    pub salt: u64,
}

/// The segment that grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActiveSegment {
    /// Its base offset, which is its name.
    pub base_offset: i64,
    /// Bytes on stable storage, header included.
    pub bytes: u64,
}
