//! The engine: drives a target as a plan says, measures, and verifies.
//!
//! # Map
//! - `plan`: what a run does; `coordinator`: runs it, from the first connection to the last record.
//! - `worker`: a thread with its producers (`producer`, `maker`) and consumers (`consumer`); `scope` ends their tasks.
//! - `recorder`: what a worker measures; `tally`: what all of them measured, second by second.

mod consumer;
mod coordinator;
mod crew;
mod maker;
mod plan;
mod producer;
mod recorder;
mod scope;
mod tally;
mod worker;

pub use coordinator::{Outcome, Watch, run};
pub use plan::{Plan, ReadFrom};
pub(crate) use recorder::Bucket;
pub use worker::Books;
