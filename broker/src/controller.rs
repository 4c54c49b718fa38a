//! The controller: makes and deletes topics, one change at a time, and keeps the metadata file.
//!
//! Invariants
//! - A topic is published only when all its partitions exist and the metadata file that names it is durable.
//! - A topic is durable as `deleting` before any of its files go; what is left of it is removed at the next
//!   start if this one does not get to it.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::sync::Arc;

use ringlog_protocol::limits::MAX_PARTITIONS_PER_TOPIC;
use ringlog_protocol::messages::CreateTopic;
use ringlog_protocol::{ErrorCode, TopicName};
use ringlog_reactor::Notify;
use ringlog_storage::remove_topic;

use crate::limits::MAX_PARTITIONS;
use crate::metadata::Metadata;
use crate::peers::{PeerMessage, Peers, TopicChange};
use crate::topic::{Topic, partition_config};

/// The shard that has the controller.
pub const HOME_SHARD: u32 = 0;

/// Why a topic was not made or deleted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TopicError {
    /// The name is not one a topic can have.
    #[error("{0}")]
    Name(#[from] ringlog_protocol::NameError),
    /// Too few or too many partitions.
    #[error("a topic has 1 to {MAX_PARTITIONS_PER_TOPIC} partitions, not {0}")]
    PartitionCount(u32),
    /// All topics together have as many partitions as a node takes.
    #[error("this node takes {MAX_PARTITIONS} partitions in all, and {left} are left")]
    TooManyPartitions {
        /// How many more would do.
        left: usize,
    },
    /// An unknown setting, or a value it cannot have.
    #[error("{0}")]
    Config(String),
    /// There is one of that name.
    #[error("topic `{0}` exists already")]
    Exists(String),
    /// There is none of that name.
    #[error("there is no topic `{0}`")]
    Unknown(String),
    /// It could not be made durable.
    #[error("{0}")]
    Storage(String),
}

impl TopicError {
    /// What the wire says.
    pub fn code(&self) -> ErrorCode {
        match self {
            TopicError::Name(_) => ErrorCode::InvalidTopicName,
            TopicError::PartitionCount(_) | TopicError::TooManyPartitions { .. } => {
                ErrorCode::InvalidPartitionCount
            }
            TopicError::Config(_) => ErrorCode::InvalidConfig,
            TopicError::Exists(_) => ErrorCode::TopicExists,
            TopicError::Unknown(_) => ErrorCode::UnknownTopic,
            TopicError::Storage(_) => ErrorCode::StorageFailed,
        }
    }
}

/// Makes and deletes topics.
pub struct Controller {
    metadata: RefCell<Metadata>,
    data_dir: PathBuf,
    peers: Peers,
    busy: Cell<bool>,
    done: Notify,
}

/// Held while a change is made.
struct Turn<'a>(&'a Controller);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.busy.set(false);
        self.0.done.notify_all();
    }
}

impl Controller {
    /// Continues from what the metadata file says.
    pub fn new(metadata: Metadata, data_dir: PathBuf, peers: Peers) -> Controller {
        Controller {
            metadata: RefCell::new(metadata),
            data_dir,
            peers,
            busy: Cell::new(false),
            done: Notify::new(),
        }
    }

    /// Makes a topic on all shards, durably.
    ///
    /// # Errors
    /// When it may not be, or cannot; nothing of it is left then.
    pub async fn create(&self, request: CreateTopic) -> Result<Arc<Topic>, TopicError> {
        let _turn = self.take_turn().await;
        let topic = Arc::new(self.check(request)?);
        if let Err(why) = self.change(TopicChange::Prepare(topic.clone())).await {
            return Err(self.undo(&topic, why).await);
        }
        let mut next = self.metadata.borrow().clone();
        next.next_topic_id += 1;
        next.topics.push((*topic).clone());
        if let Err(why) = self.keep(next).await {
            return Err(self.undo(&topic, why).await);
        }
        self.change(TopicChange::Publish(topic.clone())).await.map_err(TopicError::Storage)?;
        tracing::info!(topic = topic.name, id = topic.id, partitions = topic.partitions, "topic created");
        Ok(topic)
    }

    /// Deletes a topic and its files.
    ///
    /// # Errors
    /// When there is none, or the change cannot be made durable.
    pub async fn delete(&self, name: &str) -> Result<(), TopicError> {
        let _turn = self.take_turn().await;
        let mut next = self.metadata.borrow().clone();
        let Some(at) = next.topics.iter().position(|topic| topic.name == name) else {
            return Err(TopicError::Unknown(name.to_string()));
        };
        let topic = Arc::new(next.topics.remove(at));
        next.deleting.push((*topic).clone());
        self.keep(next).await.map_err(TopicError::Storage)?;
        self.change(TopicChange::Withdraw(topic.clone())).await.map_err(TopicError::Storage)?;
        let removed = remove_topic(&self.data_dir, &topic.name, topic.id).await;
        removed.map_err(|error| TopicError::Storage(error.to_string()))?;
        let mut next = self.metadata.borrow().clone();
        next.deleting.retain(|deleted| deleted.id != topic.id);
        self.keep(next).await.map_err(TopicError::Storage)?;
        tracing::info!(topic = topic.name, id = topic.id, "topic deleted");
        Ok(())
    }

    fn check(&self, request: CreateTopic) -> Result<Topic, TopicError> {
        TopicName::check(&request.name)?;
        if !(1..=MAX_PARTITIONS_PER_TOPIC).contains(&request.partitions) {
            return Err(TopicError::PartitionCount(request.partitions));
        }
        let config = request.config.into_iter().collect();
        partition_config(&config).map_err(TopicError::Config)?;
        let metadata = self.metadata.borrow();
        if metadata.topics.iter().any(|topic| topic.name == request.name) {
            return Err(TopicError::Exists(request.name));
        }
        let taken: usize = metadata.topics.iter().map(|topic| topic.partitions as usize).sum();
        let left = MAX_PARTITIONS.saturating_sub(taken);
        if request.partitions as usize > left {
            return Err(TopicError::TooManyPartitions { left });
        }
        Ok(Topic { id: metadata.next_topic_id, name: request.name, partitions: request.partitions, config })
    }

    async fn undo(&self, topic: &Arc<Topic>, why: String) -> TopicError {
        // The id was not used up, so nothing of these folders may stay.
        if let Err(more) = self.change(TopicChange::Withdraw(topic.clone())).await {
            tracing::warn!(topic = topic.name, %more, "a topic that could not be made could not be removed either");
        }
        TopicError::Storage(format!("topic `{}` was not made: {why}", topic.name))
    }

    async fn change(&self, change: TopicChange) -> Result<(), String> {
        self.peers.ask_all(|_, done| PeerMessage::Topics { change: change.clone(), done }).await.map(|_| ())
    }

    async fn keep(&self, next: Metadata) -> Result<(), String> {
        next.store(&self.data_dir).await.map_err(|error| error.to_string())?;
        *self.metadata.borrow_mut() = next;
        Ok(())
    }

    async fn take_turn(&self) -> Turn<'_> {
        while self.busy.get() {
            self.done.notified().await;
        }
        self.busy.set(true);
        Turn(self)
    }
}
