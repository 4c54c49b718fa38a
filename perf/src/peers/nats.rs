//! NATS JetStream through its Rust client. A partition is a stream of its own, with one subject: JetStream orders and
//! stores by stream.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::future::{Future, IntoFuture, poll_fn};
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::{Ordered, OrderedConfig};
use async_nats::jetstream::context::{Context, ContextBuilder, PublishAckFuture, PublishError};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::stream::{Config, StorageType};
use futures_core::Stream;
use ringlog_loadgen::executor::Executor;
use ringlog_loadgen::target::{
    AckClass, Connection, Description, Extent, Incoming, Outgoing, Publisher, Subscriber, Target, TargetError,
};

use super::setup::Setup;

const TIMEOUT: Duration = Duration::from_secs(30);
/// Records in flight on a connection, in large batches: what the client takes before it waits.
const BULK_IN_FLIGHT: usize = 512;
const IN_FLIGHT: usize = 1 << 16;

/// A server, and how it is to be driven.
#[derive(Clone, Debug)]
pub struct Nats(pub Setup);

impl Nats {
    fn in_flight(&self) -> usize {
        if self.0.large_batches { BULK_IN_FLIGHT } else { IN_FLIGHT }
    }
}

impl Target for Nats {
    type Connection = NatsConnection;

    fn executor(&self) -> Executor {
        Executor::Tokio
    }

    async fn connect(&self) -> Result<NatsConnection, TargetError> {
        let client = async_nats::connect(&self.0.address).await.map_err(refused)?;
        let version = client.server_info().version;
        let context = ContextBuilder::new()
            .timeout(TIMEOUT)
            .ack_timeout(TIMEOUT)
            .max_ack_inflight(self.in_flight())
            .backpressure_on_inflight(true)
            .build(client);
        Ok(NatsConnection { nats: self.clone(), version, context })
    }
}

/// A client.
pub struct NatsConnection {
    nats: Nats,
    version: String,
    context: Context,
}

fn stream_name(topic: &str, partition: u32) -> String {
    format!("{topic}-{partition}")
}

impl NatsConnection {
    /// How many streams a topic has.
    async fn partitions(&self, topic: &str) -> Result<u32, TargetError> {
        let mut partitions = 0;
        while self.context.get_stream(stream_name(topic, partitions)).await.is_ok() {
            partitions += 1;
        }
        Ok(partitions)
    }
}

impl Connection for NatsConnection {
    type Publisher = NatsPublisher;
    type Subscriber = NatsSubscriber;

    fn describe(&self) -> Description {
        let sync = if self.nats.0.class == AckClass::Flushed { "always" } else { "2m" };
        let settings = BTreeMap::from([
            ("storage".to_string(), "file".to_string()),
            ("in flight".to_string(), self.nats.in_flight().to_string()),
            // It cannot be asked for; the one who gave the address says so by the class.
            ("sync_interval".to_string(), sync.to_string()),
        ]);
        Description {
            name: "NATS".into(),
            version: self.version.clone(),
            address: self.nats.0.address.clone(),
            ack_class: self.nats.0.class,
            settings,
        }
    }

    async fn create_topic(&self, topic: &str, partitions: u32) -> Result<u32, TargetError> {
        for partition in 0..partitions {
            let name = stream_name(topic, partition);
            let subjects = vec![name.clone()];
            let config = Config { name, subjects, storage: StorageType::File, ..Config::default() };
            self.context.get_or_create_stream(config).await.map_err(refused)?;
        }
        Ok(partitions)
    }

    async fn delete_topic(&self, topic: &str) -> Result<(), TargetError> {
        for partition in 0..self.partitions(topic).await? {
            self.context.delete_stream(stream_name(topic, partition)).await.map_err(refused)?;
        }
        Ok(())
    }

