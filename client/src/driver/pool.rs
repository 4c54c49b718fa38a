//! The links to the broker, one for each shard that is used and more where one has all the partitions that it may have, and what is known
//! of topics.
//!
//! Invariants: at most one attempt to connect is under way for a slot, and all who want that slot wait for it; an attempt is
//! never cancelled by one of them; two attempts are apart by the back-off, also when connections are cut as soon as they are made.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use ringlog_protocol::Kind;
use ringlog_protocol::messages::{MetadataRequest, PartitionMetadata, TopicMetadata};
use ringlog_reactor::sim::reached;
use ringlog_reactor::{Instant, now};

use super::backoff::Backoff;
use super::config::DriverConfig;
use super::link::{End, Link, Trouble, nonsense};
use super::lock::Lock;
use super::notify::Notify;
use super::runtime::Runtime;
use crate::error::{AdminError, ConnectError};
use crate::limits::BACKOFF_MAX;
use crate::session::Reply;

pub(crate) struct Pool {
    pub runtime: Arc<Runtime>,
    config: DriverConfig,
    slots: Lock<BTreeMap<Place, Slot>>,
    /// The address that answered last is tried first.
    preferred: AtomicUsize,
    topics: Lock<BTreeMap<Arc<str>, Arc<TopicMetadata>>>,
}

/// The shard that was asked for, none is "any"; and which of the links to it.
type Place = (Option<u32>, u32);

#[derive(Default)]
struct Slot {
    link: Option<Arc<Link>>,
    attempt: Option<Arc<Attempt>>,
    backoff: Backoff,
    not_before: Option<Instant>,
    connected_at: Option<Instant>,
}

#[derive(Default)]
struct Attempt {
    done: Notify,
    result: Lock<Option<Result<Arc<Link>, ConnectError>>>,
}

/// Room for one partition on a link, until it is dropped.
pub(crate) struct Seat {
    link: Arc<Link>,
}

impl Seat {
    fn take(link: &Arc<Link>) -> Option<Self> {
        link.take_seat().then(|| Self { link: Arc::clone(link) })
    }

    pub fn link(&self) -> &Arc<Link> {
        &self.link
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.link.leave_seat();
    }
}

impl Pool {
    pub fn new(runtime: Arc<Runtime>, config: DriverConfig) -> Arc<Self> {
        Arc::new(Self {
            runtime,
            config,
            slots: Lock::default(),
            preferred: AtomicUsize::new(0),
            topics: Lock::default(),
        })
    }

    /// A link to a shard, or to any; connects if there is none. One attempt only: who wants more calls again, and is held to the back-off.
    pub async fn link(self: &Arc<Self>, shard: Option<u32>) -> Result<Arc<Link>, ConnectError> {
        self.link_at((shard, 0)).await
    }

    async fn link_at(self: &Arc<Self>, place: Place) -> Result<Arc<Link>, ConnectError> {
        if let Some(link) = self.live(place) {
            return Ok(link);
        }
        let attempt = self.attempt(place);
        loop {
            let done = attempt.done.notified();
            if let Some(result) = attempt.result.lock().clone() {
                return result;
            }
            done.await;
        }
    }

    /// Ends all links.
    pub fn close(&self) {
        let slots = std::mem::take(&mut *self.slots.lock());
        slots.into_values().filter_map(|slot| slot.link).for_each(|link| link.end(End::Unwanted));
    }

    fn live(&self, place: Place) -> Option<Arc<Link>> {
        let slots = self.slots.lock();
        let alive = |slot: &Slot| slot.link.clone().filter(|link| !link.has_ended());
        match place {
            (Some(_), _) => slots.get(&place).and_then(alive),
            (None, _) => slots.values().find_map(alive),
        }
    }

