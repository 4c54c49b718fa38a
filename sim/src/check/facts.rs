//! A history, looked at once: who sent what, what became of it, where it was seen, and when the broker crashed.

use std::collections::BTreeMap;

use ringlog_client::{Ack, Position};

use crate::history::{Census, Event, History, Nanos, Outcome, Place, TopicMade};
use crate::record::{RecordId, Stamp};

/// A record, from its send to its outcome.
#[derive(Clone, Debug)]
pub struct Send<'a> {
    pub stamp: Stamp,
    pub ack: Ack,
    pub time_ms: i64,
    pub at: Nanos,
    pub outcome: Option<(Nanos, &'a Outcome)>,
}

/// A record seen at an offset.
#[derive(Clone, Copy, Debug)]
pub struct Sighting {
    pub place: Place,
    pub offset: i64,
    pub stamp: Stamp,
    pub at: Nanos,
    pub by: By,
}

/// How a record was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Ack(Ack),
    Reader(u32),
    Census,
}

/// A topic's time.
#[derive(Clone, Debug)]
pub struct TopicLife<'a> {
    pub made: &'a TopicMade,
    pub at: Nanos,
    pub deleting: Option<Nanos>,
    pub deleted: Option<Nanos>,
}

/// Where a consumer was to begin, and when.
#[derive(Clone, Copy, Debug)]
pub struct Beginning {
    pub from: Position,
    pub at: Nanos,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Facts<'a> {
    pub sends: BTreeMap<RecordId, Send<'a>>,
    pub topics: BTreeMap<u64, TopicLife<'a>>,
    pub beginnings: BTreeMap<u32, Beginning>,
    pub sightings: Vec<Sighting>,
    pub censuses: Vec<(Nanos, &'a Census)>,
    pub crashes: Vec<Nanos>,
    /// When a broker was gone, in order or not.
    pub ends: Vec<Nanos>,
    pub lost_producers: Vec<u32>,
}

impl<'a> Facts<'a> {
    pub fn of(history: &'a History) -> Facts<'a> {
        let mut facts = Facts::default();
        history.events().iter().for_each(|(at, event)| facts.add(*at, event));
        facts
    }

    fn add(&mut self, at: Nanos, event: &'a Event) {
        match event {
            Event::Made(made) => {
                let life = TopicLife { made, at, deleting: None, deleted: None };
                self.topics.entry(made.id).or_insert(life);
            }
            Event::Deleting(topic) => {
                if let Some(life) = self.topics.get_mut(topic) {
                    life.deleting.get_or_insert(at);
                }
            }
            Event::Deleted(topic) => {
                if let Some(life) = self.topics.get_mut(topic) {
                    life.deleted.get_or_insert(at);
                }
            }
            Event::Sent { stamp, ack, time_ms } => {
                let send = Send { stamp: *stamp, ack: *ack, time_ms: *time_ms, at, outcome: None };
                self.sends.insert(stamp.record, send);
            }
            Event::Beginning { reader, from } => {
                self.beginnings.insert(*reader, Beginning { from: *from, at });
            }
            Event::Resolved(record, outcome) => self.resolve(at, *record, outcome),
            Event::Read { reader, place, offset, stamp } => {
                let by = By::Reader(*reader);
                self.sightings.push(Sighting { place: *place, offset: *offset, stamp: *stamp, at, by });
            }
            Event::Census(census) => self.add_census(at, census),
            Event::Down { in_order } => {
                self.ends.push(at);
                if !in_order {
                    self.crashes.push(at);
                }
            }
            Event::ClientKilled { producers } => self.lost_producers.extend(producers),
            Event::Listed { .. } | Event::Garbage { .. } | Event::Up { .. } => {}
            Event::SegmentGone(_) | Event::Remaining(_) | Event::Broken(_) => {}
            Event::Late(_) | Event::Refused(_) | Event::Named(_) => {}
        }
    }

    fn resolve(&mut self, at: Nanos, record: RecordId, outcome: &'a Outcome) {
        let Some(send) = self.sends.get_mut(&record) else { return };
        send.outcome = Some((at, outcome));
        if let Outcome::Acked(place, Some(offset)) = outcome {
            let (stamp, by) = (send.stamp, By::Ack(send.ack));
            self.sightings.push(Sighting { place: *place, offset: *offset, stamp, at, by });
        }
    }

    fn add_census(&mut self, at: Nanos, census: &'a Census) {
        self.censuses.push((at, census));
        self.sightings.extend(census.records.iter().map(|&(offset, stamp)| Sighting {
            place: census.place,
            offset,
            stamp,
            at,
            by: By::Census,
        }));
    }

    /// Whether what was seen in a topic at that time was certainly of that topic.
    pub fn is_clear(&self, topic: u64, at: Nanos) -> bool {
        self.topics.get(&topic).is_some_and(|life| life.deleting.is_none_or(|deleting| at < deleting))
    }

    /// Whether a crash cannot take back what was seen.
    pub fn is_durable(&self, sighting: &Sighting) -> bool {
        match sighting.by {
            By::Ack(ack) => ack == Ack::Disk,
            // A census of a topic that shows what is in memory may do so, too.
            By::Reader(_) | By::Census => {
                self.topics.get(&sighting.place.topic).is_some_and(|life| !life.made.volatile)
            }
        }
    }

    /// Whether the broker crashed between the two times.
    pub fn crashed_within(&self, from: Nanos, to: Nanos) -> bool {
        self.crashes.iter().any(|crash| (from..=to).contains(crash))
    }

    /// A record's timestamp, if it is known who sent it.
    pub fn time_of(&self, record: RecordId) -> Option<i64> {
        self.sends.get(&record).map(|send| send.time_ms)
    }

    /// When a record was sent; the beginning if nobody did.
    pub fn sent_at(&self, record: RecordId) -> Nanos {
        self.sends.get(&record).map_or(0, |send| send.at)
    }
}
