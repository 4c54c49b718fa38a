//! Invariant 7: without faults everything is answered within bounded time.

use std::collections::BTreeMap;

use super::acked::seconds;
use super::facts::Facts;
use crate::history::{Event, History, Nanos, Outcome};
use crate::invariant::{Invariant, Violation};
use crate::record::RecordId;

pub fn check(history: &History, facts: &Facts<'_>) -> Result<(), Violation> {
    for (at, event) in history.events() {
        if let Event::Late(what) | Event::Refused(what) = event {
            return Err(Violation::new(Invariant::Liveness, format!("at {}: {what}", seconds(*at))));
        }
    }
    if history.events().iter().any(|(_, event)| matches!(event, Event::Named(_))) {
        return Ok(());
    }
    for send in facts.sends.values() {
        let record = send.stamp.record;
        if send.outcome.is_none() && !facts.lost_producers.contains(&record.producer) {
            let seen = format!("{record}, sent at {}, came to no outcome", seconds(send.at));
            return Err(Violation::new(Invariant::Liveness, seen));
        }
    }
    if history.is_to_heal() {
        healed_in_time(history, facts)?;
    }
    if history.is_calm() { answered_in_time(history, facts) } else { Ok(()) }
}

/// A client waits for some seconds for an answer. Where nothing goes wrong it never has to, unless the broker has ended since, or
/// had just been started: by a power failure, of which a connection learns only when it is used.
fn answered_in_time(history: &History, facts: &Facts<'_>) -> Result<(), Violation> {
    const LONG: Nanos = 4_000_000_000;
    let mut up_since = Nanos::MAX;
    for (at, event) in history.events() {
        match event {
            Event::Up { .. } => up_since = *at,
            Event::Down { .. } => up_since = Nanos::MAX,
            Event::Resolved(record, Outcome::Unknown(why)) => {
                let sent = facts.sends.get(record).map_or(0, |send| send.at);
                if sent > up_since && *at > sent + LONG {
                    let seen =
                        format!("at {} {record} was given up, and nothing was wrong: {why}", seconds(*at));
                    return Err(Violation::new(Invariant::Liveness, seen));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// A disk that is full of what retention lets go has space again in a few rounds of it. So while records wait, one is taken from time
/// to time. A single record may wait for longer: its partition's place in the journal comes when others have theirs.
fn healed_in_time(history: &History, facts: &Facts<'_>) -> Result<(), Violation> {
    let mut moved = Nanos::MAX;
    let mut waiting: BTreeMap<RecordId, Nanos> = BTreeMap::new();
    for (at, event) in history.events() {
        match event {
            Event::Up { .. } => moved = *at,
            Event::Down { .. } => {
                waiting.iter().try_for_each(|(record, sent)| in_time(*record, *sent, moved, *at))?;
                moved = Nanos::MAX;
            }
            Event::Sent { stamp, .. } => drop(waiting.insert(stamp.record, *at)),
            Event::Resolved(record, outcome) => {
                waiting.remove(record);
                in_time(*record, facts.sent_at(*record), moved, *at)?;
                if matches!(outcome, Outcome::Acked(..)) && moved != Nanos::MAX {
                    moved = *at;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether a record has not waited for too long: since it was sent, the broker came up, or another one was taken.
fn in_time(record: RecordId, sent: Nanos, moved: Nanos, now: Nanos) -> Result<(), Violation> {
    // Loose: partitions whose segments are begun late were seen to wait for 40 s.
    const SOON: Nanos = 80_000_000_000;
    if now <= sent.max(moved).saturating_add(SOON) {
        return Ok(());
    }
    let (now, sent) = (seconds(now), seconds(sent));
    let seen = format!("{record}, sent at {sent}, waited until {now}, though retention frees the disk");
    Err(Violation::new(Invariant::Liveness, seen))
}
