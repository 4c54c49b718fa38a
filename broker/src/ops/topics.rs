//! Topics: what there is, and changes of it.

use std::rc::Rc;
use std::sync::Arc;

use ringlog_storage::{Partition, PartitionId};

use crate::metadata::topic::Topic;
use crate::shard::state::Shard;

/// Topics that were asked for.
pub struct Listing {
    /// Those there are, by name.
    pub topics: Vec<Arc<Topic>>,
    /// Names of which there is none.
    pub unknown: Vec<String>,
}

/// Why there is no such partition.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// No topic has that name.
    #[error("there is no topic `{0}`; make it with `ringlog topic create`")]
    UnknownTopic(String),
    /// The topic has no such partition.
    #[error("topic `{}` has partitions 0 to {}, and no {partition}", topic.name, topic.partitions - 1)]
    UnknownPartition {
        /// The topic.
        topic: Arc<Topic>,
        /// What was asked for.
        partition: u32,
    },
}

/// The topics of those names, or all, as this shard knows them.
pub fn list(shard: &Shard, names: Option<Vec<String>>) -> Listing {
    let table = shard.topics().borrow();
    let Some(names) = names else {
        return Listing { topics: table.iter().cloned().collect(), unknown: Vec::new() };
    };
    let mut listing = Listing { topics: Vec::new(), unknown: Vec::new() };
    for name in names {
        match table.get(&name) {
            Some(topic) => listing.topics.push(topic.clone()),
            None => listing.unknown.push(name),
        }
    }
    listing
}

/// A partition of this shard.
pub fn find(shard: &Shard, topic: &str, partition: u32) -> Result<(Arc<Topic>, Rc<Partition>), FindError> {
    let found = shard.topics().borrow().get(topic).cloned();
    let topic = found.ok_or_else(|| FindError::UnknownTopic(topic.to_owned()))?;
    match shard.store().partition(PartitionId { topic: topic.id, partition }) {
        Some(found) => Ok((topic, found)),
        None => Err(FindError::UnknownPartition { topic, partition }),
    }
}
