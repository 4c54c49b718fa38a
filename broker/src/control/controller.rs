//! The controller: makes and deletes topics, one change at a time, and keeps the metadata file.
//!
//! Invariants
//! - A topic is published only when all its partitions exist and the metadata file that names it is durable.
//! - A change runs to its end, whatever becomes of the client that asked for it.
//! - After a write of the metadata file whose outcome is unknown, no more changes are made until the next start.
//! - A topic is durable as `deleting` before any of its files go, and until they are durably gone; what is left of it is
//!   removed by the next life if this one does not get to it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use ringlog_protocol::TopicName;
use ringlog_protocol::limits::MAX_PARTITIONS_PER_TOPIC;
use ringlog_reactor::Notify;
use ringlog_reactor::sim::{mutant, reached};
use ringlog_storage::{make_topic, remove_leftover_topics, remove_topic};

use crate::limits::MAX_PARTITIONS;
use crate::metadata::file::Metadata;
use crate::metadata::topic::{NewTopic, Topic};
use crate::metadata::topic_config::partition_config;
use crate::peers::{PeerError, PeerMessage, Peers, TopicChange};

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
    /// There is no space for it; it may go well when there is.
    #[error("{0}")]
    DiskFull(String),
    /// The node is going down.
    #[error("the broker is shutting down; ask again")]
    Stopping,
    /// It could not be made durable.
    #[error("{0}")]
    Storage(String),
}

