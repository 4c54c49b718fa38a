//! The driver: takes commands and doorbells, and keeps the producers' lanes and the consumers' subscriptions.
//!
//! The ways through it: a doorbell serves the lanes of the partitions that have something new (`lane`): they take batches and send them
//! over the link to the right shard (`pool`, `link`); what the link receives settles the acks and goes into inboxes (`subscription`).
//! `runtime` says where all this runs.

mod backoff;
pub(crate) mod config;
mod control;
mod lane;
mod link;
mod lock;
mod notify;
mod pool;
pub(crate) mod runtime;
mod subscription;
mod window;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ringlog_protocol::limits::DEFAULT_MAX_BATCH_BYTES;
use ringlog_protocol::messages::{Position, TopicMetadata};

use crate::accumulator::{Accumulator, ProducerSettings};
use crate::command::{Command, Handle, Line, Orders};
use crate::doorbell::{Bell, Doorbell, HandleId};
use crate::error::{ConnectError, OpenError};
use crate::inbox::Inbox;
use crate::limits;
use crate::plan::ConsumerPlan;
use config::DriverConfig;
use lane::Lane;
use link::Receiver;
use lock::Lock;
use notify::Notify;
use pool::Pool;
use runtime::{Driver, Runtime, Task};
use subscription::Subscription;

/// Starts a driver. The line is its only entrance; it ends when the last one is dropped.
pub(crate) fn start(driver: Driver, spin: Duration, config: DriverConfig) -> Result<Line, ConnectError> {
    let (line, orders) = Line::new();
    let serve = |runtime| async move { Engine::run(&runtime, config, orders).await };
    runtime::start(driver, spin, serve)?;
    Ok(line)
}

struct Engine {
    runtime: Arc<Runtime>,
    pool: Arc<Pool>,
    handles: Lock<BTreeMap<HandleId, Registered>>,
    last_handle: AtomicU64,
    doorbell: Arc<Doorbell>,
    /// Empty, and with memory for the partitions of the next doorbell.
    dirty: Lock<Vec<u32>>,
    /// Fires when a handle is gone.
    gone: Notify,
}

enum Registered {
    Producer(Producer),
    Consumer(Consumer),
}

struct Producer {
    shared: Arc<Accumulator>,
    bell: Bell,
    /// By partition, each made when it is first needed.
    lanes: Vec<Option<(Arc<Lane>, Task)>>,
    retiring: bool,
}

struct Consumer {
    shared: Arc<Inbox>,
    subscriptions: Vec<Arc<Subscription>>,
    /// Empty, and with memory for the places of the next doorbell.
    roomy: Vec<usize>,
}

impl Engine {
    /// Serves until the last command line is dropped and what was left to send is sent or given up.
    pub async fn run(runtime: &Arc<Runtime>, config: DriverConfig, orders: Orders) {
        let engine = Arc::new(Self {
            runtime: Arc::clone(runtime),
            pool: Pool::new(Arc::clone(runtime), config),
            handles: Lock::default(),
            last_handle: AtomicU64::new(0),
            doorbell: Arc::clone(&orders.doorbell),
            dirty: Lock::default(),
            gone: Notify::new(),
        });
        let answering = Arc::clone(&engine);
        let doorbell = Arc::clone(&orders.doorbell);
        let answering = runtime.spawn_cancellable(async move { answering.answer_doorbell(&doorbell).await });
        while let Some(command) = orders.commands.recv().await {
            runtime.spawn(Arc::clone(&engine).obey(command));
        }
        drop(answering);
        // Each handle rang as it was dropped.
        engine.answer_all(&orders.doorbell, &mut Vec::new());
        engine.dismiss();
        loop {
            let gone = engine.gone.notified();
            if engine.handles.lock().is_empty() {
                break;
            }
            gone.await;
        }
        engine.pool.close();
    }

    async fn obey(self: Arc<Self>, command: Command) {
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
    ) -> Result<Handle<Accumulator>, OpenError> {
        let known = self.pool.fresh_topic(&topic).await?;
        let broker_limit = self.pool.link(None).await?.max_batch_bytes();
        let max_batch_bytes = broker_limit.min(topic_limit(&known));
        let partitions = known.partitions.len() as u32;
        let sticky = (ringlog_reactor::random_u64() % u64::from(partitions.max(1))) as u32;
        let shared = Accumulator::new(topic, known.id, partitions, settings, max_batch_bytes, sticky);
        let lanes = (0..partitions).map(|_| None).collect();
        let producer = |id| Producer {
            shared: Arc::clone(&shared),
            bell: Bell { id, doorbell: Arc::clone(&self.doorbell) },
            lanes,
            retiring: false,
        };
        let id = self.register(|id| Registered::Producer(producer(id)))?;
        Ok(Handle { id, line, shared })
    }

