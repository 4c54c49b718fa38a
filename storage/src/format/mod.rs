//! The bytes on the medium. Pure: bytes in, values out; no file is opened here.
//!
//! Every offset of a field is written once, in the module of its format, and `docs/on_disk.md` shows the same bytes; the
//! golden tests hold the two together. Everything decoded here comes from a medium and is taken as hostile.

pub mod checkpoint;
pub mod entry;
pub mod envelope;
mod fields;
pub mod frame;
pub mod identity;
pub mod index;
pub mod journal_file;
pub mod mark;
pub mod segment;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod golden;

pub use fields::{FORMAT_VERSION, FormatError};

use crate::limits::{BLOCK_BYTES, MAX_CHECKPOINT_PARTITIONS, MAX_INDEX_ENTRIES};

// A header of a file is one block, and is written whole.
const _: () = assert!(journal_file::HEADER_BYTES <= BLOCK_BYTES && segment::HEADER_BYTES <= BLOCK_BYTES);
const _: () = assert!(MAX_INDEX_ENTRIES * index::ENTRY_BYTES <= 1 << 20);
const _: () = assert!(MAX_CHECKPOINT_PARTITIONS * checkpoint::ENTRY_BYTES <= 64 << 20);
