//! ListOffsets: which offset a position means now.

use std::rc::Rc;

use ringlog_protocol::messages::{ListOffsets, ListOffsetsReply, Position};
use ringlog_protocol::{Frame, Kind};
use ringlog_storage::{Partition, ReadError};

use crate::native::handlers::{body, partition, read_error};
use crate::native::session::Session;

/// What the wire says where no timestamp is known.
const NO_TIMESTAMP: i64 = -1;

/// An offset, and the timestamp it was found by.
pub struct Resolved {
    /// The offset.
    pub offset: i64,
    /// Of the batch that holds it, where the position was a time; else -1.
    pub timestamp: i64,
}

/// Answers at once, or parks where the time index must be read.
pub fn handle(session: &Rc<Session>, frame: &Frame<'_>) {
    let request = frame.header.request;
    let Some(ListOffsets { at }) = body::<ListOffsets>(session, frame) else { return };
    let Some(partition) = partition(session, &frame.header) else { return };
    let waiting = session.clone();
    session.park(async move {
        match resolve(&partition, at).await {
            Ok(resolved) => {
                let body = ListOffsetsReply {
                    offset: resolved.offset,
                    timestamp: resolved.timestamp,
                    start_offset: partition.start_offset(),
                    high_watermark: partition.high_watermark(),
                };
                waiting.reply(Kind::ListOffsetsReply, request, 0, &body);
            }
            Err(error) => {
                let (code, message) = read_error(&error);
                waiting.reply_error(request, code, &message);
            }
        }
    });
}

/// The offset a position means: an offset is itself, in range or not.
pub async fn resolve(partition: &Partition, at: Position) -> Result<Resolved, ReadError> {
    let (offset, timestamp) = match at {
        Position::Begin => (partition.start_offset(), NO_TIMESTAMP),
        Position::End => (partition.high_watermark(), NO_TIMESTAMP),
        Position::Offset(offset) => (offset, NO_TIMESTAMP),
        Position::Time(ms) => match partition.offset_for_time(ms).await? {
            Some((offset, timestamp)) => (offset, timestamp),
            None => (partition.high_watermark(), NO_TIMESTAMP),
        },
    };
    Ok(Resolved { offset, timestamp })
}
