//! Whether every record came through: lost, doubled, reordered and damaged ones are found by their stamps.
//!
//! Producers keep an [`Account`] of what they sent for each partition, consumers a [`Ledger`] of what they saw. Both
//! are small as long as nothing is wrong: a next sequence, and ranges of exceptions. [`settle`] compares the two.
//!
//! Lost means acknowledged and never seen. A record whose send failed or whose outcome is unknown may be missing, and
//! may be there once.

use std::collections::{BTreeMap, HashMap};

use crate::result::Verification;
use crate::stamp::{BadStamp, Stamp};
use crate::target::Incoming;

/// Faults that are told in words; all are counted.
const MAX_PROBLEMS: usize = 20;
/// After so many faults there is nothing more to learn, and what is kept of each must stay bounded.
pub const MAX_FAULTS: u64 = 10_000;

/// Whose sequence it is: run, producer, partition.
type Origin = (u64, u32, u32);

/// What one producer did in one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// The run that its stamps name.
    pub run: u64,
    /// The producer.
    pub producer: u32,
    /// The partition.
    pub partition: u32,
    /// How many records it began to send: their sequences are 0 to this.
    pub sent: u64,
    /// Those without an ack.
    pub unacked: Ranges,
}

/// What consumers saw.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    tracks: HashMap<Origin, Track>,
    found: Verification,
}

#[derive(Clone, Debug, Default)]
struct Track {
    /// One past the highest sequence that was seen.
    next: u64,
    /// What was passed over below it.
    gaps: Ranges,
    /// Where the highest was.
    last_offset: u64,
}

/// A set of sequences as disjoint ranges: first → one past the last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(BTreeMap<u64, u64>);

impl Ledger {
    /// Notes a record that was received, and gives its stamp if it is whole.
    pub fn observe(&mut self, record: &Incoming) -> Option<Stamp> {
        self.found.checked += 1;
        let stamp = match Stamp::read(&record.value) {
            Ok(stamp) => stamp,
            Err(bad) => {
                self.found.damaged += 1;
                self.report(|| describe_damage(bad, record));
                return None;
            }
        };
        if stamp.partition != record.partition {
            self.found.damaged += 1;
            self.report(|| {
                format!(
                    "{}: in the wrong partition, it was sent to {}",
                    place(&stamp, record),
                    stamp.partition
                )
            });
            return Some(stamp);
        }
        self.follow(&stamp, record);
        Some(stamp)
    }

    fn follow(&mut self, stamp: &Stamp, record: &Incoming) {
        let track = self.tracks.entry((stamp.run, stamp.producer, stamp.partition)).or_default();
        if stamp.sequence >= track.next {
            track.gaps.insert(track.next, stamp.sequence);
            track.next = stamp.sequence + 1;
            track.last_offset = record.offset;
            return;
        }
        let after = track.last_offset;
        if track.gaps.remove(stamp.sequence) {
            self.found.reordered += 1;
            self.report(|| {
                format!("{}: reordered, later ones came before, up to offset {after}", place(stamp, record))
            });
        } else {
            self.found.doubled += 1;
            self.report(|| format!("{}: doubled, it had been received before", place(stamp, record)));
        }
    }

    /// Faults so far; what is missing shows only at the end.
    pub fn faults(&self) -> u64 {
        self.found.damaged + self.found.reordered + self.found.doubled
    }

    /// The first fault in words.
    pub fn first_problem(&self) -> Option<&str> {
        self.found.first_problems.first().map(String::as_str)
    }

    fn report(&mut self, words: impl FnOnce() -> String) {
        if self.found.first_problems.len() < MAX_PROBLEMS {
            self.found.first_problems.push(words());
        }
    }

    /// Takes in what another consumer saw. Consumers do not share partitions.
    fn absorb(&mut self, other: Ledger) {
        let found = &mut self.found;
        found.checked += other.found.checked;
        found.doubled += other.found.doubled;
        found.reordered += other.found.reordered;
        found.damaged += other.found.damaged;
        found.first_problems.extend(other.found.first_problems);
        found.first_problems.truncate(MAX_PROBLEMS);
        self.tracks.extend(other.tracks);
    }
}

