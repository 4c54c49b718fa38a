//! Topics made, deleted and described; offsets looked up.

use std::sync::Arc;

use ringlog_protocol::messages::{Position, TopicMetadata};

use crate::command::{Command, Line};
use crate::error::AdminError;

/// Topic administration; from [`Client::admin`](crate::Client::admin).
#[derive(Clone, Debug)]
pub struct Admin {
    line: Line,
}

impl Admin {
    pub(crate) fn new(line: Line) -> Self {
        Self { line }
    }

    /// Prepares a new topic with one partition; `send` creates it.
    pub fn create_topic(&self, name: &str) -> CreateTopicBuilder {
        CreateTopicBuilder {
            line: self.line.clone(),
            name: name.to_owned(),
            partitions: 1,
            config: Vec::new(),
        }
    }

    /// Deletes a topic with all its records.
    pub async fn delete_topic(&self, name: &str) -> Result<(), AdminError> {
        let name = name.to_owned();
        self.line.request(|reply| Command::DeleteTopic { name, reply }).await
    }

    /// All topics, by name.
    pub async fn topics(&self) -> Result<Vec<TopicInfo>, AdminError> {
        let topics = self.line.request(|reply| Command::Topics { reply }).await?;
        Ok(topics.into_iter().map(TopicInfo::from).collect())
    }

    /// One topic.
    pub async fn topic(&self, name: &str) -> Result<TopicInfo, AdminError> {
        let name = Arc::from(name);
        self.line.request(|reply| Command::Topic { name, reply }).await.map(TopicInfo::from)
    }

    /// Which offset a position of a partition means now. For a time it is that of the first batch that can hold such a record.
    pub async fn offsets(&self, topic: &str, partition: u32, at: Position) -> Result<OffsetInfo, AdminError> {
        let topic = Arc::from(topic);
        let (opened, found) =
            self.line.request(|reply| Command::Offsets { topic, partition, at, reply }).await?;
        Ok(OffsetInfo {
            topic_id: opened.topic_id,
            quarantined: opened.quarantined,
            offset: found.offset,
            timestamp_ms: (found.timestamp >= 0).then_some(found.timestamp),
            start_offset: found.start_offset,
            high_watermark: found.high_watermark,
        })
    }
}

/// Settings of a topic that is about to be created.
#[derive(Clone, Debug)]
#[must_use = "call send() to create the topic"]
pub struct CreateTopicBuilder {
    line: Line,
    name: String,
    partitions: u32,
    config: Vec<(String, String)>,
}

impl CreateTopicBuilder {
    /// How many partitions; default 1.
    pub fn partitions(mut self, partitions: u32) -> Self {
        self.partitions = partitions;
        self
    }

    /// Sets a configuration key of the topic.
    pub fn config(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.config.push((key.into(), value.into()));
        self
    }

    /// Creates the topic; when this returns it is durable.
    pub async fn send(self) -> Result<TopicInfo, AdminError> {
        let Self { line, name, partitions, config } = self;
        let topic = line.request(|reply| Command::CreateTopic { name, partitions, config, reply }).await?;
        Ok(TopicInfo::from(topic))
    }
}

/// A topic as the broker knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    /// Its name.
    pub name: String,
    /// Its number, which no other topic ever has.
    pub id: u64,
    /// Its partitions, by number.
    pub partitions: Vec<PartitionInfo>,
    /// Its configuration.
    pub config: Vec<(String, String)>,
}

/// A partition as the broker knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionInfo {
    /// Its number in the topic, from 0.
    pub partition: u32,
    /// The shard that owns it.
    pub shard: u32,
    /// The node of its leader.
    pub leader: u32,
    /// How many leaders it has had.
    pub leader_epoch: i32,
}

/// Where a position is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetInfo {
    /// The topic's number: the offsets mean nothing in another topic of the same name.
    pub topic_id: u64,
    /// The partition is damaged and takes no records; what is sound of it can be read.
    pub quarantined: bool,
    /// The offset.
    pub offset: i64,
    /// For a time that was found, the largest timestamp of the batch at `offset`, in Unix milliseconds.
    pub timestamp_ms: Option<i64>,
    /// The first offset that is still there.
    pub start_offset: i64,
    /// One past the last offset that may be read.
    pub high_watermark: i64,
}

impl From<TopicMetadata> for TopicInfo {
    fn from(topic: TopicMetadata) -> Self {
        let partitions = topic.partitions.iter().map(|p| PartitionInfo {
            partition: p.partition,
            shard: p.shard,
            leader: p.leader,
            leader_epoch: p.leader_epoch,
        });
        Self { name: topic.name, id: topic.id, partitions: partitions.collect(), config: topic.config }
    }
}
