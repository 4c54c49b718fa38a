//! Invariant 10, from above: what is too old goes, within the time that `docs/on_disk.md` states.
//!
//! Judged at the end of a life in which nothing went wrong, by where the logs begin then.

use super::acked::seconds;
use super::facts::{Facts, Sighting};
use crate::history::{Event, History, Nanos, Remaining};
use crate::invariant::{Invariant, Violation};

/// How much later than a grain after its time is over a record may go.
const ROUNDS_MS: i64 = 30_000;
/// The shortest grain: see the page.
const LEAST_GRAIN_MS: i64 = 10_000;
/// What a round itself may take, with the removal of the files.
const SLACK_MS: i64 = 3_000;

pub fn check(history: &History, facts: &Facts<'_>) -> Result<(), Violation> {
    if !history.is_calm() {
        return Ok(());
    }
    let mut up_since = 0;
    for (at, event) in history.events() {
        match event {
            Event::Up { .. } => up_since = *at,
            Event::Remaining(remaining) => nothing_is_overdue(facts, up_since, *at, remaining)?,
            _ => {}
        }
    }
    Ok(())
}

fn nothing_is_overdue(
    facts: &Facts<'_>,
    up_since: Nanos,
    at: Nanos,
    remaining: &Remaining,
) -> Result<(), Violation> {
    let wall_ms = |time: Nanos| remaining.wall_ms - (at - time) as i64 / 1_000_000;
    for (place, begin) in &remaining.begins {
        let Some(life) = facts.topics.get(&place.topic).filter(|_| facts.is_clear(place.topic, at)) else {
            continue;
        };
        let Some(keep_ms) = life.made.retention_ms.and_then(|keep_ms| i64::try_from(keep_ms).ok()) else {
            continue;
        };
        let late_ms = (keep_ms / 10).max(LEAST_GRAIN_MS) + ROUNDS_MS + SLACK_MS;
        // A record was written before it was seen, and is no newer than that, whatever its producer says.
        let over_at = |seen: &Sighting| wall_ms(seen.at).saturating_add(keep_ms).max(wall_ms(up_since));
        let is_overdue = |seen: &&Sighting| {
            seen.place == *place
                && seen.offset >= *begin
                && seen.at < at
                && facts.is_durable(seen)
                && remaining.wall_ms - over_at(seen) > late_ms
        };
        if let Some(seen) = facts.sightings.iter().find(is_overdue) {
            let words = format!(
                "at {} {place} begins at offset {begin}, though the record at {} was there at {} and the topic keeps {keep_ms} ms",
                seconds(at),
                seen.offset,
                seconds(seen.at),
            );
            return Err(Violation::new(Invariant::Retention, words));
        }
    }
    Ok(())
}
