//! The bodies of frames: what is asked and what is answered. `docs/wire.md` lists who sends each and what it means.
//!
//! Fields are laid out in the order of declaration, so that order is part of the protocol. `Hello` and `Welcome` never
//! change in any version; the others may, with the version that `Welcome` names.

mod handshake;
mod partition;
mod subscription;
mod topics;

pub use handshake::{ArchivedHello, ArchivedWelcome, HELLO_MAGIC, Hello, Welcome};
pub use partition::{
    ArchivedFetch, ArchivedFetched, ArchivedListOffsets, ArchivedListOffsetsReply, ArchivedOpen,
    ArchivedOpened, ArchivedPosition, ArchivedProduced, Fetch, Fetched, ListOffsets, ListOffsetsReply, Open,
    Opened, Position, Produced,
};
pub use subscription::{
    ArchivedCredit, ArchivedDelivery, ArchivedSubscribe, ArchivedSubscribed, ArchivedUnsubscribe, Credit,
    Delivery, Subscribe, Subscribed, Unsubscribe,
};
pub use topics::{
    ArchivedCreateTopic, ArchivedCreateTopicReply, ArchivedDeleteTopic, ArchivedMetadataReply,
    ArchivedMetadataRequest, ArchivedPartitionMetadata, ArchivedTopicMetadata, CreateTopic, CreateTopicReply,
    DeleteTopic, MetadataReply, MetadataRequest, PartitionMetadata, TopicMetadata,
};

use crate::body::{Body, FixedBody};
pub use crate::errors::{ArchivedErrorReply, ErrorReply};
use crate::kind::Kind;

macro_rules! bodies {
    ($($body:ty: $($kind:ident)+;)*) => {
        $(impl Body for $body {
            const KINDS: &'static [Kind] = &[$(Kind::$kind),+];
            const NAME: &'static str = stringify!($body);
        })*
    };
}

macro_rules! fixed_bodies {
    ($($body:ty: $($kind:ident)+;)*) => {
        bodies! { $($body: $($kind)+;)* }
        $(impl FixedBody for $body {})*
    };
}

bodies! {
    Hello: Hello;
    Welcome: Welcome;
    MetadataRequest: Metadata;
    MetadataReply: MetadataReply;
    CreateTopic: CreateTopic;
    CreateTopicReply: CreateTopicReply;
    DeleteTopic: DeleteTopic;
    Open: Open;
    ErrorReply: Error;
}

fixed_bodies! {
    (): Ping PingReply Close CloseReply DeleteTopicReply UnsubscribeReply Produce;
    Opened: Opened;
    Produced: Produced;
    Fetch: Fetch;
    Fetched: Fetched;
    Subscribe: Subscribe;
    Subscribed: Subscribed;
    Delivery: Delivery;
    Credit: Credit;
    Unsubscribe: Unsubscribe;
    ListOffsets: ListOffsets;
    ListOffsetsReply: ListOffsetsReply;
}
