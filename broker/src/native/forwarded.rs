//! Clients whose socket lives on another core: they came to the wrong shard for some of their partitions.
//!
//! The session of such a client lives here, with the partitions, and is served exactly as a local one; only
//! its requests come out of the mailbox and its replies go into one. Both ways are bounded: a home core has
//! at most `FORWARD_BYTES` of requests on their way, and takes one batch of replies before it asks for the next.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use bytes::Bytes;
use ringlog_protocol::split_frame;
use ringlog_reactor::sim::{mutant, reached};
use ringlog_reactor::{Notify, Task, spawn};

use crate::native::request::{Handled, Request};
use crate::native::session::Session;
use crate::native::table::handle;
use crate::net::outbox::Outbox;
use crate::ops::record_checks::check_aside;
use crate::peers::{ConnectionId, PeerMessage};
use crate::shard::state::Shard;

/// A client of another core.
struct ForwardedClient {
    id: ConnectionId,
    session: Rc<Session>,
    /// With their numbers at the client's core.
    requests: RefCell<VecDeque<(u64, Bytes)>>,
    arrived: Notify,
    /// Bytes of replies that the home core has not taken yet.
    unsettled: Cell<usize>,
    settled: Notify,
}

/// One with the tasks that serve it; dropping those ends them.
struct Served {
    client: Rc<ForwardedClient>,
    _tasks: [Task<()>; 2],
}

/// The clients of other cores that have a session here.
#[derive(Default)]
pub struct ForwardedClients {
    clients: RefCell<BTreeMap<ConnectionId, Served>>,
}

impl ForwardedClients {
    /// Takes a forwarded request; the first one of a client opens its session.
    pub fn forwarded(&self, shard: &Rc<Shard>, from: ConnectionId, number: u64, frame: Bytes) {
        let client = self.client(shard, from);
        client.requests.borrow_mut().push_back((number, frame));
        client.arrived.notify_all();
    }

    /// The home core took these replies.
    pub fn replies_taken(&self, client: ConnectionId, bytes: usize) {
        if let Some(Served { client, .. }) = self.clients.borrow().get(&client) {
            client.unsettled.set(client.unsettled.get() - bytes);
            client.session.outbox().sent(bytes);
            client.settled.notify_all();
        }
    }

    /// The client is gone.
    pub fn gone(&self, client: ConnectionId) {
        let gone = self.clients.borrow_mut().remove(&client);
        if let Some(served) = gone {
            served.client.session.end();
        }
    }

    fn client(&self, shard: &Rc<Shard>, id: ConnectionId) -> Rc<ForwardedClient> {
        if let Some(served) = self.clients.borrow().get(&id) {
            return served.client.clone();
        }
        reached("requests forwarded to another core");
        let client = Rc::new(ForwardedClient {
            id,
            session: Session::new(shard.index(), Rc::new(Outbox::default())),
            requests: RefCell::default(),
            arrived: Notify::new(),
            unsettled: Cell::new(0),
            settled: Notify::new(),
        });
        let serve = spawn(client.clone().serve(shard.clone()));
        let answer = spawn(client.clone().answer(shard.clone()));
        self.clients.borrow_mut().insert(id, Served { client: client.clone(), _tasks: [serve, answer] });
        client
    }
}

impl ForwardedClient {
    async fn serve(self: Rc<Self>, shard: Rc<Shard>) {
        loop {
            let arrived = self.arrived.notified();
            let request = if mutant("forwarded-backwards") {
                self.requests.borrow_mut().pop_back()
            } else {
                self.requests.borrow_mut().pop_front()
            };
            let Some((number, request)) = request else {
                arrived.await;
                continue;
            };
            self.serve_frame(&shard, &request).await;
            let handled = PeerMessage::ForwardHandled { connection: self.id, number };
            shard.peers().tell(self.id.home, handled).await;
            if self.session.is_broken() {
                self.requests.borrow_mut().clear();
                self.session.outbox().drained().await;
                return shard.peers().tell(self.id.home, PeerMessage::SessionBroken(self.id)).await;
            }
        }
    }

    async fn serve_frame(&self, shard: &Rc<Shard>, request: &Bytes) {
        // The home core cut this frame out of the stream, so it is whole and its header is sound.
        let Ok(Some((frame, _))) = split_frame(request) else { return };
        self.session.wait_until_free().await;
        loop {
            let room = shard.store().room();
            match handle(Request::new(shard, &self.session, &frame)) {
                Handled::Done => return,
                Handled::NoRoom => room.await,
                Handled::Unchecked { limit } => {
                    let batch = request.slice_ref(frame.payload);
                    self.session.set_verdict(check_aside(batch, limit).await.1);
                }
            }
        }
    }

    async fn answer(self: Rc<Self>, shard: Rc<Shard>) {
        let mut pieces = Vec::new();
        while self.session.outbox().take_frames(&mut pieces).await {
            self.unsettled.set(pieces.iter().map(Bytes::len).sum());
            let pieces = std::mem::take(&mut pieces);
            let replies = PeerMessage::Replies { connection: self.id, from: shard.index(), pieces };
            shard.peers().tell(self.id.home, replies).await;
            while self.unsettled.get() > 0 {
                self.settled.notified().await;
            }
        }
    }
}
