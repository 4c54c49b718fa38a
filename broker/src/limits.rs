//! Every bound of the broker, in one place: nothing here grows without a limit known at start.
//!
//! A limit that is reached makes the broker stop reading the socket that reached it. It never drops
//! silently and never lets one client hold back another.

use std::time::Duration;

use ringlog_protocol::limits::{MAX_BATCH_BYTES, MAX_DECOMPRESSED_BYTES, MAX_FRAME_BYTES};

/// Connections a node serves at a time, if its limit of open files allows; the next one is refused with `Overloaded`.
pub const MAX_CONNECTIONS: usize = 10_000;

/// Handshakes under way at a time.
pub const MAX_HANDSHAKES: usize = 1_024;

/// Bytes waiting to be sent on one connection before the broker stops reading its requests.
pub const OUTBOX_BYTES: usize = 1 << 20;

/// Memory of one shard for long replies that wait to be sent.
pub const REPLY_BYTES: usize = 32 << 20;

/// A reply up to this length is bounded by [`OUTBOX_BYTES`] alone.
pub const SHORT_REPLY_BYTES: usize = 4 << 10;

/// Bytes handed to the socket in one gather send. Each must be gone within [`STALLED_AFTER`], so this
/// also sets the slowest reader that is still served: some 8 KiB a second.
pub const SEND_BYTES: usize = 256 << 10;

/// A peer that takes no bytes for this long, or does not finish a frame it began, is cut off.
pub const STALLED_AFTER: Duration = Duration::from_secs(30);

/// A connection that has not said a whole `Hello` by then is closed.
pub const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// Frames that do not fit one receive buffer are gathered in memory; this much a connection may
/// gather without asking, the rest comes out of [`GATHER_BYTES`], shared by the shard.
pub const GATHER_FREE_BYTES: usize = 64 << 10;

/// Behind a large frame another is likely: this much is received to find out, and the rest straight into its memory.
pub const PEEK_BYTES: usize = 4096;

/// Memory of one shard for gathering large frames.
pub const GATHER_BYTES: usize = 64 << 20;

/// Steps of a check of records that a shard's thread takes at once: some ten nanoseconds each. A record is one, and so
/// is a header of a record.
pub const MAX_CHECK_STEPS: usize = 16_384;

/// The largest batch whose check is begun in the queue of the short ones.
pub const QUICK_BATCH_BYTES: usize = 1 << 20;

/// Bytes that a short check unpacks: a few milliseconds by the slowest codec.
pub const QUICK_CHECK_BYTES: usize = 4 << 20;

/// Threads for short checks. One for two CPUs, and no more than this.
pub const QUICK_CHECKERS: usize = 8;

/// Threads for long checks. Each may need as much memory as a batch may unpack to.
pub const LONG_CHECKERS: usize = 2;

/// Produce requests of one session whose acknowledgement is still due.
pub const MAX_PENDING_ACKS: usize = 8_192;

/// Requests of one session that wait for something (a long poll, a disk read).
pub const MAX_PARKED_REQUESTS: usize = 64;

/// Partitions one session may have open.
pub const MAX_HANDLES: usize = 16_384;

/// Subscriptions of one session.
pub const MAX_SUBSCRIPTIONS: usize = ringlog_protocol::limits::MAX_SUBSCRIPTIONS;

/// The most one push to a subscriber carries (a larger single batch still goes out whole).
pub const DELIVERY_BYTES: usize = 256 << 10;

/// The most one fetch returns (a larger single batch still goes out whole).
pub const FETCH_BYTES: usize = 4 << 20;

/// The longest a fetch may wait for records.
pub const FETCH_MAX_WAIT: Duration = Duration::from_secs(60);

/// Messages a shard's mailbox holds.
pub const MAILBOX_MESSAGES: usize = 1_024;

/// Bytes of requests that one connection may have on their way to another core.
pub const FORWARD_BYTES: usize = 1 << 20;

/// Partitions of all topics together.
pub const MAX_PARTITIONS: usize = 100_000;

/// Shards of one node: the upper eight bits of a handle name the shard.
pub const MAX_SHARDS: usize = 256;

/// At start, how long a port that is in use may take to become free.
pub const PORT_FREE_WITHIN: Duration = Duration::from_secs(1);

/// And how often it is tried.
pub const PORT_TRIED_EVERY: Duration = Duration::from_millis(10);

/// At shutdown, how long replies may take to leave.
pub const DRAIN_WITHIN: Duration = Duration::from_secs(2);

const _: () = assert!(GATHER_BYTES >= 2 * MAX_FRAME_BYTES, "two largest frames must fit");
const _: () = assert!(MAX_BATCH_BYTES < MAX_FRAME_BYTES, "a frame carries a whole batch");
const _: () = assert!(QUICK_CHECK_BYTES <= MAX_DECOMPRESSED_BYTES);
const _: () = assert!(REPLY_BYTES >= MAX_FRAME_BYTES, "the longest reply fits");
const _: () = assert!(SEND_BYTES <= OUTBOX_BYTES);
const _: () = assert!(MAX_HANDLES < 1 << 24, "a handle keeps 24 bits for the slot");
