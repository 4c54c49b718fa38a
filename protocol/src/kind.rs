//! What a frame can be.
//!
//! Requests have the top bit clear, replies and pushes have it set; a reply's number is its request's plus 0x80.

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
}
