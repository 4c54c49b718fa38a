//! Invariant 10, from below: retention removes nothing that a topic's settings keep, and a log begins where a segment does.
//!
//! What a segment held is known from what was seen at its offsets; how much is left, from the files on the simulated disk.

use std::collections::BTreeMap;

use super::acked::seconds;
use super::facts::Facts;
use crate::history::{Event, History, Nanos, Place, SegmentGone, Trust};
use crate::invariant::{Invariant, Violation};

/// How soon after a start what an earlier life has let go is removed, in nanoseconds: in the first round of retention.
const LEFTOVERS_WITHIN: Nanos = 25_000_000_000;

pub fn check(history: &History, facts: &Facts<'_>) -> Result<(), Violation> {
    if history.trust() != Trust::Sound {
        return Ok(());
    }
    begins_with_a_segment(facts)?;
    let (mut times, mut judged_from) = (None, 0);
    for (at, event) in history.events() {
        match event {
            // What retention let go in one life may be removed in the next, beside files of which a power failure has taken the end.
            Event::Up { .. } if judged_from > 0 => judged_from = at + LEFTOVERS_WITHIN,
            Event::Up { .. } => judged_from = *at,
            Event::SegmentGone(gone) if *at >= judged_from && facts.is_clear(gone.place.topic, *at) => {
                may_go(facts, times.get_or_insert_with(|| times_of(facts)), *at, gone)?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn begins_with_a_segment(facts: &Facts<'_>) -> Result<(), Violation> {
    for (at, census) in &facts.censuses {
        let begins = census.start == 0 || census.segments.contains(&census.start);
        if !begins && !census.damaged && facts.is_clear(census.place.topic, *at) {
            let seen = format!(
                "at {} {} begins at offset {}, and its segments at {:?}",
                seconds(*at),
                census.place,
                census.start,
                census.segments
            );
            return Err(Violation::new(Invariant::Retention, seen));
        }
    }
    Ok(())
}

/// The time of the record at each offset that was seen.
fn times_of(facts: &Facts<'_>) -> BTreeMap<(Place, i64), i64> {
    let timed = facts.sightings.iter().filter_map(|sighting| {
        let time = facts.time_of(sighting.stamp.record)?;
        Some(((sighting.place, sighting.offset), time))
    });
    timed.collect()
}

fn may_go(
    facts: &Facts<'_>,
    times: &BTreeMap<(Place, i64), i64>,
    at: Nanos,
    gone: &SegmentGone,
) -> Result<(), Violation> {
    let Some(life) = facts.topics.get(&gone.place.topic) else { return Ok(()) };
    let too_many = life.made.retention_bytes.is_some_and(|limit| gone.bytes_left >= limit);
    let newest = times.range((gone.place, gone.base)..(gone.place, gone.next)).map(|(_, time)| *time).max();
    let too_old = life.made.retention_ms.is_some_and(|keep_ms| {
        // A clock that jumps gives no age.
        let age = gone.wall_ms.zip(newest).map(|(now, newest)| now - newest);
        age.is_none_or(|age| age >= i64::try_from(keep_ms).unwrap_or(i64::MAX))
    });
    if too_many || too_old {
        return Ok(());
    }
    let seen = format!(
        "at {} the segment of {} with the offsets {}..{} was removed: {} bytes were left, its newest record is of {newest:?} \
         and it was {:?}; the topic keeps {:?} bytes, {:?} ms",
        seconds(at),
        gone.place,
        gone.base,
        gone.next,
        gone.bytes_left,
        gone.wall_ms,
        life.made.retention_bytes,
        life.made.retention_ms,
    );
    Err(Violation::new(Invariant::Retention, seen))
}
