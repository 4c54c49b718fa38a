//! The client's thread: takes commands and doorbells, and keeps the producers' lanes and the consumers' subscriptions.
//!
//! The ways through it: a doorbell wakes the lanes of the partitions that have something new (`lane`), which take batches and send them
//! over the link to the right shard (`pool`, `link`); the link's reader settles the acks and puts deliveries into inboxes (`subscription`).

mod backoff;
mod control;
mod lane;
mod link;
mod pool;
mod subscription;
pub(crate) mod thread;
mod window;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ringlog_protocol::limits::DEFAULT_MAX_BATCH_BYTES;
use ringlog_protocol::messages::{Position, TopicMetadata};
use ringlog_reactor::{Notify, Task, mailbox, spawn, timeout};

use crate::accumulator::{Accumulator, ProducerSettings};
use crate::command::{Command, ConsumerPlan, Doorbell, HandleId, Line};
use crate::error::OpenError;
use crate::inbox::Inbox;
use crate::{consumer, limits, producer};
use lane::Lane;
use pool::Pool;
use subscription::Subscription;

/// What a client was built with.
#[derive(Clone, Debug)]
pub(crate) struct DriverConfig {
    pub addresses: Vec<Arc<str>>,
    pub client_id: String,
    pub connect_timeout: Duration,
    pub request_timeout: Duration,
}

pub(crate) struct Driver {
    pool: Rc<Pool>,
    handles: RefCell<BTreeMap<HandleId, Handle>>,
    last_handle: Cell<HandleId>,
    /// Fires when a handle is gone.
    gone: Notify,
}

enum Handle {
    Producer(Producer),
    Consumer(Consumer),
}

struct Producer {
    shared: Arc<Accumulator>,
    lanes: BTreeMap<u32, (Rc<Lane>, Task<()>)>,
    retiring: bool,
}

struct Consumer {
    shared: Arc<Inbox>,
    subscriptions: Vec<Rc<Subscription>>,
}

impl Driver {
    /// Serves until the last command line is dropped and what was left to send is sent or given up.
    pub async fn run(
        config: DriverConfig,
        commands: mailbox::Receiver<Command>,
        doorbells: mailbox::Receiver<Doorbell>,
    ) {
        let driver = Rc::new(Self {
            pool: Pool::new(config),
            handles: RefCell::default(),
            last_handle: Cell::new(0),
            gone: Notify::new(),
        });
        let ringing = Rc::clone(&driver);
        let bell = spawn(async move {
            while let Some(Doorbell(id)) = doorbells.recv().await {
                ringing.answer(id);
            }
        });
        while let Some(command) = commands.recv().await {
            spawn(Rc::clone(&driver).obey(command)).detach();
        }
        bell.await;
        driver.dismiss();
        loop {
            let gone = driver.gone.notified();
            if driver.handles.borrow().is_empty() {
                return;
            }
            gone.await;
        }
    }

    async fn obey(self: Rc<Self>, command: Command) {
        let pool = &self.pool;
        // An asker that is gone does not want its answer.
        match command {
            Command::Connect { reply } => drop(reply.send(pool.link(None).await.map(drop))),
            Command::CreateTopic { name, partitions, config, reply } => {
                drop(reply.send(control::create_topic(pool, name, partitions, config).await));
            }
            Command::DeleteTopic { name, reply } => drop(reply.send(control::delete_topic(pool, name).await)),
            Command::Topics { reply } => drop(reply.send(control::topics(pool).await)),
            Command::Topic { name, reply } => {
                drop(reply.send(pool.fresh_topic(&name).await.map(|topic| (*topic).clone())));
            }
            Command::Offsets { topic, partition, at, reply } => {
                drop(reply.send(control::offsets(pool, &topic, partition, at).await));
            }
            Command::OpenProducer { topic, settings, line, reply } => {
                drop(reply.send(self.open_producer(topic, settings, line).await));
            }
            Command::CloseProducer { id, deadline, reply } => {
                self.retire(id, deadline).await;
                let _ = reply.send(Ok(()));
            }
            Command::OpenConsumer { topic, plan, line, reply } => {
                drop(reply.send(self.open_consumer(topic, plan, line).await))
            }
        }
    }

    async fn open_producer(
        &self,
        topic: Arc<str>,
        settings: ProducerSettings,
        line: Line,
    ) -> Result<producer::Handle, OpenError> {
        let known = self.pool.fresh_topic(&topic).await?;
        let broker_limit = self.pool.link(None).await?.max_batch_bytes();
        let max_batch_bytes = broker_limit.min(topic_limit(&known));
        let partitions = known.partitions.len() as u32;
        let sticky = (ringlog_reactor::random_u64() % u64::from(partitions.max(1))) as u32;
        let shared = Accumulator::new(topic, partitions, settings, max_batch_bytes, sticky);
        let producer = Producer { shared: Arc::clone(&shared), lanes: BTreeMap::new(), retiring: false };
        let id = self.register(Handle::Producer(producer))?;
        Ok(producer::Handle { id, line, shared })
    }

