//! Every bound of the storage crate, in one place. Sizes are in bytes.

use std::time::Duration;

pub use crate::blocks::{BLOCK_BYTES, round_up, round_up_position};
use crate::format::{envelope, frame};
use ringlog_protocol::limits::MAX_BATCH_BYTES;

/// One piece of log memory. Frames are carved out of it, one after another; a batch that does not fit gets a chunk of
/// its own.
pub const CHUNK_BYTES: usize = 1 << 20;
/// What a frame holds beside its entries, without the padding.
pub const FRAME_OVERHEAD: usize = frame::HEADER_BYTES + frame::END_BYTES;
/// The longest frame there can be: one batch of the largest kind alone in its frame.
pub const MAX_FRAME_BYTES: usize = round_up(FRAME_OVERHEAD + envelope::ENVELOPE_BYTES + MAX_BATCH_BYTES);
/// Frames on their way to the disk at the same time. They become durable in their order.
pub const MAX_COMMITS_IN_FLIGHT: usize = 2;
/// How long entries that nobody waits for may stay in the open frame: what a crash can take from a topic that is
/// acknowledged in memory.
pub const LAZY_COMMIT: Duration = Duration::from_millis(5);
/// An open frame this long is committed, whoever waits.
pub const LAZY_COMMIT_BYTES: usize = 64 << 10;
/// Sealed frames that wait for the one being written. At this bound appends are refused until one is durable.
pub const MAX_QUEUED_FRAMES: usize = 16;

/// How long to wait before a full disk is tried again.
pub const DISK_FULL_PAUSE: Duration = Duration::from_secs(1);
/// A batch of this size goes straight into its segment, and so does all that a partition has pending behind one, while it
/// is this much: the journal would write it twice.
pub const DEFAULT_BYPASS_BYTES: usize = 256 << 10;
/// Small batches behind a large one are gathered in runs of this size.
pub const RUN_BYTES: usize = 64 << 10;
/// One write of a bypass ends at the first run that reaches this.
pub const BYPASS_WRITE_BYTES: usize = 1 << 20;
/// Writes of a bypass in flight, a partition.
pub const BYPASS_WRITES_IN_FLIGHT: usize = 8;
/// A segment is given space ahead of a bypass in steps as large as what it holds, within these bounds: a write into space that
/// is there moves no end of file, and each step waits for the writes before it.
pub const MIN_ALLOCATE_BYTES: u64 = 16 << 20;
/// See [`MIN_ALLOCATE_BYTES`].
pub const MAX_ALLOCATE_BYTES: u64 = 256 << 20;
/// After this much went past the journal a checkpoint is made: the next start reads again what no checkpoint covers.
pub const BYPASS_CHECKPOINT_BYTES: u64 = 512 << 20;

/// Default size of one journal file.
pub const DEFAULT_JOURNAL_FILE_BYTES: u64 = 32 << 20;
/// The smallest journal file: its header and a frame of a few small batches.
pub const MIN_JOURNAL_FILE_BYTES: u64 = 4 * BLOCK_BYTES as u64;
/// The largest journal file: recovery holds one file in memory.
pub const MAX_JOURNAL_FILE_BYTES: u64 = 256 << 20;
/// Default number of journal files of a shard.
pub const DEFAULT_JOURNAL_FILES: u32 = 4;
/// Most journal files of a shard.
pub const MAX_JOURNAL_FILES: u32 = 64;

/// The fewest descriptors that a shard's storage works with. One would do; a few more let operations go on side by side.
pub const MIN_OPEN_FILES: usize = 4;
/// Descriptors of a shard's storage where nothing else is said.
pub const DEFAULT_OPEN_FILES: usize = 256;

/// Default bound of log memory: what may be unflushed, and what is kept for readers near the end.
pub const DEFAULT_TAIL_BYTES: u64 = 128 << 20;
/// The smallest bound of log memory: one chunk open, one being flushed.
pub const MIN_TAIL_BYTES: u64 = 2 * CHUNK_BYTES as u64;

/// Default size at which a segment is sealed and the next begins.
pub const DEFAULT_SEGMENT_BYTES: u64 = 1 << 30;
/// The smallest size at which a segment may be sealed.
pub const MIN_SEGMENT_BYTES: u64 = 4 * BLOCK_BYTES as u64;
/// The largest: positions in an index are 32 bits, and one batch may pass the bound.
pub const MAX_SEGMENT_BYTES: u64 = 2 << 30;

