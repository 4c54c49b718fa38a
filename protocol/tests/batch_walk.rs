//! What a walk over a batch's records finds: each thing that can be wrong with a record, by name.

use ringlog_protocol::batch::*;

/// The parts of a record: its length is put in front of them.
fn record(parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut record = vec![content.len() as u8 * 2];
    record.extend_from_slice(&content);
    record
}

/// A sound record with this offset delta (below 64).
fn plain(delta: u8) -> Vec<u8> {
    record(&[&[0, 0, delta * 2, 1, 2, b'v', 0]])
}

fn header(records: i32) -> BatchHeader {
    let mut builder = BatchBuilder::new(1 << 20);
    builder.push(1000, None, None, []).expect("it fits");
    let header = BatchHeader::parse(&builder.finish_plain()).expect("a good batch");
    BatchHeader { record_count: records, last_offset_delta: records - 1, ..header }
}

fn walk(records: &[Vec<u8>]) -> Result<Option<Walked>, RecordsError> {
    check_records(&header(records.len() as i32), &records.concat(), usize::MAX)
}

/// What is wrong with the second of two records.
fn fault_of(second: Vec<u8>) -> RecordFault {
    match walk(&[plain(0), second]) {
        Err(RecordsError::Record { index: 1, count: 2, fault }) => fault,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_fault_of_a_record_has_its_name() {
    let cases: &[(RecordFault, Vec<u8>)] = &[
        (RecordFault::Length, vec![0x80; 6]),
        (RecordFault::Length, vec![1]),
        (RecordFault::Attributes, record(&[])),
        (RecordFault::Timestamp, record(&[&[0]])),
        (RecordFault::Timestamp, record(&[&[0], &[0x80; 11]])),
        (RecordFault::OffsetDelta, record(&[&[0, 0]])),
        (RecordFault::OffsetDelta, record(&[&[0, 0, 0x80, 0x80, 0x80, 0x80, 0x80, 0, 1, 1, 0]])),
        (RecordFault::Key, record(&[&[0, 0, 2, 100, 1, 0]])),
        (RecordFault::Key, record(&[&[0, 0, 2, 3, 1, 0]])),
        (RecordFault::Value, record(&[&[0, 0, 2, 1, 100, 0]])),
        (RecordFault::Headers, record(&[&[0, 0, 2, 1, 1]])),
        (RecordFault::Headers, record(&[&[0, 0, 2, 1, 1, 1]])),
        (RecordFault::Headers, record(&[&[0, 0, 2, 1, 1, 4, 0, 1]])),
        // A header's name cannot be null.
        (RecordFault::Headers, record(&[&[0, 0, 2, 1, 1, 2, 1, 1]])),
        (RecordFault::LeftOver, record(&[&[0, 0, 2, 1, 1, 0, 0]])),
        (RecordFault::Order, plain(0)),
        (RecordFault::Order, plain(2)),
        (RecordFault::Order, record(&[&[0, 0, 1, 1, 1, 0]])),
        (RecordFault::LaterThanLargest, record(&[&[0, 2, 2, 1, 1, 0]])),
        // The batch ends inside it.
        (RecordFault::Value, plain(1)[..5].to_vec()),
    ];
    for (fault, second) in cases {
        assert_eq!(fault_of(second.clone()), *fault, "{second:?}");
    }
}

#[test]
fn records_are_counted_to_the_last_byte() {
    let section = [plain(0), plain(1)].concat();
    let walk = |records, section: &[u8]| check_records(&header(records), section, usize::MAX);
    assert!(walk(2, &section).is_ok());
    assert_eq!(walk(3, &section), Err(RecordsError::Missing { found: 2, count: 3 }));
    assert_eq!(walk(1, &section), Err(RecordsError::Trailing(1)));
    assert_eq!(walk(1, &[]), Err(RecordsError::Missing { found: 0, count: 1 }));
}

#[test]
fn the_error_names_the_record_and_what_is_wrong_with_it() {
    let error = walk(&[plain(0), plain(0)]).expect_err("the same offset twice").to_string();
    assert!(error.starts_with("record 1 of 2 has an offset delta"), "{error}");
}

#[test]
fn the_earliest_timestamp_leaves_out_records_that_have_none() {
    let with_delta = |index: u8, delta: &[u8]| record(&[&[0], delta, &[index * 2, 1, 1, 0]]);
    // 1000, 1000 - 5, 1000 - 1001 = -1: no timestamp.
    let records = [with_delta(0, &[0]), with_delta(1, &[9]), with_delta(2, &[0xd1, 0x0f])];
    assert_eq!(walk(&records), Ok(Some(Walked { earliest_ms: Some(995) })));
    assert_eq!(
        walk(&records[2..]),
        Err(RecordsError::Record { index: 0, count: 1, fault: RecordFault::Order })
    );
}

#[test]
fn a_walk_that_takes_too_many_steps_gives_up_without_a_verdict() {
    let many_headers = record(&[&[0, 0, 2, 1, 1, 10], &[0, 1, 0, 1, 0, 1, 0, 1, 0, 1]]);
    let section = [plain(0), many_headers].concat();
    assert_eq!(check_records(&header(2), &section, 6), Ok(None));
    assert!(matches!(check_records(&header(2), &section, 7), Ok(Some(_))));
}