    async fn open_consumer(
        &self,
        topic: Arc<str>,
        plan: ConsumerPlan,
        line: Line,
    ) -> Result<consumer::Handle, OpenError> {
        let known = self.pool.fresh_topic(&topic).await?;
        let there = known.partitions.len() as u32;
        let wanted = plan.partitions.unwrap_or_else(|| (0..there).collect());
        let named = wanted.iter().copied().chain(plan.offsets.iter().map(|(partition, _)| *partition));
        if let Some(partition) = named.into_iter().find(|partition| *partition >= there) {
            return Err(OpenError::UnknownPartition { topic, partition, partitions: there });
        }
        let share = plan.prefetch_bytes / wanted.len().max(1);
        let credit = share.clamp(limits::MIN_PARTITION_CREDIT, limits::MAX_PARTITION_CREDIT);
        let shared = Inbox::new(topic, &wanted, credit, plan.check_crc);
        let offsets: BTreeMap<u32, i64> = plan.offsets.into_iter().collect();
        let subscriptions: Vec<_> = wanted
            .iter()
            .enumerate()
            .map(|(place, partition)| {
                let from = offsets.get(partition).map_or(plan.from, |offset| Position::Offset(*offset));
                Subscription::new(Arc::clone(&shared), place, *partition, from)
            })
            .collect();
        let consumer = Consumer { shared: Arc::clone(&shared), subscriptions: subscriptions.clone() };
        let id = self.register(Handle::Consumer(consumer))?;
        for subscription in subscriptions {
            // It ends by itself when the consumer is dropped.
            spawn(subscription.run(Rc::clone(&self.pool))).detach();
        }
        Ok(consumer::Handle { id, line, shared })
    }

    fn register(&self, handle: Handle) -> Result<HandleId, OpenError> {
        let mut handles = self.handles.borrow_mut();
        if handles.len() >= limits::MAX_HANDLES {
            return Err(OpenError::TooManyHandles { limit: limits::MAX_HANDLES });
        }
        let id = self.last_handle.get() + 1;
        self.last_handle.set(id);
        handles.insert(id, handle);
        Ok(id)
    }

    /// A doorbell: something is new in the shared state of a handle.
    fn answer(self: &Rc<Self>, id: HandleId) {
        let mut handles = self.handles.borrow_mut();
        match handles.get_mut(&id) {
            Some(Handle::Producer(producer)) => {
                for partition in producer.shared.take_dirty() {
                    producer.wake(partition, &self.pool);
                }
                if producer.shared.is_orphaned() {
                    self.retire_orphan(id, producer);
                }
            }
            Some(Handle::Consumer(consumer)) => {
                let closed = consumer.shared.answer();
                consumer.subscriptions.iter().for_each(|subscription| subscription.wake());
                if closed {
                    handles.remove(&id);
                    self.gone.notify_all();
                }
            }
            // A handle that was closed and then dropped rings once more.
            None => {}
        }
    }

    /// All application handles are gone. Producers that have something left get a bounded time for it.
    fn dismiss(self: &Rc<Self>) {
        let mut handles = self.handles.borrow_mut();
        handles.retain(|_, handle| matches!(handle, Handle::Producer(_)));
        for (id, handle) in handles.iter_mut() {
            if let Handle::Producer(producer) = handle {
                self.retire_orphan(*id, producer);
            }
        }
    }

    fn retire_orphan(self: &Rc<Self>, id: HandleId, producer: &mut Producer) {
        if !std::mem::replace(&mut producer.retiring, true) {
            let driver = Rc::clone(self);
            spawn(async move { driver.retire(id, limits::DROP_GRACE).await }).detach();
        }
    }

    /// Waits until a closed producer has its last ack, or gives up what is left at the deadline.
    async fn retire(&self, id: HandleId, deadline: Duration) {
        let shared = match self.handles.borrow().get(&id) {
            Some(Handle::Producer(producer)) => Arc::clone(&producer.shared),
            _ => return,
        };
        let (mark, _) = shared.begin_flush();
        let _ = timeout(deadline, std::future::poll_fn(|context| shared.poll_flushed(mark, context))).await;
        let removed = self.handles.borrow_mut().remove(&id);
        drop(removed);
        self.gone.notify_all();
    }
}

impl Producer {
    /// Wakes the lane of a partition, which is made when it is first needed.
    fn wake(&mut self, partition: u32, pool: &Rc<Pool>) {
        let (lane, _) = self.lanes.entry(partition).or_insert_with(|| {
            let lane = Lane::new(Arc::clone(&self.shared), partition);
            let task = spawn(Rc::clone(&lane).run(Rc::clone(pool)));
            (lane, task)
        });
        lane.wake();
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.lanes.values().for_each(|(lane, _)| lane.abandon());
        self.shared.abandon();
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.shared.abandon();
    }
}

/// The largest batch a topic takes: what was set for it, or the default that both sides know.
fn topic_limit(topic: &TopicMetadata) -> usize {
    let set = topic.config.iter().find(|(key, _)| key == "max.message.bytes");
    set.and_then(|(_, bytes)| bytes.parse().ok()).unwrap_or(DEFAULT_MAX_BATCH_BYTES)
}