/// Compares what was sent with what was seen. Unless the consumers read `to_the_end`, missing records are not called
/// lost.
pub fn settle(
    ledgers: impl IntoIterator<Item = Ledger>,
    accounts: &[Account],
    to_the_end: bool,
) -> Verification {
    let mut seen = Ledger::default();
    ledgers.into_iter().for_each(|ledger| seen.absorb(ledger));
    for account in accounts {
        let origin = (account.run, account.producer, account.partition);
        let track = seen.tracks.remove(&origin).unwrap_or_default();
        let mut missing = track.gaps;
        missing.insert(track.next, account.sent);
        let unacked = account.unacked.count();
        let unacked_missing = missing.subtract(&account.unacked);
        seen.found.unacked_seen += unacked - unacked_missing;
        if to_the_end {
            for (first, end) in missing.0 {
                seen.found.lost += end - first;
                seen.report(|| describe_loss(account, first, end, track.last_offset));
            }
        }
    }
    seen.found
}

fn describe_damage(bad: BadStamp, record: &Incoming) -> String {
    let Incoming { partition, offset, value } = record;
    match bad {
        BadStamp::NotStamped => {
            let len = value.len();
            format!("partition {partition}, offset {offset}: {len} bytes that do not begin with a stamp")
        }
        BadStamp::Damaged(claimed) => {
            format!("{}: damaged, its checksum does not fit", place(&claimed, record))
        }
    }
}

fn describe_loss(account: &Account, first: u64, end: u64, last_offset: u64) -> String {
    let Account { producer, partition, .. } = account;
    let which = if end - first == 1 {
        format!("sequence {first}")
    } else {
        format!("sequences {first} to {}", end - 1)
    };
    format!(
        "producer {producer}, {which}: lost, acknowledged and not seen in partition {partition}, read up to offset {last_offset}"
    )
}

fn place(stamp: &Stamp, record: &Incoming) -> String {
    format!(
        "producer {}, sequence {} at partition {}, offset {}",
        stamp.producer, stamp.sequence, record.partition, record.offset
    )
}

impl Ranges {
    /// Adds `first..end`, which overlaps nothing that is there.
    pub fn insert(&mut self, first: u64, end: u64) {
        if first >= end {
            return;
        }
        match self.0.range_mut(..=first).next_back() {
            Some((_, before_end)) if *before_end == first => *before_end = end,
            _ => drop(self.0.insert(first, end)),
        }
    }

    /// Takes one out. False if it is not there.
    pub fn remove(&mut self, number: u64) -> bool {
        let Some((first, end)) = self.0.range(..=number).next_back().map(|(first, end)| (*first, *end))
        else {
            return false;
        };
        if number >= end {
            return false;
        }
        self.0.remove(&first);
        self.insert(first, number);
        self.insert(number + 1, end);
        true
    }

