//! The Ringlog broker: one shard per core, one port for all of them.
//!
//! The path of a request: `node` accepts a client, `native` receives and decodes what it asks for, the `shard` that owns the
//! partition has it in its store, and the reply leaves through `net`. ARCHITECTURE.md has it function by function.
#![forbid(unsafe_code)]

pub mod check;
pub mod config;
mod control;
pub mod doctor;
pub mod limits;
mod metadata;
mod native;
mod net;
pub mod node;
pub mod offline;
mod ops;
mod peers;
mod shard;

pub use node::descriptors;
