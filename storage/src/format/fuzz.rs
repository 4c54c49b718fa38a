//! Every decoder, fed with valid bytes that were changed and with noise: none panics, none takes what was not written.

use bytes::{Bytes, BytesMut};
use ringlog_protocol::batch::{BatchBuilder, patch};

use super::checkpoint::{ActiveSegment, Checkpoint, PartitionPoint};
use super::entry::{Entry, entry_start, is_padding};
use super::envelope::Envelope;
use super::frame::{END_BYTES, FrameStep, JournalIdentity};
use super::index::{Index, IndexEntry};
use super::journal_file;
use super::mark::{MARK_BYTES, Mark};
use super::segment::SegmentHeader;
use crate::PartitionId;

const ROUNDS: u32 = 20_000;
const ID: PartitionId = PartitionId { topic: 7, partition: 3 };
const JOURNAL: JournalIdentity = JournalIdentity { epoch: 5, shard: 2, salt: 0xfeed };

/// xorshift64: the same noise in every run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// The bytes with a few of them changed, cut, or written over by another part; or noise instead.
    fn mutate(&mut self, valid: &[u8]) -> Vec<u8> {
        let mut bytes = valid.to_vec();
        match self.below(8) {
            0 => bytes.truncate(self.below(valid.len())),
            1 => bytes.iter_mut().for_each(|byte| *byte = self.next() as u8),
            2 => {
                let (from, to) = (self.below(valid.len()), self.below(valid.len()));
                let len = self.below(valid.len() - from.max(to)) + 1;
                bytes.copy_within(from..from + len, to);
            }
            3 => {
                let at = self.below(valid.len());
                let extreme = [0x00, 0xff, 0x7f, 0x80][self.below(4)];
                bytes[at..].iter_mut().take(8).for_each(|byte| *byte = extreme);
            }
            _ => {
                for _ in 0..=self.below(3) {
                    let at = self.below(valid.len());
                    bytes[at] ^= 1 << self.below(8);
                }
            }
        }
        bytes
    }
}

/// Feeds a decoder. What it takes must be what was written, byte for byte.
fn fuzz<T>(valid: &[u8], decode: impl Fn(&[u8]) -> Option<T>) {
    assert!(decode(valid).is_some(), "the valid bytes are taken");
    let mut noise = Noise(0x5eed);
    for _ in 0..ROUNDS {
        let bytes = noise.mutate(valid);
        if decode(&bytes).is_some() {
            assert!(bytes.starts_with(valid), "changed bytes were taken");
        }
    }
}

fn batch(base_offset: i64, len: usize) -> Bytes {
    let mut builder = BatchBuilder::new(1 << 20);
    builder.push(1, None, Some(&vec![0x61; len]), []).expect("it fits");
    let mut batch = BytesMut::from(&builder.finish_plain()[..]);
    patch(&mut batch, base_offset, 0);
    batch.freeze()
}

fn entry(base_offset: i64, len: usize) -> (u32, Vec<u8>) {
    let batch = batch(base_offset, len);
    let prefix = batch.first_chunk().expect("a batch is longer");
    let envelope = Envelope::of(ID, batch.len() as u32, prefix);
    (envelope.crc, [&envelope.encode()[..], &batch].concat())
}

fn frame(sequence: u64) -> Vec<u8> {
    let mut bytes = JOURNAL.header(sequence, 0).to_vec();
    let mut chain = JOURNAL.chain(sequence);
    for number in 0..3 {
        let (crc, entry) = entry(number, 20 + 30 * number as usize);
        chain = chain.with(crc);
        bytes.extend_from_slice(&entry);
    }
    let mark = example_mark().encode();
    chain = chain.with(Mark::crc_of(&mark));
    bytes.extend_from_slice(&mark);
    let length = (bytes.len() + END_BYTES) as u32;
    bytes.extend_from_slice(&JOURNAL.end_marker(sequence, length, chain));
    bytes
}

fn example_mark() -> Mark {
    let segment = ActiveSegment { base_offset: 900, bytes: 8192 };
    Mark { id: ID, segment, next_offset: 1 << 40 }
}

/// The number of a whole frame's entries and marks, all sound.
fn walk(bytes: &[u8], sequence: u64) -> Option<usize> {
    JOURNAL.frame_at(bytes).filter(|found| found.sequence == sequence)?;
    let mut walk = JOURNAL.walk(bytes, sequence);
    let mut entries = 0;
    loop {
        match walk.step().ok()? {
            FrameStep::Entry { sound: true, .. } | FrameStep::Mark(_) => entries += 1,
            FrameStep::Entry { .. } => return None,
            FrameStep::End { length } => return (length <= bytes.len()).then_some(entries),
        }
    }
}

#[test]
fn no_changed_entry_is_taken() {
    fuzz(&entry(5, 100).1, |bytes| Entry::decode(bytes).ok().filter(|entry| entry.body_is_sound(bytes)));
}

#[test]
fn no_changed_frame_is_taken() {
    assert_eq!(walk(&frame(9), 9), Some(4));
    fuzz(&frame(9), |bytes| walk(bytes, 9));
}

