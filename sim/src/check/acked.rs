//! Invariant 1: what was acknowledged is there, byte for byte, after any crash.

use std::collections::BTreeMap;

use ringlog_client::Ack;

use super::facts::{By, Facts, Sighting};
use crate::history::{Census, Event, History, Nanos, Place, Trust};
use crate::invariant::{Invariant, Violation};

/// A record acknowledged in memory may not be readable for so long: its commit waits for company.
const COMMIT_WITHIN: Nanos = 1_000_000_000;

pub fn check(history: &History, facts: &Facts<'_>) -> Result<(), Violation> {
    if history.trust() == Trust::Lies {
        return Ok(());
    }
    topics(history, facts)?;
    let mut acked: BTreeMap<Place, Vec<&Sighting>> = BTreeMap::new();
    for sighting in &facts.sightings {
        if matches!(sighting.by, By::Ack(_)) && facts.is_clear(sighting.place.topic, sighting.at) {
            acked.entry(sighting.place).or_default().push(sighting);
        }
    }
    for (at, census) in &facts.censuses {
        if !facts.is_clear(census.place.topic, *at) {
            continue;
        }
        let found: BTreeMap<i64, _> = census.records.iter().copied().collect();
        for ack in acked.get(&census.place).into_iter().flatten() {
            if must_be_there(facts, ack, census, *at) && found.get(&ack.offset) != Some(&ack.stamp) {
                return Err(lost(facts, ack, census, found.contains_key(&ack.offset)));
            }
        }
    }
    Ok(())
}

fn must_be_there(facts: &Facts<'_>, ack: &Sighting, census: &Census, at: Nanos) -> bool {
    let durable = ack.by == By::Ack(Ack::Disk);
    let sent = facts.sent_at(ack.stamp.record);
    let still = durable || !facts.crashed_within(sent, at) && ack.at + COMMIT_WITHIN < census.begun;
    // What was removed by retention, and what damage took by its own word, is gone by rule.
    let retains = facts.topics.get(&census.place.topic).is_some_and(|life| life.made.retains());
    let retired = retains && ack.offset < census.start;
    ack.at <= census.begun && still && !retired && !census.damaged
}

fn lost(facts: &Facts<'_>, ack: &Sighting, census: &Census, other: bool) -> Violation {
    let level = if ack.by == By::Ack(Ack::Disk) { "disk" } else { "memory" };
    let what = if other { "another record stands there" } else { "it is not there" };
    let crashes = facts.crashes.iter().filter(|crash| **crash > ack.at && **crash < census.begun).count();
    Violation::new(
        Invariant::Acked,
        format!(
            "{} was acknowledged at {level} as offset {} of {} at {}; at {} {what} (the partition has {}..{}; {} crashes between)",
            ack.stamp.record,
            ack.offset,
            ack.place,
            seconds(ack.at),
            seconds(census.begun),
            census.start,
            census.end,
            crashes,
        ),
    )
}

/// A topic that was made is there until its deletion is asked for, and never again once that was acknowledged.
fn topics(history: &History, facts: &Facts<'_>) -> Result<(), Violation> {
    for (at, event) in history.events() {
        let Event::Listed { begun, topics } = event else { continue };
        for (id, life) in &facts.topics {
            let listed = topics.contains(id);
            if !listed && life.at <= *begun && life.deleting.is_none_or(|deleting| *at < deleting) {
                let seen = format!(
                    "topic `{}` (id {id}) was made and is not there at {}",
                    life.made.name,
                    seconds(*at)
                );
                return Err(Violation::new(Invariant::Acked, seen));
            }
            if listed && life.deleted.is_some_and(|deleted| deleted <= *begun) {
                let seen = format!(
                    "topic `{}` (id {id}) was deleted and is there again at {}",
                    life.made.name,
                    seconds(*at)
                );
                return Err(Violation::new(Invariant::Acked, seen));
            }
        }
    }
    Ok(())
}

/// A time, for people.
pub fn seconds(nanos: Nanos) -> String {
    format!("{:.6} s", nanos as f64 / 1e9)
}
