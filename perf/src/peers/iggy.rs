//! Apache Iggy through its SDK. That has one request under way on a connection, so a publisher's records are sent by a
//! task of its own, which takes along what has come meanwhile: what large batches are made of.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use flume::r#async::RecvFut;
use iggy::prelude::{
    Client, CompressionAlgorithm, Consumer, Identifier, IggyClient, IggyError, IggyExpiry, IggyMessage,
    MaxTopicSize, MessageClient, Partitioning, PollingStrategy, StreamClient, SystemClient, TopicClient,
    TopicDetails, UserClient,
};
use ringlog_loadgen::executor::{Executor, now_ns, sleep_until, spawn};
use ringlog_loadgen::target::{
    AckClass, Connection, Description, Extent, Incoming, Outgoing, Publisher, Subscriber, Target, TargetError,
};

use super::setup::Setup;

const STREAM: &str = "ringlog-perf";
/// Most records of one request.
const BATCH_RECORDS: usize = 1000;
const POLL_RECORDS: u32 = 1000;
const POLL_PAUSE_NS: u64 = 200_000;

/// A server, and how it is to be driven.
#[derive(Clone, Debug)]
pub struct Iggy(pub Setup);

impl Iggy {
    fn batch_records(&self) -> usize {
        if self.0.large_batches { BATCH_RECORDS } else { 1 }
    }
}

impl Target for Iggy {
    type Connection = IggyConnection;

    fn executor(&self) -> Executor {
        Executor::Tokio
    }

    async fn connect(&self) -> Result<IggyConnection, TargetError> {
        let client = IggyClient::builder().with_tcp().with_server_address(self.0.address.clone());
        let client = client.with_no_delay().build().map_err(refused)?;
        client.connect().await.map_err(refused)?;
        let of = |variable, default: &str| std::env::var(variable).unwrap_or_else(|_| default.into());
        let (user, password) = (of("IGGY_USERNAME", "iggy"), of("IGGY_PASSWORD", "iggy"));
        client.login_user(&user, &password).await.map_err(refused)?;
        let version = client.get_stats().await.map_err(refused)?.iggy_server_version;
        match client.create_stream(STREAM).await {
            Ok(_) | Err(IggyError::StreamNameAlreadyExists(_)) => {}
            Err(error) => return Err(refused(error)),
        }
        Ok(IggyConnection { iggy: self.clone(), version, client: Rc::new(client) })
    }
}

/// A client.
pub struct IggyConnection {
    iggy: Iggy,
    version: String,
    client: Rc<IggyClient>,
}

impl IggyConnection {
    async fn topic(&self, topic: &str) -> Result<TopicDetails, TargetError> {
        let found = self.client.get_topic(&named(STREAM)?, &named(topic)?).await.map_err(refused)?;
        found.ok_or_else(|| TargetError::refused("Iggy: there is no such topic"))
    }
}

fn named(name: &str) -> Result<Identifier, TargetError> {
    Identifier::named(name).map_err(refused)
}

impl Connection for IggyConnection {
    type Publisher = IggyPublisher;
    type Subscriber = IggySubscriber;

    fn describe(&self) -> Description {
        // They cannot be asked for; the one who gave the address says so by the class.
        let class = match self.iggy.0.class {
            AckClass::Flushed => "enforce_fsync=true, messages_required_to_save=1",
            _ => "defaults",
        };
        let settings = BTreeMap::from([
            ("server".to_string(), class.to_string()),
            ("records a request".to_string(), format!("at most {}", self.iggy.batch_records())),
        ]);
        Description {
            name: "Iggy".into(),
            version: self.version.clone(),
            address: self.iggy.0.address.clone(),
            ack_class: self.iggy.0.class,
            settings,
        }
    }

    async fn create_topic(&self, topic: &str, partitions: u32) -> Result<u32, TargetError> {
        let stream = named(STREAM)?;
        let made = self.client.create_topic(
            &stream,
            topic,
            partitions,
            CompressionAlgorithm::None,
            None,
            IggyExpiry::NeverExpire,
            MaxTopicSize::Unlimited,
        );
        match made.await {
            Ok(_) | Err(IggyError::TopicNameAlreadyExists(..)) => {}
            Err(error) => return Err(refused(error)),
        }
        Ok(self.topic(topic).await?.partitions.len() as u32)
    }

    async fn delete_topic(&self, topic: &str) -> Result<(), TargetError> {
        self.client.delete_topic(&named(STREAM)?, &named(topic)?).await.map_err(refused)
    }

    async fn extents(&self, topic: &str) -> Result<Vec<Extent>, TargetError> {
        let mut partitions = self.topic(topic).await?.partitions;
        partitions.sort_by_key(|partition| partition.id);
        let extents = partitions.iter().map(|partition| match partition.messages_count {
            0 => Extent { start: 0, end: 0 },
            _ => Extent { start: 0, end: partition.current_offset + 1 },
        });
        Ok(extents.collect())
    }

    async fn publisher(&self, topic: &str) -> Result<IggyPublisher, TargetError> {
        let mut partitions: Vec<u32> = self.topic(topic).await?.partitions.iter().map(|one| one.id).collect();
        partitions.sort_unstable();
        let (queue, jobs) = flume::bounded(4 * BATCH_RECORDS);
        let sender = Sender {
            client: self.client.clone(),
            stream: named(STREAM)?,
            topic: named(topic)?,
            batch_records: self.iggy.batch_records(),
            jobs,
        };
        // It ends when the publisher is dropped.
        drop(spawn(sender.run()));
        Ok(IggyPublisher { queue, partitions, next: 0 })
    }