    async fn open_consumer(
        &self,
        topic: Arc<str>,
        plan: ConsumerPlan,
        line: Line,
    ) -> Result<Handle<Inbox>, OpenError> {
        let known = self.pool.fresh_topic(&topic).await?;
        if plan.topic_id.is_some_and(|wanted| wanted != known.id) {
            return Err(OpenError::TopicRecreated { topic });
        }
        let there = known.partitions.len() as u32;
        let wanted = plan.partitions.unwrap_or_else(|| (0..there).collect());
        let named = wanted.iter().copied().chain(plan.offsets.iter().map(|(partition, _)| *partition));
        if let Some(partition) = named.into_iter().find(|partition| *partition >= there) {
            return Err(OpenError::UnknownPartition { topic, partition, partitions: there });
        }
        let share = plan.prefetch_bytes / wanted.len().max(1);
        let credit = share.clamp(limits::MIN_PARTITION_CREDIT, limits::MAX_PARTITION_CREDIT);
        let shared = Inbox::new(topic, known.id, &wanted, credit, plan.reading);
        let offsets: BTreeMap<u32, i64> = plan.offsets.into_iter().collect();
        let subscriptions: Vec<_> = wanted
            .iter()
            .enumerate()
            .map(|(place, partition)| {
                let from = offsets.get(partition).map_or(plan.from, |offset| Position::Offset(*offset));
                Subscription::new(Arc::clone(&shared), place, *partition, from, plan.reset)
            })
            .collect();
        let consumer =
            Consumer { shared: Arc::clone(&shared), subscriptions: subscriptions.clone(), roomy: Vec::new() };
        let id = self.register(|_| Registered::Consumer(consumer))?;
        for subscription in subscriptions {
            // It ends by itself when the consumer is dropped.
            self.runtime.spawn(subscription.run(Arc::clone(&self.pool)));
        }
        Ok(Handle { id, line, shared })
    }

    fn register(&self, handle: impl FnOnce(HandleId) -> Registered) -> Result<HandleId, OpenError> {
        let mut handles = self.handles.lock();
        if handles.len() >= limits::MAX_HANDLES {
            return Err(OpenError::TooManyHandles { limit: limits::MAX_HANDLES });
        }
        let id = self.last_handle.fetch_add(1, Ordering::Relaxed) + 1;
        handles.insert(id, handle(id));
        Ok(id)
    }

    async fn answer_doorbell(self: &Arc<Self>, doorbell: &Doorbell) {
        let mut rung = Vec::new();
        loop {
            poll_fn(|context| doorbell.poll_rung(context)).await;
            self.answer_all(doorbell, &mut rung);
        }
    }

    fn answer_all(self: &Arc<Self>, doorbell: &Doorbell, rung: &mut Vec<HandleId>) {
        doorbell.take_rung(rung);
        rung.drain(..).for_each(|id| self.answer(id));
    }

    /// Something is new in the shared state of a handle.
    fn answer(self: &Arc<Self>, id: HandleId) {
        let mut handles = self.handles.lock();
        match handles.get_mut(&id) {
            Some(Registered::Producer(producer)) => {
                let mut dirty = self.dirty.lock();
                producer.shared.take_dirty(&mut dirty);
                for partition in dirty.drain(..) {
                    producer.wake(partition, &self.runtime, &self.pool);
                }
                if producer.shared.is_orphaned() {
                    self.retire_orphan(id, producer);
                }
            }
            Some(Registered::Consumer(consumer)) => {
                let closed = consumer.shared.answer(&mut consumer.roomy);
                for place in consumer.roomy.drain(..) {
                    consumer.subscriptions[place].wake();
                }
                if closed {
                    consumer.subscriptions.iter().for_each(|subscription| subscription.wake());
                    handles.remove(&id);
                    self.gone.notify_all();
                }
            }
            // A handle that was closed and then dropped rings once more.
            None => {}
        }
    }

    /// All application handles are gone. Producers that have something left get a bounded time for it.
    fn dismiss(self: &Arc<Self>) {
        let mut handles = self.handles.lock();
        handles.retain(|_, handle| matches!(handle, Registered::Producer(_)));
        for (id, handle) in handles.iter_mut() {
            if let Registered::Producer(producer) = handle {
                self.retire_orphan(*id, producer);
            }
        }
    }

    fn retire_orphan(self: &Arc<Self>, id: HandleId, producer: &mut Producer) {
        if !std::mem::replace(&mut producer.retiring, true) {
            let engine = Arc::clone(self);
            self.runtime.spawn(async move { engine.retire(id, limits::DROP_GRACE).await });
        }
    }

    /// Waits until a closed producer has its last ack, or gives up what is left at the deadline.
    async fn retire(&self, id: HandleId, deadline: Duration) {
        let shared = match self.handles.lock().get(&id) {
            Some(Registered::Producer(producer)) => Arc::clone(&producer.shared),
            _ => return,
        };
        let (mark, _) = shared.begin_flush();
        let _ = self.runtime.timeout(deadline, shared.flushed(mark)).await;
        let removed = self.handles.lock().remove(&id);
        drop(removed);
        self.gone.notify_all();
    }
}

impl Producer {
    fn wake(&mut self, partition: u32, runtime: &Runtime, pool: &Arc<Pool>) {
        let (lane, _) = self.lanes[partition as usize].get_or_insert_with(|| {
            let lane = Lane::new(Arc::clone(&self.shared), partition, self.bell.clone());
            let task = runtime.spawn_cancellable(Arc::clone(&lane).run(Arc::clone(pool)));
            (lane, task)
        });
        lane.wake();
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.lanes.iter().flatten().for_each(|(lane, _)| lane.abandon());
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