#[test]
fn no_changed_mark_is_taken() {
    fuzz(&example_mark().encode(), |bytes| Mark::decode(bytes).ok());
}

#[test]
fn a_mark_that_nobody_writes_is_refused_whatever_its_checksum() {
    let good = example_mark();
    assert_eq!(Mark::decode(&good.encode()).map(|(mark, _)| mark), Ok(good));
    for bad in [
        Mark { next_offset: -1, ..good },
        Mark { next_offset: 899, ..good },
        Mark { segment: ActiveSegment { bytes: 8191, ..good.segment }, ..good },
        Mark { segment: ActiveSegment { bytes: 0, ..good.segment }, ..good },
        Mark { segment: ActiveSegment { bytes: u64::MAX, ..good.segment }, ..good },
        Mark { segment: ActiveSegment { base_offset: -1, ..good.segment }, ..good },
    ] {
        assert!(Mark::decode(&bad.encode()).is_err(), "{bad:?}");
    }
    assert!(Mark::decode(&good.encode()[..MARK_BYTES - 1]).is_err());
}

#[test]
fn a_frame_with_entries_of_another_is_not_taken() {
    let (ours, other) = (frame(9), frame(8));
    for from in (0..ours.len()).step_by(4) {
        let mixed = [&ours[..from], &other[from..]].concat();
        assert_eq!(walk(&mixed, 9), None, "from byte {from}");
    }
    // Every entry is sound by itself, in a frame that says so of itself; only the chain tells.
    let mut swapped = ours.clone();
    let (first, second) = (entry(0, 20).1, entry(1, 50).1);
    let begin = super::frame::HEADER_BYTES;
    swapped[begin..begin + first.len() + second.len()].copy_from_slice(&[second, first].concat());
    assert_eq!(walk(&swapped, 9), None);
}

#[test]
fn a_frame_of_another_journal_is_not_seen() {
    let bytes = frame(9);
    for other in [
        JournalIdentity { epoch: 6, ..JOURNAL },
        JournalIdentity { shard: 0, ..JOURNAL },
        JournalIdentity { salt: 0, ..JOURNAL },
    ] {
        assert_eq!(other.frame_at(&bytes), None);
    }
    assert_eq!(JOURNAL.frame_at(&bytes).map(|found| found.sequence), Some(9));
}

#[test]
fn no_changed_file_header_is_taken() {
    fuzz(&journal_file::encode(32 << 20), |bytes| journal_file::decode(bytes).ok());
    fuzz(&SegmentHeader { id: ID, base_offset: 1 << 40 }.encode(), |bytes| SegmentHeader::decode(bytes).ok());
}

#[test]
fn no_changed_index_is_taken() {
    let entries = (0..50_u32).map(|number| IndexEntry {
        relative_offset: number * 10,
        position: 4096 + number * 70_000,
        timestamp_before: i64::from(number / 3),
    });
    let index = Index {
        segment_base: 77,
        covered_bytes: 5 << 20,
        next_offset: 1077,
        max_timestamp: 100,
        entries: entries.collect(),
    };
    fuzz(&index.encode(), |bytes| Index::decode(bytes).ok());
}

#[test]
fn an_index_that_nobody_writes_is_refused_whatever_its_checksum() {
    let entry = IndexEntry { relative_offset: 0, position: 4096, timestamp_before: 0 };
    let good = Index {
        segment_base: 0,
        covered_bytes: 8192,
        next_offset: 10,
        max_timestamp: 5,
        entries: vec![entry],
    };
    assert!(Index::decode(&good.encode()).is_ok());
    for bad in [
        Index { segment_base: -1, ..good.clone() },
        Index { next_offset: -1, ..good.clone() },
        Index { covered_bytes: 0, ..good.clone() },
        Index { covered_bytes: u64::MAX, ..good.clone() },
        Index { entries: vec![IndexEntry { position: 8192, ..entry }], ..good.clone() },
        Index { entries: vec![IndexEntry { relative_offset: 10, ..entry }], ..good.clone() },
        Index { entries: vec![entry, entry], ..good.clone() },
    ] {
        assert!(Index::decode(&bad.encode()).is_err(), "{bad:?}");
    }
}

#[test]
fn no_changed_checkpoint_is_taken() {
    let points = (0..20_u32).map(|partition| PartitionPoint {
        id: PartitionId { topic: 7, partition },
        quarantined: partition == 3,
        start_offset: 0,
        next_offset: 1000,
        active: (partition % 2 == 0).then_some(ActiveSegment { base_offset: 900, bytes: 8192 }),
    });
    let checkpoint =
        Checkpoint { journal: JOURNAL, clean: false, journal_from: 12, partitions: points.collect() };
    fuzz(&checkpoint.encode(), |bytes| Checkpoint::decode(bytes).ok());
}

#[test]
fn entries_begin_where_their_envelope_fits_a_block() {
    assert_eq!(entry_start(4096), 4096);
    assert_eq!(entry_start(8192 - 24), 8192 - 24);
    assert_eq!(entry_start(8192 - 23), 8192);
    assert_eq!(entry_start(8191), 8192);
    assert!(is_padding(&[0; 24]) && !is_padding(&entry(0, 1).1) && !is_padding(&[0; 3]));
}
