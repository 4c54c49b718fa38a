//! Metadata: which topics there are, and which shard has which partition.

use ringlog_protocol::messages::{MetadataReply, MetadataRequest};
use ringlog_protocol::{Frame, Kind};

use crate::handlers::body;
use crate::session::Session;
use crate::shard::Shard;

/// Answers from this shard's copy of the topic table.
pub fn handle(shard: &Shard, session: &Session, frame: &Frame<'_>) {
    let Some(MetadataRequest { topics: wanted }) = body::<MetadataRequest>(session, frame) else { return };
    let shards = shard.peers().count();
    let table = shard.topics().borrow();
    let mut reply = MetadataReply { shards, topics: Vec::new(), unknown: Vec::new() };
    match wanted {
        None => reply.topics = table.iter().map(|topic| topic.to_metadata(shards)).collect(),
        Some(mut names) => {
            names.sort_unstable();
            names.dedup();
            for name in names {
                match table.get(&name) {
                    Some(topic) => reply.topics.push(topic.to_metadata(shards)),
                    None => reply.unknown.push(name),
                }
            }
        }
    }
    session.reply_long(Kind::MetadataReply, frame.header.request, &reply);
}