/// One write of a flush ends at the first entry that reaches this. A commit's sync flushes the whole device, with what a
/// flush has just written: 1 MiB at a time held commits up for 2 ms.
pub const FLUSH_WRITE_BYTES: usize = 256 << 10;
/// A partition with this much unflushed is flushed without waiting for a checkpoint.
pub const EAGER_FLUSH_BYTES: usize = 1 << 20;
/// Partitions flushed at the same time by a checkpoint that has to hurry.
pub const FLUSHES_IN_FLIGHT: usize = 4;
/// Segments begun, synced, or given their index at the same time by a checkpoint.
pub const SYNCS_IN_FLIGHT: usize = 16;
/// Kept for a full disk, a shard, beside room for two checkpoints: what frees space must begin a segment, a folder or two.
pub const RESERVE_BYTES: u64 = 128 << 10;
/// How much of it is given up at a time.
pub const RESERVE_STEP_BYTES: u64 = 64 << 10;
/// A partition with `retention.ms` gathers records in one segment for this part of it, and keeps none in the journal alone for longer.
pub const RETENTION_GRAINS: i64 = 10;
/// But for no less than this.
pub const MIN_RETENTION_GRAIN_MS: i64 = 10_000;
/// A partition of which something could not go yet is looked at again after this.
pub const RETENTION_RETRY_MS: i64 = 1_000;
/// Partitions that a round of retention looks at before others may flush.
pub const RETENTION_AT_ONCE: usize = 64;
/// A partition's segment is no larger than what it may keep (`retention.bytes`), but for this: the last segment never goes.
pub const MIN_RETENTION_SEGMENT_BYTES: u64 = 1 << 20;
/// One read of a scan (journal headers, an index being rebuilt).
pub const SCAN_READ_BYTES: usize = 1 << 20;

/// One read of cold data, unless a single batch is longer.
pub const COLD_READ_BYTES: usize = 1 << 20;
/// Cold reads in flight at the same time, per shard.
pub const MAX_COLD_READS: usize = 16;
/// Cold data kept after a read, per shard, so that the next read of the same place needs no disk.
pub const READ_CACHE_BYTES: usize = 32 << 20;
/// Slices that one read hands out: a gather send takes them in one system call (`IOV_MAX` is 1024).
pub const MAX_READ_SLICES: usize = 1000;
/// Sealed segments a partition keeps open, with their indexes in memory.
pub const OPEN_SEALED_SEGMENTS: usize = 2;
/// One index entry stands for at least this much log.
pub const INDEX_INTERVAL_BYTES: u64 = 64 << 10;
/// Index entries of one segment: what a larger file would have to hold is not believed.
pub const MAX_INDEX_ENTRIES: usize = (MAX_SEGMENT_POSITION / INDEX_INTERVAL_BYTES) as usize + 1;
/// Partitions named by one checkpoint: what a larger count claims is not believed.
pub const MAX_CHECKPOINT_PARTITIONS: usize = 1 << 20;

/// Memory of one shard's storage at the defaults: log memory, cold reads in flight and kept, flush buffers.
pub const DEFAULT_MEMORY_BYTES: usize = DEFAULT_TAIL_BYTES as usize
    + MAX_COLD_READS * COLD_READ_BYTES
    + READ_CACHE_BYTES
    // One write ends at the first entry that reaches the bound.
    + FLUSHES_IN_FLIGHT * (FLUSH_WRITE_BYTES + DEFAULT_BYPASS_BYTES)
    + MAX_FRAME_BYTES;

/// One past the last byte a segment can have: the bound and one batch of the largest kind with its envelope.
pub const MAX_SEGMENT_POSITION: u64 = MAX_SEGMENT_BYTES + MAX_FRAME_BYTES as u64;

const _: () = assert!(CHUNK_BYTES.is_multiple_of(BLOCK_BYTES));
// A default journal file holds a frame of any legal batch.
const _: () = assert!(BLOCK_BYTES + MAX_FRAME_BYTES <= DEFAULT_JOURNAL_FILE_BYTES as usize);
const _: () = assert!(MAX_JOURNAL_FILE_BYTES <= u32::MAX as u64);
// What may be unflushed when a checkpoint begins to be needed fits log memory beside what comes in meanwhile.
const _: () = assert!(2 * DEFAULT_JOURNAL_FILE_BYTES <= DEFAULT_TAIL_BYTES);
// A partition is flushed before it alone fills log memory.
const _: () = assert!(EAGER_FLUSH_BYTES <= DEFAULT_TAIL_BYTES as usize);
const _: () = assert!(MAX_SEGMENT_POSITION <= u32::MAX as u64);
const _: () = assert!(MAX_READ_SLICES <= 1024);
const _: () = assert!(DEFAULT_MEMORY_BYTES <= 256 << 20);
