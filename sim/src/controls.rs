//! Positive controls: a true history with one thing changed, which the checker of that invariant must not let through.

use std::collections::{BTreeMap, BTreeSet};

use ringlog_client::{Ack, Position};

use crate::history::{Census, Event, History, Nanos, Outcome, Place, Remaining, SegmentGone, Trust};
use crate::invariant::{Invariant, Violation};
use crate::record::RecordId;
use crate::run::{self, Order};

/// One change, and the invariant that it breaks.
pub struct Control {
    /// What must be named.
    pub invariant: Invariant,
    /// What is changed.
    pub change: &'static str,
    /// Changes it; false if the history has nothing that could be.
    pub doctor: fn(&mut History) -> bool,
}

/// At least one for every invariant that a history shows.
pub const CONTROLS: &[Control] = &[
    Control {
        invariant: Invariant::Acked,
        change: "an acknowledged record is missing at the end",
        doctor: lose_acked,
    },
    Control {
        invariant: Invariant::Acked,
        change: "a topic that was made is not listed",
        doctor: lose_topic,
    },
    Control {
        invariant: Invariant::Offset,
        change: "a consumer gets another record at an offset",
        doctor: two_at_one_offset,
    },
    Control {
        invariant: Invariant::Offset,
        change: "a record is read at two offsets",
        doctor: one_at_two_offsets,
    },
    Control {
        invariant: Invariant::Reads,
        change: "a record is read that its producer was told has failed",
        doctor: read_failed,
    },
    Control { invariant: Invariant::Reads, change: "a record is read that nobody sent", doctor: never_sent },
    Control {
        invariant: Invariant::NoLoss,
        change: "a record that was read is missing at the end",
        doctor: lose_read,
    },
    Control { invariant: Invariant::Order, change: "a consumer skips an offset", doctor: skip_read },
    Control {
        invariant: Invariant::Order,
        change: "a consumer from the beginning begins one record late",
        doctor: begin_late,
    },
    Control {
        invariant: Invariant::Order,
        change: "two records of a producer are acknowledged the wrong way round",
        doctor: swap_acks,
    },
    Control {
        invariant: Invariant::Recovery,
        change: "the second recovery finds one record less",
        doctor: recover_less,
    },
    Control { invariant: Invariant::Recovery, change: "a reader gets garbage", doctor: garbage },
    Control {
        invariant: Invariant::Recovery,
        change: "a start removes a damaged file",
        doctor: remove_damaged,
    },
    Control { invariant: Invariant::Liveness, change: "a record comes to no outcome", doctor: unresolved },
    Control {
        invariant: Invariant::Liveness,
        change: "a record is given up while nothing is wrong",
        doctor: give_up,
    },
    Control {
        invariant: Invariant::Retention,
        change: "a segment is removed that its topic keeps",
        doctor: remove_kept,
    },
    Control {
        invariant: Invariant::Retention,
        change: "a log begins in the middle of a segment",
        doctor: begin_in_segment,
    },
    Control {
        invariant: Invariant::Retention,
        change: "a record stays long after its time is over",
        doctor: keep_overdue,
    },
    Control {
        invariant: Invariant::Protocol,
        change: "a client is pushed more than its credit",
        doctor: push_too_much,
    },
];

/// How a control went: the violations that the changed history shows, or why there was none to change.
pub fn try_control(control: &Control, history: &History) -> Result<Vec<Violation>, &'static str> {
    let mut doctored = history.clone();
    // Over a disk that cannot be trusted less is promised.
    if history.trust() != Trust::Sound || !(control.doctor)(&mut doctored) {
        return Err("the run has nothing to change");
    }
    let violations = run::violations(&doctored, &[]);
    match violations.iter().any(|violation| violation.invariant == control.invariant) {
        true => Ok(violations),
        false => Err("the change was let through"),
    }
}

