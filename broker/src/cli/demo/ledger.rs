//! What was acknowledged, held until it has come back.
//!
//! The publisher writes in each acknowledged record with its partition and offset; the subscriber strikes each out that
//! it received, after comparing the two. So every record is checked byte for byte, once, in order, and the memory
//! holds only what is between the two.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;

use super::super::failure::Failure;
use super::table;

/// Acknowledged and not yet back: at this bound the publisher's side waits for the subscriber's.
const HELD_BYTES: usize = 64 << 20;

/// An acknowledged record.
pub struct Entry {
    pub partition: u32,
    pub offset: i64,
    pub value: Bytes,
    /// The moment it was due, in the paced phase.
    pub due: Option<Instant>,
}

/// See the head of this file.
pub struct Ledger {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Acknowledged and not yet received, by partition, in the order of offsets.
    held: Vec<VecDeque<Entry>>,
    held_bytes: usize,
    verified: u64,
    acked: u64,
    ack: Histogram<u64>,
    delivery: Histogram<u64>,
    /// No record will be added any more.
    closed: bool,
    broken: Option<String>,
}

impl Ledger {
    /// For a topic with so many partitions.
    pub fn new(partitions: usize) -> Ledger {
        let state = State {
            held: std::iter::repeat_with(VecDeque::new).take(partitions).collect(),
            held_bytes: 0,
            verified: 0,
            acked: 0,
            ack: table::histogram(),
            delivery: table::histogram(),
            closed: false,
            broken: None,
        };
        Ledger { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Writes in an acknowledged record.
    pub fn acked(&self, entry: Entry, at: Instant) -> Result<(), Failure> {
        let mut state = self.lock()?;
        // A partition whose queue is empty is what the subscriber may be waiting for: it is never held back.
        while state.held_bytes > HELD_BYTES && !state.held[entry.partition as usize].is_empty() {
            state = self.wait(state, Instant::now() + Duration::from_secs(1))?;
        }
        if let Some(due) = entry.due {
            table::note(&mut state.ack, at.saturating_duration_since(due));
        }
        state.acked += 1;
        state.held_bytes += entry.value.len();
        state.held[entry.partition as usize].push_back(entry);
        self.changed.notify_all();
        Ok(())
    }

    /// Strikes out a record that came back at `at`; waits for its ack when the record was faster.
    pub fn received(
        &self,
        partition: u32,
        offset: i64,
        value: Option<&[u8]>,
        at: Instant,
    ) -> Result<(), Failure> {
        let mut state = self.lock()?;
        let queue = partition as usize;
        while state.held.get(queue).is_some_and(VecDeque::is_empty) && !state.closed {
            state = self.wait(state, Instant::now() + Duration::from_secs(1))?;
        }
        let Some(expected) = state.held.get_mut(queue).and_then(VecDeque::pop_front) else {
            return Err(Failure::said(format!(
                "partition {partition}: offset {offset} came back and was never sent"
            )));
        };
        if expected.offset != offset || Some(&expected.value[..]) != value {
            let wanted = expected.offset;
            return Err(Failure::said(format!(
                "partition {partition}: got offset {offset} where {wanted} was due, or other bytes"
            )));
        }
        if let Some(due) = expected.due {
            table::note(&mut state.delivery, at.saturating_duration_since(due));
        }
        state.held_bytes -= expected.value.len();
        state.verified += 1;
        self.changed.notify_all();
        Ok(())
    }

    /// Waits until so many records were acknowledged.
    pub fn wait_acked(&self, records: u64) -> Result<(), Failure> {
        let mut state = self.lock()?;
        while state.acked < records {
            state = self.wait(state, Instant::now() + Duration::from_secs(1))?;
        }
        Ok(())
    }

    /// Waits until so many records came back and were right; gives up when none comes for `patience`.
    pub fn wait_verified(&self, records: u64, patience: Duration) -> Result<(), Failure> {
        let mut state = self.lock()?;
        let (mut seen, mut give_up) = (state.verified, Instant::now() + patience);
        while state.verified < records {
            if state.verified != seen {
                (seen, give_up) = (state.verified, Instant::now() + patience);
            } else if Instant::now() >= give_up {
                let missing = records - seen;
                return Err(Failure::said(format!("{missing} acknowledged records did not come back")));
            }
            state = self.wait(state, give_up)?;
        }
        Ok(())
    }

    /// Ack and publish-to-subscriber times of the records that had a due moment.
    pub fn latencies(&self) -> (Histogram<u64>, Histogram<u64>) {
        let state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        (state.ack.clone(), state.delivery.clone())
    }

    /// Says that nothing will be added any more.
    pub fn close(&self) {
        self.change(|state| state.closed = true);
    }

    /// Whether [`Ledger::close`] was called and everything that was added has come back.
    pub fn is_settled(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        state.closed && state.held.iter().all(VecDeque::is_empty)
    }

    /// Ends every wait of every thread with this reason.
    pub fn break_off(&self, why: &str) {
        self.change(|state| {
            state.broken.get_or_insert_with(|| why.to_owned());
        });
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        self.changed.notify_all();
    }

    fn lock(&self) -> Result<MutexGuard<'_, State>, Failure> {
        sound(self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        until: Instant,
    ) -> Result<MutexGuard<'a, State>, Failure> {
        let left = until.saturating_duration_since(Instant::now());
        let (state, _) =
            self.changed.wait_timeout(state, left).unwrap_or_else(std::sync::PoisonError::into_inner);
        sound(state)
    }
}

fn sound(state: MutexGuard<'_, State>) -> Result<MutexGuard<'_, State>, Failure> {
    match &state.broken {
        Some(why) => Err(Failure::said(why)),
        None => Ok(state),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(partition: u32, offset: i64, value: &'static str) -> Entry {
        Entry { partition, offset, value: value.into(), due: None }
    }

    fn ledger(entries: Vec<Entry>) -> Ledger {
        let ledger = Ledger::new(2);
        for entry in entries {
            ledger.acked(entry, Instant::now()).unwrap();
        }
        ledger
    }

    #[test]
    fn what_went_in_and_came_back_is_settled() {
        let ledger = ledger(vec![entry(0, 0, "a"), entry(1, 0, "b")]);
        ledger.received(1, 0, Some(b"b"), Instant::now()).unwrap();
        ledger.received(0, 0, Some(b"a"), Instant::now()).unwrap();
        ledger.close();
        assert!(ledger.is_settled());
    }

    #[test]
    fn a_changed_byte_is_seen() {
        let ledger = ledger(vec![entry(0, 0, "a")]);
        assert!(ledger.received(0, 0, Some(b"b"), Instant::now()).is_err());
    }

    #[test]
    fn a_skipped_offset_is_seen() {
        let ledger = ledger(vec![entry(0, 0, "a"), entry(0, 1, "a")]);
        assert!(ledger.received(0, 1, Some(b"a"), Instant::now()).is_err());
    }

    #[test]
    fn a_record_that_nobody_sent_is_seen() {
        let ledger = ledger(vec![]);
        ledger.close();
        assert!(ledger.received(0, 0, Some(b"a"), Instant::now()).is_err());
    }

    #[test]
    fn a_record_that_does_not_come_back_is_missed() {
        let ledger = ledger(vec![entry(0, 0, "a")]);
        assert!(ledger.wait_verified(1, Duration::ZERO).is_err());
    }
}
