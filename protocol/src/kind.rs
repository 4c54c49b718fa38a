//! What a frame can be, and how large each kind may get.
//!
//! Requests have the top bit clear, replies and pushes have it set; a reply's number is its request's plus 0x80.

use crate::body::fixed_body_bytes;
use crate::limits::{
    MAX_BATCH_BYTES, MAX_BODY_BYTES, MAX_CREATE_BODY_BYTES, MAX_ERROR_BODY_BYTES, MAX_FRAME_BYTES,
    MAX_HANDSHAKE_BYTES, MAX_LONG_BODY_BYTES, MAX_TOPIC_BODY_BYTES,
};
use crate::messages::{
    Credit, Delivery, Fetch, Fetched, ListOffsets, ListOffsetsReply, Opened, Produced, Subscribe, Subscribed,
    Unsubscribe,
};

macro_rules! kinds {
    ($($(#[doc = $doc:literal])* $name:ident = $number:literal,)*) => {
        /// The kind of a frame: the fifth byte of its header.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Kind { $($(#[doc = $doc])* $name = $number,)* }

        impl Kind {
            /// Every kind, in the order of its number.
            pub const ALL: &[Kind] = &[$(Kind::$name,)*];

            /// The kind with this number, if there is one.
            pub const fn from_u8(number: u8) -> Option<Kind> {
                match number { $($number => Some(Kind::$name),)* _ => None }
            }
        }
    };
}

kinds! {
    /// First frame of a connection: versions, and the shard the client wants.
    Hello = 0x01,
    /// Asks for topics and where their partitions live.
    Metadata = 0x02,
    /// Makes a topic.
    CreateTopic = 0x03,
    /// Deletes a topic.
    DeleteTopic = 0x04,
    /// Asks for a sign of life.
    Ping = 0x05,
    /// Opens a partition: gives it a handle.
    Open = 0x10,
    /// Gives a handle back.
    Close = 0x11,
    /// Appends one record batch.
    Produce = 0x12,
    /// Reads once, waiting for a while if there is nothing.
    Fetch = 0x13,
    /// Reads on and on, by credit.
    Subscribe = 0x14,
    /// Gives a subscription more credit. Has no reply.
    Credit = 0x15,
    /// Ends a subscription.
    Unsubscribe = 0x16,
    /// Asks which offset a position means.
    ListOffsets = 0x17,
    /// Answers `Hello`.
    Welcome = 0x81,
    /// Answers `Metadata`.
    MetadataReply = 0x82,
    /// Answers `CreateTopic`.
    CreateTopicReply = 0x83,
    /// Answers `DeleteTopic`; no body.
    DeleteTopicReply = 0x84,
    /// Answers `Ping`; no body.
    PingReply = 0x85,
    /// Answers `Open`; the header carries the new handle.
    Opened = 0x90,
    /// Answers `Close`; no body.
    CloseReply = 0x91,
    /// Answers `Produce`: the acknowledgement.
    Produced = 0x92,
    /// Answers `Fetch`, with batches.
    Fetched = 0x93,
    /// Answers `Subscribe`.
    Subscribed = 0x94,
    /// Pushes batches to a subscription.
    Delivery = 0x95,
    /// Answers `Unsubscribe`; no body.
    UnsubscribeReply = 0x96,
    /// Answers `ListOffsets`.
    ListOffsetsReply = 0x97,
    /// Answers any request that failed, or ends a subscription or a connection.
    Error = 0xFF,
}

impl Kind {
    /// Whether a broker may receive this kind; the others are a client's to receive.
    pub const fn is_request(self) -> bool {
        (self as u8) < 0x80
    }

    /// The largest body of this kind, in bytes, padding included.
    pub const fn max_body_bytes(self) -> usize {
        match self {
            Kind::Hello | Kind::Welcome => MAX_HANDSHAKE_BYTES - crate::frame::HEADER_BYTES,
            Kind::Metadata => MAX_BODY_BYTES,
            Kind::MetadataReply | Kind::CreateTopicReply => MAX_LONG_BODY_BYTES,
            Kind::CreateTopic => MAX_CREATE_BODY_BYTES,
            Kind::DeleteTopic | Kind::Open => MAX_TOPIC_BODY_BYTES,
            Kind::Error => MAX_ERROR_BODY_BYTES,
            Kind::Opened => fixed_body_bytes::<Opened>(),
            Kind::Produced => fixed_body_bytes::<Produced>(),
            Kind::Fetch => fixed_body_bytes::<Fetch>(),
            Kind::Fetched => fixed_body_bytes::<Fetched>(),
            Kind::Subscribe => fixed_body_bytes::<Subscribe>(),
            Kind::Subscribed => fixed_body_bytes::<Subscribed>(),
            Kind::Delivery => fixed_body_bytes::<Delivery>(),
            Kind::Credit => fixed_body_bytes::<Credit>(),
            Kind::Unsubscribe => fixed_body_bytes::<Unsubscribe>(),
            Kind::ListOffsets => fixed_body_bytes::<ListOffsets>(),
            Kind::ListOffsetsReply => fixed_body_bytes::<ListOffsetsReply>(),
            Kind::Ping
            | Kind::PingReply
            | Kind::Close
            | Kind::CloseReply
            | Kind::DeleteTopicReply
            | Kind::UnsubscribeReply
            | Kind::Produce => 0,
        }
    }

    /// The largest payload of this kind, in bytes: zero for all that carry no batches.
    pub const fn max_payload_bytes(self) -> usize {
        match self {
            Kind::Produce => MAX_BATCH_BYTES,
            Kind::Fetched | Kind::Delivery => {
                MAX_FRAME_BYTES - crate::frame::HEADER_BYTES - self.max_body_bytes()
            }
            _ => 0,
        }
    }
}
