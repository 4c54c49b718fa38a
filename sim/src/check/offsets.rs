//! Invariant 2: an offset of a partition is one record for ever, and a record has one offset.
//!
//! What was only in memory a crash may take back, and give its offset to another: two records at one offset are then no
//! contradiction, if one of them was volatile and the broker crashed between.

use std::collections::BTreeMap;

use super::acked::seconds;
use super::facts::{Facts, Sighting};
use crate::history::{History, Place, Trust};
use crate::invariant::{Invariant, Violation};
use crate::record::RecordId;

pub fn check(history: &History, facts: &Facts<'_>) -> Result<(), Violation> {
    if history.trust() == Trust::Lies {
        return Ok(());
    }
    let mut at_offset: BTreeMap<(Place, i64), Vec<&Sighting>> = BTreeMap::new();
    let mut place_of: BTreeMap<RecordId, &Sighting> = BTreeMap::new();
    for sighting in facts.sightings.iter().filter(|seen| facts.is_clear(seen.place.topic, seen.at)) {
        let seen = at_offset.entry((sighting.place, sighting.offset)).or_default();
        // Of sightings that say the same, the first and the last of each durability tell all.
        match seen.iter().rposition(|old| same(facts, old, sighting)) {
            Some(last) if seen[..last].iter().any(|old| same(facts, old, sighting)) => seen[last] = sighting,
            _ => seen.push(sighting),
        }
        let first = *place_of.entry(sighting.stamp.record).or_insert(sighting);
        if (first.place, first.offset) != (sighting.place, sighting.offset) {
            return Err(twice(first, sighting));
        }
    }
    for sightings in at_offset.values() {
        for (index, one) in sightings.iter().enumerate() {
            if let Some(other) = sightings[..index].iter().find(|other| contradict(facts, one, other)) {
                return Err(two_records(other, one));
            }
        }
    }
    Ok(())
}

fn same(facts: &Facts<'_>, one: &Sighting, other: &Sighting) -> bool {
    one.stamp == other.stamp && facts.is_durable(one) == facts.is_durable(other)
}

fn contradict(facts: &Facts<'_>, one: &Sighting, other: &Sighting) -> bool {
    if one.stamp == other.stamp {
        return false;
    }
    let from = facts.sent_at(one.stamp.record).min(facts.sent_at(other.stamp.record));
    let both_durable = facts.is_durable(one) && facts.is_durable(other);
    both_durable || !facts.crashed_within(from, one.at.max(other.at))
}

fn twice(first: &Sighting, second: &Sighting) -> Violation {
    let seen = format!(
        "{} stands at offset {} of {} ({}) and at offset {} of {} ({})",
        first.stamp.record,
        first.offset,
        first.place,
        seconds(first.at),
        second.offset,
        second.place,
        seconds(second.at),
    );
    Violation::new(Invariant::Offset, seen)
}

fn two_records(first: &Sighting, second: &Sighting) -> Violation {
    let seen = format!(
        "offset {} of {} is {} ({:?}, {}) and {} ({:?}, {})",
        first.offset,
        first.place,
        first.stamp.record,
        first.by,
        seconds(first.at),
        second.stamp.record,
        second.by,
        seconds(second.at),
    );
    Violation::new(Invariant::Offset, seen)
}
