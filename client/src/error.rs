//! One small error enum per operation. Each says what happened, what the caller can do about it, and
//! whether trying again may help (`is_retryable`). All are cheap to clone: one failure may end many deliveries.

use std::sync::Arc;

use ringlog_protocol::limits::MAX_BATCH_BYTES;
use thiserror::Error;

pub use ringlog_protocol::ErrorCode;

/// A typed refusal that the broker sent, with its own words.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the broker refused: {message} ({code})")]
pub struct Refusal {
    /// What kind of refusal it is; see `docs/wire.md` for the list.
    pub code: ErrorCode,
    /// True when the same request may succeed later.
    pub retryable: bool,
    /// The broker's words, made for people.
    pub message: Arc<str>,
}

impl Refusal {
    /// The handle is not known, or its topic is gone: another of that name may be there by now, which only opening it tells.
    pub(crate) fn is_of_a_dead_handle(&self) -> bool {
        matches!(self.code, ErrorCode::UnknownHandle | ErrorCode::UnknownTopic | ErrorCode::UnknownPartition)
    }
}

/// No connection to a broker could be made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConnectError {
    /// An address is not `HOST:PORT`.
    #[error(
        "`{address}` is not an address of a broker: {reason}; write HOST:PORT, for example 127.0.0.1:7171"
    )]
    BadAddress {
        /// The address as it was given.
        address: Arc<str>,
        /// Why it cannot be used.
        reason: Arc<str>,
    },
    /// The host name of an address could not be looked up.
    #[error("the host of `{address}` is not known: {reason}")]
    UnknownHost {
        /// The address as it was given.
        address: Arc<str>,
        /// What the resolver said.
        reason: Arc<str>,
    },
    /// No address was given.
    #[error("no broker address was given; write HOST:PORT, for example 127.0.0.1:7171")]
    NoAddress,
    /// Nothing answers there.
    #[error("no broker at {address}: {reason}; start one with `ringlog serve`")]
    NoBroker {
        /// The addresses that were tried, comma separated.
        address: Arc<str>,
        /// What the operating system said.
        reason: Arc<str>,
    },
    /// Something accepted the connection and did not finish the handshake in time.
    #[error(
        "{address} accepted the connection and did not answer within {waited_ms} ms; is it a Ringlog broker, and is it healthy?"
    )]
    NoAnswer {
        /// The address that was tried.
        address: Arc<str>,
        /// The connect time-out, in milliseconds.
        waited_ms: u64,
    },
    /// What answered does not speak the protocol.
    #[error("{address} does not speak Ringlog's protocol: {reason}")]
    NotABroker {
        /// The address that was tried.
        address: Arc<str>,
        /// What was wrong with its answer.
        reason: Arc<str>,
    },
    /// The broker refused the handshake, for example because no protocol version is spoken by both sides.
    #[error("the broker at {address} refused the connection: {refusal}")]
    Refused {
        /// The address that was tried.
        address: Arc<str>,
        /// The broker's reason.
        refusal: Refusal,
    },
    /// The client's own thread could not start its event loop.
    #[error(
        "the client could not start its I/O thread: {reason}; `ringlog doctor` says what this machine lacks"
    )]
    NoReactor {
        /// What the operating system said.
        reason: Arc<str>,
    },
    /// The driver that was asked for lives on a runtime, and `connect` was not called in one.
    #[error(
        "there is no {runtime} runtime here: call connect() inside one, or let the client have a thread of its own (Driver::Thread)"
    )]
    NoRuntime {
        /// The runtime.
        runtime: &'static str,
    },
    /// The driver has ended.
    #[error("the client is closed")]
    Closed,
}

impl ConnectError {
    /// True when trying again later may succeed without a change of configuration.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::NoBroker { .. } | Self::NoAnswer { .. } | Self::UnknownHost { .. } => true,
            Self::Refused { refusal, .. } => refusal.retryable,
            _ => false,
        }
    }
}

