//! Publishing: a two-stage send.
//!
//! Stage one, `send`, waits for admission into the producer's byte budget, which is what holds an application back that is faster
//! than its broker. Stage two, the `Delivery`, is the record's ack. Records of one partition are acknowledged, and stand in the log,
//! in the order of their sends.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ringlog_protocol::Ack;
use ringlog_protocol::batch::{Compression, HEADER_BYTES};

use crate::accumulator::{Accumulator, Admission, ProducerSettings};
use crate::command::{Command, Handle, Line};
use crate::delivery::Delivery;
use crate::error::{CloseError, OpenError, SendError, TrySendError};
use crate::limits;
use crate::record::Record;

/// Settings of a producer that is about to be built; from [`Client::producer`](crate::Client::producer).
#[derive(Clone, Debug)]
#[must_use = "call build() to get the producer"]
pub struct ProducerBuilder {
    line: Line,
    topic: Arc<str>,
    settings: ProducerSettings,
}

impl ProducerBuilder {
    pub(crate) fn new(line: Line, topic: &str) -> Self {
        let settings = ProducerSettings {
            ack: Ack::Disk,
            linger: Duration::ZERO,
            batch_bytes: limits::DEFAULT_BATCH_BYTES,
            compression: Compression::None,
            buffer_bytes: limits::DEFAULT_BUFFER_BYTES,
            delivery_timeout: limits::DEFAULT_DELIVERY_TIMEOUT,
            max_in_flight: limits::DEFAULT_MAX_IN_FLIGHT,
            stop_on_failure: false,
        };
        Self { line, topic: Arc::from(topic), settings }
    }

    /// What an acknowledgement means: on stable storage (the default), in the leader's memory, or nothing at all.
    pub fn ack(mut self, ack: Ack) -> Self {
        self.settings.ack = ack;
        self
    }

    /// How long a batch may wait for more records. Zero, the default, does not wait: records that come while others are on their
    /// way gather by themselves. It must be shorter than the delivery time-out.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.settings.linger = linger;
        self
    }

    /// How large a batch may grow, in bytes before compression; default 64 KiB. A record larger than this goes in a batch of its own.
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.settings.batch_bytes = bytes;
        self
    }

    /// How batches are compressed; default not at all. One that does not get smaller is sent as it is.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.settings.compression = compression;
        self
    }

    /// The bytes that records may take from admission to ack, over all partitions; default 32 MiB. `send` waits at this bound.
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.settings.buffer_bytes = bytes;
        self
    }

    /// How long after its admission an unsent record fails; default two minutes.
    pub fn delivery_timeout(mut self, timeout: Duration) -> Self {
        self.settings.delivery_timeout = timeout;
        self
    }

    /// How many batches of one partition may be on their way at once; default 5. The order is kept with any number. With more than
    /// one, a batch that the broker refused for now fails instead of being resent if a later one was accepted meanwhile.
    pub fn max_in_flight(mut self, batches: usize) -> Self {
        self.settings.max_in_flight = batches;
        self
    }

    /// Whether a partition's first failure is its last: what comes after it in that partition then fails with
    /// [`DeliveryError::NotSent`](crate::DeliveryError::NotSent), so that what is in the log is a prefix of what was sent, but for the failed batch itself where its
    /// outcome is unknown. One batch of a partition is on its way at a time then, whatever `max_in_flight` says, since a later one could be
    /// taken when an earlier one is refused. Default no: each record has its own outcome, and what comes after one that failed is still
    /// sent, as with Kafka's producer without idempotence.
    pub fn stop_on_failure(mut self, stop: bool) -> Self {
        self.settings.stop_on_failure = stop;
        self
    }

    /// Looks the topic up and makes the producer.
    pub async fn build(self) -> Result<Producer, OpenError> {
        self.check()?;
        let Self { line, topic, settings } = self;
        let own = line.clone();
        let handle =
            line.request(|reply| Command::OpenProducer { topic, settings, line: own, reply }).await?;
        Ok(Producer { handle: Arc::new(handle) })
    }

    fn check(&self) -> Result<(), OpenError> {
        let bad = |setting, reason: String| Err(OpenError::BadSetting { setting, reason: Arc::from(reason) });
        let batch_limit = ringlog_protocol::limits::MAX_BATCH_BYTES;
        if self.settings.batch_bytes <= HEADER_BYTES || self.settings.batch_bytes > batch_limit {
            return bad("batch_bytes", format!("must be between {} and {batch_limit}", HEADER_BYTES + 1));
        }
        if self.settings.max_in_flight == 0 {
            return bad("max_in_flight", "must be at least 1".into());
        }
        if self.settings.buffer_bytes == 0 {
            return bad("buffer_bytes", "must be at least 1".into());
        }
        let ProducerSettings { linger, delivery_timeout, .. } = &self.settings;
        if linger >= delivery_timeout {
            return bad(
                "linger",
                format!("must be shorter than the delivery time-out, {delivery_timeout:?}"),
            );
        }
        Ok(())
    }
}