    fn attempt(self: &Arc<Self>, place: Place) -> Arc<Attempt> {
        let mut slots = self.slots.lock();
        let slot = slots.entry(place).or_default();
        if let Some(attempt) = &slot.attempt {
            return Arc::clone(attempt);
        }
        if slot.connected_at.is_some_and(|at| now() - at > BACKOFF_MAX) {
            slot.backoff.reset();
        }
        let attempt = Arc::new(Attempt::default());
        slot.attempt = Some(Arc::clone(&attempt));
        let (pool, not_before, running) = (Arc::clone(self), slot.not_before, Arc::clone(&attempt));
        self.runtime.spawn(async move {
            if let Some(at) = not_before {
                pool.runtime.sleep_until(at).await;
            }
            let result = pool.connect(place.0).await;
            pool.attempted(place, &result);
            *running.result.lock() = Some(result);
            running.done.notify_all();
        });
        attempt
    }

    fn attempted(&self, place: Place, result: &Result<Arc<Link>, ConnectError>) {
        let mut slots = self.slots.lock();
        let slot = slots.entry(place).or_default();
        slot.attempt = None;
        slot.not_before = Some(now() + slot.backoff.next_pause());
        let Ok(link) = result else { return };
        self.config.connections.made(link.name());
        slot.connected_at = Some(now());
        slot.link = Some(Arc::clone(link));
        // Who asked for any shard got a particular one.
        let there = slots.entry((Some(link.shard()), place.1)).or_default();
        if there.link.as_ref().is_none_or(|old| old.has_ended()) {
            there.link = Some(Arc::clone(link));
        }
    }

    /// Tries every address once, the one that answered last first.
    async fn connect(&self, shard: Option<u32>) -> Result<Arc<Link>, ConnectError> {
        let addresses = &self.config.addresses;
        let mut failure = ConnectError::NoAddress;
        for turn in 0..addresses.len() {
            let index = (self.preferred.load(Ordering::Relaxed) + turn) % addresses.len();
            match self.connect_to(&addresses[index], shard).await {
                Ok(link) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Ok(link);
                }
                Err(error) => failure = joined(failure, error),
            }
        }
        Err(failure)
    }

    async fn connect_to(&self, name: &Arc<str>, shard: Option<u32>) -> Result<Arc<Link>, ConnectError> {
        let limit = self.config.connect_timeout;
        let mut failure = unknown_host(name, "it has no address");
        for address in resolve(name).await? {
            let opening = Link::open(&self.runtime, &self.config, name, address, shard);
            let opened = self.runtime.timeout(limit, opening).await;
            failure = match opened {
                Ok(Ok(link)) => return Ok(link),
                Ok(Err(error)) => error,
                Err(_) => ConnectError::NoAnswer {
                    address: Arc::clone(name),
                    waited_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
                },
            };
        }
        Err(failure)
    }

    /// A topic as it was when it was last looked up.
    pub async fn topic(self: &Arc<Self>, name: &Arc<str>) -> Result<Arc<TopicMetadata>, AdminError> {
        let known = self.topics.lock().get(name).cloned();
        match known {
            Some(topic) => Ok(topic),
            None => self.fresh_topic(name).await,
        }
    }

    /// A topic as it is now.
    pub async fn fresh_topic(self: &Arc<Self>, name: &Arc<str>) -> Result<Arc<TopicMetadata>, AdminError> {
        let unknown = || AdminError::UnknownTopic { topic: Arc::clone(name) };
        let found = self.metadata(Some(vec![name.to_string()])).await?;
        let topic = found.into_iter().find(|topic| *topic.name == **name).ok_or_else(unknown)?;
        let topic = Arc::new(topic);
        self.topics.lock().insert(Arc::clone(name), Arc::clone(&topic));
        Ok(topic)
    }

    /// Forgets a topic, unless somebody has looked it up again since `known`.
    pub fn forget(&self, known: &Arc<TopicMetadata>) {
        self.topics.lock().retain(|_, topic| !Arc::ptr_eq(topic, known));
    }

    /// Forgets a topic by name.
    pub fn forget_name(&self, name: &str) {
        self.topics.lock().remove(name);
    }

    /// Topics as they are now; those that do not exist are left out.
    pub async fn metadata(
        self: &Arc<Self>,
        topics: Option<Vec<String>>,
    ) -> Result<Vec<TopicMetadata>, AdminError> {
        let request = MetadataRequest { topics };
        let mut answer = self.link(None).await?.ask(Kind::Metadata, 0, &request).await;
        if let Err(Trouble::Lost { .. }) = answer {
            // Asking again does no harm, and the link may have been stale.
            answer = self.link(None).await?.ask(Kind::Metadata, 0, &request).await;
        }
        match answer? {
            Reply::Metadata(found) => Ok(found.topics),
            other => Err(nonsense(&other).into()),
        }
    }

    /// A link to the shard of a partition with room for one more, with the knowledge that led there. For a producer's lane or a
    /// subscription: the room is theirs while they keep the seat.
    pub async fn seat(
        self: &Arc<Self>,
        name: &Arc<str>,
        partition: u32,
    ) -> Result<(Arc<TopicMetadata>, Seat), AdminError> {
        let (topic, mut link) = self.route(name, partition).await?;
        let shard = place_of(&topic, partition).map(|place| place.shard);
        let mut number = 0;
        loop {
            if let Some(seat) = Seat::take(&link) {
                return Ok((topic, seat));
            }
            reached("another link to a shard");
            number += 1;
            link = self.link_at((shard, number)).await?;
        }
    }

    /// The link to the shard of a partition, with the knowledge that led there.
    pub async fn route(
        self: &Arc<Self>,
        name: &Arc<str>,
        partition: u32,
    ) -> Result<(Arc<TopicMetadata>, Arc<Link>), AdminError> {
        let topic = self.topic(name).await?;
        let partitions = topic.partitions.len() as u32;
        let place = place_of(&topic, partition);
        let Some(place) = place else {
            self.forget(&topic);
            return Err(AdminError::UnknownPartition { topic: Arc::clone(name), partition, partitions });
        };
        match self.link(Some(place.shard)).await {
            Ok(link) => Ok((topic, link)),
            Err(error) => {
                // The broker may come back with other shards.
                self.forget(&topic);
                Err(error.into())
            }
        }
    }
}

