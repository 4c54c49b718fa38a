//! Every decoder of what is on the disk, fed with hostile bytes: none panics, and what one takes is what was written.
//!
//! Where checksums are mended, anything may stand behind them, so what is taken need not be one of the sound inputs; it is
//! written again and must be the same bytes. Where they are not, a change that is taken would be a hole in the checksum.

use std::fmt::Display;

use bytes::{Bytes, BytesMut};
use crc32c::{crc32c, crc32c_append};
use ringlog_fuzz::{Target, Verdict};
use ringlog_protocol::batch::{BatchBuilder, HEADER_BYTES, crc_of, patch};

use super::checkpoint::{Checkpoint, PartitionPoint};
use super::entry::{Entry, entry_start, is_padding};
use super::envelope::{ENVELOPE_BYTES, EntryKind, Envelope};
use super::frame::{self, END_BYTES, FrameStep};
use super::identity::ActiveSegment;
use super::identity::JournalIdentity;
use super::index::{Index, IndexEntry};
use super::journal_file;
use super::mark::{MARK_BYTES, Mark};
use super::segment::SegmentHeader;
use crate::limits::BLOCK_BYTES;
use crate::partition_id::PartitionId;

const ID: PartitionId = PartitionId { topic: 7, partition: 3 };
const PACKAGE: &str = env!("CARGO_MANIFEST_DIR");
const JOURNAL: JournalIdentity = JournalIdentity { epoch: 5, shard: 2, salt: 0xfeed };

/// What is taken must be what was written: it is written again.
fn again(bytes: &[u8], written: &[u8]) -> Verdict {
    assert!(bytes.starts_with(written), "something else was written than was taken");
    Ok(())
}

fn words<T: Display>(error: T) -> String {
    error.to_string()
}

/// Puts a checksum right: it stands at `at`, and covers `from..to` of the rest.
fn mend_crc(bytes: &mut [u8], at: usize, covered: impl Fn(&[u8]) -> u32) {
    if bytes.len() >= at + 4 {
        let crc = covered(bytes);
        bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
    }
}

/// A checksum over everything before it.
fn mend_header(at: usize) -> impl Fn(&mut Vec<u8>) {
    move |bytes| mend_crc(bytes, at, |bytes| crc32c(&bytes[..at]))
}

/// A checksum over all other bytes of the file.
fn mend_file(at: usize) -> impl Fn(&mut Vec<u8>) {
    move |bytes| mend_crc(bytes, at, |bytes| crc32c_append(crc32c(&bytes[..at]), &bytes[at + 4..]))
}

/// The batch's length and checksum, then the envelope's.
fn mend_entry(bytes: &mut [u8]) {
    let Some(length) = bytes.len().checked_sub(ENVELOPE_BYTES).filter(|length| *length >= HEADER_BYTES)
    else {
        return;
    };
    bytes[4..8].copy_from_slice(&(length as u32).to_le_bytes());
    let batch = &mut bytes[ENVELOPE_BYTES..];
    batch[8..12].copy_from_slice(&(length as u32 - 12).to_be_bytes());
    let crc = crc_of(batch);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    mend_crc(bytes, 20, |bytes| {
        crc32c_append(crc32c(&bytes[..20]), &bytes[ENVELOPE_BYTES..ENVELOPE_BYTES + 21])
    });
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
    let envelope = Envelope::of(ID, EntryKind::Journaled, batch.len() as u32, prefix);
    (envelope.crc, [&envelope.encode()[..], &batch].concat())
}

