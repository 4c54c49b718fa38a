//! CreateTopic and DeleteTopic, on the controller's shard.

use std::rc::Rc;

use ringlog_protocol::messages::{CreateTopic, CreateTopicReply, DeleteTopic};
use ringlog_protocol::{ErrorCode, Frame, Kind};
use ringlog_reactor::spawn;

use crate::metadata::topic::NewTopic;
use crate::native::handlers::body;
use crate::native::handlers::metadata::topic_metadata;
use crate::native::session::Session;
use crate::shard::state::Shard;

/// Makes a topic; answered when every shard has its partitions and the metadata file is durable.
pub fn handle_create(shard: &Rc<Shard>, session: &Rc<Session>, frame: &Frame<'_>) {
    let request = frame.header.request;
    let Some(CreateTopic { name, partitions, config }) = body::<CreateTopic>(session, frame) else { return };
    let new = NewTopic { name, partitions, config: config.into_iter().collect() };
    run_to_its_end(shard, session, request, async move |shard, waiting| {
        match shard.controller().create(new).await {
            Ok(topic) => {
                let reply = CreateTopicReply { topic: topic_metadata(&topic, shard.peers().count()) };
                waiting.reply_long(Kind::CreateTopicReply, request, &reply);
            }
            Err(error) => waiting.refuse(request, &error),
        }
    });
}

/// Deletes a topic; answered when every shard has let go of it.
pub fn handle_delete(shard: &Rc<Shard>, session: &Rc<Session>, frame: &Frame<'_>) {
    let request = frame.header.request;
    let Some(DeleteTopic { name }) = body::<DeleteTopic>(session, frame) else { return };
    run_to_its_end(shard, session, request, async move |shard, waiting| {
        match shard.controller().delete(&name).await {
            Ok(()) => waiting.reply(Kind::DeleteTopicReply, request, 0, &()),
            Err(error) => waiting.refuse(request, &error),
        }
    });
}

/// Makes a change in a task of its own. A client that goes must not stop it half-way: what is in the metadata file
/// and what the shards do would no longer be the same.
fn run_to_its_end(
    shard: &Rc<Shard>,
    session: &Rc<Session>,
    request: u32,
    change: impl AsyncFnOnce(Rc<Shard>, Rc<Session>) + 'static,
) {
    if shard.controller().is_overloaded() {
        let message = "too many topics are being changed; try again later";
        return session.reply_error(request, ErrorCode::Overloaded, message);
    }
    let (shard, session) = (shard.clone(), session.clone());
    spawn(async move { change(shard, session).await }).detach();
}