/// Sends records to one topic. Clones share batches and budget; it may be used from any thread and any runtime.
///
/// Close it with [`close`](Producer::close). When the last clone is dropped without that, what was admitted is still sent in the
/// background, for a few seconds, while the process lives.
#[derive(Clone, Debug)]
pub struct Producer {
    handle: Arc<Handle<Accumulator>>,
}

impl Producer {
    /// The topic.
    pub fn topic(&self) -> &str {
        &self.handle.shared.topic
    }

    /// The topic's number, which no other topic ever has.
    pub fn topic_id(&self) -> u64 {
        self.handle.shared.topic_id
    }

    /// How many partitions the topic has.
    pub fn partitions(&self) -> u32 {
        self.handle.shared.partitions()
    }

    /// Waits for room in the byte budget and hands the record over. The result is a future of its ack: await it, keep it for
    /// later, or drop it. Dropped before it is ready, `send` has sent nothing.
    pub async fn send(&self, record: Record) -> Result<Delivery, SendError> {
        let admit = Admit { shared: &self.handle.shared, record: Some(record), ticket: None };
        let (delivery, ring) = admit.await?;
        self.handle.told(ring)?;
        Ok(delivery)
    }

    /// Hands the record over if there is room in the budget now and nobody waits for it.
    // The record comes back whole, so that the caller can try again without a copy.
    pub fn try_send(&self, record: Record) -> Result<Delivery, TrySendError> {
        match self.handle.shared.try_admit(record) {
            Admission::Admitted { delivery, ring } => {
                self.handle.told(ring)?;
                Ok(delivery)
            }
            Admission::Full(record) => Err(TrySendError::Full(record)),
            Admission::Refused(error) => Err(TrySendError::Refused(error)),
        }
    }

    /// Waits until every record admitted before this call is acknowledged or has failed. Ends a linger early.
    pub async fn flush(&self) {
        let shared = &self.handle.shared;
        let (mark, ring) = shared.begin_flush();
        // If the driver is gone, its end has settled everything.
        let _ = self.handle.told(ring);
        shared.flushed(mark).await;
    }

    /// Admits nothing more, sends what is left, and waits for the acks, at most for `deadline`. What has no ack then fails:
    /// as never sent, or as outcome unknown.
    pub async fn close(self, deadline: Duration) -> Result<(), CloseError> {
        let Handle { id, line, shared } = &*self.handle;
        let failed_before = shared.failed_records();
        let ring = shared.close();
        let _ = self.handle.told(ring);
        let _ = line.ask(|reply| Command::CloseProducer { id: *id, deadline, reply }).await;
        match shared.failed_records() - failed_before {
            0 => Ok(()),
            unacked => Err(CloseError { unacked }),
        }
    }
}

impl Handle<Accumulator> {
    /// Rings the doorbell when it is due.
    fn told(&self, ring: bool) -> Result<(), SendError> {
        if !ring || self.line.ring(self.id) {
            return Ok(());
        }
        self.shared.abandon();
        Err(SendError::Closed)
    }
}

/// Waits for admission.
struct Admit<'a> {
    shared: &'a Accumulator,
    record: Option<Record>,
    ticket: Option<u64>,
}

impl Future for Admit<'_> {
    type Output = Result<(Delivery, bool), SendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { shared, record, ticket } = &mut *self;
        shared.poll_admit(record, ticket, context)
    }
}

impl Drop for Admit<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.shared.give_up(ticket);
        }
    }
}
