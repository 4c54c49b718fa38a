//! Bytes in and out, and the memory they may take. Knows frames by their length, and no topic.

pub mod gather_budget;
pub mod holder;
pub mod lent;
pub mod outbox;
pub mod reassembly;
pub mod reply_budget;
