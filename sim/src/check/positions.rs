//! Invariant 5, of a subscription's first record: it is the first at or after the position that was asked for.
//!
//! What else was in the log is known from censuses. They are taken later: a record that one of them has, with offsets before
//! the reader's first, was there when the reader began.

use std::collections::{BTreeMap, BTreeSet};

use ringlog_client::Position;

use super::acked::seconds;
use super::facts::{Beginning, By, Facts, Sighting};
use crate::history::{Census, History, Nanos, Place, Trust};
use crate::invariant::{Invariant, Violation};
use crate::record::{RecordId, Stamp};

pub fn check(history: &History, facts: &Facts<'_>) -> Result<(), Violation> {
    if history.trust() != Trust::Sound {
        return Ok(());
    }
    let mut seen: BTreeMap<RecordId, Nanos> = BTreeMap::new();
    let mut begun: BTreeSet<(u32, Place)> = BTreeSet::new();
    for sighting in &facts.sightings {
        if let By::Reader(reader) = sighting.by
            && begun.insert((reader, sighting.place))
            && let Some(beginning) = facts.beginnings.get(&reader)
            && facts.is_clear(sighting.place.topic, sighting.at)
        {
            first_record(facts, beginning, sighting, seen.get(&sighting.stamp.record))?;
        }
        if sighting.by != By::Ack(ringlog_client::Ack::Memory) {
            seen.entry(sighting.stamp.record).or_insert(sighting.at);
        }
    }
    Ok(())
}

/// `known`: when the record was certainly readable, at the earliest.
fn first_record(
    facts: &Facts<'_>,
    beginning: &Beginning,
    first: &Sighting,
    known: Option<&Nanos>,
) -> Result<(), Violation> {
    let wrong = match beginning.from {
        Position::Offset(offset) if first.offset != offset => Some("another offset was asked for".to_owned()),
        Position::Offset(_) => None,
        Position::End => known
            .filter(|known| **known < beginning.at && !facts.crashed_within(**known, first.at))
            .map(|known| format!("that record was there at {}", seconds(*known))),
        // Which times its records have is not known here.
        Position::Time(_)
            if facts.topics.get(&first.place.topic).is_some_and(|life| life.made.brokers_time) =>
        {
            None
        }
        Position::Begin => passed_over(facts, beginning, first, |_| true),
        Position::Time(time_ms) if facts.time_of(first.stamp.record) < Some(time_ms) => {
            Some("that record is older".to_owned())
        }
        Position::Time(time_ms) => passed_over(facts, beginning, first, |stamp| {
            facts.time_of(stamp.record).is_some_and(|time| time >= time_ms)
        }),
    };
    wrong.map_or(Ok(()), |why| {
        let seen = format!(
            "a consumer of {} that began at {:?}, at {}, got offset {} first, and {why}",
            first.place,
            beginning.from,
            seconds(beginning.at),
            first.offset,
        );
        Err(Violation::new(Invariant::Order, seen))
    })
}

/// A record before the reader's first that it should have got instead.
fn passed_over(
    facts: &Facts<'_>,
    beginning: &Beginning,
    first: &Sighting,
    is_wanted: impl Fn(&Stamp) -> bool,
) -> Option<String> {
    let made = facts.topics.get(&first.place.topic)?.made;
    let is_witness = |at: Nanos, census: &Census| {
        let same = census.place == first.place && census.copy == 0 && !census.damaged;
        // A crash may take back what was only in memory, and a start offset that was not yet in a checkpoint.
        let stays = !made.volatile && !made.retains() || !facts.crashed_within(beginning.at, at);
        same && census.begun > beginning.at && stays && facts.is_clear(first.place.topic, at)
    };
    let censuses = facts.censuses.iter().filter(|(at, census)| is_witness(*at, census));
    let mut missed = censuses.filter_map(|(_, census)| {
        let earlier = census.records.iter().take_while(|(offset, _)| *offset < first.offset);
        earlier.into_iter().find(|(_, stamp)| is_wanted(stamp))
    });
    missed.next().map(|(offset, stamp)| format!("{} stands at offset {offset}", stamp.record))
}
