//! Fetch: reads once; waits, if asked to, until there is enough.

use std::time::Duration;

use ringlog_protocol::Kind;
use ringlog_protocol::messages;

use crate::native::request::{Handled, Request};
use crate::native::session::Session;
use crate::ops::fetch::{Fetch, Fetched, fetch, try_fetch};

/// Where this stands; `docs/wire.md` says the same.
pub const FILE: &str = file!();

/// Answers from memory at once where it can; what must wait or read the disk is parked.
pub fn handle(request: Request<'_>) -> Handled {
    let Some(asked) = request.message::<messages::Fetch>() else { return Handled::Done };
    let Some(partition) = request.partition() else { return Handled::Done };
    let wait = if request.shard.is_stopping() { 0 } else { asked.max_wait_ms };
    let wait = Duration::from_millis(wait.into());
    let args = Fetch::new(asked.offset, asked.min_bytes, asked.max_bytes, wait);
    let number = request.number();
    if let Some(fetched) = try_fetch(&partition, &args) {
        reply(request.session, number, fetched);
        return Handled::Done;
    }
    let session = request.session.clone();
    request.session.park(async move {
        match fetch(&partition, &args, session.outbox()).await {
            Ok(fetched) => reply(&session, number, fetched),
            Err(error) => session.refuse(number, &error),
        }
    });
    Handled::Done
}

fn reply(session: &Session, request: u32, fetched: Fetched) {
    let Fetched { start_offset, high_watermark, .. } = fetched;
    let body = messages::Fetched { start_offset, high_watermark };
    session.reply_with_batches(Kind::Fetched, request, &body, fetched.batches);
}
