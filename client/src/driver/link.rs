//! One connection: its session, and who wants to know what. A carrier of the runtime moves the bytes between it and a socket.
//!
//! Invariant: `end` runs once; after it nothing is asked of the session, and every token has gone back to its owner.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use ringlog_protocol::messages::{Opened, Position, Welcome};
use ringlog_protocol::{Ack, Body, Kind, messages};
use ringlog_reactor::now;
use ringlog_reactor::sim::reached;

use super::config::DriverConfig;
use super::lock::Lock;
use super::notify::Notify;
use super::runtime::{Ended, Runtime, Transport};
use crate::connection::Connections;
use crate::error::{ConnectError, Refusal};
use crate::limits;
use crate::session::{Event, Reply, Session, SessionError};

/// Who sends batches, and is told what came of them.
pub(crate) trait Sender: Send + Sync {
    /// What came of a batch.
    fn answer(&self, flight: u64, answer: Result<Reply, Trouble>);
    /// A batch that nobody answers has left.
    fn departed(&self, flight: u64);
    /// The handle it sends by is not good any more.
    fn distrust_handle(&self);
    /// It was told something.
    fn wake(self: Arc<Self>);
}

/// Who has a subscription.
pub(crate) trait Receiver: Send + Sync {
    /// Batches came.
    fn deliver(&self, payload: &Bytes);
    /// The broker has ended it.
    fn refuse(&self, refusal: Refusal);
    /// The link has ended.
    fn wake(&self);
}

/// Who wants the answer to a request.
pub(crate) enum Token {
    Asker(flume::Sender<Result<Reply, Trouble>>),
    Batch { sender: Arc<dyn Sender>, flight: u64 },
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

/// Why a connection ends.
#[derive(Debug)]
pub(crate) enum End {
    /// The socket failed, or never was connected.
    Io(std::io::Error),
    /// The broker closed it.
    Closed,
    /// The broker breaks the protocol, or does not answer.
    Session(SessionError),
    /// The driver needs it no more.
    Unwanted,
}

pub(crate) struct Link {
    name: Arc<str>,
    address: SocketAddr,
    connections: Connections,
    session: Lock<Session<Token>>,
    welcome: OnceLock<Welcome>,
    /// Why it never was welcomed.
    failure: Lock<Option<End>>,
    /// Fires when it is welcomed, and when it has ended.
    settled: Notify,
    /// Rings when there is output.
    output: Notify,
    /// Batches in the output that no answer will come for: they are done when they have left.
    departing: Lock<Vec<Token>>,
    /// Those of them that are leaving now.
    leaving: Lock<Vec<Token>>,
    /// Those that send without an ack, by handle: an error does not say whose batch it was.
    unacked: Lock<BTreeMap<u32, Weak<dyn Sender>>>,
    subscriptions: Lock<BTreeMap<u32, Arc<dyn Receiver>>>,
    /// Empty, and with memory for the senders of the next answers.
    answered: Lock<Vec<Arc<dyn Sender>>>,
    /// Partitions that it serves.
    seats: AtomicUsize,
    ended: AtomicBool,
}

/// Ends a link whose handshake is given up.
struct Opening(Arc<Link>);

impl Drop for Opening {
    fn drop(&mut self) {
        if self.0.welcome.get().is_none() {
            self.0.end(End::Unwanted);
        }
    }
}

impl Link {
    /// Connects to one address and shakes hands. The caller bounds the time.
    pub async fn open(
        runtime: &Arc<Runtime>,
        config: &DriverConfig,
        name: &Arc<str>,
        address: SocketAddr,
        shard: Option<u32>,
    ) -> Result<Arc<Self>, ConnectError> {
        let session =
            Session::new(&config.client_id, shard, config.request_timeout, now()).map_err(|error| {
                ConnectError::NotABroker { address: Arc::clone(name), reason: error.to_string().into() }
            })?;
        let link = Arc::new(Self {
            name: Arc::clone(name),
            address,
            connections: config.connections.clone(),
            session: Lock::new(session),
            welcome: OnceLock::new(),
            failure: Lock::default(),
            settled: Notify::new(),
            output: Notify::new(),
            departing: Lock::default(),
            leaving: Lock::default(),
            unacked: Lock::default(),
            subscriptions: Lock::default(),
            answered: Lock::default(),
            seats: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
        });
        runtime.carry(address, Arc::clone(&link));
        let opening = Opening(link);
        let link = &opening.0;
        while link.welcome.get().is_none() {
            let settled = link.settled.notified();
            if let Some(end) = link.failure.lock().take() {
                return Err(end.before_welcome(name));
            }
            settled.await;
        }
        let watching = Arc::clone(runtime);
        let watched = Arc::clone(link);
        let request_timeout = config.request_timeout;
        runtime.spawn(async move { watched.watch(&watching, request_timeout).await });
        Ok(Arc::clone(link))
    }

