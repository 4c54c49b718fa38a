//! The load generator of Ringlog: an open loop that keeps its schedule whatever the broker does, and verifies every
//! record while it measures.
//!
//! # Map
//! - [`workload`]: what is sent and when; pure and seeded.
//! - [`stamp`]: what every record begins with; [`verify`]: what becomes of records, by their stamps.
//! - [`engine`]: drives a target by a plan, and measures.
//! - [`target`]: what is driven; Ringlog by its bundled client here, other brokers in `perf/`.
//! - [`executor`]: where the producers and consumers run, and the precise timer there.
//! - [`result`]: what a run leaves behind, as it stands in its JSON file.
//! - [`report`]: tables, files, pages and comparisons of results.
#![forbid(unsafe_code)]

pub mod cli;
pub mod engine;
pub mod executor;
pub mod machine;
pub mod progress;
pub mod report;
pub mod result;
pub mod ringlog;
pub mod stamp;
pub mod target;
pub mod verify;
pub mod workload;