/// A topic request or an offset look-up failed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AdminError {
    /// No connection to a broker.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// There is no such topic.
    #[error("there is no topic `{topic}`; create it with `ringlog topic create {topic}`")]
    UnknownTopic {
        /// The name that was asked for.
        topic: Arc<str>,
    },
    /// The topic has no such partition.
    #[error("topic `{topic}` has no partition {partition}: it has {partitions}, numbered from 0")]
    UnknownPartition {
        /// The topic.
        topic: Arc<str>,
        /// The partition that was asked for.
        partition: u32,
        /// How many there are.
        partitions: u32,
    },
    /// The topic was deleted, and another one of its name was made, while the answer was under way.
    #[error("topic `{topic}` was deleted, and made again: look it up again")]
    TopicRecreated {
        /// The topic's name.
        topic: Arc<str>,
    },
    /// The broker refused the request.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The connection ended, or the time-out passed, before the answer came: the broker may or may not have done it.
    #[error(
        "the connection ended before the broker answered: it may or may not have done it; look before trying again"
    )]
    OutcomeUnknown,
    /// The broker's answer could not be read.
    #[error("the broker's answer cannot be read: {reason}; do client and broker have the same version?")]
    BadAnswer {
        /// What was wrong with it.
        reason: Arc<str>,
    },
}

impl AdminError {
    /// True when the same request may be sent again and may succeed.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Connect(error) => error.is_retryable(),
            Self::Refused(refusal) => refusal.retryable,
            _ => false,
        }
    }
}

/// A producer or a consumer could not be built.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OpenError {
    /// No connection to a broker.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// There is no such topic.
    #[error("there is no topic `{topic}`; create it with `ringlog topic create {topic}`")]
    UnknownTopic {
        /// The name that was asked for.
        topic: Arc<str>,
    },
    /// The topic has no such partition.
    #[error("topic `{topic}` has no partition {partition}: it has {partitions}, numbered from 0")]
    UnknownPartition {
        /// The topic.
        topic: Arc<str>,
        /// The partition that was asked for.
        partition: u32,
        /// How many there are.
        partitions: u32,
    },
    /// The topic has another id than the builder was given: it was deleted, and another one of its name was made.
    #[error(
        "topic `{topic}` was deleted, and made again: its offsets and records are others; start from `begin`, `end` or a time"
    )]
    TopicRecreated {
        /// The topic's name.
        topic: Arc<str>,
    },
    /// The broker refused the request.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A setting of the builder is out of its range.
    #[error("{setting} {reason}")]
    BadSetting {
        /// The builder's method.
        setting: &'static str,
        /// What is wrong with it.
        reason: Arc<str>,
    },
    /// The client has as many producers and consumers as it can serve.
    #[error("this client has {limit} producers and consumers already; drop some, or connect another client")]
    TooManyHandles {
        /// The limit.
        limit: usize,
    },
    /// The connection was lost while the topic was looked up.
    #[error("the connection to the broker was lost; try again")]
    ConnectionLost,
}

impl OpenError {
    /// True when the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Connect(error) => error.is_retryable(),
            Self::Refused(refusal) => refusal.retryable,
            Self::ConnectionLost => true,
            _ => false,
        }
    }
}

impl From<AdminError> for OpenError {
    fn from(error: AdminError) -> Self {
        match error {
            AdminError::Connect(error) => Self::Connect(error),
            AdminError::UnknownTopic { topic } => Self::UnknownTopic { topic },
            AdminError::UnknownPartition { topic, partition, partitions } => {
                Self::UnknownPartition { topic, partition, partitions }
            }
            AdminError::TopicRecreated { topic } => Self::TopicRecreated { topic },
            AdminError::Refused(refusal) => Self::Refused(refusal),
            AdminError::OutcomeUnknown | AdminError::BadAnswer { .. } => Self::ConnectionLost,
        }
    }
}

/// A record was not admitted: it was not sent and will not be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SendError {
    /// The record alone is larger than a batch may be.
    #[error(
        "the record has {bytes} bytes, and a batch may have {limit}; {}", way_out(*limit)
    )]
    TooLarge {
        /// The record's size in a batch of its own.
        bytes: usize,
        /// The limit for a batch, in bytes.
        limit: usize,
    },
    /// The record names a partition that the topic does not have.
    #[error("there is no partition {partition}: the topic has {partitions}, numbered from 0")]
    UnknownPartition {
        /// The partition that the record names.
        partition: u32,
        /// How many there are.
        partitions: u32,
    },
    /// The producer was closed, or its client's driver has ended.
    #[error("the producer is closed")]
    Closed,
}