    /// The broker's address, as it was given.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The shard where it lives.
    pub fn shard(&self) -> u32 {
        self.welcome().shard
    }

    /// The largest batch that the broker takes, as far as the protocol allows it.
    pub fn max_batch_bytes(&self) -> usize {
        (self.welcome().max_batch_bytes as usize).min(ringlog_protocol::limits::MAX_BATCH_BYTES)
    }

    fn welcome(&self) -> &Welcome {
        self.welcome.get().expect("a link is handed out after its handshake")
    }

    /// Takes room for one more partition, if there is some.
    pub fn take_seat(&self) -> bool {
        let one_more = |taken| (taken < limits::PARTITIONS_PER_LINK).then_some(taken + 1);
        self.seats.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }

    /// Gives that room back.
    pub fn leave_seat(&self) {
        self.seats.fetch_sub(1, Ordering::Relaxed);
    }

    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Asks and waits for the answer.
    pub async fn ask<B: Body>(&self, kind: Kind, handle: u32, body: &B) -> Result<Reply, Trouble> {
        if self.has_ended() {
            return Err(Trouble::Lost { sent: false });
        }
        let (token, answer) = flume::bounded(1);
        self.session
            .lock()
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
        self.unacked.lock().remove(&handle);
        if !self.has_ended() {
            let closed = self.session.lock().request(now(), Kind::Close, handle, &(), None);
            closed.expect("an empty body is never too large");
            self.output.notify_all();
        }
    }

    /// Sends a batch. The sender is told what came of it: by the broker's answer, or, where none was asked for, once the
    /// kernel has the bytes.
    pub fn produce(&self, handle: u32, ack: Ack, batch: Bytes, sender: Arc<dyn Sender>, flight: u64) {
        let weak = Arc::downgrade(&sender);
        let token = Token::Batch { sender, flight };
        let unanswered = self.session.lock().produce(now(), handle, ack, batch, token);
        if let Some(token) = unanswered {
            self.unacked.lock().insert(handle, weak);
            self.departing.lock().push(token);
        }
        self.output.notify_all();
    }

    /// Begins a subscription. Its id is known at once, the answer comes later. A link that has ended would never wake it.
    pub fn subscribe(
        &self,
        handle: u32,
        from: Position,
        credit_bytes: u32,
        receiver: Arc<dyn Receiver>,
    ) -> Result<(u32, flume::Receiver<Result<Reply, Trouble>>), Trouble> {
        if self.has_ended() {
            return Err(Trouble::Lost { sent: false });
        }
        let (token, answer) = flume::bounded(1);
        let token = Token::Asker(token);
        let id = self.session.lock().subscribe(now(), handle, from, credit_bytes, token);
        self.subscriptions.lock().insert(id, receiver);
        self.output.notify_all();
        Ok((id, answer))
    }

    /// Bytes that the broker may still push to a subscription.
    pub fn credit_left(&self, id: u32) -> Option<i64> {
        self.session.lock().credit_left(id)
    }