fn frame_bytes(sequence: u64) -> Vec<u8> {
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

/// Changes that leave checksums alone: only the sound bytes themselves may be taken, with whatever stands behind them.
fn refuses_all_changes(name: &'static str, sound: Vec<u8>, decode: impl Fn(&[u8]) -> Verdict) {
    let original = sound.clone();
    Target::new(name).seeds([sound]).run(|bytes| {
        let verdict = decode(bytes);
        assert!(verdict.is_err() || bytes.starts_with(&original), "changed bytes were taken");
        verdict
    });
}

fn take_entry(bytes: &[u8]) -> Verdict {
    let entry = Entry::decode(bytes).map_err(words)?;
    if !entry.body_is_sound(bytes) {
        return Err("the body is not sound".to_owned());
    }
    assert_eq!(entry.len(), ENVELOPE_BYTES + entry.header.total_len());
    again(bytes, &entry.envelope.encode())
}

#[test]
fn fuzz_entry() {
    refuses_all_changes("entry", entry(5, 100).1, take_entry);
    Target::new("entry")
        .seeds([entry(5, 100).1])
        .corpus(PACKAGE)
        .mending(|bytes| mend_entry(bytes))
        .run(take_entry);
}

fn take_envelope(bytes: &[u8]) -> Verdict {
    let (front, rest) = bytes.split_first_chunk().ok_or("short")?;
    let prefix = rest.first_chunk().ok_or("short")?;
    again(bytes, &Envelope::decode(front, prefix).map_err(words)?.encode())
}

#[test]
fn fuzz_envelope() {
    let mend = |bytes: &mut Vec<u8>| {
        if bytes.len() >= ENVELOPE_BYTES + 21 {
            mend_crc(bytes, 20, |bytes| crc32c_append(crc32c(&bytes[..20]), &bytes[24..45]));
        }
    };
    Target::new("envelope").seeds([entry(5, 100).1]).mending(mend).run(take_envelope);
}

/// Walks all frames of a file, as recovery does: at every block a frame may begin.
fn take_journal(bytes: &[u8], journal: &JournalIdentity) -> Verdict {
    let mut frames = 0;
    for at in (0..bytes.len()).step_by(BLOCK_BYTES) {
        let Some(found) = journal.frame_at(&bytes[at..]) else { continue };
        let mut walk = journal.walk(&bytes[at..], found.sequence);
        loop {
            match walk.step().map_err(words)? {
                FrameStep::Entry { .. } | FrameStep::Mark(_) => {}
                FrameStep::End { length } => break assert!(at + length <= bytes.len()),
            }
        }
        again(&bytes[at..], &journal.header(found.sequence, found.window))?;
        frames += 1;
    }
    if frames > 0 { Ok(()) } else { Err("no frame".to_owned()) }
}

#[test]
fn fuzz_frame() {
    assert_eq!(walk(&frame_bytes(9), 9), Some(4));
    refuses_all_changes("frame", frame_bytes(9), |bytes| {
        walk(bytes, 9).map(drop).ok_or_else(|| "not whole".to_owned())
    });
    Target::new("frame").seeds([frame_bytes(9), frame_bytes(8)]).run(|bytes| take_journal(bytes, &JOURNAL));
}

#[test]
fn fuzz_journal() {
    // The journal's salt stands in its checkpoint only: so the two are of one moment.
    let checkpoint =
        Checkpoint::decode(include_bytes!("../../fuzz/corpus/checkpoint/journaled")).expect("it is sound");
    let journal = checkpoint.journal;
    let mend = |bytes: &mut Vec<u8>| {
        for at in (0..bytes.len().saturating_sub(frame::HEADER_BYTES)).step_by(BLOCK_BYTES) {
            if let (Some(sequence), Some(window)) =
                (bytes[at + 16..].first_chunk(), bytes[at + 24..].first_chunk())
            {
                let header = journal.header(u64::from_le_bytes(*sequence), u32::from_le_bytes(*window));
                bytes[at..at + header.len()].copy_from_slice(&header);
            }
        }
    };
    Target::new("journal").corpus(PACKAGE).mending(mend).run(|bytes| take_journal(bytes, &journal));
}

#[test]
fn fuzz_mark() {
    let take = |bytes: &[u8]| again(bytes, &Mark::decode(bytes).map_err(words)?.0.encode());
    refuses_all_changes("mark", example_mark().encode().to_vec(), take);
    Target::new("mark").seeds([example_mark().encode()]).mending(mend_header(44)).run(take);
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
    let (ours, other) = (frame_bytes(9), frame_bytes(8));
    for from in (0..ours.len()).step_by(4) {
        let mixed = [&ours[..from], &other[from..]].concat();
        assert_eq!(walk(&mixed, 9), None, "from byte {from}");
    }
    // Every entry is sound by itself, in a frame that says so of itself; only the chain tells.
    let mut swapped = ours.clone();
    let (first, second) = (entry(0, 20).1, entry(1, 50).1);
    let begin = frame::HEADER_BYTES;
    swapped[begin..begin + first.len() + second.len()].copy_from_slice(&[second, first].concat());
    assert_eq!(walk(&swapped, 9), None);
}

#[test]
fn a_frame_of_another_journal_is_not_seen() {
    let bytes = frame_bytes(9);
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
fn fuzz_journal_file() {
    let take =
        |bytes: &[u8]| again(bytes, &journal_file::encode(journal_file::decode(bytes).map_err(words)?));
    refuses_all_changes("journal-file", journal_file::encode(32 << 20).to_vec(), take);
    Target::new("journal-file").corpus(PACKAGE).mending(mend_header(20)).run(take);
}

#[test]
fn fuzz_segment() {
    let take = |bytes: &[u8]| again(bytes, &SegmentHeader::decode(bytes).map_err(words)?.encode());
    refuses_all_changes(
        "segment",
        SegmentHeader { id: ID, base_offset: 1 << 40, durable_end: Some(7) }.encode().to_vec(),
        take,
    );
    Target::new("segment").corpus(PACKAGE).mending(mend_header(32)).run(take);
}

#[test]
fn fuzz_index() {
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
    let take = |bytes: &[u8]| again(bytes, &Index::decode(bytes).map_err(words)?.encode());
    refuses_all_changes("index", index.encode(), take);
    Target::new("index").seeds([index.encode()]).corpus(PACKAGE).mending(mend_file(44)).run(take);
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
fn fuzz_checkpoint() {
    let points = (0..20_u32).map(|partition| PartitionPoint {
        id: PartitionId { topic: 7, partition },
        quarantined: partition == 3,
        start_offset: 0,
        next_offset: 1000,
        active: (partition % 2 == 0).then_some(ActiveSegment { base_offset: 900, bytes: 8192 }),
    });
    let checkpoint =
        Checkpoint { journal: JOURNAL, clean: false, journal_from: 12, partitions: points.collect() };
    let take = |bytes: &[u8]| again(bytes, &Checkpoint::decode(bytes).map_err(words)?.encode());
    refuses_all_changes("checkpoint", checkpoint.encode(), take);
    Target::new("checkpoint").seeds([checkpoint.encode()]).corpus(PACKAGE).mending(mend_file(44)).run(take);
}

#[test]
fn entries_begin_where_their_envelope_fits_a_block() {
    assert_eq!(entry_start(4096), 4096);
    assert_eq!(entry_start(8192 - 24), 8192 - 24);
    assert_eq!(entry_start(8192 - 23), 8192);
    assert_eq!(entry_start(8191), 8192);
    assert!(is_padding(&[0; 24]) && !is_padding(&entry(0, 1).1) && !is_padding(&[0; 3]));
}
