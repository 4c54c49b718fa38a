//! Invariant 5: the log has a producer's order; a subscription has no gap and no repeat.

use std::collections::BTreeMap;

use super::acked::seconds;
use super::facts::{By, Facts, Sighting};
use crate::history::{Census, History, Outcome, Place, Trust};
use crate::invariant::{Invariant, Violation};
use crate::record::Stamp;

pub fn check(history: &History, facts: &Facts<'_>) -> Result<(), Violation> {
    subscriptions(facts)?;
    for (at, census) in &facts.censuses {
        if facts.is_clear(census.place.topic, *at) {
            log(facts, census)?;
        }
    }
    // Offsets that a lying disk has forgotten are given again.
    if history.trust() == Trust::Lies { Ok(()) } else { acks(facts) }
}

/// Offsets of one reader follow on each other.
fn subscriptions(facts: &Facts<'_>) -> Result<(), Violation> {
    let mut last: BTreeMap<(u32, Place), i64> = BTreeMap::new();
    for sighting in &facts.sightings {
        let By::Reader(reader) = sighting.by else { continue };
        if !facts.is_clear(sighting.place.topic, sighting.at) {
            continue;
        }
        let before = last.insert((reader, sighting.place), sighting.offset);
        if let Some(before) = before.filter(|before| sighting.offset != before + 1) {
            let seen = format!(
                "consumer {reader} of {} got offset {} after offset {before}, at {}",
                sighting.place,
                sighting.offset,
                seconds(sighting.at),
            );
            return Err(Violation::new(Invariant::Order, seen));
        }
    }
    Ok(())
}

/// A log has every offset from its start to its end, and each producer's records in their order. A record whose
/// outcome nobody knows may have come late, by a connection that was given up.
fn log(facts: &Facts<'_>, census: &Census) -> Result<(), Violation> {
    let mut last: BTreeMap<u32, (i64, Stamp)> = BTreeMap::new();
    let mut expected = census.start;
    for (offset, stamp) in &census.records {
        if *offset != expected && !census.damaged {
            let seen = format!("{} has offset {offset} where {expected} is due", census.place);
            return Err(Violation::new(Invariant::Order, seen));
        }
        expected = offset + 1;
        let unknown = facts.sends.get(&stamp.record).is_none_or(|send| {
            !matches!(send.outcome, Some((_, Outcome::Acked(..)))) || send.ack == ringlog_client::Ack::None
        });
        if unknown {
            continue;
        }
        let before = last.insert(stamp.record.producer, (*offset, *stamp));
        if let Some((at, before)) =
            before.filter(|(_, before)| before.record.sequence > stamp.record.sequence)
        {
            let seen = format!(
                "in {} {} stands at offset {at} and {}, sent before it, at offset {offset}",
                census.place, before.record, stamp.record,
            );
            return Err(Violation::new(Invariant::Order, seen));
        }
    }
    if expected != census.end && !census.damaged {
        let seen = format!("{} ends at offset {} and has records up to {expected}", census.place, census.end);
        return Err(Violation::new(Invariant::Order, seen));
    }
    Ok(())
}

/// Acks of one producer in one partition follow its sends.
fn acks(facts: &Facts<'_>) -> Result<(), Violation> {
    let mut acked: BTreeMap<(u32, Place), Vec<&Sighting>> = BTreeMap::new();
    for sighting in facts.sightings.iter().filter(|seen| matches!(seen.by, By::Ack(_))) {
        if facts.is_clear(sighting.place.topic, sighting.at) {
            acked.entry((sighting.stamp.record.producer, sighting.place)).or_default().push(sighting);
        }
    }
    for sightings in acked.values_mut() {
        sightings.sort_by_key(|sighting| sighting.stamp.record.sequence);
        for pair in sightings.windows(2) {
            let (one, next) = (pair[0], pair[1]);
            let from = facts.sent_at(one.stamp.record);
            let comparable = facts.is_durable(one) || !facts.crashed_within(from, one.at.max(next.at));
            if comparable && one.offset >= next.offset {
                let seen = format!(
                    "{} was acknowledged at offset {} of {} and {} at offset {}",
                    one.stamp.record, one.offset, one.place, next.stamp.record, next.offset,
                );
                return Err(Violation::new(Invariant::Order, seen));
            }
        }
    }
    Ok(())
}
