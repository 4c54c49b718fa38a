//! What the broker tells the storage.

use std::path::PathBuf;
use std::rc::Rc;

use crate::folder_turn::FolderTurn;
use crate::limits;
use crate::partition_id::PartitionId;

/// When a record may be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TopicAck {
    /// Once it is on stable storage.
    #[default]
    Disk,
    /// Once it is in memory: a reader may see what a crash takes back.
    Memory,
}

/// Whose clock a record's timestamp is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimestampType {
    /// The producer's.
    #[default]
    CreateTime,
    /// The broker's, when the record was appended.
    LogAppendTime,
}

/// A partition's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionConfig {
    /// When a record may be read.
    pub ack: TopicAck,
    /// The size, in bytes, at which a segment is sealed. Taken into
    /// [`MIN_SEGMENT_BYTES`](limits::MIN_SEGMENT_BYTES)..=[`MAX_SEGMENT_BYTES`](limits::MAX_SEGMENT_BYTES).
    pub segment_bytes: u64,
    /// The largest batch that is appended, header included.
    pub max_batch_bytes: u32,
    /// What the records of a compressed batch may unpack to.
    pub max_decompressed_bytes: u32,
    /// Whose timestamps its records have.
    pub timestamp_type: TimestampType,
    /// How much earlier than the broker's clock a producer's timestamp may be, in milliseconds.
    pub timestamp_before_max_ms: u64,
    /// How much later.
    pub timestamp_after_max_ms: u64,
    /// Whole segments go, oldest first, while those behind them have this many bytes; none: no limit.
    pub retention_bytes: Option<u64>,
    /// A segment goes when all its records are older, by their own timestamps; none: they stay for ever.
    pub retention_ms: Option<u64>,
}

impl Default for PartitionConfig {
    fn default() -> PartitionConfig {
        PartitionConfig {
            ack: TopicAck::Disk,
            segment_bytes: limits::DEFAULT_SEGMENT_BYTES,
            max_batch_bytes: ringlog_protocol::limits::DEFAULT_MAX_BATCH_BYTES as u32,
            max_decompressed_bytes: ringlog_protocol::limits::MAX_DECOMPRESSED_BYTES as u32,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX as u64,
            timestamp_after_max_ms: 60 * 60 * 1000,
            retention_bytes: None,
            retention_ms: None,
        }
    }
}

/// A partition as the metadata knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionSpec {
    /// Which one.
    pub id: PartitionId,
    /// Its topic's name: part of the folder's.
    pub topic_name: Rc<str>,
    /// Its settings. All partitions of a topic have the same.
    pub config: Rc<PartitionConfig>,
}

/// The start before this one, as the metadata names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PreviousEpoch {
    /// Its epoch.
    pub epoch: u64,
    /// How many shards it had: each wrote a journal.
    pub shards: u32,
}

/// One shard's storage.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The data folder. The caller holds its lock.
    pub data_dir: PathBuf,
    /// This shard's number.
    pub shard: u32,
    /// The new epoch: larger than every one before it.
    pub epoch: u64,
    /// The epoch whose journals are replayed; none on the first start.
    pub previous: Option<PreviousEpoch>,
    /// Bytes of one journal file. Taken into the bounds of [`limits`], rounded up to whole blocks.
    pub journal_file_bytes: u64,
    /// How many journal files there may be.
    pub journal_files: u32,
    /// Bound, in bytes, of log memory: what is not flushed yet, and what is kept for readers near the end.
    pub tail_bytes: u64,
    /// Size, in bytes, from which a batch goes straight into its segment.
    pub bypass_bytes: usize,
    /// How many descriptors the shard's storage may have at the same time, beside those of its journal files. Taken to be at least
    /// [`MIN_OPEN_FILES`](limits::MIN_OPEN_FILES).
    pub open_files: usize,
    /// Which shard may make folders of partitions. The same for all shards of a node.
    pub folder_turn: FolderTurn,
}

impl StoreConfig {
    /// The defaults for one shard.
    pub fn new(data_dir: impl Into<PathBuf>, shard: u32, epoch: u64) -> StoreConfig {
        StoreConfig {
            data_dir: data_dir.into(),
            shard,
            epoch,
            previous: None,
            journal_file_bytes: limits::DEFAULT_JOURNAL_FILE_BYTES,
            journal_files: limits::DEFAULT_JOURNAL_FILES,
            tail_bytes: limits::DEFAULT_TAIL_BYTES,
            bypass_bytes: limits::DEFAULT_BYPASS_BYTES,
            open_files: limits::DEFAULT_OPEN_FILES,
            folder_turn: FolderTurn::default(),
        }
    }

    /// The same with every number inside its bounds.
    pub(crate) fn bounded(mut self) -> StoreConfig {
        let bytes =
            self.journal_file_bytes.clamp(limits::MIN_JOURNAL_FILE_BYTES, limits::MAX_JOURNAL_FILE_BYTES);
        self.journal_file_bytes = limits::round_up_position(bytes);
        self.journal_files = self.journal_files.clamp(1, limits::MAX_JOURNAL_FILES);
        self.tail_bytes = self.tail_bytes.max(limits::MIN_TAIL_BYTES);
        self.open_files = self.open_files.max(limits::MIN_OPEN_FILES);
        self
    }
}
