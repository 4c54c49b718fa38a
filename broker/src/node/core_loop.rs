//! The main loop of a core: it reads the mailbox and never waits for anything else; what takes time is spawned, so that two
//! cores that send to each other cannot stop each other.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use ringlog_reactor::net::TcpStream;
use ringlog_reactor::{mailbox, spawn, timeout};
use ringlog_storage::{Recovered, StoreConfig, recover};

use crate::config::BrokerConfig;
use crate::control::controller::Controller;
use crate::limits::DRAIN_WITHIN;
use crate::metadata::topic_table::TopicTable;
use crate::native::connection::Connection;
use crate::native::forwarded::ForwardedClients;
use crate::native::handshake;
use crate::peers::{ConnectionId, Introduced, PeerError, PeerMessage, Peers, RecoveryPlan};
use crate::shard::state::Shard;

/// A shard and the clients that talk to it.
struct Core {
    shard: Rc<Shard>,
    /// Clients of other cores.
    forwarded: ForwardedClients,
    connections: RefCell<BTreeMap<u64, Rc<Connection>>>,
    next_connection: Cell<u64>,
}

impl Core {
    fn adopt(self: &Rc<Self>, stream: TcpStream, introduced: &Introduced) {
        let number = self.next_connection.get();
        self.next_connection.set(number + 1);
        let (own, shards) = (self.shard.index(), self.shard.peers().count());
        let connection = Connection::new(ConnectionId { home: own, number }, stream);
        let welcome = handshake::welcome(introduced.request, introduced.version, own, shards);
        connection.session().outbox().push_pieces([welcome]);
        self.connections.borrow_mut().insert(number, connection.clone());
        let core = self.clone();
        spawn(async move {
            connection.serve(core.shard.clone()).await;
            core.connections.borrow_mut().remove(&number);
            core.shard.peers().connections().fetch_sub(1, Ordering::Relaxed);
        })
        .detach();
    }

    fn connection(&self, id: ConnectionId) -> Option<Rc<Connection>> {
        self.connections.borrow().get(&id.number).cloned()
    }

    fn handle(self: &Rc<Self>, message: PeerMessage) {
        match message {
            PeerMessage::Adopt(parts, introduced) => {
                self.adopt(TcpStream::from_parts(parts), &introduced);
            }
            PeerMessage::Forward { from, number, frame } => {
                self.forwarded.forwarded(&self.shard, from, number, frame);
            }
            PeerMessage::ForwardHandled { connection, number } => {
                if let Some(connection) = self.connection(connection) {
                    connection.forward_handled(number);
                }
            }
            PeerMessage::Replies { connection, from, pieces } => self.deliver(connection, from, pieces),
            PeerMessage::RepliesTaken { connection, bytes } => {
                self.forwarded.replies_taken(connection, bytes)
            }
            PeerMessage::ClientGone(client) => self.forwarded.gone(client),
            PeerMessage::SessionBroken(client) => {
                if let Some(connection) = self.connection(client) {
                    spawn(async move { connection.close_when_sent().await }).detach();
                }
            }
            PeerMessage::Topics { change, done } => {
                let shard = self.shard.clone();
                spawn(async move {
                    let changed = shard.change_topics(change).await;
                    let _ = done.send(changed).await;
                })
                .detach();
            }
            PeerMessage::Stop { done } => {
                let core = self.clone();
                spawn(async move {
                    let stopped = core.stop().await;
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
    fn deliver(&self, id: ConnectionId, from: u32, pieces: Vec<Bytes>) {
        let Some(connection) = self.connection(id) else { return };
        let bytes = pieces.iter().map(Bytes::len).sum();
        connection.session().outbox().push_pieces(pieces);
        let shard = self.shard.clone();
        spawn(async move {
            connection.session().outbox().wait_for_room().await;
            let taken = PeerMessage::RepliesTaken { connection: id, bytes };
            shard.peers().tell(from, taken).await;
        })
        .detach();
    }

    /// No new records; what was taken is committed, checkpointed and acknowledged; then the clients go.
    async fn stop(&self) -> Result<(), PeerError> {
        self.shard.begin_to_stop();
        let stored = self.shard.store().shutdown().await.map_err(PeerError::from);
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

/// The life of a shard: recover, become active, serve until told to end.
pub async fn run(config: BrokerConfig, peers: Peers, inbox: mailbox::Receiver<PeerMessage>) {
    let Some((recovered, plan)) = recover_when_told(&config, &peers, &inbox).await else { return };
    let Some(shard) = activate_when_told(recovered, &plan, &config, peers, &inbox).await else { return };
    let following = shard.clone();
    let core = Rc::new(Core {
        shard,
        forwarded: ForwardedClients::default(),
        connections: RefCell::default(),
        next_connection: Cell::new(0),
    });
    let acks = spawn(async move { following.acks().follow(following.store()).await });
    while let Some(message) = inbox.recv().await {
        if matches!(message, PeerMessage::End) {
            break;
        }
        core.handle(message);
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
    let is_home = metadata.is_some();
    let controller =
        metadata.map(|metadata| Controller::new(metadata, config.data_dir.clone(), peers.clone()));
    let shard = Rc::new(Shard::new(peers, store, topics, controller));
    let _ = done.send(Ok(())).await;
    if is_home {
        let shard = shard.clone();
        spawn(async move { shard.controller().clean_up().await }).detach();
    }
    Some(shard)
}
