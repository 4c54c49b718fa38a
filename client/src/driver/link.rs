//! One connection: a socket, its session, and the tasks that move bytes between them.
//!
//! Invariant: `end` runs once; after it nothing is asked of the session, and every token has gone back to its owner.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ringlog_protocol::messages::{Opened, Position, Welcome};
use ringlog_protocol::{Ack, Body, Kind, messages};
use ringlog_reactor::net::TcpStream;
use ringlog_reactor::{Notify, now, sleep, spawn};

use super::DriverConfig;
use super::lane::{Lane, is_of_a_dead_handle};
use super::subscription::Subscription;
use crate::error::{ConnectError, Refusal};
use crate::limits;
use crate::session::{Event, Reply, Session, SessionError};

/// Who wants the answer to a request.
pub(crate) enum Token {
    Asker(flume::Sender<Result<Reply, Trouble>>),
    Batch { lane: Rc<Lane>, flight: u64 },
}

/// Why a request has no answer.
#[derive(Clone, Debug)]
pub(crate) enum Trouble {
    /// The connection ended; `sent` says whether the request may have reached the broker.
    Lost { sent: bool },
    /// The broker refused.
    Refused(Refusal),
    /// The request cannot be written down, or the answer makes no sense.
    Nonsense(Arc<str>),
}

pub(crate) struct Link {
    stream: TcpStream,
    session: RefCell<Session<Token>>,
    welcome: Welcome,
    /// Rings when there is output.
    output: Notify,
    /// Batches in the output that no answer will come for: they are done when they have left.
    departing: RefCell<Vec<Token>>,
    /// The lanes that send without an ack, by handle: an error does not say whose batch it was.
    unacked: RefCell<BTreeMap<u32, Weak<Lane>>>,
    subscriptions: RefCell<BTreeMap<u32, Rc<Subscription>>>,
    ended: Cell<bool>,
}

impl Link {
    /// Connects to one address and shakes hands. The caller bounds the time.
    pub async fn open(
        config: &DriverConfig,
        name: &Arc<str>,
        address: SocketAddr,
        shard: Option<u32>,
    ) -> Result<Rc<Self>, ConnectError> {
        let refused = |error: std::io::Error| ConnectError::NoBroker {
            address: Arc::clone(name),
            reason: plain_words(&error),
        };
        let stream = TcpStream::connect(address).await.map_err(refused)?;
        let not_a_broker =
            |reason: String| ConnectError::NotABroker { address: Arc::clone(name), reason: reason.into() };
        let mut session = Session::new(&config.client_id, shard, config.request_timeout, now())
            .map_err(|error| not_a_broker(error.to_string()))?;
        stream.send(session.take_output()).await.map_err(refused)?;
        let welcome = loop {
            let Some(received) = stream.recv().await.map_err(refused)? else {
                return Err(not_a_broker("it closed the connection during the handshake".into()));
            };
            session.receive(now(), &received).map_err(|error| match error {
                SessionError::Refused(refusal) => {
                    ConnectError::Refused { address: Arc::clone(name), refusal }
                }
                other => not_a_broker(other.to_string()),
            })?;
            if let Some(Event::Welcome(welcome)) = session.next_event() {
                break welcome;
            }
        };
        let link = Rc::new(Self {
            stream,
            session: RefCell::new(session),
            welcome,
            output: Notify::new(),
            departing: RefCell::default(),
            unacked: RefCell::default(),
            subscriptions: RefCell::default(),
            ended: Cell::new(false),
        });
        spawn(Rc::clone(&link).read()).detach();
        spawn(Rc::clone(&link).write()).detach();
        spawn(Rc::clone(&link).watch(config.request_timeout)).detach();
        Ok(link)
    }

    /// The shard where it lives.
    pub fn shard(&self) -> u32 {
        self.welcome.shard
    }

    /// The largest batch that the broker takes, as far as the protocol allows it.
    pub fn max_batch_bytes(&self) -> usize {
        (self.welcome.max_batch_bytes as usize).min(ringlog_protocol::limits::MAX_BATCH_BYTES)
    }

    pub fn has_ended(&self) -> bool {
        self.ended.get()
    }

