//! Invariant 7: without faults everything is answered within bounded time.

use super::acked::seconds;
use super::facts::Facts;
use crate::history::{Event, History};
use crate::invariant::{Invariant, Violation};

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
    Ok(())
}
