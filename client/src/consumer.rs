//! Subscribing: records of some partitions, pushed by the broker as soon as they may be read, as far as the prefetch goes.
//!
//! Order is kept within a partition; partitions take turns, a batch each. A lost connection is made again without the application's
//! help, from the next offset that it needs.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use ringlog_protocol::messages::Position;

use crate::command::{Command, Handle, Line};
use crate::error::{ConsumeError, OpenError};
use crate::inbox::{Inbox, Reading, Taken};
use crate::limits;
use crate::plan::{ConsumerPlan, OffsetReset};
use crate::record::{ConsumedBatch, ConsumedRecord};
use crate::unpack::unpack;

/// Settings of a consumer that is about to be built; from [`Client::consumer`](crate::Client::consumer).
#[derive(Clone, Debug)]
#[must_use = "call build() to get the consumer"]
pub struct ConsumerBuilder {
    line: Line,
    topic: Arc<str>,
    plan: ConsumerPlan,
}

impl ConsumerBuilder {
    pub(crate) fn new(line: Line, topic: &str) -> Self {
        let plan = ConsumerPlan {
            partitions: None,
            from: Position::End,
            topic_id: None,
            reset: OffsetReset::Error,
            offsets: Vec::new(),
            prefetch_bytes: limits::DEFAULT_PREFETCH_BYTES,
            reading: Reading::default(),
        };
        Self { line, topic: Arc::from(topic), plan }
    }

    /// The partitions to read; default all that the topic has now.
    pub fn partitions(mut self, partitions: impl IntoIterator<Item = u32>) -> Self {
        self.plan.partitions = Some(partitions.into_iter().collect());
        self
    }

    /// Where to begin; default [`Position::End`], which means only what comes from now on.
    pub fn from(mut self, position: Position) -> Self {
        self.plan.from = position;
        self
    }

    /// Where single partitions begin, as (partition, offset): what an application that keeps its own offsets uses.
    pub fn from_offsets(mut self, offsets: impl IntoIterator<Item = (u32, i64)>) -> Self {
        self.plan.offsets = offsets.into_iter().collect();
        self
    }

    /// The number that the topic must have, from [`Consumer::topic_id`] or [`TopicInfo::id`](crate::TopicInfo::id): what an application
    /// that keeps its own offsets keeps with them. A topic that was deleted and made again has another number, and
    /// [`build`](ConsumerBuilder::build) fails with [`OpenError::TopicRecreated`].
    pub fn topic_id(mut self, id: u64) -> Self {
        self.plan.topic_id = Some(id);
        self
    }

    /// What to do when the next offset is not in the log, because retention has removed it or the log ends before it; default
    /// [`OffsetReset::Error`].
    pub fn offset_reset(mut self, reset: OffsetReset) -> Self {
        self.plan.reset = reset;
        self
    }

    /// The bytes that may be received before the application takes them, over all partitions; default 1 MiB. Each partition gets an equal
    /// share of it, at least 16 KiB, and may pass that share by one push of the broker.
    pub fn prefetch_bytes(mut self, bytes: usize) -> Self {
        self.plan.prefetch_bytes = bytes;
        self
    }

    /// Whether to check each batch's CRC; default yes.
    pub fn check_crc(mut self, check: bool) -> Self {
        self.plan.reading.check_crc = check;
        self
    }

    /// Whether to go on after a batch that cannot be read; default no. Its error ([`ConsumeError::BadBatch`], with its offsets) comes
    /// either way, in its place; without this it ends the partition.
    pub fn skip_unreadable(mut self, skip: bool) -> Self {
        self.plan.reading.skip_unreadable = skip;
        self
    }

    /// Looks the topic up and begins to receive.
    pub async fn build(self) -> Result<Consumer, OpenError> {
        let Self { line, topic, mut plan } = self;
        if let Some(partitions) = &mut plan.partitions {
            partitions.sort_unstable();
            partitions.dedup();
        }
        let own = line.clone();
        let handle = line.request(|reply| Command::OpenConsumer { topic, plan, line: own, reply }).await?;
        Ok(Consumer { handle, records: VecDeque::new() })
    }
}

