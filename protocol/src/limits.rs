//! Every limit of the wire, in one place. All sizes are in bytes.

/// Bytes of a frame header.
pub const HEADER_BYTES: usize = 16;
/// Bodies are counted in words of this many bytes.
pub const WORD_BYTES: usize = 8;
/// The largest frame, header included. A longer one is refused from its first four bytes.
pub const MAX_FRAME_BYTES: usize = (16 << 20) + (64 << 10);
/// The largest record batch, header included, whatever a topic is configured to take.
pub const MAX_BATCH_BYTES: usize = 8 << 20;
/// The largest record batch of a topic that says nothing else (Kafka's `message.max.bytes`, rounded).
pub const DEFAULT_MAX_BATCH_BYTES: usize = 1 << 20;
/// The largest records section that is unpacked, by a reader or by the broker that checks it: a few hundred bytes of
/// zstd can make gigabytes. A topic may set less.
pub const MAX_DECOMPRESSED_BYTES: usize = 64 << 20;
/// What the records of one batch may take a reader besides the bytes that they point into. A record counts as
/// [`UNPACKED_RECORD_BYTES`], a header as [`UNPACKED_HEADER_BYTES`] and [`UNPACKED_NAME_FACTOR`] times its name. The broker
/// refuses a batch that is over it, so that a reader need not.
pub const MAX_UNPACKED_BYTES: usize = 256 << 20;
/// What one record counts as.
pub const UNPACKED_RECORD_BYTES: usize = 160;
/// What one header of a record counts as, without its name.
pub const UNPACKED_HEADER_BYTES: usize = 64;
/// A name's byte that is not UTF-8 becomes a replacement character of three.
pub const UNPACKED_NAME_FACTOR: usize = 3;
/// The longest topic name (Kafka's rule).
pub const MAX_TOPIC_NAME: usize = 249;
/// The most partitions a topic can have.
pub const MAX_PARTITIONS_PER_TOPIC: u32 = 10_000;
/// The most subscriptions that a connection may have. For more, a client makes another connection.
pub const MAX_SUBSCRIPTIONS: usize = 4_096;
/// The largest `Hello` or `Welcome` frame, header included: all that a stranger can make the broker gather.
pub const MAX_HANDSHAKE_BYTES: usize = 4096;
/// The largest body whose length stands in the header's `body_words`: 65,534 words.
pub const MAX_BODY_BYTES: usize = 0xFFFE * 8;
/// The largest body of a reply that lists things (metadata): it fills its frame and has no payload.
pub const MAX_LONG_BODY_BYTES: usize = MAX_FRAME_BYTES - HEADER_BYTES;
/// The largest body of a request that names one topic. Far more than a name may have, so that one that is too long is
/// told so, and does not cost its sender the connection.
pub const MAX_TOPIC_BODY_BYTES: usize = 4096;
/// The largest body of a request that creates a topic, with its configuration.
pub const MAX_CREATE_BODY_BYTES: usize = 64 << 10;
/// The largest body of an error.
pub const MAX_ERROR_BODY_BYTES: usize = 2048;
/// The longest message of an error; a longer one is cut (at a character) when it is made.
pub const MAX_ERROR_MESSAGE: usize = 1024;

// One batch of the largest kind, with any body before it, is a frame.
const _: () = assert!(HEADER_BYTES + MAX_BATCH_BYTES + MAX_BODY_BYTES <= MAX_FRAME_BYTES);
const _: () = assert!(DEFAULT_MAX_BATCH_BYTES <= MAX_BATCH_BYTES);
// A batch that is not compressed never takes a reader too much: the smallest record has seven bytes, a header two.
const _: () = assert!(MAX_BATCH_BYTES / 7 * UNPACKED_RECORD_BYTES <= MAX_UNPACKED_BYTES);
const _: () = assert!(MAX_BATCH_BYTES / 2 * UNPACKED_HEADER_BYTES <= MAX_UNPACKED_BYTES);
const _: () = assert!(MAX_BATCH_BYTES <= MAX_DECOMPRESSED_BYTES);
// The header's `length` is a u32, a batch's an i32.
const _: () = assert!(MAX_FRAME_BYTES <= u32::MAX as usize && MAX_BATCH_BYTES <= i32::MAX as usize);
// The bodies' bounds have room for what they bound: the archive's own fields are below 64 bytes in each.
const _: () = assert!(MAX_TOPIC_NAME + 64 <= MAX_TOPIC_BODY_BYTES);
const _: () = assert!(MAX_ERROR_MESSAGE + 64 <= MAX_ERROR_BODY_BYTES);
const _: () = assert!(MAX_CREATE_BODY_BYTES <= MAX_BODY_BYTES && MAX_BODY_BYTES < MAX_LONG_BODY_BYTES);
