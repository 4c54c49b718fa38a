//! Ringlog as a target, by its bundled client, used as any service uses it.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use ringlog_client::error::{AdminError, DeliveryError, ErrorCode, SendError};
use ringlog_client::{
    Ack, Client, Compression, ConnectError, ConsumeError, Consumer, Delivery, OpenError, Position, Producer,
    Record,
};

use crate::executor::Executor;
use crate::target::{
    AckClass, Connection, Description, Extent, Incoming, Outgoing, Publisher, Subscriber, Target, TargetError,
};

/// What all producers together may hold in their buffers; each gets its share, and no more than the client's default.
const BUFFERS_BYTES: usize = 512 << 20;
const MAX_BUFFER_BYTES: usize = 32 << 20;
const MIN_BUFFER_BYTES: usize = 1 << 20;

/// How the client is set.
#[derive(Clone, Debug)]
pub struct Ringlog {
    /// Addresses, one of which must answer.
    pub servers: Vec<String>,
    /// Where the client's connections live.
    pub driver: Driver,
    /// For how long the client's own thread polls before it sleeps.
    pub spin: Duration,
    /// What an ack means. It is the level of topics that are made, as well.
    pub ack: Ack,
    /// How large a batch may grow, in bytes.
    pub batch_bytes: usize,
    /// How long a batch waits for more records.
    pub linger: Duration,
    /// How batches are compressed.
    pub compression: Compression,
    /// How long a record may take.
    pub timeout: Duration,
    /// How many producers share the memory for buffers.
    pub producers: u32,
}

/// Where the client's connections live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Driver {
    /// A thread of the client's own, which works everywhere; producers and consumers run on another.
    Thread,
    /// The tokio runtime that the producers and consumers run on.
    Tokio,
    /// The glommio executor that the producers and consumers run on (feature `glommio`).
    Glommio,
}

impl Driver {
    /// Whether this build has it. The words say how to get one that does.
    pub fn check(self) -> Result<(), String> {
        match self {
            #[cfg(not(feature = "glommio"))]
            Driver::Glommio => {
                Err("--driver glommio: this build has no glommio; build one that has it with \
                `cargo build --release -p ringlog-loadgen --features glommio`, or take `thread` or `tokio`"
                    .to_owned())
            }
            _ => Ok(()),
        }
    }
}

impl Target for Ringlog {
    type Connection = RinglogConnection;

    fn executor(&self) -> Executor {
        match self.driver {
            Driver::Thread => Executor::Reactor,
            Driver::Tokio => Executor::Tokio,
            #[cfg(feature = "glommio")]
            Driver::Glommio => Executor::Glommio,
            // `Driver::check` refuses it; who asks all the same gets the client's answer to `connect`.
            #[cfg(not(feature = "glommio"))]
            Driver::Glommio => Executor::Reactor,
        }
    }

    async fn connect(&self) -> Result<RinglogConnection, TargetError> {
        self.driver.check().map_err(TargetError::refused)?;
        let client = Client::builder()
            .client_id(format!("ringlog-loadgen/{}", env!("CARGO_PKG_VERSION")))
            .connect_timeout(self.timeout)
            .request_timeout(self.timeout)
            .driver(match self.driver {
                Driver::Thread => ringlog_client::Driver::Thread,
                Driver::Tokio => ringlog_client::Driver::Tokio,
                #[cfg(feature = "glommio")]
                Driver::Glommio => ringlog_client::Driver::Glommio,
                #[cfg(not(feature = "glommio"))]
                Driver::Glommio => ringlog_client::Driver::Thread,
            })
            .spin(self.spin)
            .connect(self.servers.iter().cloned())
            .await?;
        Ok(RinglogConnection { client, settings: self.clone() })
    }
}

/// A client.
pub struct RinglogConnection {
    client: Client,
    settings: Ringlog,
}

impl RinglogConnection {
    fn buffer_bytes(&self) -> usize {
        let share = BUFFERS_BYTES / self.settings.producers.max(1) as usize;
        share.clamp(MIN_BUFFER_BYTES, MAX_BUFFER_BYTES).max(4 * self.settings.batch_bytes)
    }
}

impl Connection for RinglogConnection {
    type Publisher = RinglogPublisher;
    type Subscriber = RinglogSubscriber;

    fn describe(&self) -> Description {
        let Ringlog { servers, ack, batch_bytes, linger, compression, .. } = &self.settings;
        let settings = [
            ("ack", ack.name().to_owned()),
            ("batch_bytes", batch_bytes.to_string()),
            ("linger_us", linger.as_micros().to_string()),
            ("compression", format!("{compression:?}").to_lowercase()),
            ("buffer_bytes", self.buffer_bytes().to_string()),
        ];
        Description {
            name: "Ringlog".to_owned(),
            // The protocol does not tell the broker's version; client and broker are released together.
            version: env!("CARGO_PKG_VERSION").to_owned(),
            address: servers.join(","),
            ack_class: if *ack == Ack::Disk { AckClass::Flushed } else { AckClass::Memory },
            settings: settings
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect::<BTreeMap<_, _>>(),
        }
    }

