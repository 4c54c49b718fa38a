//! Fetch: reads once; waits, if asked to, until there is enough.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use ringlog_reactor::{now, timeout};
use ringlog_storage::{Partition, ReadBatches, ReadError};

use crate::limits::{FETCH_BYTES, FETCH_MAX_WAIT};
use crate::net::outbox::{Outbox, Reservation};

/// What to read.
pub struct Fetch {
    offset: i64,
    min_bytes: usize,
    max_bytes: usize,
    wait: Duration,
}

/// What was read.
pub struct Fetched {
    /// The first may begin before the offset that was asked for.
    pub batches: Vec<Bytes>,
    /// The first offset that may be read.
    pub start_offset: i64,
    /// The offset after the last record that may be read.
    pub high_watermark: i64,
    /// Room in the outbox, until the batches are in it.
    _room: Option<Reservation>,
}

impl Fetch {
    /// From `offset` on: no more than `max_bytes` but for one larger batch, and no less than `min_bytes` within `wait`. All of that as far
    /// as a broker does it.
    pub fn new(offset: i64, min_bytes: u32, max_bytes: u32, wait: Duration) -> Fetch {
        let max_bytes = (max_bytes as usize).clamp(1, FETCH_BYTES);
        let min_bytes = (min_bytes as usize).min(max_bytes);
        Fetch { offset, min_bytes, max_bytes, wait: wait.min(FETCH_MAX_WAIT) }
    }
}

/// Reads from memory. None if there is not enough, or not there.
pub fn try_fetch(partition: &Partition, args: &Fetch) -> Option<Fetched> {
    let read = partition.try_read_tail(args.offset, args.max_bytes)?;
    (read.bytes >= args.min_bytes).then(|| fetched(partition, read, None))
}

/// Reads once there is enough, or when the time is up what there is.
pub async fn fetch(partition: &Partition, args: &Fetch, outbox: &Rc<Outbox>) -> Result<Fetched, ReadError> {
    let until = now() + args.wait;
    loop {
        let changed = partition.changed();
        // Held while there is something to hold, and not while nothing is there to be read.
        let room = outbox.reserve(args.max_bytes).await;
        let read = partition.read(args.offset, args.max_bytes).await?;
        let left = until - now();
        if read.bytes >= args.min_bytes || left.is_zero() {
            return Ok(fetched(partition, read, Some(room)));
        }
        drop((read, room));
        // Looked at once more when the time is up.
        let _changed_or_elapsed = timeout(left, changed).await;
    }
}

fn fetched(partition: &Partition, read: ReadBatches, room: Option<Reservation>) -> Fetched {
    Fetched {
        batches: read.batches,
        start_offset: partition.start_offset(),
        high_watermark: partition.high_watermark(),
        _room: room,
    }
}