/// Tries every control on the first run, from `seed` on, that it can be tried on. One line each; false if one failed.
pub fn run_all(seed: u64, mut tell: impl FnMut(&Control, Result<String, String>)) -> bool {
    let histories: Vec<(u64, History)> = (seed..seed + 12)
        .map(|seed| (seed, run::run_with_history(Order::of(seed))))
        .filter(|(_, (outcome, _))| outcome.violations.is_empty())
        .map(|(seed, (_, history))| (seed, history))
        .collect();
    let mut good = true;
    for control in CONTROLS {
        let mut result = Err("no run could be changed so".to_owned());
        for (seed, history) in &histories {
            match try_control(control, history) {
                Ok(_) => result = Ok(format!("seed {seed}")),
                Err("the run has nothing to change") => continue,
                Err(why) => result = Err(format!("seed {seed}: {why}")),
            }
            break;
        }
        good &= result.is_ok();
        tell(control, result);
    }
    good
}

/// The last census of the run itself that has a record which pleases.
fn last_census(
    history: &mut History,
    pleases: impl Fn(&Census, usize) -> bool,
) -> Option<(&mut Census, usize)> {
    let deleted: BTreeSet<u64> = history.events().iter().filter_map(deleted_topic).collect();
    let events = history.events_mut().iter_mut().rev();
    events
        .filter_map(|(_, event)| match event {
            Event::Census(census) if census.copy == 0 && !census.damaged => Some(census),
            _ => None,
        })
        .filter(|census| !deleted.contains(&census.place.topic))
        .find_map(|census| {
            let at = (0..census.records.len()).find(|at| pleases(census, *at))?;
            Some((census, at))
        })
}

fn deleted_topic((_, event): &(Nanos, Event)) -> Option<u64> {
    match event {
        Event::Deleting(topic) => Some(*topic),
        _ => None,
    }
}

fn lose_acked(history: &mut History) -> bool {
    // What the probe acknowledged at the end was acknowledged before the last census began.
    let found = last_census(history, |census, at| at + 1 == census.records.len());
    found.map(|(census, at)| census.records.remove(at)).is_some()
}

fn lose_topic(history: &mut History) -> bool {
    let deleted: BTreeSet<u64> = history.events().iter().filter_map(deleted_topic).collect();
    let made = history.events().iter().find_map(|(_, event)| match event {
        Event::Made(made) if !deleted.contains(&made.id) => Some(made.id),
        _ => None,
    });
    let Some(made) = made else { return false };
    let listed = history.events_mut().iter_mut().rev().find_map(|(_, event)| match event {
        Event::Listed { topics, .. } => Some(topics),
        _ => None,
    });
    listed.map(|topics| topics.retain(|topic| *topic != made)).is_some()
}

fn two_at_one_offset(history: &mut History) -> bool {
    let found = last_census(history, |_, at| at > 0);
    found.map(|(census, at)| census.records[at].1 = census.records[at - 1].1).is_some()
}

fn one_at_two_offsets(history: &mut History) -> bool {
    let found = last_census(history, |_, at| at > 0);
    found.map(|(census, at)| census.records[at - 1].1 = census.records[at].1).is_some()
}

fn read_failed(history: &mut History) -> bool {
    let Some((census, at)) = last_census(history, |_, _| true) else { return false };
    let record = census.records[at].1.record;
    let resolved = history.events_mut().iter_mut().find_map(|(_, event)| match event {
        Event::Resolved(id, outcome) if *id == record => Some(outcome),
        _ => None,
    });
    resolved.map(|outcome| *outcome = Outcome::Failed("it was refused".into())).is_some()
}

fn never_sent(history: &mut History) -> bool {
    let Some((census, at)) = last_census(history, |_, _| true) else { return false };
    census.records[at].1.record.producer = u32::MAX;
    true
}

fn lose_read(history: &mut History) -> bool {
    let found = last_census(history, |census, at| at + 1 == census.records.len());
    let Some((census, at)) = found else { return false };
    // What the last census misses, one right before it still had.
    let mut earlier = census.clone();
    earlier.begun -= 1;
    census.records.remove(at);
    let begun = earlier.begun;
    let index = history.events().partition_point(|(time, _)| *time <= begun);
    history.events_mut().insert(index, (begun, Event::Census(earlier)));
    true
}

