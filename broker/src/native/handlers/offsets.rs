//! ListOffsets: which offset a position means now.

use std::rc::Rc;

use ringlog_protocol::messages::{ListOffsets, ListOffsetsReply};
use ringlog_protocol::{Frame, Kind};

use crate::native::handlers::{body, partition};
use crate::native::session::Session;
use crate::ops::offsets::{Resolved, resolve};

/// What the wire says where no timestamp is known.
const NO_TIMESTAMP: i64 = -1;

/// Parked: a time may have to be looked for on the disk.
pub fn handle(session: &Rc<Session>, frame: &Frame<'_>) {
    let request = frame.header.request;
    let Some(ListOffsets { at }) = body::<ListOffsets>(session, frame) else { return };
    let Some(partition) = partition(session, &frame.header) else { return };
    let waiting = session.clone();
    session.park(async move {
        match resolve(&partition, at).await {
            Ok(Resolved { offset, timestamp, start_offset, high_watermark }) => {
                let timestamp = timestamp.unwrap_or(NO_TIMESTAMP);
                let body = ListOffsetsReply { offset, timestamp, start_offset, high_watermark };
                waiting.reply(Kind::ListOffsetsReply, request, 0, &body);
            }
            Err(error) => waiting.refuse(request, &error),
        }
    });
}
