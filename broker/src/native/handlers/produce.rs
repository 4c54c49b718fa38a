//! Produce: one record batch to the end of a partition, acknowledged at the level the request asks for.
//!
//! Invariant: no batch is appended before its header, its records and its timestamps have been checked, and the checks
//! are of the very bytes that are appended.

use std::rc::Rc;

use bytes::BytesMut;
use ringlog_protocol::batch::{BatchHeader, Walked};
use ringlog_protocol::{Ack, ErrorCode, Frame, FrameHeader};
use ringlog_reactor::sim::{mutant, reached};
use ringlog_reactor::wall_clock_ms;
use ringlog_storage::format::envelope::ENVELOPE_BYTES;
use ringlog_storage::{AppendError, Appended, Partition};

use crate::native::handlers::{Handled, partition};
use crate::native::session::Session;
use crate::ops::record_checks::check_here;
use crate::ops::timestamps;
use crate::shard::state::Shard;

/// Appends the batch. `disk` is answered by `acks.rs` once it is on stable storage.
pub fn handle(shard: &Shard, session: &Rc<Session>, frame: &Frame<'_>) -> Handled {
    let mut batch = Batch::Received(frame.payload);
    produce(shard, session, &frame.header, &mut batch)
}

/// The same for a large batch in memory of its own, behind room for its envelope, which the log may keep.
pub fn handle_owned(
    shard: &Shard,
    session: &Rc<Session>,
    header: &FrameHeader,
    memory: &mut BytesMut,
) -> Handled {
    produce(shard, session, header, &mut Batch::Owned(memory))
}

enum Batch<'a> {
    Received(&'a [u8]),
    Owned(&'a mut BytesMut),
}

impl Batch<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Batch::Received(bytes) => bytes,
            Batch::Owned(memory) => &memory[ENVELOPE_BYTES..],
        }
    }

    fn append(
        &mut self,
        shard: &Shard,
        partition: &Rc<Partition>,
        header: &BatchHeader,
    ) -> Result<Appended, AppendError> {
        match self {
            Batch::Received(bytes) => shard.store().append_checked(partition, bytes, header),
            Batch::Owned(memory) => shard.store().append_owned(partition, memory, header),
        }
    }
}

fn produce(shard: &Shard, session: &Rc<Session>, header: &FrameHeader, batch: &mut Batch<'_>) -> Handled {
    let verdict = session.take_verdict();
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
    let mut checked = match shard.store().check(&partition, batch.bytes()) {
        Ok(checked) => checked,
        Err(error) => {
            session.reply_error(request, code_of(&error), &error.to_string());
            return Handled::Done;
        }
    };
    let walked = match verdict.or_else(|| check_here(&checked, batch.bytes())) {
        Some(Ok(walked)) => walked,
        _ if mutant("records-unchecked") => Walked { earliest_ms: None },
        Some(Err(error)) => {
            session.reply_error(request, error.code(), &error.to_string());
            return Handled::Done;
        }
        None => return Handled::Unchecked { limit: partition.config().max_decompressed_bytes as usize },
    };
    let valid = timestamps::check_or_give(partition.config(), &mut checked, walked, wall_clock_ms());
    if let Err(error) = valid {
        reached("timestamp refused");
        session.reply_error(request, ErrorCode::InvalidTimestamp, &error.to_string());
        return Handled::Done;
    }
    match batch.append(shard, &partition, &checked) {
        Ok(appended) => match ack {
            Ack::Disk if !mutant("ack-before-commit") => {
                shard.store().hurry();
                shard.acks().wait_for(&partition, appended, session, request);
            }
            Ack::Disk | Ack::Memory => {
                partition.told(&appended);
                session.reply_produced(request, appended.base_offset, partition.start_offset())
            }
            Ack::None => partition.told(&appended),
        },
        Err(AppendError::Full) => {
            session.set_verdict(Ok(walked));
            return Handled::NoRoom;
        }
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
