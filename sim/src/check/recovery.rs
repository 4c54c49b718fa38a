//! Invariant 6: recovering twice is recovering once; nothing damaged is served, and nothing is deleted because it is damaged.

use std::collections::BTreeMap;

use super::acked::seconds;
use super::facts::Facts;
use crate::history::{Census, Event, History, Place, Trust};
use crate::invariant::{Invariant, Violation};

pub fn check(history: &History, facts: &Facts<'_>) -> Result<(), Violation> {
    for (at, event) in history.events() {
        if let Event::Garbage { place, offset, what } = event {
            let seen = format!("at {} a reader got offset {offset} of {place}: {what}", seconds(*at));
            return Err(Violation::new(Invariant::Recovery, seen));
        }
        if let Event::Up { removed, .. } = event
            && !removed.is_empty()
        {
            let seen =
                format!("at {} a start has removed what is damaged: {}", seconds(*at), removed.join(", "));
            return Err(Violation::new(Invariant::Recovery, seen));
        }
    }
    if history.trust() == Trust::Sound {
        no_damage(history)?;
    }
    let mut first: BTreeMap<Place, &Census> = BTreeMap::new();
    for (_, census) in facts.censuses.iter().filter(|(_, census)| census.copy > 0 && !census.damaged) {
        let one = *first.entry(census.place).or_insert(census);
        if (one.start, one.end, &one.records) != (census.start, census.end, &census.records) {
            return Err(Violation::new(Invariant::Recovery, difference(one, census)));
        }
    }
    Ok(())
}

/// A disk that keeps what was synced is never called damaged.
fn no_damage(history: &History) -> Result<(), Violation> {
    for (at, event) in history.events() {
        let seen = match event {
            Event::Up { damage, quarantined, .. } if !damage.is_empty() || !quarantined.is_empty() => {
                format!("the broker names damage ({}) and sets {quarantined:?} aside", damage.join("; "))
            }
            Event::Census(census) if census.damaged => format!("{} cannot be read for damage", census.place),
            _ => continue,
        };
        let seen = format!("at {} {seen}, and the disk is sound", seconds(*at));
        return Err(Violation::new(Invariant::Recovery, seen));
    }
    Ok(())
}

fn difference(one: &Census, other: &Census) -> String {
    let differing = one.records.iter().zip(&other.records).find(|(one, other)| one != other);
    let place = one.place;
    match differing {
        Some(((offset, stamp), (again, instead))) => format!(
            "recovered once, {place} has {} at offset {offset}; recovered again, {} at offset {again}",
            stamp.record, instead.record,
        ),
        None => format!(
            "recovered once, {place} has offsets {}..{} with {} records; recovered again, {}..{} with {}",
            one.start,
            one.end,
            one.records.len(),
            other.start,
            other.end,
            other.records.len(),
        ),
    }
}
