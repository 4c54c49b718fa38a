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

use super::DriverConfig;
use super::lane::{Lane, is_of_a_dead_handle};
use super::lock::Lock;
use super::notify::Notify;
use super::runtime::Runtime;
use super::subscription::Subscription;
use crate::connection::Connections;
use crate::error::{ConnectError, Refusal};
use crate::limits;
use crate::session::{Event, Reply, Session, SessionError};

/// Who wants the answer to a request.
pub(crate) enum Token {
    Asker(flume::Sender<Result<Reply, Trouble>>),
    Batch { lane: Arc<Lane>, flight: u64 },
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
    /// The lanes that send without an ack, by handle: an error does not say whose batch it was.
    unacked: Lock<BTreeMap<u32, Weak<Lane>>>,
    subscriptions: Lock<BTreeMap<u32, Arc<Subscription>>>,
    /// Empty, and with memory for the lanes of the next answers.
    answered: Lock<Vec<Arc<Lane>>>,
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

    /// Waits until it has ended.
    pub async fn ended(&self) {
        loop {
            let settled = self.settled.notified();
            if self.has_ended() {
                return;
            }
            settled.await;
        }
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

    /// Sends a batch. The lane is told what came of it: by the broker's answer, or, where none was asked for, once the
    /// kernel has the bytes.
    pub fn produce(&self, handle: u32, ack: Ack, batch: Bytes, lane: &Arc<Lane>, flight: u64) {
        let token = Token::Batch { lane: Arc::clone(lane), flight };
        let unanswered = self.session.lock().produce(now(), handle, ack, batch, token);
        if let Some(token) = unanswered {
            self.unacked.lock().insert(handle, Arc::downgrade(lane));
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
        subscription: &Arc<Subscription>,
    ) -> Result<(u32, flume::Receiver<Result<Reply, Trouble>>), Trouble> {
        if self.has_ended() {
            return Err(Trouble::Lost { sent: false });
        }
        let (token, answer) = flume::bounded(1);
        let token = Token::Asker(token);
        let id = self.session.lock().subscribe(now(), handle, from, credit_bytes, token);
        self.subscriptions.lock().insert(id, Arc::clone(subscription));
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

    /// Takes bytes that came.
    pub fn receive(&self, bytes: &[u8]) {
        if self.has_ended() {
            return;
        }
        let received = self.session.lock().receive(now(), bytes);
        // What came before a bad frame counts.
        self.tell(|lanes| self.dispatch(lanes));
        if let Err(error) = received {
            self.end(End::Session(error));
        }
    }

    /// Puts what is to be sent into `output`, which is empty, when there is something. False: the link has ended. One caller at a time,
    /// who says with `sent` what came of it.
    pub async fn take_output(&self, output: &mut Vec<Bytes>) -> bool {
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

    /// The socket has taken the output, or has failed.
    pub fn sent(&self, result: std::io::Result<()>) {
        if let Err(error) = result {
            return self.end(End::Io(error));
        }
        let mut leaving = std::mem::take(&mut *self.leaving.lock());
        self.tell(|lanes| leaving.drain(..).for_each(|token| token.departed(lanes)));
        *self.leaving.lock() = leaving;
    }

    /// Tells what came together, and only then wakes the lanes that it was for.
    fn tell(&self, tell: impl FnOnce(&mut Vec<Arc<Lane>>)) {
        let mut lanes = std::mem::take(&mut *self.answered.lock());
        tell(&mut lanes);
        lanes.drain(..).for_each(|lane| lane.wake());
        *self.answered.lock() = lanes;
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

    fn dispatch(&self, lanes: &mut Vec<Arc<Lane>>) {
        loop {
            let event = self.session.lock().next_event();
            match event {
                None => return,
                Some(Event::Reply { token, reply }) => token.answer(Ok(reply), lanes),
                Some(Event::Refused { token, refusal }) => {
                    token.answer(Err(Trouble::Refused(refusal)), lanes);
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
                    if is_of_a_dead_handle(refusal.code) {
                        let lanes = self.unacked.lock();
                        lanes.values().filter_map(Weak::upgrade).for_each(|lane| lane.distrust_handle());
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
        self.tell(|lanes| self.give_back(lanes));
        self.settled.notify_all();
        self.output.notify_all();
    }

    /// Every batch that has no answer, to its lane.
    fn give_back(&self, lanes: &mut Vec<Arc<Lane>>) {
        let lost = self.session.lock().end();
        for request in lost {
            request.token.answer(Err(Trouble::Lost { sent: request.sent }), lanes);
        }
        // The carrier stops in the middle of a send.
        let leaving = std::mem::take(&mut *self.leaving.lock());
        leaving.into_iter().for_each(|token| token.answer(Err(Trouble::Lost { sent: true }), lanes));
        let unsent = std::mem::take(&mut *self.departing.lock());
        unsent.into_iter().for_each(|token| token.answer(Err(Trouble::Lost { sent: false }), lanes));
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
    fn departed(self, lanes: &mut Vec<Arc<Lane>>) {
        if let Token::Batch { lane, flight } = self {
            lane.departed(flight);
            note(lane, lanes);
        }
    }

    fn answer(self, answer: Result<Reply, Trouble>, lanes: &mut Vec<Arc<Lane>>) {
        match self {
            // An asker that is gone does not want its answer.
            Token::Asker(asker) => drop(asker.send(answer)),
            Token::Batch { lane, flight } => {
                lane.answer(flight, answer);
                note(lane, lanes);
            }
        }
    }
}

/// A lane that is told of several batches comes once where they stand in a row.
fn note(lane: Arc<Lane>, lanes: &mut Vec<Arc<Lane>>) {
    if !lanes.last().is_some_and(|last| Arc::ptr_eq(last, &lane)) {
        lanes.push(lane);
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
