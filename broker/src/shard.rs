//! One core: its store, its clients, and its view of the topics. Everything here lives on one thread.
//!
//! The main loop of a shard reads its mailbox and never waits for anything else; what takes time is spawned,
//! so that two cores that send to each other cannot stop each other.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ringlog_reactor::net::TcpStream;
use ringlog_reactor::{mailbox, spawn, timeout};
use ringlog_storage::{Recovered, Store, StoreConfig, recover};

use crate::acks::PendingAcks;
use crate::config::BrokerConfig;
use crate::connection::Connection;
use crate::controller::Controller;
use crate::gather_budget::GatherBudget;
use crate::handlers::hello;
use crate::limits::DRAIN_WITHIN;
use crate::link::Links;
use crate::peers::{ConnectionId, PeerError, PeerMessage, Peers, RecoveryPlan, TopicChange};
use crate::reply_budget::ReplyBudget;
use crate::topic::TopicTable;

/// One core's part of the broker, once it is active.
pub struct Shard {
    peers: Peers,
    store: Store,
    topics: RefCell<TopicTable>,
    acks: PendingAcks,
    gather: Rc<GatherBudget>,
    replies: Rc<ReplyBudget>,
    links: Links,
    connections: RefCell<BTreeMap<u64, Rc<Connection>>>,
    next_connection: Cell<u64>,
    stopping: Cell<bool>,
    /// Only on the controller's shard.
    controller: OnceCell<Controller>,
}

impl Shard {
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
        self.controller.get().expect("topic requests are routed to the controller's shard")
    }

    /// Whether new records are refused because the node is going down.
    pub fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    fn adopt(self: &Rc<Self>, stream: TcpStream, introduced: &hello::Introduced) {
        let number = self.next_connection.get();
        self.next_connection.set(number + 1);
        let connection = Connection::new(ConnectionId { home: self.index(), number }, stream);
        let welcome =
            hello::welcome(introduced.request, introduced.version, self.index(), self.peers.count());
        connection.session().outbox().push_pieces([welcome]);
        self.connections.borrow_mut().insert(number, connection.clone());
        let shard = self.clone();
        spawn(async move {
            connection.serve(shard.clone()).await;
            shard.connections.borrow_mut().remove(&number);
            shard.peers.connections().fetch_sub(1, Ordering::Relaxed);
        })
        .detach();
    }

    fn handle(self: &Rc<Self>, message: PeerMessage) {
        match message {
            PeerMessage::Adopt(parts, introduced) => {
                self.adopt(TcpStream::from_parts(parts), &introduced);
            }
            PeerMessage::Forward { from, frame } => self.links.forwarded(self, from, frame),
            PeerMessage::ForwardHandled { connection, bytes } => {
                if let Some(connection) = self.connections.borrow().get(&connection.number) {
                    connection.forward_handled(bytes);
                }
            }
            PeerMessage::Replies { connection, from, pieces } => self.deliver(connection, from, pieces),
            PeerMessage::RepliesTaken { connection, bytes } => self.links.replies_taken(connection, bytes),
            PeerMessage::Gone(client) if client.home != self.index() => self.links.gone(client),
            PeerMessage::Gone(client) => {
                if let Some(connection) = self.connections.borrow().get(&client.number).cloned() {
                    spawn(async move { connection.close_when_sent().await }).detach();
                }
            }
            PeerMessage::Topics { change, done } => {
                let shard = self.clone();
                spawn(async move {
                    let changed = shard.change_topics(change).await;
                    let _ = done.send(changed).await;
                })
                .detach();
            }
            PeerMessage::Stop { done } => {
                let shard = self.clone();
                spawn(async move {
                    let stopped = shard.stop().await;
                    let _ = done.send(stopped).await;
                })
                .detach();
            }
            PeerMessage::Recover { .. } | PeerMessage::Activate { .. } | PeerMessage::End => {
                unreachable!("a node starts its shards once, and the loop ends at End")
            }
        }
    }

    /// Replies that another core made for a client of this one.
    fn deliver(self: &Rc<Self>, id: ConnectionId, from: u32, pieces: Vec<bytes::Bytes>) {
        let Some(connection) = self.connections.borrow().get(&id.number).cloned() else { return };
        let bytes = pieces.iter().map(bytes::Bytes::len).sum();
        connection.session().outbox().push_pieces(pieces);
        let shard = self.clone();
        spawn(async move {
            connection.session().outbox().wait_for_room().await;
            let taken = PeerMessage::RepliesTaken { connection: id, bytes };
            shard.peers.tell(from, taken).await;
        })
        .detach();
    }

    async fn change_topics(&self, change: TopicChange) -> Result<(), PeerError> {
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
                let there =
                    || topic.ids_of(self.index(), shards).filter(|id| self.store.partition(*id).is_some());
                there().for_each(|id| self.acks.partition_deleted(id));
                self.store.delete_partitions(there()).await?;
            }
        }
        Ok(())
    }

    /// No new records; what was taken is committed, checkpointed and acknowledged; then the clients go.
    async fn stop(&self) -> Result<(), PeerError> {
        self.stopping.set(true);
        let stored = self.store.shutdown().await.map_err(PeerError::from);
        let connections: Vec<_> = self.connections.borrow().values().cloned().collect();
        let drained = async {
            for connection in &connections {
                connection.session().outbox().drained().await;
            }
        };
        let _ = timeout(DRAIN_WITHIN, drained).await;
        connections.iter().for_each(|connection| connection.close());
        stored
    }
}

