//! What is known of one topic: what was sent, what became of it, and what was read. Whoever adds to it learns of any
//! contradiction at once.
//!
//! Rules, for every partition:
//! - Offsets are read without a gap, and each holds the same record for ever.
//! - A record is read at most once, only where it was acknowledged, and never when its send has failed.
//! - Records stand in the order in which they were sent.
//! - A start loses no record that was acknowledged at disk. One that was acknowledged in memory may be lost with all
//!   behind it, and does not come back.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ringlog_client::{Ack, DeliveryError};

use super::topics::Topic;

/// A broken rule, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault(String);

impl Fault {
    /// A fault in these words.
    pub fn new(words: impl Into<String>) -> Fault {
        Fault(words.into())
    }

    /// Something that must not fail did.
    pub fn of<E: std::fmt::Display>(what: &str) -> impl FnOnce(E) -> Fault {
        move |error| Fault(format!("{what}: {error}"))
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Nobody has said yet.
    Open,
    Acked,
    /// The connection ended before the ack.
    Unknown,
    /// It certainly is not in the log.
    Refused,
    /// It was acknowledged in memory, and a crash has taken it.
    Lost,
}

/// The book of one topic.
pub struct Ledger {
    /// The topic.
    pub topic: &'static Topic,
    book: Mutex<Book>,
}

struct Book {
    /// By sequence.
    fates: Vec<Fate>,
    partitions: Vec<Pages>,
    acked: u64,
    lost: u64,
    unknown: u64,
    /// The first rule that was broken where nobody could be told.
    fault: Option<Fault>,
}

/// One partition: sequences by offset.
#[derive(Clone, Default)]
struct Pages {
    acked: BTreeMap<i64, u64>,
    read: Vec<u64>,
}

impl Ledger {
    /// Nothing was sent yet.
    pub fn new(topic: &'static Topic) -> Ledger {
        let partitions = vec![Pages::default(); topic.partitions as usize];
        let book = Book { fates: Vec::new(), partitions, acked: 0, lost: 0, unknown: 0, fault: None };
        Ledger { topic, book: Mutex::new(book) }
    }

    /// The sequence of a record that is about to be sent.
    pub fn sending(&self) -> u64 {
        let mut book = self.lock();
        book.fates.push(Fate::Open);
        book.fates.len() as u64 - 1
    }

    /// The record stands there, the producer was told.
    pub fn acked(&self, sequence: u64, partition: u32, offset: i64) -> Result<(), Fault> {
        let mut book = self.lock();
        book.fates[sequence as usize] = Fate::Acked;
        book.acked += 1;
        let place = self.place(partition, offset);
        if partition != self.topic.partition_of(sequence) {
            return Err(Fault::new(format!(
                "{place}: record {sequence} was acknowledged in a wrong partition"
            )));
        }
        let pages = &mut book.partitions[partition as usize];
        if let Some(before) = pages.acked.insert(offset, sequence) {
            return Err(Fault::new(format!(
                "{place}: records {before} and {sequence} were both acknowledged"
            )));
        }
        match pages.read.get(offset as usize) {
            Some(read) if *read != sequence => Err(Fault::new(format!(
                "{place}: record {sequence} was acknowledged, and record {read} was read"
            ))),
            _ => Ok(()),
        }
    }

    /// The record has no ack.
    pub fn failed(&self, sequence: u64, error: &DeliveryError) -> Result<(), Fault> {
        let mut book = self.lock();
        if error.is_outcome_unknown() {
            book.fates[sequence as usize] = Fate::Unknown;
            book.unknown += 1;
            return Ok(());
        }
        book.fates[sequence as usize] = Fate::Refused;
        let read = book.partitions.iter().any(|pages| pages.read.binary_search(&sequence).is_ok());
        if read {
            return Err(Fault::new(format!(
                "{}: record {sequence} failed ({error}) and was read",
                self.topic.name
            )));
        }
        Ok(())
    }

    /// The offsets behind the last acks.
    pub fn ends_of_acked(&self) -> Vec<i64> {
        let book = self.lock();
        let end = |pages: &Pages| pages.acked.last_key_value().map_or(0, |(offset, _)| offset + 1);
        book.partitions.iter().map(end).collect()
    }