    async fn subscriber(&self, topic: &str, from: &[(u32, u64)]) -> Result<IggySubscriber, TargetError> {
        let mut ids: Vec<u32> = self.topic(topic).await?.partitions.iter().map(|one| one.id).collect();
        ids.sort_unstable();
        let places = from.iter().map(|&(partition, offset)| Ok((partition, id_of(&ids, partition)?, offset)));
        Ok(IggySubscriber {
            client: self.client.clone(),
            stream: named(STREAM)?,
            topic: named(topic)?,
            consumer: Consumer::new(named("ringlog-perf")?),
            places: places.collect::<Result<_, TargetError>>()?,
        })
    }
}

/// Iggy's number of a partition; whether it counts from 0 or 1 depends on the version.
fn id_of(ids: &[u32], partition: u32) -> Result<u32, TargetError> {
    ids.get(partition as usize).copied().ok_or_else(|| TargetError::refused("Iggy: no such partition"))
}

struct Job {
    partition: u32,
    message: IggyMessage,
    done: flume::Sender<Result<(), TargetError>>,
}

/// Sends one request after another.
struct Sender {
    client: Rc<IggyClient>,
    stream: Identifier,
    topic: Identifier,
    batch_records: usize,
    jobs: flume::Receiver<Job>,
}

impl Sender {
    async fn run(self) {
        let mut held = None;
        loop {
            let first = match held.take() {
                Some(job) => job,
                None => match self.jobs.recv_async().await {
                    Ok(job) => job,
                    Err(_) => return,
                },
            };
            held = self.send_with(first).await;
        }
    }

    /// Sends a record and those behind it that go to the same partition; gives back the first that does not.
    async fn send_with(&self, first: Job) -> Option<Job> {
        let partition = first.partition;
        let (mut messages, mut waiting) = (vec![first.message], vec![first.done]);
        let mut held = None;
        while messages.len() < self.batch_records {
            match self.jobs.try_recv() {
                Ok(job) if job.partition == partition => {
                    messages.push(job.message);
                    waiting.push(job.done);
                }
                Ok(other) => {
                    held = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        let place = Partitioning::partition_id(partition);
        let sent = self.client.send_messages(&self.stream, &self.topic, &place, &mut messages).await;
        let sent = sent.map_err(|error| TargetError::unknown(format!("Iggy did not acknowledge: {error}")));
        for done in waiting {
            // Whoever dropped an ack does not wait for it.
            let _ = done.send(sent.clone());
        }
        held
    }
}

/// Hands records to its sender.
pub struct IggyPublisher {
    queue: flume::Sender<Job>,
    partitions: Vec<u32>,
    /// The partition of the next record without a key or a partition.
    next: usize,
}

impl Publisher for IggyPublisher {
    type Ack = IggyAck;

    async fn publish(&mut self, record: Outgoing) -> Result<IggyAck, TargetError> {
        let partition = match (record.partition, &record.key) {
            (Some(partition), _) => partition,
            (None, Some(key)) => {
                ringlog_protocol::partitioner::partition_for_key(key, self.partitions.len() as u32)
            }
            (None, None) => {
                self.next = (self.next + 1) % self.partitions.len().max(1);
                self.next as u32
            }
        };
        let partition = id_of(&self.partitions, partition)?;
        let message = IggyMessage::builder().payload(record.value).build().map_err(refused)?;
        let (done, acked) = flume::bounded(1);
        let job = Job { partition, message, done };
        self.queue.send_async(job).await.map_err(|_| TargetError::refused("the Iggy client ended"))?;
        Ok(IggyAck(acked.into_recv_async()))
    }

    async fn flush(&mut self) {
        // Every record leaves as soon as the one before it has its answer.
    }
}

/// A record's acknowledgement.
pub struct IggyAck(RecvFut<'static, Result<(), TargetError>>);

impl Future for IggyAck {
    type Output = Result<(), TargetError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|acked| match acked {
            Ok(acked) => acked,
            Err(_) => Err(TargetError::unknown("the Iggy client ended before the ack")),
        })
    }
}

/// Polls some partitions in turn.
pub struct IggySubscriber {
    client: Rc<IggyClient>,
    stream: Identifier,
    topic: Identifier,
    consumer: Consumer,
    /// Partition, Iggy's number of it, and the next offset.
    places: Vec<(u32, u32, u64)>,
}

impl Subscriber for IggySubscriber {
    async fn next(&mut self, into: &mut Vec<Incoming>) -> Result<(), TargetError> {
        loop {
            for (partition, id, offset) in &mut self.places {
                let from = PollingStrategy::offset(*offset);
                let (stream, topic, who) = (&self.stream, &self.topic, &self.consumer);
                let polled =
                    self.client.poll_messages(stream, topic, Some(*id), who, &from, POLL_RECORDS, false);
                for message in polled.await.map_err(refused)?.messages {
                    *offset = message.header.offset + 1;
                    let (offset, value) = (message.header.offset, message.payload);
                    into.push(Incoming { partition: *partition, offset, value });
                }
                // Not after another await: what was pushed must be handed over.
                if !into.is_empty() {
                    break;
                }
            }
            if !into.is_empty() {
                // The next look begins with another partition.
                self.places.rotate_left(1);
                return Ok(());
            }
            sleep_until(now_ns() + POLL_PAUSE_NS).await;
        }
    }
}

fn refused(error: impl Display) -> TargetError {
    TargetError::refused(format!("Iggy: {error}"))
}
