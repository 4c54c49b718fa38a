//! CreateTopic and DeleteTopic, on the controller's shard.

use std::rc::Rc;

use ringlog_protocol::messages::{CreateTopic, CreateTopicReply, DeleteTopic};
use ringlog_protocol::{ErrorCode, Kind};
use ringlog_reactor::spawn;

use crate::metadata::topic::NewTopic;
use crate::native::handlers::metadata::topic_metadata;
use crate::native::request::{Handled, Request};
use crate::native::session::Session;
use crate::shard::state::Shard;

/// Where this stands; `docs/wire.md` says the same.
pub const FILE: &str = file!();

/// Makes a topic; answered when every shard has its partitions and the metadata file is durable.
pub fn handle_create(request: Request<'_>) -> Handled {
    let Some(create) = request.message::<CreateTopic>() else { return Handled::Done };
    let CreateTopic { name, partitions, config } = create;
    let new = NewTopic { name, partitions, config: config.into_iter().collect() };
    let number = request.number();
    run_to_its_end(&request, async move |shard, session| match shard.controller().create(new).await {
        Ok(topic) => {
            let reply = CreateTopicReply { topic: topic_metadata(&topic, shard.peers().count()) };
            session.reply_long(Kind::CreateTopicReply, number, &reply);
        }
        Err(error) => session.refuse(number, &error),
    });
    Handled::Done
}

/// Deletes a topic; answered when every shard has let go of it.
pub fn handle_delete(request: Request<'_>) -> Handled {
    let Some(DeleteTopic { name }) = request.message::<DeleteTopic>() else { return Handled::Done };
    let number = request.number();
    run_to_its_end(&request, async move |shard, session| match shard.controller().delete(&name).await {
        Ok(()) => session.reply(Kind::DeleteTopicReply, number, 0, &()),
        Err(error) => session.refuse(number, &error),
    });
    Handled::Done
}

/// Makes a change in a task of its own. A client that goes must not stop it half-way: what is in the metadata file
/// and what the shards do would no longer be the same.
fn run_to_its_end(request: &Request<'_>, change: impl AsyncFnOnce(Rc<Shard>, Rc<Session>) + 'static) {
    if request.shard.controller().is_overloaded() {
        let message = "too many topics are being changed; try again later";
        return request.session.reply_error(request.number(), ErrorCode::Overloaded, message);
    }
    let (shard, session) = (request.shard.clone(), request.session.clone());
    spawn(async move { change(shard, session).await }).detach();
}
