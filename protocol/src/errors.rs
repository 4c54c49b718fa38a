//! The errors a peer can be told: a code, whether to try again, and a sentence for people.

use rkyv::{Archive, Deserialize, Serialize};

use crate::limits::MAX_ERROR_MESSAGE;

macro_rules! codes {
    ($($(#[doc = $doc:literal])* $name:ident = $number:literal, $retryable:literal, $word:literal;)*) => {
        /// What went wrong. The numbers never change their meaning; a newer peer's unknown number is `Other`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorCode {
            $($(#[doc = $doc])* $name,)*
            /// A code this version does not know.
            Other(u16),
        }

        impl ErrorCode {
            /// Every code this version knows.
            pub const ALL: &[ErrorCode] = &[$(ErrorCode::$name,)*];

            /// The number on the wire.
            pub const fn number(self) -> u16 {
                match self { $(ErrorCode::$name => $number,)* ErrorCode::Other(number) => number }
            }

            /// The code with this number.
            pub const fn from_number(number: u16) -> ErrorCode {
                match number { $($number => ErrorCode::$name,)* other => ErrorCode::Other(other) }
            }

            /// Whether the same request may succeed later without any change. An unknown code is not retryable by
            /// itself: go by what the reply says.
            pub const fn is_retryable(self) -> bool {
                match self { $(ErrorCode::$name => $retryable,)* ErrorCode::Other(_) => false }
            }

            /// The code's name, for logs and metrics.
            pub const fn name(self) -> &'static str {
                match self { $(ErrorCode::$name => $word,)* ErrorCode::Other(_) => "other" }
            }
        }
    };
}

codes! {
    /// No protocol version in common.
    UnsupportedVersion = 1, false, "unsupported_version";
    /// Not a frame, or not a valid body. The connection is closed.
    MalformedFrame = 2, false, "malformed_frame";
    /// A frame, body or payload over its limit. The connection is closed.
    FrameTooLarge = 3, false, "frame_too_large";
    /// A kind of frame that does not exist, or that a client does not send. The connection is closed.
    UnknownKind = 4, false, "unknown_kind";
    /// Something else before `Hello`, or a second `Hello`. The connection is closed.
    NotHandshaken = 5, false, "not_handshaken";
    /// There is no such topic, or it was deleted while it was open.
    UnknownTopic = 10, false, "unknown_topic";
    /// The topic has no such partition.
    UnknownPartition = 11, false, "unknown_partition";
    /// A topic of that name is there already.
    TopicExists = 12, false, "topic_exists";
    /// The name breaks the rule for topic names.
    InvalidTopicName = 13, false, "invalid_topic_name";
    /// Zero partitions, or more than the limit.
    InvalidPartitionCount = 14, false, "invalid_partition_count";
    /// An unknown configuration key, or a value that does not fit it.
    InvalidConfig = 15, false, "invalid_config";
    /// The handle was never opened on this connection, or was closed.
    UnknownHandle = 20, false, "unknown_handle";
    /// The connection has as many handles as it may have.
    TooManyHandles = 21, false, "too_many_handles";
    /// No such subscription on this connection.
    UnknownSubscription = 22, false, "unknown_subscription";
    /// The connection has as many subscriptions as it may have.
    TooManySubscriptions = 23, false, "too_many_subscriptions";
    /// Before the partition's start, or past its high watermark.
    OffsetOutOfRange = 30, false, "offset_out_of_range";
    /// The batch's CRC does not fit its bytes.
    CorruptBatch = 31, false, "corrupt_batch";
    /// The batch's header is not one that may be produced (magic, counts, deltas, length, attributes), or its records cannot be
    /// read.
    InvalidBatch = 32, false, "invalid_batch";
    /// The batch is over the topic's limit, as it is or unpacked.
    BatchTooLarge = 33, false, "batch_too_large";
    /// An acknowledgement level that does not exist, or that the topic does not give.
    UnsupportedAck = 34, false, "unsupported_ack";
    /// A timestamp of the batch is outside of the topic's bounds.
    InvalidTimestamp = 35, false, "invalid_timestamp";
    /// A bound of the broker is reached; nothing was done.
    Overloaded = 40, true, "overloaded";
    /// The disk is full; nothing was done. Reads go on.
    DiskFull = 41, true, "disk_full";
    /// The shard's storage failed: it acknowledges nothing more until it is restarted.
    StorageFailed = 42, false, "storage_failed";
    /// The partition is damaged and set aside.
    Quarantined = 43, false, "quarantined";
    /// The broker is going down; nothing was done.
    ShuttingDown = 44, true, "shutting_down";
    /// The broker's own fault.
    Internal = 50, false, "internal";
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ErrorCode::Other(number) => write!(f, "error {number}"),
            known => f.write_str(known.name()),
        }
    }
}

/// The body of an `Error` frame.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct ErrorReply {
    /// [`ErrorCode::number`].
    pub code: u16,
    /// Whether the same request may succeed later. Stands here too, for codes that the receiver does not know.
    pub retryable: bool,
    /// A sentence for people; at most [`MAX_ERROR_MESSAGE`] bytes.
    pub message: String,
}

impl ErrorReply {
    /// A reply with the code's own answer to whether to try again. A message over the limit is cut.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> ErrorReply {
        let mut message = message.into();
        message.truncate(message.floor_char_boundary(MAX_ERROR_MESSAGE));
        ErrorReply { code: code.number(), retryable: code.is_retryable(), message }
    }

    /// The code.
    pub fn error_code(&self) -> ErrorCode {
        ErrorCode::from_number(self.code)
    }
}
