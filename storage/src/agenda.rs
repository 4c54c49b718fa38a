//! Which partitions retention has to look at, and when: the others cost it nothing, however many they are.
//!
//! Invariants:
//! - A partition that holds records stands in the agenda if its settings let records go by time, at or before the time at which
//!   the next of them may go; so does one of which a segment was sealed, if they let them go by size.
//! - A partition stands there once at most. What it is put down for may only become earlier until it is taken.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use ringlog_reactor::{Notified, Notify, wall_clock_ms};

use crate::partition_id::PartitionId;

/// The time of a partition that is not in the agenda.
pub(crate) const NEVER: i64 = i64::MAX;

/// See the head of this file. Times are Unix milliseconds.
#[derive(Default)]
pub(crate) struct Agenda {
    due: RefCell<BTreeSet<(i64, PartitionId)>>,
    now_ms: Cell<i64>,
    wake: Notify,
}

impl Agenda {
    /// The time of the last round: what costs no look at the clock, and is right to a round.
    pub(crate) fn now_ms(&self) -> i64 {
        self.now_ms.get()
    }

    /// Looks at the clock.
    pub(crate) fn look_at_clock(&self) -> i64 {
        self.now_ms.set(wall_clock_ms());
        self.now_ms.get()
    }

    /// Puts a partition down, unless it is for an earlier time; `slot` has that time.
    pub(crate) fn put(&self, id: PartitionId, slot: &Cell<i64>, at_ms: i64) {
        let before = slot.get();
        if at_ms >= before {
            return;
        }
        let mut due = self.due.borrow_mut();
        due.remove(&(before, id));
        due.insert((at_ms, id));
        slot.set(at_ms);
    }

    /// Puts a partition down for a round that comes soon.
    pub(crate) fn put_soon(&self, id: PartitionId, slot: &Cell<i64>) {
        self.put(id, slot, i64::MIN);
        self.wake.notify_all();
    }

    /// Takes some partitions whose time has come. The caller marks them as taken.
    pub(crate) fn take(&self, now_ms: i64, most: usize) -> Vec<PartitionId> {
        let mut due = self.due.borrow_mut();
        let mut taken = Vec::new();
        while taken.len() < most && due.first().is_some_and(|(at, _)| *at <= now_ms) {
            taken.extend(due.pop_first().map(|(_, id)| id));
        }
        taken
    }

    /// Resolves when a partition was put down for soon after this call, or retention is wanted for another reason.
    pub(crate) fn woken(&self) -> Notified {
        self.wake.notified()
    }

    /// Has a round begin soon, when it is notified.
    pub(crate) fn wake(&self) -> &Notify {
        &self.wake
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_taken_once_at_the_earliest_time_it_was_put_down_for() {
        let agenda = Agenda::default();
        let id = |partition| PartitionId { topic: 1, partition };
        let slots: Vec<Cell<i64>> = (0..3).map(|_| Cell::new(NEVER)).collect();
        for (partition, at) in [(0, 30), (1, 20), (0, 10), (0, 40), (2, 50)] {
            agenda.put(id(partition), &slots[partition as usize], at);
        }
        assert_eq!(agenda.take(20, 10), [id(0), id(1)]);
        assert_eq!(agenda.take(49, 10), []);
        assert_eq!(agenda.take(50, 10), [id(2)]);
    }
}
