//! Metadata: which topics there are, and which shard has which partition.

use std::rc::Rc;

use ringlog_protocol::messages::{MetadataReply, MetadataRequest, PartitionMetadata, TopicMetadata};
use ringlog_protocol::{ErrorCode, Kind};

use crate::limits::SHORT_REPLY_BYTES;
use crate::metadata::topic::{Topic, owner};
use crate::metadata::topic_table::TopicTable;
use crate::native::request::{Handled, Request};
use crate::native::session::Session;
use crate::ops::topics::{Listing, list};
use crate::shard::state::Shard;

/// A request that waits keeps no more bytes of names than this.
const WAITING_NAMES_BYTES: usize = 4 << 10;

/// Where this stands; `docs/wire.md` says the same.
pub const FILE: &str = file!();

/// Answers from this shard's copy of the topic table. A long reply needs memory of the shard's, and may have to wait for it.
pub fn handle(request: Request<'_>) -> Handled {
    let Some(MetadataRequest { topics: mut wanted }) = request.message::<MetadataRequest>() else {
        return Handled::Done;
    };
    if let Some(names) = &mut wanted {
        names.sort_unstable();
        names.dedup();
    }
    answer(request.shard, request.session, request.number(), wanted);
    Handled::Done
}

fn answer(shard: &Rc<Shard>, session: &Rc<Session>, number: u32, wanted: Option<Vec<String>>) {
    let most = most_bytes(&shard.topics().borrow(), wanted.as_deref());
    if most <= SHORT_REPLY_BYTES {
        return session.reply_long(Kind::MetadataReply, number, &reply(shard, wanted));
    }
    if let Some(permit) = shard.reply_budget().try_take(most, session.outbox()) {
        return session.reply_within(Kind::MetadataReply, number, &reply(shard, wanted), permit);
    }
    let names_bytes: usize = wanted.iter().flatten().map(String::len).sum();
    if names_bytes > WAITING_NAMES_BYTES {
        let message = "too many replies wait to be sent; ask again later, or for fewer topics at a time";
        return session.reply_error(number, ErrorCode::Overloaded, message);
    }
    let (shard, waiting) = (shard.clone(), session.clone());
    session.park(async move {
        let permit = shard.reply_budget().take(most, waiting.outbox()).await;
        waiting.reply_within(Kind::MetadataReply, number, &reply(&shard, wanted), permit);
    });
}

fn reply(shard: &Shard, wanted: Option<Vec<String>>) -> MetadataReply {
    let shards = shard.peers().count();
    let Listing { topics, unknown } = list(shard, wanted);
    let topics = topics.iter().map(|topic| topic_metadata(topic, shards)).collect();
    MetadataReply { shards, topics, unknown }
}

/// A topic as the wire tells it. A node alone leads everything (node 0, epoch 0).
pub fn topic_metadata(topic: &Topic, shards: u32) -> TopicMetadata {
    let partitions = (0..topic.partitions)
        .map(|partition| PartitionMetadata {
            partition,
            shard: owner(topic.id, partition, shards),
            leader: 0,
            leader_epoch: 0,
        })
        .collect();
    let config = topic.config.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    TopicMetadata { name: topic.name.clone(), id: topic.id, partitions, config }
}

/// More than the reply will have.
fn most_bytes(table: &TopicTable, wanted: Option<&[String]>) -> usize {
    let of_topic = |topic: &Topic| {
        let settings: usize = topic.config.iter().map(|(key, value)| 32 + key.len() + value.len()).sum();
        64 + topic.name.len() + settings + 24 * topic.partitions as usize
    };
    match wanted {
        None => table.iter().map(|topic| of_topic(topic)).sum(),
        Some(names) => {
            names.iter().map(|name| table.get(name).map_or(16 + name.len(), |topic| of_topic(topic))).sum()
        }
    }
}