fn skip_read(history: &mut History) -> bool {
    let deleted: BTreeSet<u64> = history.events().iter().filter_map(deleted_topic).collect();
    let mut readers = BTreeMap::new();
    for (index, (_, event)) in history.events().iter().enumerate() {
        if let Event::Read { reader, place, .. } = event
            && !deleted.contains(&place.topic)
        {
            readers.entry((*reader, *place)).or_insert_with(Vec::new).push(index);
        }
    }
    let Some(indexes) = readers.into_values().find(|indexes| indexes.len() > 2) else { return false };
    history.events_mut().remove(indexes[1]);
    true
}

fn swap_acks(history: &mut History) -> bool {
    let mut last: Option<(u32, Place, usize)> = None;
    let mut pair = None;
    let durable = history.events().iter().filter_map(|(_, event)| match event {
        Event::Sent { stamp, ack: Ack::Disk, .. } => Some(stamp.record),
        _ => None,
    });
    let durable: BTreeSet<RecordId> = durable.collect();
    let deleted: BTreeSet<u64> = history.events().iter().filter_map(deleted_topic).collect();
    for (index, (_, event)) in history.events().iter().enumerate() {
        let Event::Resolved(record, Outcome::Acked(place, Some(_))) = event else { continue };
        if !durable.contains(record) || deleted.contains(&place.topic) {
            continue;
        }
        match last {
            Some((producer, at, before)) if producer == record.producer && at == *place => {
                pair = Some((before, index));
                break;
            }
            _ => last = Some((record.producer, *place, index)),
        }
    }
    let Some((one, other)) = pair else { return false };
    let (Some(first), Some(second)) = (offset_of(history, one), offset_of(history, other)) else {
        return false;
    };
    set_offset(history, one, second);
    set_offset(history, other, first);
    true
}

fn offset_of(history: &History, index: usize) -> Option<i64> {
    match &history.events()[index].1 {
        Event::Resolved(_, Outcome::Acked(_, offset)) => *offset,
        _ => None,
    }
}

fn set_offset(history: &mut History, index: usize, to: i64) {
    if let Event::Resolved(_, Outcome::Acked(_, offset)) = &mut history.events_mut()[index].1 {
        *offset = Some(to);
    }
}

fn recover_less(history: &mut History) -> bool {
    let recovered = history.events_mut().iter_mut().rev().find_map(|(_, event)| match event {
        Event::Census(census) if census.copy > 0 && !census.records.is_empty() => Some(census),
        _ => None,
    });
    recovered.is_some_and(|census| census.records.pop().is_some())
}

fn remove_damaged(history: &mut History) -> bool {
    let mut events = history.events_mut().iter_mut();
    let removed = events.find_map(|(_, event)| match event {
        Event::Up { removed, .. } => Some(removed),
        _ => None,
    });
    removed.is_some_and(|removed| {
        removed.push("journal-0".to_owned());
        true
    })
}

fn give_up(history: &mut History) -> bool {
    if !history.is_calm() {
        return false;
    }
    // The last record that is sent at all is one of the finale's: nothing ends before its answer.
    let events = history.events_mut();
    let is_sent = |(_, event): &(Nanos, Event)| matches!(event, Event::Sent { .. });
    let is_acked = |(_, event): &(Nanos, Event)| matches!(event, Event::Resolved(_, Outcome::Acked(..)));
    let Some(sent) = events.iter().rposition(is_sent) else { return false };
    let Some(last) = events[sent..].iter().position(is_acked).map(|behind| sent + behind) else {
        return false;
    };
    let Event::Resolved(record, _) = events[last].1 else { return false };
    events[last].1 = Event::Resolved(record, Outcome::Unknown("it took too long".to_owned()));
    events[last..].iter_mut().for_each(|(at, _)| *at += 10_000_000_000);
    true
}

fn garbage(history: &mut History) -> bool {
    let read = history.events().iter().find_map(|(at, event)| match event {
        Event::Read { place, offset, .. } => Some((*at, *place, *offset)),
        _ => None,
    });
    let Some((at, place, offset)) = read else { return false };
    let what = "the value is not as it was written".into();
    let index = history.events().partition_point(|(time, _)| *time <= at);
    history.events_mut().insert(index, (at, Event::Garbage { place, offset, what }));
    true
}

