//! How large each kind of frame may get.

use crate::body::fixed_body_bytes;
use crate::kind::Kind;
use crate::limits::{
    HEADER_BYTES, MAX_BATCH_BYTES, MAX_BODY_BYTES, MAX_CREATE_BODY_BYTES, MAX_ERROR_BODY_BYTES,
    MAX_FRAME_BYTES, MAX_HANDSHAKE_BYTES, MAX_LONG_BODY_BYTES, MAX_TOPIC_BODY_BYTES,
};
use crate::messages::{
    Credit, Delivery, Fetch, Fetched, ListOffsets, ListOffsetsReply, Opened, Produced, Subscribe, Subscribed,
    Unsubscribe,
};

impl Kind {
    /// The largest body of this kind, in bytes, padding included.
    pub const fn max_body_bytes(self) -> usize {
        match self {
            Kind::Hello | Kind::Welcome => MAX_HANDSHAKE_BYTES - HEADER_BYTES,
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
            Kind::Fetched | Kind::Delivery => MAX_FRAME_BYTES - HEADER_BYTES - self.max_body_bytes(),
            _ => 0,
        }
    }
}
