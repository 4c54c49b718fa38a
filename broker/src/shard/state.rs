//! What one core owns: its store, its acknowledgements, its memory for frames and replies, and its view of the topics.
//! Everything here lives on one thread.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use ringlog_storage::Store;

use crate::control::controller::Controller;
use crate::metadata::topic_table::TopicTable;
use crate::net::gather_budget::GatherBudget;
use crate::net::reply_budget::ReplyBudget;
use crate::peers::{PeerError, Peers, TopicChange};
use crate::shard::acks::PendingAcks;

/// One core's part of the broker, once it is active.
pub struct Shard {
    peers: Peers,
    store: Store,
    topics: RefCell<TopicTable>,
    acks: PendingAcks,
    gather: Rc<GatherBudget>,
    replies: Rc<ReplyBudget>,
    stopping: Cell<bool>,
    controller: Option<Controller>,
}

impl Shard {
    /// A core's part of the broker that knows these topics. The controller's shard has one.
    pub fn new(peers: Peers, store: Store, topics: TopicTable, controller: Option<Controller>) -> Shard {
        Shard {
            peers,
            store,
            topics: RefCell::new(topics),
            acks: PendingAcks::default(),
            gather: Rc::default(),
            replies: Rc::default(),
            stopping: Cell::new(false),
            controller,
        }
    }

    /// This shard's number.
    pub fn index(&self) -> u32 {
        self.peers.own()
    }

    /// The cores of this node.
    pub fn peers(&self) -> &Peers {
        &self.peers
    }

    /// This core's journal and partitions.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// This core's copy of the topic table.
    pub fn topics(&self) -> &RefCell<TopicTable> {
        &self.topics
    }

    /// Produce requests that wait for their commit.
    pub fn acks(&self) -> &PendingAcks {
        &self.acks
    }

    /// Memory for gathering large frames.
    pub fn gather_budget(&self) -> &Rc<GatherBudget> {
        &self.gather
    }

    /// Memory for long replies.
    pub fn reply_budget(&self) -> &Rc<ReplyBudget> {
        &self.replies
    }

    /// The controller; requests for it are routed to the shard that has it.
    ///
    /// # Panics
    /// On any other shard.
    pub fn controller(&self) -> &Controller {
        self.controller.as_ref().expect("topic requests are routed to the controller's shard")
    }

    /// Refuses new records from now on.
    pub fn begin_to_stop(&self) {
        self.stopping.set(true);
    }

    /// Whether new records are refused because the node is going down.
    pub fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    /// Takes one step of making or removing a topic.
    pub async fn change_topics(&self, change: TopicChange) -> Result<(), PeerError> {
        let shards = self.peers.count();
        match change {
            TopicChange::Prepare(topic) => {
                for spec in topic.owned_by(self.index(), shards) {
                    self.store.create_partition(spec)?;
                }
            }
            TopicChange::Publish(topic) => self.topics.borrow_mut().insert(topic),
            TopicChange::Freeze(topic) => {
                for id in topic.ids_of(self.index(), shards) {
                    if let Some(partition) = self.store.partition(id) {
                        partition.refuse_appends(FROZEN);
                    }
                }
            }
            TopicChange::Withdraw(topic) => {
                self.topics.borrow_mut().remove(&topic.name);
                let ids = || topic.ids_of(self.index(), shards);
                // Nothing is appended behind what is refused here.
                self.store.close_partitions(ids());
                let closed = ids().filter_map(|id| self.store.partition(id));
                closed.for_each(|partition| self.acks.partition_deleted(&partition));
                self.store.delete_partitions(ids()).await?;
            }
        }
        Ok(())
    }
}

/// Why a frozen topic takes no records.
const FROZEN: &str =
    "the deletion of its topic failed half-way, and may be on disk or not; start the broker again to see";
