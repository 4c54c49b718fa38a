//! Produce: one record batch to the end of a partition, acknowledged at the level the request asks for.

use std::rc::Rc;

use bytes::BytesMut;
use ringlog_protocol::{Ack, ErrorCode, Frame, FrameHeader};
use ringlog_reactor::sim::mutant;
use ringlog_storage::{AppendError, Appended, Partition};

use crate::dispatch::Handled;
use crate::handlers::partition;
use crate::session::Session;
use crate::shard::Shard;

/// Appends the batch. `disk` is answered by `acks.rs` once it is on stable storage.
pub fn handle(shard: &Shard, session: &Rc<Session>, frame: &Frame<'_>) -> Handled {
    produce(shard, session, &frame.header, |partition| shard.store().append(partition, frame.payload))
}

/// The same for a large batch in memory of its own, behind room for its envelope, which the log may keep.
pub fn handle_owned(
    shard: &Shard,
    session: &Rc<Session>,
    header: &FrameHeader,
    memory: &mut BytesMut,
) -> Handled {
    produce(shard, session, header, |partition| shard.store().append_owned(partition, memory))
}

fn produce(
    shard: &Shard,
    session: &Rc<Session>,
    header: &FrameHeader,
    append: impl FnOnce(&Rc<Partition>) -> Result<Appended, AppendError>,
) -> Handled {
    let request = header.request;
    let Some(partition) = partition(session, header) else { return Handled::Done };
    let Some(ack) = Ack::from_flags(header.flags) else {
        let message = format!("ack level {} is none of 0 (none), 1 (memory), 2 (disk)", header.flags);
        session.reply_error(request, ErrorCode::UnsupportedAck, &message);
        return Handled::Done;
    };
    if shard.is_stopping() {
        session.reply_error(request, ErrorCode::ShuttingDown, "the broker is shutting down; send it again");
        return Handled::Done;
    }
    match append(&partition) {
        Ok(appended) => match ack {
            Ack::Disk if !mutant("ack-before-commit") => {
                shard.store().hurry();
                shard.acks().wait_for(&partition, appended, session, request);
            }
            Ack::Disk | Ack::Memory => {
                session.reply_produced(request, appended.base_offset, partition.start_offset())
            }
            Ack::None => {}
        },
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
