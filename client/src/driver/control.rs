//! Admin requests: one question, one answer.

use std::sync::Arc;

use bytes::Bytes;
use ringlog_protocol::batch::{BatchHeader, RecordIter};
use ringlog_protocol::messages::{
    CreateTopic, DeleteTopic, Fetch, ListOffsets, ListOffsetsReply, Opened, Position, TopicMetadata,
};
use ringlog_protocol::{ErrorCode, Kind};

use super::link::{Link, Trouble, nonsense};
use super::pool::Pool;
use crate::error::{AdminError, Refusal};
use crate::session::Reply;
use crate::unpack::section;

/// Makes a topic.
pub(crate) async fn create_topic(
    pool: &Arc<Pool>,
    name: String,
    partitions: u32,
    config: Vec<(String, String)>,
) -> Result<TopicMetadata, AdminError> {
    let request = CreateTopic { name, partitions, config };
    match ask_once(pool, Kind::CreateTopic, &request).await? {
        Reply::Created(topic) => Ok(topic),
        other => Err(nonsense(&other).into()),
    }
}

/// Deletes a topic.
pub(crate) async fn delete_topic(pool: &Arc<Pool>, name: String) -> Result<(), AdminError> {
    pool.forget_name(&name);
    let topic = Arc::from(name.as_str());
    match ask_once(pool, Kind::DeleteTopic, &DeleteTopic { name }).await {
        Ok(_) => Ok(()),
        Err(error) => Err(by_name(error, &topic)),
    }
}

/// All topics.
pub(crate) async fn topics(pool: &Arc<Pool>) -> Result<Vec<TopicMetadata>, AdminError> {
    let mut topics = pool.metadata(None).await?;
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(topics)
}

/// Which offset a position means, and what was said of the partition.
pub(crate) async fn offsets(
    pool: &Arc<Pool>,
    topic: &Arc<str>,
    partition: u32,
    at: Position,
) -> Result<(Opened, ListOffsetsReply), AdminError> {
    let answer = match look_up(pool, topic, partition, at).await {
        // What is remembered of the topic is of one that is gone.
        Err(
            AdminError::TopicRecreated { .. }
            | AdminError::UnknownTopic { .. }
            | AdminError::UnknownPartition { .. }
            | AdminError::Refused(Refusal {
                code: ErrorCode::UnknownTopic | ErrorCode::UnknownPartition, ..
            }),
        ) => {
            pool.forget_name(topic);
            look_up(pool, topic, partition, at).await
        }
        // Looking again does no harm, and the link may have been stale.
        Err(AdminError::OutcomeUnknown) => look_up(pool, topic, partition, at).await,
        answer => answer,
    };
    answer.map_err(|error| by_name(error, topic))
}

async fn look_up(
    pool: &Arc<Pool>,
    topic: &Arc<str>,
    partition: u32,
    at: Position,
) -> Result<(Opened, ListOffsetsReply), AdminError> {
    let (known, link) = pool.route(topic, partition).await?;
    let (handle, opened) = link.open_partition(topic, partition).await?;
    if opened.topic_id != known.id {
        link.close_partition(handle);
        return Err(AdminError::TopicRecreated { topic: Arc::clone(topic) });
    }
    let found = ask_offset(&link, handle, at).await;
    link.close_partition(handle);
    Ok((opened, found?))
}

async fn ask_offset(link: &Link, handle: u32, at: Position) -> Result<ListOffsetsReply, Trouble> {
    let found = match link.ask(Kind::ListOffsets, handle, &ListOffsets { at }).await? {
        Reply::Offsets(found) => found,
        other => return Err(nonsense(&other)),
    };
    match at {
        Position::Time(time_ms) if found.timestamp >= 0 => exact(link, handle, time_ms, found).await,
        _ => Ok(found),
    }
}

/// The broker knows batches, not records: finds the first record of that time in the batch it names.
async fn exact(
    link: &Link,
    handle: u32,
    time_ms: i64,
    found: ListOffsetsReply,
) -> Result<ListOffsetsReply, Trouble> {
    let fetch = Fetch { offset: found.offset, max_bytes: 1, min_bytes: 0, max_wait_ms: 0 };
    let batches = match link.ask(Kind::Fetch, handle, &fetch).await? {
        Reply::Fetched { batches, .. } => batches,
        other => return Err(nonsense(&other)),
    };
    let record = first_since(&batches, time_ms).map_err(Trouble::Nonsense)?;
    Ok(match record {
        Some((offset, timestamp)) => ListOffsetsReply { offset, timestamp, ..found },
        None => found,
    })
}

/// Offset and timestamp of the first record of the first batch that is not earlier than `time_ms`.
fn first_since(batches: &Bytes, time_ms: i64) -> Result<Option<(i64, i64)>, Arc<str>> {
    let words = |error: &dyn std::fmt::Display| Arc::from(error.to_string());
    let Some(batch) = ringlog_protocol::batch::split_batches(batches).next() else { return Ok(None) };
    let (header, bytes): (BatchHeader, _) = batch.map_err(|error| words(&error))?;
    let section = section(&header, &batches.slice_ref(bytes)).map_err(|error| words(&error))?;
    for record in RecordIter::new(&header, &section) {
        let record = record.map_err(|error| words(&error))?;
        let timestamp_ms = record.timestamp_ms(&header);
        if timestamp_ms >= time_ms {
            return Ok(Some((record.offset(&header), timestamp_ms)));
        }
    }
    Ok(None)
}

/// Asks for something that must not be done twice: again only if the first request cannot have left.
async fn ask_once<B: ringlog_protocol::Body>(
    pool: &Arc<Pool>,
    kind: Kind,
    request: &B,
) -> Result<Reply, AdminError> {
    match pool.link(None).await?.ask(kind, 0, request).await {
        Err(Trouble::Lost { sent: false }) => Ok(pool.link(None).await?.ask(kind, 0, request).await?),
        answer => Ok(answer?),
    }
}

/// A refusal about the topic's name says which.
fn by_name(error: AdminError, topic: &Arc<str>) -> AdminError {
    match error {
        AdminError::Refused(refusal) if refusal.code == ErrorCode::UnknownTopic => {
            AdminError::UnknownTopic { topic: Arc::clone(topic) }
        }
        other => other,
    }
}