    /// The broker was started again and its log ends there; before the start, acks went up to `floor`.
    pub fn restarted(&self, ends: &[i64], floor: &[i64]) -> Result<(), Fault> {
        let mut book = self.lock();
        for (partition, (end, floor)) in ends.iter().zip(floor).enumerate() {
            let read = book.partitions[partition].read.len() as i64;
            if self.topic.ack == Ack::Memory {
                book.lose_from(partition, *end);
            } else if *end < read.max(*floor) {
                return Err(Fault::new(format!(
                    "{} ends there, and it was acknowledged up to {floor} and read up to {read}",
                    self.place(partition as u32, *end)
                )));
            }
        }
        Ok(())
    }

    /// The next record of a partition was read.
    pub fn read(&self, partition: u32, offset: i64, value: &[u8]) -> Result<(), Fault> {
        let place = self.place(partition, offset);
        let sequence = self.sequence(partition, offset, value)?;
        let mut book = self.lock();
        let fate = book.fates.get(sequence as usize).copied();
        if !matches!(fate, Some(Fate::Open | Fate::Acked | Fate::Unknown)) {
            return Err(Fault::new(format!(
                "{place}: record {sequence} is there, and its fate was {fate:?}"
            )));
        }
        let pages = &mut book.partitions[partition as usize];
        let expected = pages.read.len() as i64;
        if offset != expected {
            return Err(Fault::new(format!("{place}: came where offset {expected} was due")));
        }
        if let Some(acked) = pages.acked.get(&offset)
            && *acked != sequence
        {
            return Err(Fault::new(format!(
                "{place}: record {acked} was acknowledged there, {sequence} is there"
            )));
        }
        if let Some(before) = pages.read.last()
            && *before >= sequence
        {
            return Err(Fault::new(format!("{place}: record {sequence} stands behind record {before}")));
        }
        // A record stands in one place only, since all of a partition stand in their order.
        if fate == Some(Fate::Acked) && !pages.acked.contains_key(&offset) {
            return Err(Fault::new(format!("{place}: record {sequence} was acknowledged elsewhere")));
        }
        pages.read.push(sequence);
        Ok(())
    }

    /// A record that was read before was read again.
    pub fn read_again(&self, partition: u32, offset: i64, value: &[u8]) -> Result<(), Fault> {
        let sequence = self.sequence(partition, offset, value)?;
        let book = self.lock();
        match book.partitions[partition as usize].read.get(offset as usize) {
            Some(before) if *before != sequence => Err(Fault::new(format!(
                "{}: held record {before}, and now record {sequence}",
                self.place(partition, offset)
            ))),
            _ => Ok(()),
        }
    }

    /// The record that these bytes are.
    pub fn sequence(&self, partition: u32, offset: i64, value: &[u8]) -> Result<u64, Fault> {
        let found =
            self.topic.sequence_of(value).filter(|found| self.topic.partition_of(*found) == partition);
        let place = || self.place(partition, offset);
        found.ok_or_else(|| Fault::new(format!("{}: {} bytes that nobody sent there", place(), value.len())))
    }

    /// Where to read on, by partition.
    pub fn ends_of_read(&self) -> Vec<i64> {
        self.lock().partitions.iter().map(|pages| pages.read.len() as i64).collect()
    }

    /// The first sequence that differs from what was read, up to an end.
    pub fn differs(&self, partition: usize, seen: &[u64], end: i64) -> Option<usize> {
        let book = self.lock();
        let read = &book.partitions[partition].read;
        (0..end as usize).find(|offset| seen.get(*offset) != read.get(*offset))
    }

    /// Notes a fault for whoever looks next.
    pub fn note(&self, fault: Fault) {
        self.lock().fault.get_or_insert(fault);
    }

    /// The first fault that was noted.
    pub fn fault(&self) -> Option<Fault> {
        self.lock().fault.clone()
    }

    /// All acks so far.
    pub fn acked_in_all(&self) -> u64 {
        self.lock().acked
    }

    /// The figures.
    pub fn summary(&self) -> String {
        let book = self.lock();
        let mut words = format!("{} {} acked, {} unknown", self.topic.name, book.acked, book.unknown);
        if self.topic.ack == Ack::Memory {
            words += &format!(", {} lost as memory may", book.lost);
        }
        words
    }