    /// Asks and waits for the answer.
    pub async fn ask<B: Body>(&self, kind: Kind, handle: u32, body: &B) -> Result<Reply, Trouble> {
        if self.ended.get() {
            return Err(Trouble::Lost { sent: false });
        }
        let (token, answer) = flume::bounded(1);
        self.session
            .borrow_mut()
            .request(now(), kind, handle, body, Some(Token::Asker(token)))
            .map_err(|error| Trouble::Nonsense(error.to_string().into()))?;
        self.output.notify_all();
        answer.recv_async().await.unwrap_or(Err(Trouble::Lost { sent: true }))
    }

    /// Opens a partition and gives its handle.
    pub async fn open_partition(&self, topic: &str, partition: u32) -> Result<(u32, Opened), Trouble> {
        let open = messages::Open { topic: topic.to_owned(), partition };
        match self.ask(Kind::Open, 0, &open).await? {
            Reply::Opened { handle, opened } => Ok((handle, opened)),
            other => Err(nonsense(&other)),
        }
    }

    /// Gives a handle back; nobody waits for the answer.
    pub fn close_partition(&self, handle: u32) {
        self.unacked.borrow_mut().remove(&handle);
        if !self.ended.get() {
            let closed = self.session.borrow_mut().request(now(), Kind::Close, handle, &(), None);
            closed.expect("an empty body is never too large");
            self.output.notify_all();
        }
    }

    /// Sends a batch. The lane is told what came of it: by the broker's answer, or, where none was asked for, once the
    /// kernel has the bytes.
    pub fn produce(&self, handle: u32, ack: Ack, batch: Bytes, lane: &Rc<Lane>, flight: u64) {
        let token = Token::Batch { lane: Rc::clone(lane), flight };
        let unanswered = self.session.borrow_mut().produce(now(), handle, ack, batch, token);
        if let Some(token) = unanswered {
            self.unacked.borrow_mut().insert(handle, Rc::downgrade(lane));
            self.departing.borrow_mut().push(token);
        }
        self.output.notify_all();
    }

    /// Begins a subscription. Its id is known at once, the answer comes later. A link that has ended would never wake it.
    pub fn subscribe(
        &self,
        handle: u32,
        from: Position,
        credit_bytes: u32,
        subscription: &Rc<Subscription>,
    ) -> Result<(u32, flume::Receiver<Result<Reply, Trouble>>), Trouble> {
        if self.ended.get() {
            return Err(Trouble::Lost { sent: false });
        }
        let (token, answer) = flume::bounded(1);
        let token = Token::Asker(token);
        let id = self.session.borrow_mut().subscribe(now(), handle, from, credit_bytes, token);
        self.subscriptions.borrow_mut().insert(id, Rc::clone(subscription));
        self.output.notify_all();
        Ok((id, answer))
    }

    /// Bytes that the broker may still push to a subscription.
    pub fn credit_left(&self, id: u32) -> Option<i64> {
        self.session.borrow().credit_left(id)
    }

    /// Gives a subscription more credit.
    pub fn grant(&self, id: u32, bytes: u32) {
        self.session.borrow_mut().grant(id, bytes);
        self.output.notify_all();
    }

    /// Ends a subscription.
    pub fn unsubscribe(&self, id: u32) {
        self.subscriptions.borrow_mut().remove(&id);
        if !self.ended.get() {
            self.session.borrow_mut().unsubscribe(now(), id);
            self.output.notify_all();
        }
    }

    async fn read(self: Rc<Self>) {
        loop {
            let received = match self.stream.recv().await {
                Ok(Some(bytes)) if !self.ended.get() => {
                    self.session.borrow_mut().receive(now(), &bytes).map_err(|error| error.to_string())
                }
                Ok(_) => Err("the broker closed it".into()),
                Err(error) => Err(plain_words(&error).to_string()),
            };
            // What came before a bad frame counts.
            self.dispatch();
            if let Err(reason) = received {
                return self.end(&reason);
            }
        }
    }

    async fn write(self: Rc<Self>) {
        while !self.ended.get() {
            let more = self.output.notified();
            let output = self.session.borrow_mut().take_output();
            if output.is_empty() {
                more.await;
                continue;
            }
            let departing = std::mem::take(&mut *self.departing.borrow_mut());
            let sent = self.stream.send(output).await;
            for token in departing {
                token.departed(sent.is_ok());
            }
            if let Err(error) = sent {
                return self.end(&plain_words(&error));
            }
        }
    }

