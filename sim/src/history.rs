//! What the clients of a run saw, in the order of virtual time. The checkers look at nothing else.
//!
//! A topic's history ends when its deletion is asked for: of what is seen in it from then on nobody can say whether
//! it was meant for that topic or for the next of its name.

use std::fmt;

use ringlog_client::{Ack, Position};

use crate::record::{RecordId, Stamp};

/// Virtual time, in nanoseconds.
pub type Nanos = u64;

/// A partition: a topic's id and a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The topic's id.
    pub topic: u64,
    /// The partition's number.
    pub partition: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "topic {} partition {}", self.topic, self.partition)
    }
}

/// A topic as it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicMade {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Its records may be read before they are on stable storage.
    pub volatile: bool,
    /// Its records have the broker's time, not their producers'.
    pub brokers_time: bool,
    /// `retention.bytes`.
    pub retention_bytes: Option<u64>,
    /// `retention.ms`.
    pub retention_ms: Option<u64>,
}

impl TopicMade {
    /// Whether old segments are removed.
    pub fn retains(&self) -> bool {
        self.retention_bytes.is_some() || self.retention_ms.is_some()
    }
}

/// A segment that was removed from the beginning of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentGone {
    /// Of which partition.
    pub place: Place,
    /// Its first offset.
    pub base: i64,
    /// The first offset of the segment after it.
    pub next: i64,
    /// Bytes of the files of all segments after it.
    pub bytes_left: u64,
    /// The broker's wall clock then, in Unix milliseconds; none if that jumps.
    pub wall_ms: Option<i64>,
}

/// Where the logs on the broker's disk begin, at one time while it is up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remaining {
    /// The broker's wall clock, in Unix milliseconds.
    pub wall_ms: i64,
    /// The first offset in segments.
    pub begins: Vec<(Place, i64)>,
}

/// Everything that could be read of a partition, at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Census {
    /// Which recovery of the data it was read from: 0 for the run itself, 1 and more for recovered copies.
    pub copy: u32,
    /// Of which partition.
    pub place: Place,
    /// When the reading began.
    pub begun: Nanos,
    /// The first offset that was to be there.
    pub start: i64,
    /// One past the last offset that was to be there.
    pub end: i64,
    /// Where the partition's segments begin.
    pub segments: Vec<i64>,
    /// What was there, in the order it came.
    pub records: Vec<(i64, Stamp)>,
    /// The broker named damage here; what it could not serve is left out.
    pub damaged: bool,
}

/// What became of a record, as its producer knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Acknowledged; with the offset, if the ack had one.
    Acked(Place, Option<i64>),
    /// It may be in the log.
    Unknown(String),
    /// It is not in the log.
    Failed(String),
}

/// One thing that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A topic is there.
    Made(TopicMade),
    /// Its deletion was asked for.
    Deleting(u64),
    /// Its deletion was acknowledged.
    Deleted(u64),
    /// All topics there are. `begun` is when it was asked.
    Listed {
        /// When it was asked.
        begun: Nanos,
        /// Their ids.
        topics: Vec<u64>,
    },
    /// A record is handed to a producer.
    Sent {
        /// Which, and for which topic.
        stamp: Stamp,
        /// The ack level asked for.
        ack: Ack,
        /// The record's timestamp, in Unix milliseconds.
        time_ms: i64,
    },
    /// What became of it.
    Resolved(RecordId, Outcome),
    /// A consumer is to begin.
    Beginning {
        /// Consumers are numbered over the whole run.
        reader: u32,
        /// Where it is to begin.
        from: Position,
    },
    /// A consumer got a record.
    Read {
        /// Consumers are numbered over the whole run.
        reader: u32,
        /// Where it reads.
        place: Place,
        /// The record's offset.
        offset: i64,
        /// The record.
        stamp: Stamp,
    },
    /// A reader got something that nobody wrote, or that is not as it was written.
    Garbage {
        /// Where it came from.
        place: Place,
        /// At which offset.
        offset: i64,
        /// What is wrong with it.
        what: String,
    },
    /// Everything that can be read of a partition.
    Census(Census),
    /// The broker accepts clients.
    Up {
        /// The damage that it named, in its words.
        damage: Vec<String>,
        /// Partitions that it set aside.
        quarantined: Vec<Place>,
        /// Files beside that damage which were there before the start, and are not any more.
        removed: Vec<String>,
    },
    /// The broker is gone, and what was only in memory with it, unless it stopped in order.
    Down {
        /// It stopped in order and said that all went well.
        in_order: bool,
    },
    /// A client's machine was killed: what its producers waited for nobody learns.
    ClientKilled {
        /// The producers that were on it.
        producers: Vec<u32>,
    },
    /// A segment was removed from the beginning of a log while the broker was up.
    SegmentGone(SegmentGone),
    /// A life of the broker is about to end.
    Remaining(Remaining),
    /// The broker did not keep to the protocol.
    Broken(String),
    /// Something was not answered in the time it had.
    Late(String),
    /// A broker that was given everything it needs did not do its part.
    Refused(String),
    /// A broker on a damaged disk said what is wrong, and did not go on; so the run did not either.
    Named(String),
}

/// How far what is on the disk can be trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// What was synced stays as it is. No damage may be found.
    #[default]
    Sound,
    /// Bits rot at places that are read again. What is damaged must be named, the rest be there.
    Rots,
    /// The disk does not do what it says, or forgets the very end of a journal, which looks like a torn write. What
    /// was acknowledged may be gone; nothing false may be served.
    Lies,
}

/// All events with their times.
#[derive(Clone, Debug, Default)]
pub struct History {
    events: Vec<(Nanos, Event)>,
    trust: Trust,
    calm: bool,
    small_disk: bool,
}

impl History {
    /// A history over a disk of that kind; `calm` if nothing goes wrong but that the broker ends and is started again.
    pub fn over(trust: Trust, calm: bool) -> History {
        History { events: Vec::new(), trust, calm, small_disk: false }
    }

    /// Whether all that goes wrong is that the broker ends and is started again.
    pub fn is_calm(&self) -> bool {
        self.calm
    }

    /// Says that the disk becomes full, of what retention lets go, and that nothing else goes wrong.
    pub fn has_small_disk(&mut self) {
        self.small_disk = true;
    }

    /// Whether a disk becomes full that heals by itself.
    pub fn is_to_heal(&self) -> bool {
        self.small_disk
    }

    /// How far the disk can be trusted.
    pub fn trust(&self) -> Trust {
        self.trust
    }

    /// Adds an event. Time does not go back.
    pub fn push(&mut self, at: Nanos, event: Event) {
        debug_assert!(self.events.last().is_none_or(|(last, _)| *last <= at));
        self.events.push((at, event));
    }

    /// All events.
    pub fn events(&self) -> &[(Nanos, Event)] {
        &self.events
    }

    /// All events, to doctor one.
    pub fn events_mut(&mut self) -> &mut Vec<(Nanos, Event)> {
        &mut self.events
    }
}
