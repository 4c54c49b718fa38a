//! Blocks: the unit in which a medium is written.

use ringlog_reactor::DIRECT_ALIGN;

/// The unit of every write and read of a journal or segment: what direct I/O asks for on any block device with
/// sectors of up to 4 KiB.
pub const BLOCK_BYTES: usize = 4096;

/// `bytes`, rounded up to whole blocks.
pub const fn round_up(bytes: usize) -> usize {
    bytes.div_ceil(BLOCK_BYTES) * BLOCK_BYTES
}

/// `position`, rounded up to the next block's first byte.
pub const fn round_up_position(position: u64) -> u64 {
    position.div_ceil(BLOCK_BYTES as u64) * BLOCK_BYTES as u64
}

const _: () = assert!(BLOCK_BYTES.is_multiple_of(DIRECT_ALIGN));
