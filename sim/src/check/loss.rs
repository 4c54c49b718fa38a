//! Invariant 4: what was read, and what was acknowledged before it, can be read again.

use std::collections::BTreeMap;

use super::acked::seconds;
use super::facts::{By, Facts, Sighting};
use crate::history::{History, Place, Trust};
use crate::invariant::{Invariant, Violation};

pub fn check(history: &History, facts: &Facts<'_>) -> Result<(), Violation> {
    if history.trust() == Trust::Lies {
        return Ok(());
    }
    let mut read: BTreeMap<Place, Vec<&Sighting>> = BTreeMap::new();
    for sighting in &facts.sightings {
        if !matches!(sighting.by, By::Ack(_)) && facts.is_clear(sighting.place.topic, sighting.at) {
            read.entry(sighting.place).or_default().push(sighting);
        }
    }
    for (at, census) in &facts.censuses {
        if census.damaged || !facts.is_clear(census.place.topic, *at) {
            continue;
        }
        let found: BTreeMap<i64, _> = census.records.iter().copied().collect();
        for sighting in read.get(&census.place).into_iter().flatten() {
            let sent = facts.sent_at(sighting.stamp.record);
            let stays = facts.is_durable(sighting) || !facts.crashed_within(sent, *at);
            let before = sighting.at <= census.begun && sighting.offset >= census.start;
            if before && stays && found.get(&sighting.offset) != Some(&sighting.stamp) {
                let seen = format!(
                    "{} was read at offset {} of {} at {}, and cannot be read at {} (the partition has {}..{})",
                    sighting.stamp.record,
                    sighting.offset,
                    sighting.place,
                    seconds(sighting.at),
                    seconds(census.begun),
                    census.start,
                    census.end,
                );
                return Err(Violation::new(Invariant::NoLoss, seen));
            }
        }
    }
    Ok(())
}