fn unresolved(history: &mut History) -> bool {
    // The last is one of the probe's: what a killed client waited for may stay open.
    let events = history.events_mut();
    let index = events.iter().rposition(|(_, event)| matches!(event, Event::Resolved(..)));
    index.map(|index| events.remove(index)).is_some()
}

/// A topic that keeps everything, on disk, and is never deleted.
fn lasting_topic(history: &History) -> Option<u64> {
    let deleted: BTreeSet<u64> = history.events().iter().filter_map(deleted_topic).collect();
    history.events().iter().find_map(|(_, event)| match event {
        Event::Made(made) if !made.retains() && !made.volatile && !deleted.contains(&made.id) => {
            Some(made.id)
        }
        _ => None,
    })
}

fn begin_late(history: &mut History) -> bool {
    let Some(topic) = lasting_topic(history) else { return false };
    let from_begin = history.events().iter().filter_map(|(_, event)| match event {
        Event::Beginning { reader, from: Position::Begin } => Some(*reader),
        _ => None,
    });
    let from_begin: BTreeSet<u32> = from_begin.collect();
    let mut reads: BTreeMap<(u32, Place), Vec<usize>> = BTreeMap::new();
    for (index, (_, event)) in history.events().iter().enumerate() {
        if let Event::Read { reader, place, .. } = event
            && place.topic == topic
            && from_begin.contains(reader)
        {
            reads.entry((*reader, *place)).or_default().push(index);
        }
    }
    let Some(indexes) = reads.into_values().find(|indexes| indexes.len() > 1) else { return false };
    history.events_mut().remove(indexes[0]);
    true
}

fn add_last(history: &mut History, event: Event) -> bool {
    let end = history.events().last().map_or(0, |(at, _)| *at);
    history.push(end, event);
    true
}

fn remove_kept(history: &mut History) -> bool {
    let Some(topic) = lasting_topic(history) else { return false };
    let place = Place { topic, partition: 0 };
    let gone = SegmentGone { place, base: 0, next: 1, bytes_left: 1 << 40, wall_ms: Some(i64::MAX) };
    // Only the first life is judged: see `check/kept.rs`.
    let events = history.events_mut();
    let Some(down) = events.iter().position(|(_, event)| matches!(event, Event::Down { .. })) else {
        return false;
    };
    let at = events[down].0;
    events.insert(down, (at, Event::SegmentGone(gone)));
    true
}

/// A log that begins where it did, an hour later.
fn keep_overdue(history: &mut History) -> bool {
    const HOUR: u64 = 3_600_000_000_000;
    if !history.is_calm() {
        return false;
    }
    let deleted: BTreeSet<u64> = history.events().iter().filter_map(deleted_topic).collect();
    let kept = history.events().iter().find_map(|(_, event)| match event {
        Event::Made(made) if made.retention_ms.is_some() && !made.volatile && !deleted.contains(&made.id) => {
            Some(made.id)
        }
        _ => None,
    });
    let Some(topic) = kept else { return false };
    let seen = history.events().iter().rev().find_map(|(_, event)| match event {
        Event::Resolved(_, Outcome::Acked(place, Some(offset))) if place.topic == topic => {
            Some((*place, *offset))
        }
        _ => None,
    });
    let Some((place, offset)) = seen else { return false };
    let end = history.events().last().map_or(0, |(at, _)| *at);
    let remaining = Remaining { wall_ms: 0, begins: vec![(place, offset)] };
    history.push(end + HOUR, Event::Remaining(remaining));
    true
}

fn begin_in_segment(history: &mut History) -> bool {
    let is_inside = |census: &Census, at: usize| at == 1 && !census.segments.contains(&census.records[1].0);
    let Some((census, _)) = last_census(history, is_inside) else { return false };
    census.records.remove(0);
    census.start = census.records[0].0;
    true
}

fn push_too_much(history: &mut History) -> bool {
    add_last(history, Event::Broken("100 bytes were pushed on a credit of 0".to_owned()))
}
