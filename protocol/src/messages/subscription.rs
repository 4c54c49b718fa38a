//! Subscriptions: the broker pushes, as far as the client's credit in bytes goes.

use rkyv::{Archive, Deserialize, Serialize};

use super::Position;

/// Begins a subscription to the partition of the header's handle. The request's number becomes the subscription's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Subscribe {
    /// Where to begin.
    pub from: Position,
    /// The first credit, in bytes of payload.
    pub credit_bytes: u32,
}

/// The subscription has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Subscribed {
    /// The offset that will come next.
    pub next_offset: i64,
    /// The first offset there is.
    pub start_offset: i64,
    /// One past the last offset that may be read.
    pub high_watermark: i64,
}

/// Whole batches, in order, without a gap: the frame's payload. The header's request is the subscription's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Delivery {
    /// One past the last offset that may be read.
    pub high_watermark: i64,
}

/// More credit for the subscription whose id is the header's request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Credit {
    /// Bytes of payload to add.
    pub bytes: u32,
}

/// Ends a subscription. The header's request is a number of its own, so that the reply can be told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Unsubscribe {
    /// The subscription's id.
    pub subscription: u32,
}
