//! CreateTopic and DeleteTopic, on the controller's shard.

use std::rc::Rc;

use ringlog_protocol::messages::{CreateTopic, CreateTopicReply, DeleteTopic};
use ringlog_protocol::{Frame, Kind};

use crate::handlers::body;
use crate::session::Session;
use crate::shard::Shard;

/// Makes a topic; answered when every shard has its partitions and the metadata file is durable.
pub fn handle_create(shard: &Rc<Shard>, session: &Rc<Session>, frame: &Frame<'_>) {
    let request = frame.header.request;
    let Some(create) = body::<CreateTopic>(session, frame) else { return };
    let (shard, waiting) = (shard.clone(), session.clone());
    session.park(async move {
        match shard.controller().create(create).await {
            Ok(topic) => {
                let reply = CreateTopicReply { topic: topic.to_metadata(shard.peers().count()) };
                waiting.reply_long(Kind::CreateTopicReply, request, &reply);
            }
            Err(error) => waiting.reply_error(request, error.code(), &error.to_string()),
        }
    });
}

/// Deletes a topic; answered when every shard has let go of it.
pub fn handle_delete(shard: &Rc<Shard>, session: &Rc<Session>, frame: &Frame<'_>) {
    let request = frame.header.request;
    let Some(DeleteTopic { name }) = body::<DeleteTopic>(session, frame) else { return };
    let (shard, waiting) = (shard.clone(), session.clone());
    session.park(async move {
        match shard.controller().delete(&name).await {
            Ok(()) => waiting.reply(Kind::DeleteTopicReply, request, 0, &()),
            Err(error) => waiting.reply_error(request, error.code(), &error.to_string()),
        }
    });
}