    async fn create_topic(&self, topic: &str, partitions: u32) -> Result<u32, TargetError> {
        let admin = self.client.admin();
        match admin.topic(topic).await {
            Ok(found) => return Ok(found.partitions.len() as u32),
            Err(AdminError::UnknownTopic { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        // A topic is never of level `none`: its records become readable at some moment.
        let level = if self.settings.ack == Ack::Disk { Ack::Disk } else { Ack::Memory };
        let created =
            admin.create_topic(topic).partitions(partitions).config("ack", level.name()).send().await?;
        Ok(created.partitions.len() as u32)
    }

    async fn delete_topic(&self, topic: &str) -> Result<(), TargetError> {
        Ok(self.client.admin().delete_topic(topic).await?)
    }

    async fn extents(&self, topic: &str) -> Result<Vec<Extent>, TargetError> {
        let admin = self.client.admin();
        let mut extents = Vec::new();
        for partition in admin.topic(topic).await?.partitions {
            let end = admin.offsets(topic, partition.partition, Position::End).await?;
            extents.push(Extent {
                start: end.start_offset.max(0) as u64,
                end: end.high_watermark.max(0) as u64,
            });
        }
        Ok(extents)
    }

    async fn publisher(&self, topic: &str) -> Result<RinglogPublisher, TargetError> {
        let settings = &self.settings;
        let producer = self
            .client
            .producer(topic)
            .ack(settings.ack)
            .batch_bytes(settings.batch_bytes)
            .linger(settings.linger)
            .compression(settings.compression)
            .buffer_bytes(self.buffer_bytes())
            .delivery_timeout(settings.timeout)
            .build()
            .await?;
        Ok(RinglogPublisher { producer })
    }

    async fn subscriber(&self, topic: &str, from: &[(u32, u64)]) -> Result<RinglogSubscriber, TargetError> {
        let consumer = self
            .client
            .consumer(topic)
            .partitions(from.iter().map(|(partition, _)| *partition))
            .from_offsets(from.iter().map(|(partition, offset)| (*partition, *offset as i64)))
            .build()
            .await?;
        Ok(RinglogSubscriber { consumer })
    }
}

/// A producer.
pub struct RinglogPublisher {
    producer: Producer,
}

impl Publisher for RinglogPublisher {
    type Ack = RinglogAck;

    async fn publish(&mut self, outgoing: Outgoing) -> Result<RinglogAck, TargetError> {
        let mut record = Record::new(outgoing.value);
        if let Some(key) = outgoing.key {
            record = record.key(key);
        }
        if let Some(partition) = outgoing.partition {
            record = record.partition(partition);
        }
        Ok(RinglogAck { delivery: self.producer.send(record).await? })
    }

    async fn flush(&mut self) {
        // Begins the flush; its end is seen by the acks.
        let mut flushing = std::pin::pin!(self.producer.flush());
        std::future::poll_fn(|context| {
            let _ = flushing.as_mut().poll(context);
            Poll::Ready(())
        })
        .await;
    }
}

/// A delivery.
pub struct RinglogAck {
    delivery: Delivery,
}

impl Future for RinglogAck {
    type Output = Result<(), TargetError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.delivery).poll(context).map(|result| Ok(result.map(drop)?))
    }
}

/// A consumer.
pub struct RinglogSubscriber {
    consumer: Consumer,
}

impl Subscriber for RinglogSubscriber {
    async fn next(&mut self, into: &mut Vec<Incoming>) -> Result<(), TargetError> {
        match self.consumer.batches().next().await {
            Some(Ok(batch)) => {
                into.extend(batch.records.into_iter().map(|record| Incoming {
                    partition: record.partition,
                    offset: record.offset as u64,
                    value: record.value.unwrap_or_default(),
                }));
                Ok(())
            }
            Some(Err(error)) => Err(error.into()),
            None => Err(TargetError::refused("every partition of the consumer has ended")),
        }
    }
}

impl From<ConnectError> for TargetError {
    fn from(error: ConnectError) -> TargetError {
        TargetError::refused(error.to_string())
    }
}

impl From<AdminError> for TargetError {
    fn from(error: AdminError) -> TargetError {
        TargetError::refused(error.to_string())
    }
}

impl From<OpenError> for TargetError {
    fn from(error: OpenError) -> TargetError {
        TargetError::refused(error.to_string())
    }
}

impl From<SendError> for TargetError {
    fn from(error: SendError) -> TargetError {
        TargetError::refused(error.to_string())
    }
}

impl From<ConsumeError> for TargetError {
    fn from(error: ConsumeError) -> TargetError {
        TargetError::refused(error.to_string())
    }
}

impl From<DeliveryError> for TargetError {
    fn from(error: DeliveryError) -> TargetError {
        let unknown = error.is_outcome_unknown();
        let full = matches!(&error, DeliveryError::Refused(refusal) if refusal.code == ErrorCode::DiskFull);
        let hint = if full { "; make room on the broker's disk" } else { "" };
        TargetError { outcome_unknown: unknown, reason: format!("{error}{hint}").into() }
    }
}
