//! Invariant 11: the broker keeps to the protocol.

use super::acked::seconds;
use super::facts::Facts;
use crate::history::{Event, History};
use crate::invariant::{Invariant, Violation};

pub fn check(history: &History, _: &Facts<'_>) -> Result<(), Violation> {
    for (at, event) in history.events() {
        if let Event::Broken(what) = event {
            return Err(Violation::new(Invariant::Protocol, format!("at {} {what}", seconds(*at))));
        }
    }
    Ok(())
}
