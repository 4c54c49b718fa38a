//! Invariant 3: no reader sees what certainly was not sent, or not taken, or was sent to another topic.

use super::acked::seconds;
use super::facts::{By, Facts, Sighting};
use crate::history::{History, Outcome};
use crate::invariant::{Invariant, Violation};

pub fn check(_: &History, facts: &Facts<'_>) -> Result<(), Violation> {
    for sighting in facts.sightings.iter().filter(|seen| !matches!(seen.by, By::Ack(_))) {
        if let Some(why) = wrong(facts, sighting) {
            let seen = format!(
                "{} was read at offset {} of {} at {}, and {why}",
                sighting.stamp.record,
                sighting.offset,
                sighting.place,
                seconds(sighting.at),
            );
            return Err(Violation::new(Invariant::Reads, seen));
        }
    }
    Ok(())
}

fn wrong(facts: &Facts<'_>, sighting: &Sighting) -> Option<String> {
    let Some(send) = facts.sends.get(&sighting.stamp.record) else {
        return Some("nobody sent it".into());
    };
    if let Some((at, Outcome::Failed(why))) = &send.outcome {
        // A topic that goes takes what was under way in it along, read or not.
        if facts.is_clear(sighting.place.topic, *at) {
            return Some(format!("its producer was told that it is not in the log: {why}"));
        }
    }
    if send.at > sighting.at {
        return Some(format!("it was sent later, at {}", seconds(send.at)));
    }
    // A client stays with the topic that it was made for, whatever topic has its name by now.
    (sighting.stamp.topic != sighting.place.topic)
        .then(|| format!("it belongs to topic {}", sighting.stamp.topic))
}
