//! Fetch: reads once; waits, if asked to, until there is enough.

use std::rc::Rc;
use std::time::Duration;

use ringlog_protocol::messages;
use ringlog_protocol::{Frame, Kind};

use crate::native::handlers::{body, partition};
use crate::native::session::Session;
use crate::ops::fetch::{Fetch, Fetched, fetch, try_fetch};
use crate::shard::state::Shard;

/// Answers from memory at once where it can; what must wait or read the disk is parked.
pub fn handle(shard: &Shard, session: &Rc<Session>, frame: &Frame<'_>) {
    let request = frame.header.request;
    let Some(asked) = body::<messages::Fetch>(session, frame) else { return };
    let Some(partition) = partition(session, &frame.header) else { return };
    let wait = if shard.is_stopping() { 0 } else { asked.max_wait_ms };
    let wait = Duration::from_millis(wait.into());
    let args = Fetch::new(asked.offset, asked.min_bytes, asked.max_bytes, wait);
    if let Some(fetched) = try_fetch(&partition, &args) {
        return reply(session, request, fetched);
    }
    let waiting = session.clone();
    session.park(async move {
        match fetch(&partition, &args, waiting.outbox()).await {
            Ok(fetched) => reply(&waiting, request, fetched),
            Err(error) => waiting.refuse(request, &error),
        }
    });
}

fn reply(session: &Session, request: u32, fetched: Fetched) {
    let Fetched { start_offset, high_watermark, .. } = fetched;
    let body = messages::Fetched { start_offset, high_watermark };
    session.reply_with_batches(Kind::Fetched, request, &body, fetched.batches);
}
