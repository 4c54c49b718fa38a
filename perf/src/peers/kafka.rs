//! Apache Kafka through librdkafka. A producer is a client of its own, with its own threads and connection.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::producer::future_producer::DeliveryFuture;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use ringlog_loadgen::executor::{Executor, now_ns, sleep_until};
use ringlog_loadgen::target::{
    AckClass, Connection, Description, Extent, Incoming, Outgoing, Publisher, Subscriber, Target, TargetError,
};

use super::setup::Setup;

const TIMEOUT: Duration = Duration::from_secs(30);
/// librdkafka does not tell when its full queue has room again.
const QUEUE_FULL_PAUSE_NS: u64 = 100_000;
/// Between looks whether a new partition has its leader.
const LEADER_PAUSE_NS: u64 = 50_000_000;

/// A broker, and how it is to be driven.
#[derive(Clone, Debug)]
pub struct Kafka(pub Setup);

impl Kafka {
    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.0.address).set("socket.nagle.disable", "true");
        config
    }

    /// What a comparison must know; the same that [`Kafka::producer`] sets.
    fn producer_settings(&self) -> [(&'static str, &'static str); 4] {
        let (linger_ms, batch_bytes) = if self.0.large_batches { ("5", "1000000") } else { ("0", "16384") };
        [("acks", "all"), ("linger.ms", linger_ms), ("batch.size", batch_bytes), ("compression.type", "none")]
    }

    fn producer(&self) -> Result<FutureProducer, TargetError> {
        let mut config = self.config();
        for (name, value) in self.producer_settings() {
            config.set(name, value);
        }
        config.create().map_err(refused)
    }

    fn flush_messages(&self) -> Option<&'static str> {
        (self.0.class == AckClass::Flushed).then_some("1")
    }
}

impl Target for Kafka {
    type Connection = KafkaConnection;

    fn executor(&self) -> Executor {
        Executor::Tokio
    }

    async fn connect(&self) -> Result<KafkaConnection, TargetError> {
        let client: BaseConsumer = self.config().set("group.id", "ringlog-perf").create().map_err(refused)?;
        client.fetch_metadata(None, TIMEOUT).map_err(refused)?;
        Ok(KafkaConnection { kafka: self.clone(), client })
    }
}

/// A client for questions, and what producers and consumers are made from.
pub struct KafkaConnection {
    kafka: Kafka,
    client: BaseConsumer,
}

impl KafkaConnection {
    /// How many partitions a topic has, once each of them has a leader.
    async fn led_partitions(&self, topic: &str) -> Result<u32, TargetError> {
        loop {
            let metadata = self.client.fetch_metadata(Some(topic), TIMEOUT).map_err(refused)?;
            let partitions = metadata.topics().first().map(|topic| topic.partitions()).unwrap_or_default();
            if !partitions.is_empty() && partitions.iter().all(|partition| partition.leader() >= 0) {
                return Ok(partitions.len() as u32);
            }
            sleep_until(now_ns() + LEADER_PAUSE_NS).await;
        }
    }

    /// What a partition holds. Its leader may not know of its office yet when the metadata already name it.
    async fn extent(&self, topic: &str, partition: i32) -> Result<Extent, TargetError> {
        let give_up_ns = now_ns() + TIMEOUT.as_nanos() as u64;
        loop {
            match self.client.fetch_watermarks(topic, partition, TIMEOUT) {
                Ok((start, end)) => return Ok(Extent { start: start.max(0) as u64, end: end.max(0) as u64 }),
                Err(error)
                    if now_ns() < give_up_ns
                        && error.rdkafka_error_code() == Some(RDKafkaErrorCode::NotLeaderForPartition) =>
                {
                    sleep_until(now_ns() + LEADER_PAUSE_NS).await;
                }
                Err(error) => return Err(refused(error)),
            }
        }
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>, TargetError> {
        self.kafka.config().create().map_err(refused)
    }
}

impl Connection for KafkaConnection {
    type Publisher = KafkaPublisher;
    type Subscriber = KafkaSubscriber;

    fn describe(&self) -> Description {
        let mut settings: BTreeMap<String, String> = BTreeMap::new();
        settings.extend(self.kafka.producer_settings().map(|(name, value)| (name.into(), value.into())));
        if let Some(messages) = self.kafka.flush_messages() {
            settings.insert("flush.messages".into(), messages.into());
        }
        Description {
            name: "Kafka".into(),
            version: format!("by librdkafka {}", rdkafka::util::get_rdkafka_version().1),
            address: self.kafka.0.address.clone(),
            ack_class: self.kafka.0.class,
            settings,
        }
    }

