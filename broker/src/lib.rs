//! The Ringlog broker: one shard per core, one port for all of them.
//!
//! The path of a request: `acceptor` → `connection` → `dispatch` → `handlers` → the store of the shard;
//! replies leave through `outbox`. ARCHITECTURE.md lists the four ways function by function.
#![forbid(unsafe_code)]

mod acceptor;
mod acks;
pub mod check;
pub mod config;
mod connection;
mod controller;
mod core_loop;
pub mod descriptors;
mod dispatch;
pub mod doctor;
mod gather;
mod gather_budget;
mod handlers;
mod holder;
pub mod limits;
mod link;
mod metadata;
pub mod node;
pub mod offline;
mod outbox;
mod peers;
mod record_checks;
mod reply_budget;
mod session;
mod shard;
mod timestamps;
mod topic;
#[cfg(test)]
mod wire_client;