/// Why a frozen topic takes no records.
const FROZEN: &str =
    "the deletion of its topic failed half-way, and may be on disk or not; start the broker again to see";

/// The life of a shard: recover, become active, serve until told to end.
pub async fn run(config: BrokerConfig, peers: Peers, inbox: mailbox::Receiver<PeerMessage>) {
    let Some((recovered, plan)) = recover_when_told(&config, &peers, &inbox).await else { return };
    let Some(shard) = activate_when_told(recovered, &plan, &config, peers, &inbox).await else { return };
    let following = shard.clone();
    let acks = spawn(async move { following.acks.follow(&following.store).await });
    while let Some(message) = inbox.recv().await {
        if matches!(message, PeerMessage::End) {
            break;
        }
        shard.handle(message);
    }
    drop(acks);
}

async fn recover_when_told(
    config: &BrokerConfig,
    peers: &Peers,
    inbox: &mailbox::Receiver<PeerMessage>,
) -> Option<(Recovered, Arc<RecoveryPlan>)> {
    let Some(PeerMessage::Recover { plan, done }) = inbox.recv().await else { return None };
    let partitions =
        plan.topics.iter().flat_map(|topic| topic.owned_by(peers.own(), peers.count())).collect::<Vec<_>>();
    let store = StoreConfig {
        previous: plan.previous,
        journal_file_bytes: config.storage.journal_file_bytes,
        journal_files: config.storage.journal_files,
        tail_bytes: config.storage.tail_bytes,
        bypass_bytes: config.storage.bypass_bytes,
        open_files: plan.open_files,
        folder_turn: plan.folder_turn.clone(),
        ..StoreConfig::new(&config.data_dir, peers.own(), plan.epoch)
    };
    let (answer, recovered) = match recover(store, partitions).await {
        Ok((recovered, summary)) => (Ok(summary), Some((recovered, plan))),
        Err(error) => (Err(error.into()), None),
    };
    let _ = done.send(answer).await;
    recovered
}

async fn activate_when_told(
    recovered: Recovered,
    plan: &RecoveryPlan,
    config: &BrokerConfig,
    peers: Peers,
    inbox: &mailbox::Receiver<PeerMessage>,
) -> Option<Rc<Shard>> {
    let Some(PeerMessage::Activate { metadata, done }) = inbox.recv().await else { return None };
    let store = match recovered.activate().await {
        Ok(store) => store,
        Err(error) => {
            let _ = done.send(Err(error.into())).await;
            return None;
        }
    };
    let mut topics = TopicTable::default();
    plan.topics.iter().for_each(|topic| topics.insert(topic.clone()));
    let controller = OnceCell::new();
    if let Some(metadata) = metadata {
        let made = Controller::new(metadata, config.data_dir.clone(), peers.clone());
        assert!(controller.set(made).is_ok(), "a shard is activated once");
    }
    let shard = Rc::new(Shard {
        peers,
        store,
        topics: RefCell::new(topics),
        acks: PendingAcks::default(),
        gather: Rc::default(),
        replies: Rc::default(),
        links: Links::default(),
        connections: RefCell::default(),
        next_connection: Cell::new(0),
        stopping: Cell::new(false),
        controller,
    });
    let _ = done.send(Ok(())).await;
    if shard.controller.get().is_some() {
        let shard = shard.clone();
        spawn(async move { shard.controller().clean_up().await }).detach();
    }
    Some(shard)
}