    /// Gives a subscription more credit.
    pub fn grant(&self, id: u32, bytes: u32) {
        self.session.lock().grant(id, bytes);
        self.output.notify_all();
    }

    /// Ends a subscription.
    pub fn unsubscribe(&self, id: u32) {
        self.subscriptions.lock().remove(&id);
        if !self.has_ended() {
            self.session.lock().unsubscribe(now(), id);
            self.output.notify_all();
        }
    }

    /// Tells what came together, and only then wakes the senders that it was for.
    fn tell(&self, tell: impl FnOnce(&mut Vec<Arc<dyn Sender>>)) {
        let mut senders = std::mem::take(&mut *self.answered.lock());
        tell(&mut senders);
        senders.drain(..).for_each(|sender| sender.wake());
        *self.answered.lock() = senders;
    }

    /// Looks at the clock often enough for the time-outs, seldom enough to cost nothing. One late look ends nothing: if this
    /// thread stood still, the answers lie in the socket and are read before the next look.
    async fn watch(&self, runtime: &Runtime, request_timeout: Duration) {
        let pause = (request_timeout / 4).clamp(Duration::from_millis(10), Duration::from_secs(1));
        let mut was_late = false;
        loop {
            runtime.sleep(pause).await;
            if self.has_ended() {
                return;
            }
            let ticked = self.session.lock().tick(now(), limits::KEEPALIVE);
            match ticked {
                Ok(()) => {
                    was_late = false;
                    self.output.notify_all();
                }
                Err(_) if !was_late => was_late = true,
                Err(error) => return self.end(End::Session(error)),
            }
        }
    }

    fn dispatch(&self, senders: &mut Vec<Arc<dyn Sender>>) {
        loop {
            let event = self.session.lock().next_event();
            match event {
                None => return,
                Some(Event::Reply { token, reply }) => token.answer(Ok(reply), senders),
                Some(Event::Refused { token, refusal }) => {
                    token.answer(Err(Trouble::Refused(refusal)), senders);
                }
                Some(Event::Delivery { subscription, payload, .. }) => {
                    let receiver = self.subscriptions.lock().get(&subscription).cloned();
                    receiver.inspect(|receiver| receiver.deliver(&payload));
                }
                Some(Event::SubscriptionEnded { subscription, refusal }) => {
                    let receiver = self.subscriptions.lock().remove(&subscription);
                    receiver.inspect(|receiver| receiver.refuse(refusal));
                }
                Some(Event::Complaint(refusal)) => {
                    tracing::warn!(%refusal, "a batch sent without an ack failed");
                    if refusal.is_of_a_dead_handle() {
                        let senders = self.unacked.lock();
                        senders
                            .values()
                            .filter_map(Weak::upgrade)
                            .for_each(|sender| sender.distrust_handle());
                    }
                }
                Some(Event::Welcome(welcome)) => {
                    // A session gives this event once.
                    let _ = self.welcome.set(welcome);
                    self.settled.notify_all();
                }
            }
        }
    }

    /// Ends the connection and gives everything back to its owners.
    pub fn end(&self, end: End) {
        if self.ended.swap(true, Ordering::Relaxed) {
            return;
        }
        if matches!(&end, End::Session(error) if error.is_the_brokers_fault()) {
            reached("broker broke the protocol");
        }
        if self.welcome.get().is_some() {
            reached("connection lost");
            tracing::info!(broker = %self.address, reason = %end, "the connection ended");
            if !matches!(end, End::Unwanted) {
                self.connections.lost(&self.name, &end);
            }
        } else {
            *self.failure.lock() = Some(end);
        }
        let subscriptions = std::mem::take(&mut *self.subscriptions.lock());
        subscriptions.into_values().for_each(|subscription| subscription.wake());
        self.tell(|senders| self.give_back(senders));
        self.settled.notify_all();
        self.output.notify_all();
    }

