//! Every limit and default of the client, in one place. Sizes are in bytes.

use std::time::Duration;

use ringlog_protocol::limits::{
    DEFAULT_MAX_BATCH_BYTES, MAX_SUBSCRIPTIONS, UNPACKED_HEADER_BYTES, UNPACKED_RECORD_BYTES,
};

use crate::record::{ConsumedRecord, Header};

/// Producers and consumers that one client serves.
pub(crate) const MAX_HANDLES: usize = 1024;
/// The longest name that a client gives itself; a `Hello` has its own limit.
pub(crate) const MAX_CLIENT_ID_BYTES: usize = 256;
/// Commands that may wait for the driver; more wait in their callers.
pub(crate) const COMMAND_QUEUE: usize = 256;

/// Partitions that one connection serves, for producers and consumers together. For more partitions of a shard another connection to it is
/// made.
pub(crate) const PARTITIONS_PER_LINK: usize = MAX_SUBSCRIPTIONS;

/// How large a batch grows before it is closed.
pub(crate) const DEFAULT_BATCH_BYTES: usize = 64 << 10;
/// The bytes that a producer's records may take from admission to ack.
pub(crate) const DEFAULT_BUFFER_BYTES: usize = 32 << 20;
/// Batches of one partition that may be on their way at once.
pub(crate) const DEFAULT_MAX_IN_FLIGHT: usize = 5;
/// From admission to ack (Kafka's `delivery.timeout.ms`).
pub(crate) const DEFAULT_DELIVERY_TIMEOUT: Duration = Duration::from_secs(120);
/// How long the records of a producer that was dropped without `close` are still worked on.
pub(crate) const DROP_GRACE: Duration = Duration::from_secs(5);

/// What a consumer may hold that the application has not taken.
pub(crate) const DEFAULT_PREFETCH_BYTES: usize = 1 << 20;
/// The least share of the prefetch that a partition gets.
pub(crate) const MIN_PARTITION_CREDIT: usize = 16 << 10;
/// The largest share: a credit is a u32 on the wire, and sums of them must not come near its end.
pub(crate) const MAX_PARTITION_CREDIT: usize = 1 << 30;

/// How long connecting and the handshake may take, per address.
pub(crate) const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a request may wait for its reply before the broker is taken for dead.
pub(crate) const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// A connection with nothing received for this long is asked for a sign of life.
pub(crate) const KEEPALIVE: Duration = Duration::from_secs(10);
/// The first pause after a failed attempt; it doubles up to `BACKOFF_MAX`, with jitter.
pub(crate) const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// The longest pause between two attempts.
pub(crate) const BACKOFF_MAX: Duration = Duration::from_secs(2);

const _: () = assert!(DEFAULT_BATCH_BYTES <= DEFAULT_MAX_BATCH_BYTES);
const _: () = assert!(DEFAULT_BUFFER_BYTES >= DEFAULT_BATCH_BYTES * DEFAULT_MAX_IN_FLIGHT);
// What the broker counts for a reader is enough for this one.
const _: () = assert!(size_of::<ConsumedRecord>() <= UNPACKED_RECORD_BYTES);
const _: () = assert!(size_of::<Header>() <= UNPACKED_HEADER_BYTES);
const _: () = assert!(DEFAULT_PREFETCH_BYTES >= MIN_PARTITION_CREDIT);
const _: () = assert!(BACKOFF_MIN.as_millis() < BACKOFF_MAX.as_millis());