/// What to do with a record that is too large. The setting belongs to a topic from its beginning.
fn way_out(limit: usize) -> String {
    match limit < MAX_BATCH_BYTES {
        true => format!(
            "split it, compress it, or send it to a topic that was created with a larger max.message.bytes (at most {MAX_BATCH_BYTES})"
        ),
        false => "split it: no topic takes more".to_owned(),
    }
}

impl SendError {
    /// Always false: the same record would be refused again.
    pub fn is_retryable(&self) -> bool {
        false
    }
}

/// `try_send` did not admit a record.
#[derive(Debug, Error)]
pub enum TrySendError {
    /// The byte budget is spent: wait for deliveries, or use `send`, which waits. The record is given back.
    #[error("the producer's buffer is full; wait for deliveries, or use `send`, which waits for room")]
    Full(crate::Record),
    /// The record can never be sent.
    #[error(transparent)]
    Refused(#[from] SendError),
}

impl TrySendError {
    /// True for `Full`.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Full(_))
    }
}

/// An admitted record was not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DeliveryError {
    /// The connection ended after the record was sent and before its ack came: it may be in the log, or not.
    /// It is not resent, since that could put it there twice.
    #[error(
        "the connection ended before the ack: the record may or may not be in the log; look before sending it again"
    )]
    OutcomeUnknown,
    /// The record was not sent within the delivery time-out; it is not in the log. Carries the last obstacle, if any.
    #[error("the record could not be delivered within the delivery time-out{}", obstacle.as_ref().map(|o| format!(": {o}")).unwrap_or_default())]
    TimedOut {
        /// What stood in the way last.
        obstacle: Option<Arc<str>>,
    },
    /// The broker refused the batch for good; the record is not in the log, unless the code is
    /// [`StorageFailed`](ErrorCode::StorageFailed): then it may be found there when the broker is started again.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The topic was deleted, and another one of its name was made, before the record was sent. It is not in the log:
    /// build another producer to send to the new topic.
    #[error("topic `{topic}` was deleted, and made again, before the record was sent")]
    TopicRecreated {
        /// The topic's name.
        topic: Arc<str>,
    },
    /// The batch was refused for now, but a later batch of its partition was accepted: resending would break the order.
    /// The record is not in the log; send it again if its place does not matter.
    #[error(
        "the record was refused ({refusal}) and later ones of its partition were accepted; resending would break the order"
    )]
    Overtaken {
        /// The broker's reason.
        refusal: Refusal,
    },
    /// The record, alone in its batch, is larger than the topic takes, compressed too. It is not in the log.
    #[error("the record has {bytes} bytes after compression, and a batch may have {limit}; {}", way_out(*limit))]
    TooLarge {
        /// The size of the batch, in bytes.
        bytes: usize,
        /// The limit for a batch, in bytes.
        limit: usize,
    },
    /// Of a producer that stops at a failure: a record before this one in its partition failed, and this one was not sent.
    #[error("the record was not sent, because one before it in its partition failed")]
    NotSent,
    /// The batch could not be compressed; the record is not in the log.
    #[error("the batch could not be compressed: {reason}")]
    Compression {
        /// What the codec said.
        reason: Arc<str>,
    },
    /// The producer was closed, or its client dropped, before the record was sent; it is not in the log.
    #[error("the producer was closed before the record was sent")]
    Closed,
}

impl DeliveryError {
    /// True when the record is certainly not in the log and sending it again may succeed.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::TimedOut { .. } | Self::Overtaken { .. } | Self::NotSent => true,
            Self::Refused(refusal) => refusal.retryable,
            _ => false,
        }
    }

    /// True when the record may be in the log although no ack came.
    pub fn is_outcome_unknown(&self) -> bool {
        match self {
            Self::OutcomeUnknown => true,
            Self::Refused(refusal) => refusal.code == ErrorCode::StorageFailed,
            _ => false,
        }
    }
}

