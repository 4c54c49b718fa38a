//! ListOffsets: which offset a position means now.

use ringlog_protocol::Kind;
use ringlog_protocol::messages::{ListOffsets, ListOffsetsReply};

use crate::native::request::{Handled, Request};
use crate::ops::offsets::{Resolved, resolve};

/// Where this stands; `docs/wire.md` says the same.
pub const FILE: &str = file!();

/// What the wire says where no timestamp is known.
const NO_TIMESTAMP: i64 = -1;

/// Parked: a time may have to be looked for on the disk.
pub fn handle(request: Request<'_>) -> Handled {
    let Some(ListOffsets { at }) = request.message::<ListOffsets>() else { return Handled::Done };
    let Some(partition) = request.partition() else { return Handled::Done };
    let (session, number) = (request.session.clone(), request.number());
    request.session.park(async move {
        match resolve(&partition, at).await {
            Ok(Resolved { offset, timestamp, start_offset, high_watermark }) => {
                let timestamp = timestamp.unwrap_or(NO_TIMESTAMP);
                let body = ListOffsetsReply { offset, timestamp, start_offset, high_watermark };
                session.reply(Kind::ListOffsetsReply, number, 0, &body);
            }
            Err(error) => session.refuse(number, &error),
        }
    });
    Handled::Done
}
