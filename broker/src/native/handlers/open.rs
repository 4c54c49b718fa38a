//! Open and Close: a partition gets a handle, which later requests name it by.

use ringlog_protocol::messages::{Open, Opened};
use ringlog_protocol::{Ack, ErrorCode, Frame, Kind};
use ringlog_storage::TopicAck;

use crate::limits::MAX_HANDLES;
use crate::native::request::{Handled, Request};
use crate::ops::topics::find;

/// Where this stands; `docs/wire.md` says the same.
pub const FILE: &str = file!();

/// The topic and partition an Open request is for, where its body can be read.
pub fn partition_named_in(frame: &Frame<'_>) -> Option<(String, u32)> {
    let open = frame.access::<Open>().ok()?;
    Some((open.topic.as_str().to_string(), open.partition.to_native()))
}

/// Opens a partition of this shard.
pub fn handle(request: Request<'_>) -> Handled {
    let Some(open) = request.message::<Open>() else { return Handled::Done };
    let (session, number) = (request.session, request.number());
    let (topic, partition) = match find(request.shard, &open.topic, open.partition) {
        Ok(found) => found,
        Err(error) => {
            session.refuse(number, &error);
            return Handled::Done;
        }
    };
    let opened = Opened {
        topic_id: topic.id,
        start_offset: partition.start_offset(),
        high_watermark: partition.high_watermark(),
        max_batch_bytes: partition.spec().config.max_batch_bytes,
        ack: wire_ack(partition.spec().config.ack),
        quarantined: partition.quarantined().is_some(),
    };
    match session.open(partition) {
        Some(handle) => session.reply(Kind::Opened, number, handle, &opened),
        None => {
            let message = format!("a connection may have {MAX_HANDLES} partitions open; close some");
            session.reply_error(number, ErrorCode::TooManyHandles, &message);
        }
    }
    Handled::Done
}

/// The ack level that the topic's readers wait for, as the wire names it.
fn wire_ack(ack: TopicAck) -> Ack {
    match ack {
        TopicAck::Disk => Ack::Disk,
        TopicAck::Memory => Ack::Memory,
    }
}

/// Takes a handle back.
pub fn handle_close(request: Request<'_>) -> Handled {
    let (session, handle) = (request.session, request.header.handle);
    if session.close_handle(handle) {
        session.reply(Kind::CloseReply, request.number(), 0, &());
    } else {
        let message = format!("handle {handle:#x} is not open on this connection");
        session.reply_error(request.number(), ErrorCode::UnknownHandle, &message);
    }
    Handled::Done
}
