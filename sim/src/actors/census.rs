//! The census: reads everything that can be read of every topic, as a new consumer from the beginning.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use ringlog_client::{
    AdminError, Client, ConsumeError, ErrorCode, OffsetInfo, OpenError, Position, TopicInfo,
};
use ringlog_reactor::sim::SimDisk;
use ringlog_reactor::{Instant, now, timeout};

use super::admin::list;
use super::consumer::failed;
use crate::history::{Census, Event, Place};
use crate::record;
use crate::segments;
use crate::stage::{ANSWERED_WITHIN, Stage};

/// How a census went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Everything was read.
    All,
    /// The broker went away, or would not answer.
    Not(&'static str),
}

/// Reads all topics of the broker that `client` is connected to and that has that disk. `copy` is as in [`Census`].
pub async fn take(stage: &Rc<Stage>, client: &Client, disk: &SimDisk, copy: u32) -> Counted {
    let Some(topics) = list(stage, client).await else { return Counted::Not("the topics were not listed") };
    for topic in topics {
        let counted = take_topic(stage, client, disk, &topic, copy).await;
        if counted != Counted::All {
            return counted;
        }
    }
    Counted::All
}

async fn take_topic(
    stage: &Rc<Stage>,
    client: &Client,
    disk: &SimDisk,
    topic: &TopicInfo,
    copy: u32,
) -> Counted {
    let begun = now();
    let mut before = BTreeMap::new();
    let mut damaged = Vec::new();
    for partition in topic.partitions.iter().map(|info| info.partition) {
        match ends(stage, client, topic, partition).await {
            Ok(info) => drop(before.insert(partition, info)),
            Err(Some(ErrorCode::Quarantined)) => damaged.push(partition),
            Err(Some(ErrorCode::UnknownTopic)) => return Counted::All,
            Err(_) => return Counted::Not("an offset was not told"),
        }
    }
    let mut reading = Reading { stage, topic, disk, begun, copy, before, damaged, found: BTreeMap::new() };
    if let Some(why) = reading.read(client).await {
        return Counted::Not(why);
    }
    reading.write_down(client).await
}

/// Where a partition begins and ends; why not.
async fn ends(
    stage: &Stage,
    client: &Client,
    topic: &TopicInfo,
    partition: u32,
) -> Result<OffsetInfo, Option<ErrorCode>> {
    let admin = client.admin();
    let asked = admin.offsets(&topic.name, partition, Position::End);
    match stage.in_time("looking an offset up", asked).await {
        Some(Ok(info)) if info.topic_id == topic.id => Ok(info),
        // Another topic has its name.
        Some(Ok(_) | Err(AdminError::TopicRecreated { .. })) => Err(Some(ErrorCode::UnknownTopic)),
        Some(Err(AdminError::Refused(refusal))) => Err(Some(refusal.code)),
        Some(Err(AdminError::UnknownTopic { .. })) => Err(Some(ErrorCode::UnknownTopic)),
        _ => Err(None),
    }
}

struct Reading<'a> {
    stage: &'a Rc<Stage>,
    topic: &'a TopicInfo,
    /// The broker's.
    disk: &'a SimDisk,
    begun: Instant,
    copy: u32,
    /// What the broker said of each partition before the reading.
    before: BTreeMap<u32, OffsetInfo>,
    /// Partitions that the broker calls damaged.
    damaged: Vec<u32>,
    found: BTreeMap<u32, Vec<(i64, record::Stamp)>>,
}

