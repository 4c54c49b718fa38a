//! Holds the code to `docs/on_disk.md`: the bytes built from its tables are the bytes that are written.

use super::checkpoint::{Checkpoint, PartitionPoint};
use super::envelope::{EntryKind, Envelope};
use super::frame::FrameHeader;
use super::identity::ActiveSegment;
use super::identity::JournalIdentity;
use super::index::{Index, IndexEntry};
use super::mark::Mark;
use super::segment::SegmentHeader;
use super::{index, journal_file};
use crate::partition_id::PartitionId;

const PAGE: &str = include_str!("../../../docs/on_disk.md");
const ID: PartitionId = PartitionId { topic: 7, partition: 3 };
const JOURNAL: JournalIdentity = JournalIdentity { epoch: 5, shard: 2, salt: 0x0123_4567_89ab_cdef };

/// The bytes that the page's table of that name describes. Its rows leave no gaps.
fn golden(name: &str) -> Vec<u8> {
    let marker = format!("<!-- golden: {name} -->\n");
    let table = PAGE.split_once(&marker).expect("the page has the table").1;
    let mut bytes = Vec::new();
    for row in table.lines().skip(2).take_while(|line| line.starts_with('|')) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let (offset, len): (usize, usize) =
            (cells[1].parse().expect("offset"), cells[2].parse().expect("bytes"));
        assert_eq!(offset, bytes.len(), "{name}: {row}");
        bytes.extend_from_slice(&value(cells[4], len));
    }
    assert!(!bytes.is_empty());
    bytes
}

fn value(example: &str, len: usize) -> Vec<u8> {
    if let Some(text) = example.strip_prefix('"') {
        return text.trim_end_matches('"').as_bytes().to_vec();
    }
    let number = match example.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => example.parse(),
    };
    number.expect("a number").to_le_bytes()[..len].to_vec()
}

fn example_envelope() -> Envelope {
    Envelope::of(ID, EntryKind::Journaled, 100, &std::array::from_fn(|at| at as u8))
}

fn example_index() -> Index {
    let entry = IndexEntry { relative_offset: 3, position: 4096, timestamp_before: 1_699_999_999_000 };
    Index {
        segment_base: 1000,
        covered_bytes: 8192,
        next_offset: 1010,
        max_timestamp: 1_700_000_000_000,
        entries: vec![entry],
    }
}

fn example_checkpoint() -> Checkpoint {
    let point = PartitionPoint {
        id: ID,
        quarantined: true,
        start_offset: 100,
        next_offset: 1010,
        active: Some(ActiveSegment { base_offset: 1000, bytes: 8192 }),
    };
    Checkpoint { journal: JOURNAL, clean: true, journal_from: 10, partitions: vec![point] }
}

#[test]
fn an_envelope_is_as_the_page_says() {
    let bytes = golden("envelope");
    assert_eq!(example_envelope().encode()[..], bytes);
    let read = Envelope::decode(bytes.first_chunk().expect("24 bytes"), &std::array::from_fn(|at| at as u8));
    assert_eq!(read, Ok(example_envelope()));
}

#[test]
fn a_mark_is_as_the_page_says() {
    let segment = ActiveSegment { base_offset: 1000, bytes: 8192 };
    let mark = Mark { id: ID, segment, next_offset: 1010 };
    let bytes = golden("mark");
    assert_eq!(mark.encode()[..], bytes);
    assert_eq!(Mark::decode(&bytes).map(|(mark, _)| mark), Ok(mark));
}

#[test]
fn a_journal_file_begins_as_the_page_says() {
    let bytes = golden("journal file");
    assert_eq!(journal_file::encode(32 << 20)[..], bytes);
    assert_eq!(journal_file::decode(&bytes), Ok(32 << 20));
}

#[test]
fn a_frame_begins_and_ends_as_the_page_says() {
    let bytes = golden("frame header");
    assert_eq!(JOURNAL.header(9, 1)[..], bytes);
    assert_eq!(JOURNAL.frame_at(&bytes), Some(FrameHeader { sequence: 9, window: 1 }));
    let chain = JOURNAL.chain(9).with(example_envelope().crc);
    assert_eq!(JOURNAL.end_marker(9, 180, chain)[..], golden("frame end"));
}

#[test]
fn a_segment_begins_as_the_page_says() {
    let header = SegmentHeader { id: ID, base_offset: 1000, durable_end: Some(990) };
    let bytes = golden("segment");
    assert_eq!(header.encode()[..], bytes);
    assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
}

#[test]
fn an_index_is_as_the_page_says() {
    let bytes = [golden("index header"), golden("index entry")].concat();
    assert_eq!(bytes.len(), index::HEADER_BYTES + index::ENTRY_BYTES);
    assert_eq!(example_index().encode(), bytes);
    assert_eq!(Index::decode(&bytes), Ok(example_index()));
}

#[test]
fn a_checkpoint_is_as_the_page_says() {
    let bytes = [golden("checkpoint header"), golden("checkpoint entry")].concat();
    assert_eq!(example_checkpoint().encode(), bytes);
    assert_eq!(Checkpoint::decode(&bytes), Ok(example_checkpoint()));
}

#[test]
fn a_partition_without_a_segment_is_read_back() {
    let point = PartitionPoint::new(ID);
    let checkpoint = Checkpoint { partitions: vec![point], clean: false, ..example_checkpoint() };
    assert_eq!(Checkpoint::decode(&checkpoint.encode()), Ok(checkpoint));
}

#[test]
fn a_file_of_another_version_is_told_from_damage() {
    let mut bytes = journal_file::encode(4096).to_vec();
    bytes[4] = 9;
    let crc = crc32c::crc32c(&bytes[..20]);
    bytes[20..24].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(journal_file::decode(&bytes), Err(super::FormatError::Version(9)));
}
