//! What a recovery says.

use std::path::PathBuf;

use crate::partition_id::PartitionId;

/// Something on the medium is not what was written there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// The byte in it.
    pub offset: u64,
    /// The partition that is quarantined for it, if it is one of this shard's and known.
    pub partition: Option<PartitionId>,
    /// What was found.
    pub reason: String,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at byte {}: {}", self.path.display(), self.offset, self.reason)?;
        self.partition.map_or(Ok(()), |id| write!(f, " ({id})"))
    }
}

/// What a recovery has found. Counts are of this shard's partitions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoverySummary {
    /// Journal frames that held something to replay.
    pub replayed_frames: u64,
    /// Batches that were put into segments.
    pub replayed_batches: u64,
    /// Records in them.
    pub replayed_records: u64,
    /// Bytes of them.
    pub replayed_bytes: u64,
    /// Marks that told of more than the checkpoint.
    pub marks: u64,
    /// Bytes of frames whose commit had not ended: never acknowledged, and cut. Of all journals.
    pub torn_tail_bytes: u64,
    /// What was damaged.
    pub damage: Vec<Damage>,
    /// Copies of files that could not be used, of which the other copy was sound: nothing is lost, and they are written again.
    pub spare_copies: Vec<Damage>,
    /// Partitions that take no appends.
    pub quarantined: Vec<PartitionId>,
    /// There is damage in a journal or a checkpoint: keep the old epoch's folder
    /// ([`keep_damaged_epoch`](crate::keep_damaged_epoch)). The same on every shard.
    pub journal_damaged: bool,
}
