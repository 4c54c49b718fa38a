//! One worker: a thread with one executor, some producers and some consumers.
//!
//! It connects, and then does what the [`Order`]s say: make topics, open everything, go, stop publishing, read to an
//! end, finish. What happens comes back as [`Event`]s, and what was measured as buckets.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

use super::consumer::Reading;
use super::plan::{Control, Plan, ReadFrom};
use super::producer::{Flow, Producer};
use super::recorder::{Bucket, Recorder};
use super::scope::Scope;
use super::worker::{Books, Event, Extents, Worker};
use crate::executor::{now_ns, sleep_until, spawn};
use crate::target::{Connection, Publisher, Target, TargetError};

/// What a worker is told.
#[derive(Debug)]
pub enum Order {
    /// Make the topics that are missing, and say what is in them.
    Prepare,
    /// Open producers and consumers; topics hold this.
    Open(Arc<Extents>),
    /// Begin at the moment that the control names.
    Go,
    /// Begin no more records.
    StopPublishing,
    /// Say what is in the topics.
    Look,
    /// Consumers end there.
    ReadUntil(Arc<Extents>),
    /// End everything, hand over the books, and delete the topics if that is planned.
    Finish,
}

/// The ways from a worker to the coordinator.
#[derive(Clone, Debug)]
pub struct Lines {
    /// Events, with the worker's number.
    pub events: flume::Sender<(u32, Event)>,
    /// Measurements.
    pub buckets: flume::Sender<Bucket>,
}

/// Starts worker `index` on a thread of its own.
///
/// # Errors
/// If the thread cannot be started.
pub fn start<T: Target>(
    target: T,
    plan: Arc<Plan>,
    control: Arc<Control>,
    index: u32,
    lines: Lines,
) -> std::io::Result<flume::Sender<Order>> {
    let (orders, inbox) = flume::unbounded();
    thread::Builder::new().name(format!("loadgen-{index}")).spawn(move || {
        let (executor, wait) = (target.executor(), plan.wait);
        let events = lines.events.clone();
        let ran = executor.run(wait, run(target, plan, control, index, lines, inbox));
        // A coordinator that is gone has given the run up.
        if let Err(error) = ran {
            let words = format!("worker {index} cannot start its {executor} executor: {error}");
            let _ = events.send((index, Event::Failed(words)));
        }
        let _ = events.send((index, Event::Closed));
    })?;
    Ok(orders)
}

async fn run<T: Target>(
    target: T,
    plan: Arc<Plan>,
    control: Arc<Control>,
    index: u32,
    lines: Lines,
    orders: flume::Receiver<Order>,
) {
    let worker = Rc::new(Worker {
        plan,
        control,
        index,
        events: lines.events,
        recorder: RefCell::new(Recorder::new(lines.buckets)),
        outstanding: Cell::new(0),
        publishing: Cell::new(0),
        published: Cell::new(false),
        troubled: Cell::new(false),
        publishers: Scope::default(),
        collecting: Scope::default(),
        consumers: Scope::default(),
        readings: RefCell::default(),
    });
    let count = worker.mine(worker.plan.connections.max(worker.plan.threads)).count();
    let mut connections = Vec::with_capacity(count);
    for _ in 0..count {
        match target.connect().await {
            Ok(connection) => connections.push(Rc::new(connection)),
            Err(error) => return worker.say(Event::Failed(error.to_string())),
        }
    }
    worker.say(Event::Connected(Box::new(connections[0].describe())));
    let mut crew = Crew {
        worker,
        connections,
        producers: Vec::new(),
        flows: Vec::new(),
        readers: Vec::new(),
        readings: Vec::new(),
    };
    while let Ok(order) = orders.recv_async().await {
        if crew.obey(order).await {
            return;
        }
    }
}

/// A worker with its producers and consumers.
struct Crew<C: Connection> {
    worker: Rc<Worker>,
    connections: Vec<Rc<C>>,
    /// Opened and not started.
    producers: Vec<Producer<C>>,
    readers: Vec<Reader<C>>,
    readings: Vec<Rc<Reading>>,
    flows: Vec<Rc<Flow<<C::Publisher as Publisher>::Ack>>>,
}

/// A consumer that has not started.
struct Reader<C: Connection> {
    reading: Rc<Reading>,
    connection: Rc<C>,
    from: Vec<(u32, u64)>,
    /// One that follows live records subscribes before they come. One of what is there already does so when the clock
    /// starts: its client would fetch ahead, and what it had by then would have cost no time.
    subscriber: Option<C::Subscriber>,
}

impl<C: Connection> Reader<C> {
    async fn run(self, worker: Rc<Worker>) {
        sleep_until(worker.control.start_ns.load(Ordering::Acquire)).await;
        let topic = &worker.plan.topics[self.reading.topic];
        let subscriber = match self.subscriber {
            Some(subscriber) => Ok(subscriber),
            None => self.connection.subscriber(topic, &self.from).await,
        };
        match subscriber {
            Ok(subscriber) => self.reading.run(subscriber).await,
            Err(error) => self.reading.trouble(&error),
        }
    }
}

