//! Open and Close: a partition gets a handle, which later requests name it by.

use ringlog_protocol::messages::{Open, Opened};
use ringlog_protocol::{ErrorCode, Frame, Kind};
use ringlog_storage::PartitionId;

use crate::limits::MAX_HANDLES;
use crate::metadata::topic::wire_ack;
use crate::native::handlers::body;
use crate::native::session::Session;
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
    let Some(topic) = shard.topics().borrow().get(&open.topic).cloned() else {
        let message = format!("there is no topic `{}`; make it with `ringlog topic create`", open.topic);
        return session.reply_error(request, ErrorCode::UnknownTopic, &message);
    };
    let id = PartitionId { topic: topic.id, partition: open.partition };
    let Some(partition) = shard.store().partition(id) else {
        let message = format!(
            "topic `{}` has partitions 0 to {}, and no {}",
            topic.name,
            topic.partitions - 1,
            open.partition
        );
        return session.reply_error(request, ErrorCode::UnknownPartition, &message);
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