    /// Every batch that has no answer, to its sender.
    fn give_back(&self, senders: &mut Vec<Arc<dyn Sender>>) {
        let lost = self.session.lock().end();
        for request in lost {
            request.token.answer(Err(Trouble::Lost { sent: request.sent }), senders);
        }
        // The carrier stops in the middle of a send.
        let leaving = std::mem::take(&mut *self.leaving.lock());
        leaving.into_iter().for_each(|token| token.answer(Err(Trouble::Lost { sent: true }), senders));
        let unsent = std::mem::take(&mut *self.departing.lock());
        unsent.into_iter().for_each(|token| token.answer(Err(Trouble::Lost { sent: false }), senders));
    }
}

impl Transport for Link {
    fn has_ended(&self) -> bool {
        Link::has_ended(self)
    }

    async fn ended(&self) {
        loop {
            let settled = self.settled.notified();
            if self.has_ended() {
                return;
            }
            settled.await;
        }
    }

    fn receive(&self, bytes: &[u8]) {
        if self.has_ended() {
            return;
        }
        let received = self.session.lock().receive(now(), bytes);
        // What came before a bad frame counts.
        self.tell(|senders| self.dispatch(senders));
        if let Err(error) = received {
            Link::end(self, End::Session(error));
        }
    }

    async fn take_output(&self, output: &mut Vec<Bytes>) -> bool {
        loop {
            let more = self.output.notified();
            if self.has_ended() {
                return false;
            }
            self.session.lock().take_output(output);
            if !output.is_empty() {
                std::mem::swap(&mut *self.departing.lock(), &mut *self.leaving.lock());
                return true;
            }
            more.await;
        }
    }

    fn sent(&self, result: std::io::Result<()>) {
        if let Err(error) = result {
            return Link::end(self, End::Io(error));
        }
        let mut leaving = std::mem::take(&mut *self.leaving.lock());
        self.tell(|senders| leaving.drain(..).for_each(|token| token.departed(senders)));
        *self.leaving.lock() = leaving;
    }

    fn end(&self, why: Ended) {
        Link::end(
            self,
            match why {
                Ended::Io(error) => End::Io(error),
                Ended::Closed => End::Closed,
            },
        );
    }
}

impl End {
    /// What it means for one who wanted to connect.
    fn before_welcome(self, name: &Arc<str>) -> ConnectError {
        let address = Arc::clone(name);
        match self {
            Self::Io(error) => ConnectError::NoBroker { address, reason: plain_words(&error) },
            Self::Session(SessionError::Refused(refusal)) => ConnectError::Refused { address, refusal },
            Self::Session(error) => ConnectError::NotABroker { address, reason: error.to_string().into() },
            Self::Closed => {
                let reason = "it closed the connection during the handshake".into();
                ConnectError::NotABroker { address, reason }
            }
            Self::Unwanted => ConnectError::Closed,
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => f.write_str(&plain_words(error)),
            Self::Session(error) => error.fmt(f),
            Self::Closed => f.write_str("the broker closed it"),
            Self::Unwanted => f.write_str("the client is done with it"),
        }
    }
}

impl Token {
    /// A batch that nobody answers has left.
    fn departed(self, senders: &mut Vec<Arc<dyn Sender>>) {
        if let Token::Batch { sender, flight } = self {
            sender.departed(flight);
            note(sender, senders);
        }
    }

    fn answer(self, answer: Result<Reply, Trouble>, senders: &mut Vec<Arc<dyn Sender>>) {
        match self {
            // An asker that is gone does not want its answer.
            Token::Asker(asker) => drop(asker.send(answer)),
            Token::Batch { sender, flight } => {
                sender.answer(flight, answer);
                note(sender, senders);
            }
        }
    }
}

/// A sender that is told of several batches comes once where they stand in a row.
fn note(sender: Arc<dyn Sender>, senders: &mut Vec<Arc<dyn Sender>>) {
    let is_same = |last: &Arc<dyn Sender>| std::ptr::addr_eq(Arc::as_ptr(last), Arc::as_ptr(&sender));
    if !senders.last().is_some_and(is_same) {
        senders.push(sender);
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