    fn place(&self, partition: u32, offset: i64) -> String {
        format!("topic {}, partition {partition}, offset {offset}", self.topic.name)
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn lose_from(&mut self, partition: usize, end: i64) {
        let pages = &mut self.partitions[partition];
        let acked = pages.acked.split_off(&end);
        let read = pages.read.split_off(pages.read.len().min(end as usize));
        self.lost += acked.len() as u64;
        for sequence in acked.into_values().chain(read) {
            self.fates[sequence as usize] = Fate::Lost;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::topics::TOPICS;
    use super::*;

    /// A ledger with records 0 to 5 sent and acknowledged, two in each of three partitions.
    fn six_acked(topic: usize) -> Ledger {
        let ledger = Ledger::new(&TOPICS[topic]);
        let partitions = u64::from(ledger.topic.partitions);
        for sequence in 0..6 {
            assert_eq!(ledger.sending(), sequence);
            let acked =
                ledger.acked(sequence, (sequence % partitions) as u32, (sequence / partitions) as i64);
            assert_eq!(acked, Ok(()));
        }
        ledger
    }

    fn words(outcome: Result<(), Fault>) -> String {
        outcome.expect_err("this is a fault").to_string()
    }

    #[test]
    fn what_is_as_it_should_be_is_no_fault() {
        let ledger = six_acked(0);
        for sequence in [0, 3] {
            assert_eq!(ledger.read(0, sequence / 3, &TOPICS[0].value(sequence as u64)), Ok(()));
        }
        assert_eq!(ledger.restarted(&[2, 2, 2], &ledger.ends_of_acked()), Ok(()));
    }

    #[test]
    fn a_lost_record_is_seen() {
        let ledger = six_acked(0);
        assert!(
            words(ledger.restarted(&[2, 1, 2], &ledger.ends_of_acked())).contains("partition 1, offset 1")
        );
        assert!(words(ledger.read(0, 1, &TOPICS[0].value(3))).contains("where offset 0 was due"));
    }

    #[test]
    fn a_record_in_the_place_of_another_is_seen() {
        let ledger = six_acked(0);
        assert!(words(ledger.read(0, 0, &TOPICS[0].value(3))).contains("record 0 was acknowledged there"));
    }

    #[test]
    fn a_doubled_record_is_seen() {
        let ledger = six_acked(0);
        ledger.read(0, 0, &TOPICS[0].value(0)).expect("it is in its place");
        ledger.read(0, 1, &TOPICS[0].value(3)).expect("it is in its place");
        assert!(words(ledger.read(0, 2, &TOPICS[0].value(0))).contains("stands behind record 3"));
    }

    #[test]
    fn a_changed_byte_is_seen() {
        let ledger = six_acked(0);
        let mut value = TOPICS[0].value(0);
        *value.last_mut().expect("not empty") ^= 1;
        assert!(words(ledger.read(0, 0, &value)).contains("nobody sent"));
    }

    #[test]
    fn a_record_whose_send_failed_is_seen() {
        let ledger = Ledger::new(&TOPICS[0]);
        let sequence = ledger.sending();
        ledger.failed(sequence, &DeliveryError::Closed).expect("it was not read");
        assert!(words(ledger.read(0, 0, &TOPICS[0].value(sequence))).contains("Refused"));
    }

    #[test]
    fn memory_may_lose_an_end_and_what_is_lost_stays_lost() {
        let ledger = six_acked(1);
        assert_eq!(ledger.restarted(&[2, 3], &ledger.ends_of_acked()), Ok(()));
        assert_eq!(ledger.lock().lost, 1);
        ledger.read(0, 0, &TOPICS[1].value(0)).expect("it is in its place");
        ledger.read(0, 1, &TOPICS[1].value(2)).expect("it is in its place");
        assert!(words(ledger.read(0, 2, &TOPICS[1].value(4))).contains("Lost"));
    }

    #[test]
    fn an_offset_that_changes_its_record_is_seen() {
        let ledger = six_acked(0);
        ledger.read(0, 0, &TOPICS[0].value(0)).expect("it is in its place");
        assert!(words(ledger.read_again(0, 0, &TOPICS[0].value(3))).contains("held record 0"));
    }
}