    async fn create_topic(&self, topic: &str, partitions: u32) -> Result<u32, TargetError> {
        let mut new = NewTopic::new(topic, partitions as i32, TopicReplication::Fixed(1));
        if let Some(messages) = self.kafka.flush_messages() {
            new = new.set("flush.messages", messages);
        }
        let created = self.admin()?.create_topics([&new], &AdminOptions::new()).await.map_err(refused)?;
        match created.into_iter().next() {
            Some(Err((_, code))) if code != RDKafkaErrorCode::TopicAlreadyExists => {
                Err(TargetError::refused(format!("Kafka cannot make the topic: {code}")))
            }
            _ => self.led_partitions(topic).await,
        }
    }

    async fn delete_topic(&self, topic: &str) -> Result<(), TargetError> {
        self.admin()?.delete_topics(&[topic], &AdminOptions::new()).await.map_err(refused)?;
        Ok(())
    }

    async fn extents(&self, topic: &str) -> Result<Vec<Extent>, TargetError> {
        let mut extents = Vec::new();
        for partition in 0..self.led_partitions(topic).await? {
            extents.push(self.extent(topic, partition as i32).await?);
        }
        Ok(extents)
    }

    async fn publisher(&self, topic: &str) -> Result<KafkaPublisher, TargetError> {
        Ok(KafkaPublisher { topic: topic.to_string(), producer: self.kafka.producer()? })
    }

    async fn subscriber(&self, topic: &str, from: &[(u32, u64)]) -> Result<KafkaSubscriber, TargetError> {
        let mut config = self.kafka.config();
        config
            .set("group.id", "ringlog-perf")
            .set("enable.auto.commit", "false")
            .set("fetch.wait.max.ms", "10");
        let consumer: StreamConsumer = config.create().map_err(refused)?;
        let mut places = TopicPartitionList::new();
        for (partition, offset) in from {
            places
                .add_partition_offset(topic, *partition as i32, Offset::Offset(*offset as i64))
                .map_err(refused)?;
        }
        consumer.assign(&places).map_err(refused)?;
        Ok(KafkaSubscriber { consumer })
    }
}

/// A producer.
pub struct KafkaPublisher {
    topic: String,
    producer: FutureProducer,
}

impl Publisher for KafkaPublisher {
    type Ack = KafkaAck;

    async fn publish(&mut self, record: Outgoing) -> Result<KafkaAck, TargetError> {
        let mut next = FutureRecord::<[u8], [u8]>::to(&self.topic).payload(&record.value);
        if let Some(key) = &record.key {
            next = next.key(key);
        }
        if let Some(partition) = record.partition {
            next = next.partition(partition as i32);
        }
        loop {
            match self.producer.send_result(next) {
                Ok(delivery) => return Ok(KafkaAck(delivery)),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                    next = again;
                    sleep_until(now_ns() + QUEUE_FULL_PAUSE_NS).await;
                }
                Err((error, _)) => return Err(refused(error)),
            }
        }
    }

    async fn flush(&mut self) {
        // It lingers for 5 ms at the most.
    }
}

/// A record's acknowledgement.
pub struct KafkaAck(DeliveryFuture);

impl Future for KafkaAck {
    type Output = Result<(), TargetError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|delivered| match delivered {
            Ok(Ok(_)) => Ok(()),
            Ok(Err((error, _))) => Err(TargetError::unknown(format!("Kafka did not acknowledge: {error}"))),
            Err(_) => Err(TargetError::unknown("the Kafka client ended before the ack")),
        })
    }
}

/// A consumer of some partitions.
pub struct KafkaSubscriber {
    consumer: StreamConsumer,
}

impl Subscriber for KafkaSubscriber {
    async fn next(&mut self, into: &mut Vec<Incoming>) -> Result<(), TargetError> {
        let message = self.consumer.recv().await.map_err(refused)?;
        into.push(incoming(&message));
        Ok(())
    }
}

fn incoming(message: &BorrowedMessage<'_>) -> Incoming {
    Incoming {
        partition: message.partition() as u32,
        offset: message.offset() as u64,
        value: Bytes::copy_from_slice(message.payload().unwrap_or_default()),
    }
}

fn refused(error: KafkaError) -> TargetError {
    TargetError::refused(Cow::Owned(format!("Kafka: {error}")))
}
