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
mod bulk;
mod cache;
pub mod check;
mod checkpoint;
mod checkpoint_file;
mod commit;
mod config;
mod descriptors;
mod entry;
mod error;
mod folders;
pub mod format;
mod journal;
mod journal_files;
mod layout;
mod lazy_notify;
pub mod limits;
mod memory;
mod partition;
mod partition_folders;
mod permits;
mod recovery;
mod reserve;
mod retention;
mod segment;
mod stats;
mod store;

pub use config::{
    PartitionConfig, PartitionId, PartitionSpec, PreviousEpoch, StoreConfig, TimestampType, TopicAck,
};
pub use error::{AppendError, ReadError, RecoveryError, StoreError, StoreFailure};
pub use folders::{
    keep_damaged_epoch, last_topic_id, make_topic, prepare_epoch, remove_epoch, remove_leftover_topics,
    remove_topic,
};
pub use partition::{Partition, ReadBatches};
pub use partition_folders::FolderTurn;
pub use recovery::{Damage, Recovered, RecoverySummary, recover};
pub use reserve::{Reserve, is_full, replace_copies};
pub use stats::StoreStats;
pub use store::{Appended, CommitSeq, Health, Store};