    /// How many numbers it holds.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(first, end)| end - first).sum()
    }

    /// Takes all of `other` out, and says how many that were.
    fn subtract(&mut self, other: &Ranges) -> u64 {
        let before = self.count();
        for (first, end) in &other.0 {
            let overlapping: Vec<(u64, u64)> =
                self.0.range(..end).rev().map(|(a, b)| (*a, *b)).take_while(|(_, b)| b > first).collect();
            for (a, b) in overlapping {
                self.0.remove(&a);
                self.insert(a, (*first).min(b));
                self.insert((*end).max(a), b);
            }
        }
        before - self.count()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn record(producer: u32, sequence: u64, offset: u64) -> Incoming {
        let mut value = vec![7; 64];
        Stamp { run: 1, producer, partition: 5, sequence, due_ns: 0 }.write(&mut value);
        Incoming { partition: 5, offset, value: Bytes::from(value) }
    }

    fn account(sent: u64, unacked: &[(u64, u64)]) -> Account {
        let unacked = Ranges(unacked.iter().copied().collect());
        Account { run: 1, producer: 0, partition: 5, sent, unacked }
    }

    fn seen(sequences: &[u64]) -> Ledger {
        let mut ledger = Ledger::default();
        for (offset, sequence) in sequences.iter().enumerate() {
            ledger.observe(&record(0, *sequence, offset as u64));
        }
        ledger
    }

    fn only_problem(found: &Verification) -> &str {
        assert_eq!(found.first_problems.len(), 1, "{:?}", found.first_problems);
        &found.first_problems[0]
    }

    #[test]
    fn what_came_whole_and_in_order_passes() {
        let found = settle([seen(&[0, 1, 2, 3])], &[account(4, &[])], true);
        assert!(found.passed());
        assert_eq!((found.checked, found.unacked_seen), (4, 0));
    }

    #[test]
    fn a_lost_record_is_named() {
        let found = settle([seen(&[0, 1, 3])], &[account(4, &[])], true);
        assert_eq!((found.lost, found.passed()), (1, false));
        assert_eq!(
            only_problem(&found),
            "producer 0, sequence 2: lost, acknowledged and not seen in partition 5, read up to offset 2"
        );
    }

    #[test]
    fn a_lost_tail_and_a_partition_that_was_never_seen_count_as_well() {
        let found =
            settle([seen(&[0, 1])], &[account(4, &[]), Account { producer: 9, ..account(3, &[]) }], true);
        assert_eq!(found.lost, 5);
    }

    #[test]
    fn a_doubled_record_is_named() {
        let found = settle([seen(&[0, 1, 1, 2])], &[account(3, &[])], true);
        assert_eq!((found.doubled, found.lost, found.reordered), (1, 0, 0));
        assert_eq!(
            only_problem(&found),
            "producer 0, sequence 1 at partition 5, offset 2: doubled, it had been received before"
        );
    }

    #[test]
    fn a_reordered_record_is_named_and_is_not_lost() {
        let found = settle([seen(&[0, 2, 1, 3])], &[account(4, &[])], true);
        assert_eq!((found.reordered, found.lost, found.doubled), (1, 0, 0));
        assert_eq!(
            only_problem(&found),
            "producer 0, sequence 1 at partition 5, offset 2: reordered, later ones came before, up to offset 1"
        );
    }

    #[test]
    fn a_damaged_record_is_named() {
        let mut ledger = seen(&[0]);
        let mut bad = record(0, 1, 1);
        let mut value = bad.value.to_vec();
        value[50] ^= 1;
        bad.value = Bytes::from(value);
        assert_eq!(ledger.observe(&bad), None);
        let found = settle([ledger], &[account(2, &[])], false);
        assert_eq!(found.damaged, 1);
        assert_eq!(
            only_problem(&found),
            "producer 0, sequence 1 at partition 5, offset 1: damaged, its checksum does not fit"
        );
    }

    #[test]
    fn a_record_in_the_wrong_partition_is_named() {
        let mut ledger = Ledger::default();
        ledger.observe(&Incoming { partition: 6, ..record(0, 0, 0) });
        assert!(
            ledger.first_problem().is_some_and(|words| words.contains("wrong partition, it was sent to 5"))
        );
    }

    #[test]
    fn what_has_no_ack_may_be_missing_or_seen_once() {
        let found = settle([seen(&[0, 1, 3, 6])], &[account(9, &[(2, 5), (7, 9)])], true);
        assert_eq!((found.lost, found.unacked_seen), (1, 1), "{:?}", found.first_problems);
        assert!(only_problem(&found).contains("sequence 5"));
    }

    #[test]
    fn nothing_is_called_lost_before_the_end_was_read() {
        assert!(settle([seen(&[0])], &[account(4, &[])], false).passed());
    }

    #[test]
    fn ranges_split_and_join() {
        let mut ranges = Ranges::default();
        ranges.insert(0, 5);
        ranges.insert(5, 10);
        assert_eq!(ranges.0.len(), 1);
        assert!(ranges.remove(4) && !ranges.remove(4) && ranges.remove(0) && ranges.remove(9));
        assert_eq!(ranges.0, BTreeMap::from([(1, 4), (5, 9)]));
        assert_eq!(ranges.subtract(&Ranges(BTreeMap::from([(2, 6), (8, 20)]))), 4);
        assert_eq!(ranges.0, BTreeMap::from([(1, 2), (6, 8)]));
    }
}