    async fn extents(&self, topic: &str) -> Result<Vec<Extent>, TargetError> {
        let mut extents = Vec::new();
        for partition in 0..self.partitions(topic).await? {
            let stream = self.context.get_stream(stream_name(topic, partition)).await.map_err(refused)?;
            let state = &stream.cached_info().state;
            extents.push(Extent { start: state.first_sequence.max(1), end: state.last_sequence + 1 });
        }
        Ok(extents)
    }

    async fn publisher(&self, topic: &str) -> Result<NatsPublisher, TargetError> {
        let partitions = self.partitions(topic).await?;
        let subjects = (0..partitions).map(|partition| stream_name(topic, partition)).collect();
        Ok(NatsPublisher { context: self.context.clone(), subjects, next: 0 })
    }

    async fn subscriber(&self, topic: &str, from: &[(u32, u64)]) -> Result<NatsSubscriber, TargetError> {
        let mut streams = Vec::new();
        for &(partition, offset) in from {
            let config = OrderedConfig {
                deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: offset.max(1) },
                ..OrderedConfig::default()
            };
            let stream = self.context.get_stream(stream_name(topic, partition)).await.map_err(refused)?;
            let consumer = stream.create_consumer(config).await.map_err(refused)?;
            streams.push((partition, consumer.messages().await.map_err(refused)?));
        }
        Ok(NatsSubscriber { streams })
    }
}

/// Publishes to the streams of a topic.
pub struct NatsPublisher {
    context: Context,
    subjects: Vec<String>,
    /// The partition of the next record without a key or a partition.
    next: usize,
}

impl NatsPublisher {
    fn subject(&mut self, record: &Outgoing) -> Result<String, TargetError> {
        let partition = match (record.partition, &record.key) {
            (Some(partition), _) => partition as usize,
            (None, Some(key)) => {
                ringlog_protocol::partitioner::partition_for_key(key, self.subjects.len() as u32) as usize
            }
            (None, None) => {
                self.next = (self.next + 1) % self.subjects.len().max(1);
                self.next
            }
        };
        self.subjects.get(partition).cloned().ok_or_else(|| TargetError::refused("no such NATS stream"))
    }
}

impl Publisher for NatsPublisher {
    type Ack = NatsAck;

    async fn publish(&mut self, record: Outgoing) -> Result<NatsAck, TargetError> {
        let subject = self.subject(&record)?;
        let message = PublishMessage::build().payload(record.value);
        let ack: PublishAckFuture = self.context.send_publish(subject, message).await.map_err(refused)?;
        Ok(NatsAck(ack.into_future()))
    }

    async fn flush(&mut self) {
        // Every record leaves at once.
    }
}

/// A record's acknowledgement, boxed by the client itself.
pub struct NatsAck(Pin<Box<dyn Future<Output = Result<PublishAck, PublishError>> + Send>>);

impl Future for NatsAck {
    type Output = Result<(), TargetError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(context).map(|acked| match acked {
            Ok(_) => Ok(()),
            Err(error) => Err(TargetError::unknown(format!("NATS did not acknowledge: {error}"))),
        })
    }
}

/// Ordered consumers of some streams.
pub struct NatsSubscriber {
    streams: Vec<(u32, Ordered)>,
}

impl Subscriber for NatsSubscriber {
    async fn next(&mut self, into: &mut Vec<Incoming>) -> Result<(), TargetError> {
        poll_fn(|context| {
            for (partition, stream) in &mut self.streams {
                while let Poll::Ready(message) = Pin::new(&mut *stream).poll_next(context) {
                    let message = message.ok_or_else(|| TargetError::refused("the NATS consumer ended"))?;
                    let message = message.map_err(refused)?;
                    let offset = message.info().map_err(refused)?.stream_sequence;
                    let value = message.message.payload;
                    into.push(Incoming { partition: *partition, offset, value });
                }
            }
            if into.is_empty() { Poll::Pending } else { Poll::Ready(Ok(())) }
        })
        .await
    }
}

fn refused(error: impl Display) -> TargetError {
    TargetError::refused(format!("NATS: {error}"))
}
