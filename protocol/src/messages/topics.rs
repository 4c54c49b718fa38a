//! Topics: what there is, where it lives, made and deleted.

use rkyv::{Archive, Deserialize, Serialize};

/// Asks for topics.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct MetadataRequest {
    /// The names wanted; `None` for all topics.
    pub topics: Option<Vec<String>>,
}

/// The topics asked for.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct MetadataReply {
    /// How many shards the broker has.
    pub shards: u32,
    /// The topics that exist, by name.
    pub topics: Vec<TopicMetadata>,
    /// The names asked for that do not exist.
    pub unknown: Vec<String>,
}

/// One topic.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct TopicMetadata {
    /// Its name.
    pub name: String,
    /// Its number, never used again after it is deleted.
    pub id: u64,
    /// Its partitions, in order of number.
    pub partitions: Vec<PartitionMetadata>,
    /// Its configuration: what was set when it was made, by key.
    pub config: Vec<(String, String)>,
}

/// One partition, and where it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct PartitionMetadata {
    /// Its number in the topic, from 0.
    pub partition: u32,
    /// The shard of its leader: what to ask for in `Hello`.
    pub shard: u32,
    /// The node of its leader.
    pub leader: u32,
    /// How many leaders it has had.
    pub leader_epoch: i32,
}

/// Makes a topic.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct CreateTopic {
    /// Its name; see [`TopicName::check`](crate::TopicName::check).
    pub name: String,
    /// How many partitions, 1 to [`MAX_PARTITIONS_PER_TOPIC`](crate::limits::MAX_PARTITIONS_PER_TOPIC).
    pub partitions: u32,
    /// Configuration keys and values.
    pub config: Vec<(String, String)>,
}

/// The topic as it was made, durable.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct CreateTopicReply {
    /// The topic.
    pub topic: TopicMetadata,
}

/// Deletes a topic with all its records.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct DeleteTopic {
    /// Its name.
    pub name: String,
}
