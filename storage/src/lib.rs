//! One core's storage: a journal that all its partitions share, their segments, and recovery.
//!
//! `docs/on_disk.md` describes every byte on the medium and the rules of recovery. This crate knows nothing of the network;
//! all I/O, time and randomness come from `ringlog_reactor`, so it runs over the simulation as it does over the ring.
//!
//! # Map
//! - [`Store::append`] → `journal` (one open frame, in `memory`) → `commit` (one synced write) → [`Store::committed`].
//! - Large batches: [`Store::append_owned`] → `partition::runs` → `bulk` (written into their segment, then a mark in the journal).
//! - [`Partition::read`] → `partition::tail` or `segment::read` through `cache`.
//! - `checkpoint` flushes tails into segments (`partition::flush`, `segment::write`), syncs them and frees `journal_files`.
//! - [`check`](check::check) looks at a folder at rest, by the reading half of `recovery` and by `segment::walk`.
//! - [`recover`] replays journals over segments; [`Recovered::activate`] opens the new epoch's journal.
//! - `format` is the bytes; `limits` every bound.
//!
//! # Invariants
//! - An acknowledged batch stands in a journal frame that was synced, until it stands in a segment that was synced and that a
//!   mark in the journal, or a checkpoint, vouches for.
//! - No block that holds an acknowledged byte is rewritten in place.
//! - Damage below the durable point is quarantined and named; nothing is deleted.
#![forbid(unsafe_code)]

mod activate;
mod agenda;
mod appended;
mod blocks;
mod bulk;
mod cache;
pub mod check;
mod checkpoint;
mod checkpoint_file;
mod commit;
mod committer;
mod config;
mod descriptors;
mod direct_writer;
mod entry;
mod error;
mod flusher;
mod folder_turn;
mod folders;
pub mod format;
mod health;
mod indices;
mod inner;
mod journal;
mod journal_files;
mod layout;
mod lazy_notify;
pub mod limits;
mod memory;
mod parallel;
mod partition;
mod partition_folders;
mod partition_id;
mod permits;
mod read_batches;
mod reading;
mod recovery;
mod reserve;
mod retention;
mod segment;
mod shutdown;
mod stats;
mod store;

pub use appended::{Appended, CommitSeq};
pub use config::{PartitionConfig, PartitionSpec, PreviousEpoch, StoreConfig, TimestampType, TopicAck};
pub use error::{AppendError, ReadError, RecoveryError, StoreError, StoreFailure};
pub use folder_turn::FolderTurn;
pub use folders::{
    keep_damaged_epoch, last_topic_id, make_topic, prepare_epoch, remove_epoch, remove_leftover_topics,
    remove_topic,
};
pub use health::Health;
pub use partition::{Partition, Role};
pub use partition_id::PartitionId;
pub use read_batches::ReadBatches;
pub use recovery::{Damage, Recovered, RecoverySummary, recover};
pub use reserve::{Reserve, is_full, replace_copies};
pub use stats::StoreStats;
pub use store::Store;