/// A producer's `close` ended with records that have no ack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "the producer was closed with {unacked} records not acknowledged; their deliveries say what became of each"
)]
pub struct CloseError {
    /// Records that were admitted and whose deliveries failed during the close.
    pub unacked: u64,
}

impl CloseError {
    /// Always false: the producer is gone.
    pub fn is_retryable(&self) -> bool {
        false
    }
}

/// A consumer cannot go on with one of its partitions. Lost connections are not errors: it reconnects by itself.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConsumeError {
    /// The next offset is not in the log: retention removed it, or it lies behind the end.
    #[error("partition {partition}: {refusal}; start from `begin`, `end` or a time")]
    OffsetOutOfRange {
        /// The partition.
        partition: u32,
        /// The broker's words, with the range there is.
        refusal: Refusal,
    },
    /// Records that were received are not in the log any more: their topic acknowledges in memory, and a crash of the broker took them
    /// before they were on disk; or, of a topic that acknowledges at disk, the broker's disk has lost what it said was written. Other
    /// records have their offsets now, or will have.
    #[error(
        "partition {partition}: records that were received, at offset {offset} or before, are not in the log any more: a crash took what was acknowledged in memory, or the broker's disk lost it; start from `begin`, `end` or a time"
    )]
    Truncated {
        /// The partition.
        partition: u32,
        /// Where the last batch began that was received: it does not stand there any more.
        offset: i64,
    },
    /// The broker refused to go on with this partition.
    #[error("partition {partition}: {refusal}")]
    Refused {
        /// The partition.
        partition: u32,
        /// The broker's reason.
        refusal: Refusal,
    },
    /// The topic, or the partition, is not there any more.
    #[error("topic `{topic}` has no partition {partition} any more")]
    Gone {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: u32,
    },
    /// The topic was deleted, and another one of its name was made: the consumer's offsets mean nothing in it. Build another
    /// consumer to read the new topic.
    #[error(
        "partition {partition}: topic `{topic}` was deleted, and made again; start from `begin`, `end` or a time"
    )]
    TopicRecreated {
        /// The topic's name.
        topic: Arc<str>,
        /// The partition.
        partition: u32,
    },
    /// A batch that came cannot be read: wrong checksum, bad structure, or it unpacks to more than is allowed. A reader steps over it
    /// by a consumer that begins after `last_offset`, or by [`skip_unreadable`](crate::ConsumerBuilder::skip_unreadable).
    #[error(
        "partition {partition}: the batch at {} cannot be read: {reason}; {}",
        offsets(*offset, *last_offset),
        way_past(self.next_offset())
    )]
    BadBatch {
        /// The partition.
        partition: u32,
        /// The base offset that the batch claims.
        offset: i64,
        /// The offset of its last record, if its header can be read.
        last_offset: Option<i64>,
        /// What is wrong with it.
        reason: Arc<str>,
    },
    /// The driver has ended.
    #[error("the client is closed")]
    Closed,
}

impl ConsumeError {
    /// True when a new consumer at the same offset may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Refused { refusal, .. } if refusal.retryable)
    }

    /// The partition that the error ends, if it is about one.
    pub fn partition(&self) -> Option<u32> {
        match self {
            Self::OffsetOutOfRange { partition, .. }
            | Self::Truncated { partition, .. }
            | Self::Refused { partition, .. }
            | Self::Gone { partition, .. }
            | Self::TopicRecreated { partition, .. }
            | Self::BadBatch { partition, .. } => Some(*partition),
            Self::Closed => None,
        }
    }

    /// Where a reader goes on to step over what the error is about, if that is known: after a batch that cannot be read.
    pub fn next_offset(&self) -> Option<i64> {
        match self {
            Self::BadBatch { last_offset, .. } => last_offset.and_then(|last| last.checked_add(1)),
            _ => None,
        }
    }
}

fn offsets(first: i64, last: Option<i64>) -> String {
    match last {
        Some(last) if last != first => format!("offsets {first} to {last}"),
        _ => format!("offset {first}"),
    }
}

fn way_past(next: Option<i64>) -> String {
    match next {
        Some(next) => format!("start from offset {next} to step over it"),
        None => "where it ends is not known".to_owned(),
    }
}
