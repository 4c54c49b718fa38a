//! Fetch: reads once; waits, if asked to, until there is enough.

use std::ops::RangeInclusive;
use std::rc::Rc;
use std::time::Duration;

use ringlog_protocol::messages::{Fetch, Fetched};
use ringlog_protocol::{Frame, Kind};
use ringlog_reactor::{Instant, now, timeout};
use ringlog_storage::{Partition, ReadBatches, ReadError};

use crate::limits::{FETCH_BYTES, FETCH_MAX_WAIT};
use crate::native::handlers::{body, partition, read_error};
use crate::native::session::Session;
use crate::shard::state::Shard;

/// Answers from memory at once where it can; what must wait or read the disk is parked.
pub fn handle(shard: &Shard, session: &Rc<Session>, frame: &Frame<'_>) {
    let request = frame.header.request;
    let Some(fetch) = body::<Fetch>(session, frame) else { return };
    let Some(partition) = partition(session, &frame.header) else { return };
    let max_bytes = (fetch.max_bytes as usize).clamp(1, FETCH_BYTES);
    let min_bytes = (fetch.min_bytes as usize).min(max_bytes);
    if let Some(read) = partition.try_read_tail(fetch.offset, max_bytes)
        && read.bytes >= min_bytes
    {
        return reply(session, request, &partition, read);
    }
    let wait = Duration::from_millis(fetch.max_wait_ms.into()).min(FETCH_MAX_WAIT);
    let wait = if shard.is_stopping() { Duration::ZERO } else { wait };
    let waiting = session.clone();
    session.park(async move {
        let until = now() + wait;
        if let Err(error) =
            answer(&waiting, request, &partition, fetch.offset, min_bytes..=max_bytes, until).await
        {
            let (code, message) = read_error(&error);
            waiting.reply_error(request, code, &message);
        }
    });
}

/// Answers once there is enough, or at `until` with what there is.
async fn answer(
    session: &Session,
    request: u32,
    partition: &Partition,
    offset: i64,
    bytes: RangeInclusive<usize>,
    until: Instant,
) -> Result<(), ReadError> {
    loop {
        let changed = partition.changed();
        // Held while there is something to hold, and not while nothing is there to be read.
        let room = session.outbox().reserve(*bytes.end()).await;
        let read = partition.read(offset, *bytes.end()).await?;
        let left = until - now();
        if read.bytes >= *bytes.start() || left.is_zero() {
            reply(session, request, partition, read);
            return Ok(());
        }
        drop((read, room));
        // Looked at once more when the time is up.
        let _changed_or_elapsed = timeout(left, changed).await;
    }
}

fn reply(session: &Session, request: u32, partition: &Partition, read: ReadBatches) {
    let body = Fetched { start_offset: partition.start_offset(), high_watermark: partition.high_watermark() };
    session.reply_with_batches(Kind::Fetched, request, &body, read.batches);
}