impl Reading<'_> {
    /// Reads every partition up to where it ended; says why not.
    async fn read(&mut self, client: &Client) -> Option<&'static str> {
        let mut open: BTreeMap<u32, i64> = self.unread();
        let mut tries = 0;
        while !open.is_empty() {
            tries += 1;
            if tries > 5 {
                return Some("the consumer failed again and again");
            }
            let offsets = open.clone();
            let builder = client
                .consumer(&self.topic.name)
                .topic_id(self.topic.id)
                .from(Position::Begin)
                .partitions(offsets.keys().copied());
            let built = self.stage.in_time("building a consumer", builder.build()).await;
            let mut consumer = match built {
                Some(Ok(consumer)) => consumer,
                // Deleted since it was listed, as the next look at it tells.
                Some(Err(OpenError::UnknownTopic { .. } | OpenError::TopicRecreated { .. })) => return None,
                _ => return Some("there was no consumer"),
            };
            while !open.is_empty() {
                match timeout(ANSWERED_WITHIN, consumer.next()).await {
                    Ok(Some(Ok(record))) => {
                        let place = Place { topic: self.topic.id, partition: record.partition };
                        let Some(stamp) = record.value.as_deref().and_then(record::decode) else {
                            let what = "the value is not as it was written".into();
                            self.stage.saw(Event::Garbage { place, offset: record.offset, what });
                            return None;
                        };
                        let Some(end) = open.get(&record.partition) else { continue };
                        if record.offset < *end {
                            self.found.entry(record.partition).or_default().push((record.offset, stamp));
                        }
                        if record.offset + 1 >= *end {
                            open.remove(&record.partition);
                        }
                    }
                    Ok(Some(Err(error))) => self.skip(&error, &mut open),
                    Ok(None) => break,
                    Err(_) => {
                        let left: Vec<u32> = open.keys().copied().collect();
                        let what = format!(
                            "reading topic {} from the beginning: nothing came of partitions {left:?} within {ANSWERED_WITHIN:?}",
                            self.topic.id
                        );
                        self.stage.saw(Event::Late(what));
                        return Some("reading took too long");
                    }
                }
            }
        }
        None
    }

    fn unread(&self) -> BTreeMap<u32, i64> {
        let with_records = self.before.iter().filter(|(_, info)| info.start_offset < info.high_watermark);
        with_records.map(|(partition, info)| (*partition, info.high_watermark)).collect()
    }

    /// A partition cannot be read on: retention has overtaken the reader, who begins anew, or it is damaged.
    fn skip(&mut self, error: &ConsumeError, open: &mut BTreeMap<u32, i64>) {
        failed(self.stage, self.topic.id, error);
        match error {
            ConsumeError::OffsetOutOfRange { partition, .. } | ConsumeError::Truncated { partition, .. } => {
                drop(self.found.remove(partition))
            }
            ConsumeError::Refused { partition, refusal } => {
                if refusal.code == ErrorCode::Quarantined {
                    self.damaged.push(*partition);
                    open.remove(partition);
                }
            }
            ConsumeError::Gone { .. } | ConsumeError::TopicRecreated { .. } => open.clear(),
            ConsumeError::BadBatch { partition, .. } => drop(open.remove(partition)),
            ConsumeError::Closed => {}
        }
    }

    async fn write_down(mut self, client: &Client) -> Counted {
        for (partition, before) in std::mem::take(&mut self.before) {
            let place = Place { topic: self.topic.id, partition };
            let segments = || segments::on(self.disk).remove(&place).unwrap_or_default().into_keys();
            let mut known: Vec<i64> = segments().collect();
            // Retention may have gone on meanwhile.
            let start = match ends(self.stage, client, self.topic, partition).await {
                Ok(after) => after.start_offset,
                Err(Some(ErrorCode::UnknownTopic)) => return Counted::All,
                Err(_) => return Counted::Not("an offset was not told"),
            };
            let mut records = self.found.remove(&partition).unwrap_or_default();
            records.retain(|(offset, _)| *offset >= start);
            known.extend(segments());
            self.stage.saw(Event::Census(Census {
                copy: self.copy,
                place,
                begun: self.begun.as_nanos(),
                start,
                end: before.high_watermark.max(start),
                segments: known,
                records,
                damaged: self.damaged.contains(&partition) || self.stage.is_quarantined(place),
            }));
        }
        Counted::All
    }
}

/// Waits until every record that was acknowledged in memory has been committed.
pub async fn settle() {
    ringlog_reactor::sleep(Duration::from_secs(3)).await;
}