impl From<PeerError> for TopicError {
    fn from(error: PeerError) -> Self {
        match error {
            PeerError::DiskFull(why) => TopicError::DiskFull(why),
            PeerError::Ended(_) => TopicError::Stopping,
            PeerError::Failed(why) => TopicError::Storage(why),
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
    waiting: Cell<usize>,
    /// Why no more changes are made.
    broken: RefCell<Option<String>>,
}

/// Why the metadata file was not made durable.
struct NotKept {
    why: PeerError,
    /// It may have been replaced all the same.
    replaced: bool,
}

impl From<NotKept> for TopicError {
    fn from(error: NotKept) -> Self {
        error.why.into()
    }
}

/// Changes that may wait for their turn.
const MAX_WAITING: usize = 64;

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
            waiting: Cell::new(0),
            broken: RefCell::default(),
        }
    }

    /// Whether so many changes wait that no more are taken.
    pub fn is_overloaded(&self) -> bool {
        self.waiting.get() >= MAX_WAITING
    }

    /// Makes a topic on all shards, durably.
    ///
    /// # Errors
    /// When it may not be, or cannot; nothing of it is left then.
    pub async fn create(&self, request: NewTopic) -> Result<Arc<Topic>, TopicError> {
        let _turn = self.take_turn().await?;
        let topic = Arc::new(self.check(request)?);
        // If anything is left of it, its id is not given to another topic: see `last_topic_id`.
        self.metadata.borrow_mut().next_topic_id += 1;
        let prepared = match make_topic(&self.data_dir, &topic.name, topic.id).await {
            Ok(()) => self.change(TopicChange::Prepare(topic.clone())).await,
            Err(error) => Err(PeerError::from(error)),
        };
        if let Err(why) = prepared {
            self.free_id();
            return Err(self.undo(&topic, why, false).await);
        }
        let mut next = self.metadata.borrow().clone();
        next.topics.push((*topic).clone());
        if mutant("topic-answered-early") {
            *self.metadata.borrow_mut() = next;
        } else if let Err(error) = self.keep(next).await {
            self.free_id();
            return Err(self.undo(&topic, error.why, error.replaced).await);
        }
        self.change(TopicChange::Publish(topic.clone())).await?;
        tracing::info!(topic = topic.name, id = topic.id, partitions = topic.partitions, "topic created");
        Ok(topic)
    }

    /// Deletes a topic and its files.
    ///
    /// # Errors
    /// When there is none, or the change cannot be made durable.
    pub async fn delete(&self, name: &str) -> Result<(), TopicError> {
        let _turn = self.take_turn().await?;
        let mut next = self.metadata.borrow().clone();
        let Some(at) = next.topics.iter().position(|topic| topic.name == name) else {
            return Err(TopicError::Unknown(name.to_string()));
        };
        let topic = Arc::new(next.topics.remove(at));
        next.deleting.push((*topic).clone());
        match self.keep(next).await {
            Ok(()) => {}
            // The next start may find it deleted, so nothing may be acknowledged in it any more; or not, so its files stay.
            Err(NotKept { why, replaced: true }) => {
                self.change(TopicChange::Freeze(topic)).await?;
                return Err(TopicError::Storage(why.to_string()));
            }
            Err(error) => return Err(error.into()),
        }
        self.change(TopicChange::Withdraw(topic.clone())).await?;
        self.remove_files(&topic).await?;
        tracing::info!(topic = topic.name, id = topic.id, "topic deleted");
        Ok(())
    }

    /// Removes the files of topics whose deletion, or making, an earlier life has not finished. The metadata that names them has been
    /// written by this start, so it is durable; the file that a start reads need not be.
    pub async fn clean_up(&self) {
        let Ok(_turn) = self.take_turn().await else { return };
        let Metadata { topics, deleting, .. } = self.metadata.borrow().clone();
        let known: BTreeSet<u64> = topics.iter().chain(&deleting).map(|topic| topic.id).collect();
        if let Err(error) = remove_leftover_topics(&self.data_dir, |id| known.contains(&id)).await {
            tracing::warn!(%error, "the folder of a topic that was never made is left to the next start");
        }
        for topic in &deleting {
            match self.remove_files(topic).await {
                Ok(()) => reached("deletion of a topic finished by a start"),
                Err(error) => {
                    tracing::warn!(topic = topic.name, %error, "files of a deleted topic are left to the next start");
                }
            }
        }
    }

    async fn remove_files(&self, topic: &Topic) -> Result<(), TopicError> {
        let removed = remove_topic(&self.data_dir, &topic.name, topic.id).await;
        removed.map_err(PeerError::from)?;
        let mut next = self.metadata.borrow().clone();
        next.deleting.retain(|deleted| deleted.id != topic.id);
        Ok(self.keep(next).await?)
    }

    fn check(&self, request: NewTopic) -> Result<Topic, TopicError> {
        TopicName::check(&request.name)?;
        if !(1..=MAX_PARTITIONS_PER_TOPIC).contains(&request.partitions) {
            return Err(TopicError::PartitionCount(request.partitions));
        }
        let config = request.config;
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
        if metadata.next_topic_id == u64::MAX {
            let message = "no topic id is left: a folder in `topics` has the last one; nothing was changed";
            return Err(TopicError::Storage(message.to_string()));
        }
        let last_id = metadata.topics.iter().map(|topic| topic.id).max();
        let id = if mutant("topic-id-reused") { last_id.unwrap_or(0) + 1 } else { metadata.next_topic_id };
        Ok(Topic { id, name: request.name, partitions: request.partitions, config })
    }

    /// A known bug: the id of a topic that could not be made is given to the next.
    fn free_id(&self) {
        if mutant("failed-creation-frees-id") {
            self.metadata.borrow_mut().next_topic_id -= 1;
        }
    }

    /// Takes back what has been made of a topic. If the metadata may name it, its folders stay: they are durable now, and a start
    /// that had to make them again could fail to make them so.
    async fn undo(&self, topic: &Arc<Topic>, why: PeerError, may_be_named: bool) -> TopicError {
        reached("topic could not be made");
        if may_be_named {
            return TopicError::Storage(format!(
                "topic `{}` may or may not have been made: {why}",
                topic.name
            ));
        }
        let mut undone = self.change(TopicChange::Withdraw(topic.clone())).await;
        if undone.is_ok() {
            let removed = remove_topic(&self.data_dir, &topic.name, topic.id).await;
            undone = removed.map_err(PeerError::from);
        }
        if let Err(more) = undone {
            tracing::warn!(topic = topic.name, %more, "a topic that could not be made could not be removed either");
        }
        let words = format!("topic `{}` was not made: {why}", topic.name);
        match why {
            PeerError::DiskFull(_) => TopicError::DiskFull(words),
            PeerError::Ended(_) => TopicError::Stopping,
            PeerError::Failed(_) => TopicError::Storage(words),
        }
    }

    async fn change(&self, change: TopicChange) -> Result<(), PeerError> {
        self.peers.ask_all(|_, done| PeerMessage::Topics { change: change.clone(), done }).await.map(|_| ())
    }

    /// Makes `next` what the file says.
    async fn keep(&self, mut next: Metadata) -> Result<(), NotKept> {
        let Err(error) = next.store(&self.data_dir).await else {
            *self.metadata.borrow_mut() = next;
            return Ok(());
        };
        self.metadata.borrow_mut().generation = next.generation;
        let why = error.to_string();
        let before = Metadata::load(&self.data_dir).await;
        // A full disk leaves the old files, and the next change may go well.
        let replaced = !before.is_ok_and(|found| found.metadata.topics == self.metadata.borrow().topics);
        if replaced {
            reached("metadata file in doubt");
            tracing::error!(%why, "the metadata file may or may not be on disk: no topic is changed until a restart");
            *self.broken.borrow_mut() = Some(why.clone());
        }
        let why = if error.is_disk_full() { PeerError::DiskFull(why) } else { PeerError::Failed(why) };
        Err(NotKept { why, replaced })
    }

    async fn take_turn(&self) -> Result<Turn<'_>, TopicError> {
        self.waiting.set(self.waiting.get() + 1);
        while self.busy.get() {
            self.done.notified().await;
        }
        self.waiting.set(self.waiting.get() - 1);
        if let Some(why) = &*self.broken.borrow() {
            let message = format!("topics cannot be changed until the broker is started again: {why}");
            return Err(TopicError::Storage(message));
        }
        self.busy.set(true);
        Ok(Turn(self))
    }
}
