//! The topics that there are.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::topic::Topic;

/// The topics of a node, as one shard sees them. Ordered by name, so that listings are, too.
#[derive(Default)]
pub struct TopicTable {
    by_name: BTreeMap<String, Arc<Topic>>,
}

impl TopicTable {
    /// The topic of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<Topic>> {
        self.by_name.get(name)
    }

    /// All topics, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.by_name.values()
    }

    /// Makes a topic known.
    pub fn insert(&mut self, topic: Arc<Topic>) {
        self.by_name.insert(topic.name.clone(), topic);
    }

    /// Forgets a topic.
    pub fn remove(&mut self, name: &str) {
        self.by_name.remove(name);
    }
}