impl<C: Connection> Crew<C> {
    /// True after the last order.
    async fn obey(&mut self, order: Order) -> bool {
        match order {
            Order::Prepare => {
                let prepared = prepare(&*self.connections[0], &self.worker.plan).await;
                self.worker.say(Event::Prepared(prepared));
            }
            Order::Open(extents) => match self.open(&extents).await {
                Ok(()) => self.worker.say(Event::Ready),
                Err(error) => self.worker.say(Event::Failed(error.to_string())),
            },
            Order::Go => self.go(),
            Order::StopPublishing => self.worker.publishers.end(),
            Order::Look => {
                let (worker, connection) = (Rc::clone(&self.worker), Rc::clone(&self.connections[0]));
                // A target that hangs must not keep the worker from its next order.
                drop(spawn(async move { worker.say(Event::Looked(look(&*connection, &worker.plan).await)) }));
            }
            Order::ReadUntil(ends) => {
                for reading in &self.readings {
                    reading.read_until(ends[reading.topic].clone());
                }
                self.worker.look_whether_consumed();
            }
            Order::Finish => {
                self.finish().await;
                return true;
            }
        }
        false
    }

    async fn open(&mut self, extents: &Extents) -> Result<(), TargetError> {
        let worker = Rc::clone(&self.worker);
        let plan = &worker.plan;
        for (place, index) in worker.mine(plan.consumers).enumerate() {
            let topic = plan.topic_of(index);
            let held = &extents[topic];
            let partitions = plan.partitions_of_consumer(index, held.len() as u32);
            if partitions.is_empty() {
                continue;
            }
            let from = |partition: u32| match plan.read_from {
                ReadFrom::Begin => held[partition as usize].start,
                ReadFrom::End => held[partition as usize].end,
            };
            let from: Vec<(u32, u64)> =
                partitions.into_iter().map(|partition| (partition, from(partition))).collect();
            let connection = Rc::clone(&self.connections[place % self.connections.len()]);
            let subscriber = match plan.read_from {
                ReadFrom::Begin => None,
                ReadFrom::End => Some(connection.subscriber(&plan.topics[topic], &from).await?),
            };
            let reading = Reading::new(index, &worker, topic, &from);
            worker.readings.borrow_mut().push(reading.clone());
            self.readings.push(Rc::clone(&reading));
            self.readers.push(Reader { reading, connection, from, subscriber });
        }
        for (place, index) in worker.mine(plan.producers).enumerate() {
            let topic = plan.topic_of(index);
            let connection = &self.connections[place % self.connections.len()];
            let publisher = connection.publisher(&plan.topics[topic]).await?;
            let producer = Producer::new(index, &worker, connection, publisher, extents[topic].len() as u32);
            self.flows.push(producer.flow());
            self.producers.push(producer);
        }
        Ok(())
    }

    fn go(&mut self) {
        let worker = &self.worker;
        let measure_ns = worker.control.measure_ns.load(Ordering::Acquire);
        worker.recorder.borrow_mut().measure_from(measure_ns);
        for reader in self.readers.drain(..) {
            drop(spawn(worker.consumers.guard(reader.run(Rc::clone(worker)))));
        }
        worker.publishing.set(self.producers.len());
        for producer in self.producers.drain(..) {
            drop(spawn(worker.collecting.guard(producer.run())));
        }
        let clock = Rc::clone(worker);
        drop(spawn(worker.consumers.guard(async move { clock.tick(measure_ns).await })));
        worker.look_whether_published();
    }

    async fn finish(&mut self) {
        let worker = &self.worker;
        [&worker.publishers, &worker.collecting, &worker.consumers].into_iter().for_each(Scope::end);
        let now = now_ns();
        self.flows.iter().for_each(|flow| flow.note_never_begun(now));
        worker.recorder.borrow_mut().finish();
        let accounts = self.flows.iter().flat_map(|flow| flow.accounts()).collect();
        let ledgers = self.readings.iter().map(|reading| reading.take_ledger()).collect();
        worker.say(Event::Done(Box::new(Books { accounts, ledgers })));
        if worker.plan.delete_topics && worker.index == 0 {
            for topic in &worker.plan.topics {
                // The run is over, and a topic that stays is no reason to call it failed.
                let _ = self.connections[0].delete_topic(topic).await;
            }
        }
    }
}

async fn prepare(connection: &impl Connection, plan: &Plan) -> Result<Extents, TargetError> {
    for topic in &plan.topics {
        connection.create_topic(topic, plan.partitions).await?;
    }
    look(connection, plan).await
}

async fn look(connection: &impl Connection, plan: &Plan) -> Result<Extents, TargetError> {
    let mut extents = Vec::with_capacity(plan.topics.len());
    for topic in &plan.topics {
        extents.push(connection.extents(topic).await?);
    }
    Ok(extents)
}