/// Reads records: a [`Stream`] of them, or of [`batches`](Consumer::batches). Dropping it ends the subscription.
#[derive(Debug)]
pub struct Consumer {
    handle: Handle<Inbox>,
    /// What is left of the batch that was taken last.
    records: VecDeque<ConsumedRecord>,
}

impl Consumer {
    /// The topic.
    pub fn topic(&self) -> &str {
        &self.handle.shared.topic
    }

    /// The topic's number, which no other topic ever has.
    pub fn topic_id(&self) -> u64 {
        self.handle.shared.topic_id
    }

    /// The partitions that it was built for.
    pub fn partitions(&self) -> Vec<u32> {
        self.handle.shared.partitions()
    }

    /// The next record. `None` when every partition has ended with an error; a healthy partition never ends. Safe to drop
    /// before it is ready: nothing is lost.
    #[allow(clippy::should_implement_trait, reason = "an async next, as of every stream")]
    pub async fn next(&mut self) -> Option<Result<ConsumedRecord, ConsumeError>> {
        std::future::poll_fn(|context| self.poll_record(context)).await
    }

    /// A stream of whole batches, which costs less per record.
    pub fn batches(&mut self) -> Batches<'_> {
        Batches { consumer: self }
    }

    fn poll_record(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<ConsumedRecord, ConsumeError>>> {
        loop {
            if let Some(record) = self.records.pop_front() {
                return Poll::Ready(Some(Ok(record)));
            }
            match ready!(self.poll_batch(context)) {
                Some(Ok(batch)) => self.records = batch.records.into(),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }

    /// The next batch with at least one wanted record.
    fn poll_batch(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<ConsumedBatch, ConsumeError>>> {
        loop {
            match ready!(self.handle.shared.poll_take(context)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(taken)) => match self.handle.opened(&taken) {
                    Ok(batch) if batch.records.is_empty() => {}
                    result => return Poll::Ready(Some(result)),
                },
            }
        }
    }
}

impl Handle<Inbox> {
    fn opened(&self, taken: &Taken) -> Result<ConsumedBatch, ConsumeError> {
        // A driver that is gone has said so in the inbox.
        if taken.ring {
            self.line.ring(self.id);
        }
        let result = unpack(&self.shared, taken);
        match &result {
            Ok(batch) if taken.not_before_ms.is_some() && !batch.records.is_empty() => {
                self.shared.time_reached(taken.place);
            }
            Ok(_) => {}
            Err(_) if self.shared.reading.skip_unreadable => {}
            Err(_) => self.shared.stop(taken.place),
        }
        result
    }
}

impl Stream for Consumer {
    type Item = Result<ConsumedRecord, ConsumeError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_record(context)
    }
}

/// The batches of a consumer; from [`Consumer::batches`].
#[derive(Debug)]
pub struct Batches<'a> {
    consumer: &'a mut Consumer,
}

impl Batches<'_> {
    /// The next batch; `None` when every partition has ended with an error. Safe to drop before it is ready.
    #[allow(clippy::should_implement_trait, reason = "an async next, as of every stream")]
    pub async fn next(&mut self) -> Option<Result<ConsumedBatch, ConsumeError>> {
        std::future::poll_fn(|context| self.poll_batch(context)).await
    }

    fn poll_batch(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<ConsumedBatch, ConsumeError>>> {
        // Records that `Consumer::next` left over come first.
        let left = &mut self.consumer.records;
        match left.front() {
            Some(first) => {
                let (partition, base_offset) = (first.partition, first.offset);
                let records = left.drain(..).collect();
                Poll::Ready(Some(Ok(ConsumedBatch { partition, base_offset, records })))
            }
            None => self.consumer.poll_batch(context),
        }
    }
}

impl Stream for Batches<'_> {
    type Item = Result<ConsumedBatch, ConsumeError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_batch(context)
    }
}
