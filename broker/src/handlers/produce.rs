//! Produce: one record batch to the end of a partition, acknowledged at the level the request asks for.

use std::rc::Rc;

use ringlog_protocol::{Ack, ErrorCode, Frame};
use ringlog_storage::AppendError;

use crate::dispatch::Handled;
use crate::handlers::partition;
use crate::session::Session;
use crate::shard::Shard;

/// Appends the batch. `disk` is answered by `acks.rs` once its commit is on stable storage.
pub fn handle(shard: &Shard, session: &Rc<Session>, frame: &Frame<'_>) -> Handled {
    let request = frame.header.request;
    let Some(partition) = partition(session, frame) else { return Handled::Done };
    let Some(ack) = Ack::from_flags(frame.header.flags) else {
        let message = format!("ack level {} is none of 0 (none), 1 (memory), 2 (disk)", frame.header.flags);
        session.reply_error(request, ErrorCode::UnsupportedAck, &message);
        return Handled::Done;
    };
    if shard.is_stopping() {
        session.reply_error(request, ErrorCode::ShuttingDown, "the broker is shutting down; send it again");
        return Handled::Done;
    }
    match shard.store().append(&partition, frame.payload) {
        Ok(appended) => {
            let start = partition.start_offset();
            match ack {
                Ack::Disk => {
                    shard.store().hurry();
                    shard.acks().wait_for(appended.commit, session, request, appended.base_offset, start);
                }
                Ack::Memory => session.reply_produced(request, appended.base_offset, start),
                Ack::None => {}
            }
        }
        Err(AppendError::Full) => return Handled::NoRoom,
        Err(error) => session.reply_error(request, code_of(&error), &error.to_string()),
    }
    Handled::Done
}

fn code_of(error: &AppendError) -> ErrorCode {
    match error {
        AppendError::Full => ErrorCode::Overloaded,
        AppendError::DiskFull => ErrorCode::DiskFull,
        AppendError::ShuttingDown => ErrorCode::ShuttingDown,
        AppendError::Quarantined(_) => ErrorCode::Quarantined,
        AppendError::Batch(error) => error.code(),
        AppendError::TooLarge { .. } => ErrorCode::BatchTooLarge,
        AppendError::Deleted => ErrorCode::UnknownTopic,
        _ => ErrorCode::StorageFailed,
    }
}
