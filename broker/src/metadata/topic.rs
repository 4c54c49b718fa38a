//! A topic: its name, its partitions, and which shard owns which.

use std::collections::BTreeMap;
use std::rc::Rc;

use ringlog_storage::{PartitionId, PartitionSpec};
use serde::{Deserialize, Serialize};

use super::topic_config::partition_config;

/// A topic that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    /// Kafka's rule for names.
    pub name: String,
    /// How many partitions it is to have.
    pub partitions: u32,
    /// Settings, by Kafka's names.
    pub config: BTreeMap<String, String>,
}

/// A topic as the metadata file and every shard know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topic {
    /// Unique for ever; a topic made again under an old name has a new one.
    pub id: u64,
    /// Kafka's rule for names.
    pub name: String,
    /// How many partitions it has.
    pub partitions: u32,
    /// What was set when it was made, by Kafka's names.
    pub config: BTreeMap<String, String>,
}

impl Topic {
    /// What storage needs to keep the partitions that `shard` of `shards` owns. They share name and settings.
    pub fn owned_by(&self, shard: u32, shards: u32) -> impl Iterator<Item = PartitionSpec> + '_ {
        let config = partition_config(&self.config).expect("checked when the topic was made, or read");
        let (topic_name, config): (Rc<str>, _) = (self.name.as_str().into(), Rc::new(config));
        self.ids_of(shard, shards).map(move |id| PartitionSpec {
            id,
            topic_name: Rc::clone(&topic_name),
            config: Rc::clone(&config),
        })
    }

    /// The partitions of this topic that `shard` of `shards` owns.
    pub fn ids_of(&self, shard: u32, shards: u32) -> impl Iterator<Item = PartitionId> + '_ {
        (0..self.partitions)
            .filter(move |&partition| owner(self.id, partition, shards) == shard)
            .map(|partition| PartitionId { topic: self.id, partition })
    }
}

/// The shard that owns a partition: neighbours go to different shards, and the first partitions of
/// different topics do too.
pub fn owner(topic_id: u64, partition: u32, shards: u32) -> u32 {
    ((topic_id + u64::from(partition)) % u64::from(shards)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_partition_has_one_owner() {
        let topic = Topic { id: 5, name: "t".into(), partitions: 10, config: BTreeMap::new() };
        let owned: usize = (0..3).map(|shard| topic.owned_by(shard, 3).count()).sum();
        assert_eq!(owned, 10);
    }
}
