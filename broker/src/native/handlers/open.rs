//! Open and Close: a partition gets a handle, which later requests name it by.

use ringlog_protocol::messages::{Open, Opened};
use ringlog_protocol::{Ack, ErrorCode, Frame, Kind};
use ringlog_storage::TopicAck;

use crate::limits::MAX_HANDLES;
use crate::native::handlers::body;
use crate::native::session::Session;
use crate::ops::topics::find;
use crate::shard::state::Shard;

/// The topic and partition an Open request is for, where its body can be read.
pub fn partition_named_in(frame: &Frame<'_>) -> Option<(String, u32)> {
    let open = frame.access::<Open>().ok()?;
    Some((open.topic.as_str().to_string(), open.partition.to_native()))
}

/// Opens a partition of this shard.
pub fn handle(shard: &Shard, session: &Session, frame: &Frame<'_>) {
    let request = frame.header.request;
    let Some(open) = body::<Open>(session, frame) else { return };
    let (topic, partition) = match find(shard, &open.topic, open.partition) {
        Ok(found) => found,
        Err(error) => return session.refuse(request, &error),
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
        Some(handle) => session.reply(Kind::Opened, request, handle, &opened),
        None => {
            let message = format!("a connection may have {MAX_HANDLES} partitions open; close some");
            session.reply_error(request, ErrorCode::TooManyHandles, &message);
        }
    }
}

/// The ack level that the topic's readers wait for, as the wire names it.
fn wire_ack(ack: TopicAck) -> Ack {
    match ack {
        TopicAck::Disk => Ack::Disk,
        TopicAck::Memory => Ack::Memory,
    }
}

/// Takes a handle back.
pub fn handle_close(session: &Session, frame: &Frame<'_>) {
    let request = frame.header.request;
    if session.close_handle(frame.header.handle) {
        session.reply(Kind::CloseReply, request, 0, &());
    } else {
        let message = format!("handle {:#x} is not open on this connection", frame.header.handle);
        session.reply_error(request, ErrorCode::UnknownHandle, &message);
    }
}