/// Where a partition is. A broker lists them by number, so the search is for one that does not.
fn place_of(topic: &TopicMetadata, partition: u32) -> Option<&PartitionMetadata> {
    let is_it = |place: &&PartitionMetadata| place.partition == partition;
    let by_number = topic.partitions.get(partition as usize).filter(is_it);
    by_number.or_else(|| topic.partitions.iter().find(is_it))
}

impl From<Trouble> for AdminError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Lost { .. } => Self::OutcomeUnknown,
            Trouble::Refused(refusal) => Self::Refused(refusal),
            Trouble::Nonsense(reason) => Self::BadAnswer { reason },
        }
    }
}

/// The failures of several addresses as one: when nobody was there, all are named.
fn joined(before: ConnectError, error: ConnectError) -> ConnectError {
    match (before, error) {
        (
            ConnectError::NoBroker { address: first, reason: old },
            ConnectError::NoBroker { address: second, reason },
        ) => {
            let reason = if old == reason { reason } else { format!("{old}; {reason}").into() };
            ConnectError::NoBroker { address: format!("{first}, {second}").into(), reason }
        }
        (_, error) => error,
    }
}

/// The addresses of `HOST:PORT`. The system's resolver may block for seconds, so a host name is looked up on a thread of its own.
async fn resolve(name: &Arc<str>) -> Result<Vec<SocketAddr>, ConnectError> {
    if let Ok(address) = name.parse() {
        return Ok(vec![address]);
    }
    let (tell, found) = flume::bounded(1);
    let host = Arc::clone(name);
    let look_up = move || {
        // One that is gone does not want its answer.
        let _ = tell.send(host.to_socket_addrs().map(Vec::from_iter));
    };
    let started = thread::Builder::new().name("ringlog-resolver".into()).spawn(look_up);
    let found = match started {
        Ok(_) => found.recv_async().await.unwrap_or_else(|_| Err(io::ErrorKind::Other.into())),
        Err(error) => Err(error),
    };
    found.map_err(|error| match error.kind() {
        // Not even HOST:PORT.
        io::ErrorKind::InvalidInput => {
            ConnectError::BadAddress { address: Arc::clone(name), reason: error.to_string().into() }
        }
        _ => unknown_host(name, &error.to_string()),
    })
}

fn unknown_host(name: &Arc<str>, reason: &str) -> ConnectError {
    ConnectError::UnknownHost { address: Arc::clone(name), reason: Arc::from(reason) }
}
