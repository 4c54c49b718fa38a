//! What comes out of a session.

use std::sync::Arc;

use bytes::Bytes;
use ringlog_protocol::messages::{
    CreateTopicReply, Fetched, ListOffsetsReply, MetadataReply, Opened, Produced, Subscribed, TopicMetadata,
    Welcome,
};
use ringlog_protocol::{Frame, FrameError, Kind};
use thiserror::Error;

use crate::error::Refusal;

/// Something that happened on the connection.
#[derive(Debug, PartialEq)]
pub(crate) enum Event<T> {
    /// The handshake is done.
    Welcome(Welcome),
    /// A request was answered.
    Reply { token: T, reply: Reply },
    /// A request was refused.
    Refused { token: T, refusal: Refusal },
    /// Batches were pushed.
    Delivery { subscription: u32, high_watermark: i64, payload: Bytes },
    /// The broker ended a subscription.
    SubscriptionEnded { subscription: u32, refusal: Refusal },
    /// An error for something that expects no answer, such as a batch sent without an ack.
    Complaint(Refusal),
}

/// The answer to a request.
#[derive(Debug, PartialEq)]
pub(crate) enum Reply {
    Metadata(MetadataReply),
    Created(TopicMetadata),
    Opened {
        handle: u32,
        opened: Opened,
    },
    Produced(Produced),
    Fetched {
        fetched: Fetched,
        batches: Bytes,
    },
    Subscribed(Subscribed),
    Offsets(ListOffsetsReply),
    /// Done, and nothing more to say.
    Done,
}

impl Reply {
    /// Reads a reply frame.
    pub fn read(frame: &Frame<'_>) -> Result<Self, SessionError> {
        Ok(match frame.header.kind {
            Kind::MetadataReply => Self::Metadata(frame.message()?),
            Kind::CreateTopicReply => Self::Created(frame.message::<CreateTopicReply>()?.topic),
            Kind::Opened => Self::Opened { handle: frame.header.handle, opened: frame.message()? },
            Kind::Produced => Self::Produced(frame.message()?),
            Kind::Fetched => {
                Self::Fetched { fetched: frame.message()?, batches: Bytes::copy_from_slice(frame.payload) }
            }
            Kind::Subscribed => Self::Subscribed(frame.message()?),
            Kind::ListOffsetsReply => Self::Offsets(frame.message()?),
            _ => Self::Done,
        })
    }
}

/// A request that the connection took with it.
#[derive(Debug, PartialEq)]
pub(crate) struct Lost<T> {
    pub token: T,
    /// Its bytes may have reached the broker.
    pub sent: bool,
}

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Error)]
pub(crate) enum SessionError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("{what}")]
    Unexpected { what: Arc<str> },
    #[error("the broker pushed more to subscription {subscription} than its credit")]
    CreditExceeded { subscription: u32 },
    #[error("no answer in time ({expected:?})")]
    TimedOut { expected: Kind },
    #[error(transparent)]
    Refused(Refusal),
}

impl SessionError {
    /// Whether no broker that keeps to the protocol causes it, whatever becomes of the connection.
    pub fn is_the_brokers_fault(&self) -> bool {
        match self {
            Self::Frame(_) | Self::Unexpected { .. } | Self::CreditExceeded { .. } => true,
            Self::TimedOut { .. } | Self::Refused(_) => false,
        }
    }
}
