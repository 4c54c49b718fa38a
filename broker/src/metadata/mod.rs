//! What a node knows of its topics, and the file that has it. Knows no socket and no shard.

pub mod file;
pub mod topic;
pub mod topic_config;
pub mod topic_table;