    /// Looks at the clock often enough for the time-outs, seldom enough to cost nothing. One late look ends nothing: if this
    /// thread stood still, the answers lie in the socket and are read before the next look.
    async fn watch(self: Rc<Self>, request_timeout: Duration) {
        let pause = (request_timeout / 4).clamp(Duration::from_millis(10), Duration::from_secs(1));
        let mut was_late = false;
        loop {
            sleep(pause).await;
            if self.ended.get() {
                return;
            }
            let ticked = self.session.borrow_mut().tick(now(), limits::KEEPALIVE);
            match ticked {
                Ok(()) => {
                    was_late = false;
                    self.output.notify_all();
                }
                Err(_) if !was_late => was_late = true,
                Err(error) => return self.end(&error.to_string()),
            }
        }
    }

    fn dispatch(&self) {
        loop {
            let event = self.session.borrow_mut().next_event();
            match event {
                None => return,
                Some(Event::Reply { token, reply }) => token.answer(Ok(reply)),
                Some(Event::Refused { token, refusal }) => token.answer(Err(Trouble::Refused(refusal))),
                Some(Event::Delivery { subscription, payload, .. }) => {
                    let receiver = self.subscriptions.borrow().get(&subscription).cloned();
                    receiver.inspect(|receiver| receiver.deliver(&payload));
                }
                Some(Event::SubscriptionEnded { subscription, refusal }) => {
                    let receiver = self.subscriptions.borrow_mut().remove(&subscription);
                    receiver.inspect(|receiver| receiver.refuse(refusal));
                }
                Some(Event::Complaint(refusal)) => {
                    tracing::warn!(%refusal, "a batch sent without an ack failed");
                    if is_of_a_dead_handle(refusal.code) {
                        let lanes = self.unacked.borrow();
                        lanes.values().filter_map(Weak::upgrade).for_each(|lane| lane.distrust_handle());
                    }
                }
                // A session gives this event once, during the handshake.
                Some(Event::Welcome(_)) => {}
            }
        }
    }

    /// Ends the connection and gives everything back to its owners.
    fn end(&self, reason: &str) {
        if self.ended.replace(true) {
            return;
        }
        tracing::info!(broker = %self.stream.peer_addr(), reason, "the connection ended");
        self.stream.shutdown();
        let lost = self.session.borrow_mut().end();
        for request in lost {
            request.token.answer(Err(Trouble::Lost { sent: request.sent }));
        }
        let subscriptions = std::mem::take(&mut *self.subscriptions.borrow_mut());
        subscriptions.into_values().for_each(|subscription| subscription.wake());
        let unsent = std::mem::take(&mut *self.departing.borrow_mut());
        unsent.into_iter().for_each(|token| token.answer(Err(Trouble::Lost { sent: false })));
        self.output.notify_all();
    }
}

impl Token {
    /// A batch that nobody answers has left, or may have.
    fn departed(self, whole: bool) {
        match self {
            Token::Batch { lane, flight } if whole => lane.departed(flight),
            token => token.answer(Err(Trouble::Lost { sent: true })),
        }
    }

    fn answer(self, answer: Result<Reply, Trouble>) {
        match self {
            // An asker that is gone does not want its answer.
            Token::Asker(asker) => drop(asker.send(answer)),
            Token::Batch { lane, flight } => lane.answer(flight, answer),
        }
    }
}

/// An answer of another kind than was asked for. The session checks kinds, so this is a bug on one side.
pub(crate) fn nonsense(reply: &Reply) -> Trouble {
    Trouble::Nonsense(format!("unexpected answer {reply:?}").into())
}

/// What an I/O error means, without its number.
fn plain_words(error: &std::io::Error) -> Arc<str> {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::ConnectionRefused => "connection refused".into(),
        ErrorKind::ConnectionReset => "connection reset".into(),
        ErrorKind::BrokenPipe => "connection broken".into(),
        ErrorKind::TimedOut => "timed out".into(),
        ErrorKind::HostUnreachable => "host unreachable".into(),
        ErrorKind::NetworkUnreachable => "network unreachable".into(),
        _ => error.to_string().into(),
    }
}
