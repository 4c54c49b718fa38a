//! Records written and read: what a builder keeps to, and what an iterator refuses.
#![forbid(unsafe_code)]

use bytes::Bytes;
use ringlog_protocol::batch::*;

fn one_batch(values: &[&[u8]]) -> Bytes {
    let mut builder = BatchBuilder::new(1 << 20);
    for value in values {
        builder.push(5, None, Some(value), []).expect("fits");
    }
    builder.finish_plain()
}

fn read(batch: &[u8]) -> Result<Vec<Record<'_>>, RecordError> {
    let header = BatchHeader::parse(batch).expect("a batch");
    RecordIter::new(&header, records_section(batch)).collect()
}

#[test]
fn a_builder_foretells_the_size_of_its_batch() {
    let mut builder = BatchBuilder::new(1 << 20);
    assert_eq!(builder.len(), HEADER_BYTES);
    for i in 0..300_usize {
        let (time, value) = ((i * i * 1000) as i64, vec![b'v'; i]);
        let headers = [Header::new("a header", &value)];
        let foretold = builder.len_with(time, Some(b"key"), Some(&value), headers);
        builder.push(time, Some(b"key"), Some(&value), headers).expect("fits");
        assert_eq!(builder.len(), foretold);
    }
    assert_eq!(builder.record_count(), 300);
    let foretold = builder.len();
    assert_eq!(builder.finish_plain().len(), foretold);
}

#[test]
fn a_builder_that_is_full_keeps_what_it_has() {
    let mut builder = BatchBuilder::new(100);
    builder.push(0, None, Some(&[1; 20]), []).expect("fits");
    assert_eq!(builder.push(0, None, Some(&[2; 20]), []), Err(PushError::Full));
    let batch = builder.finish_plain();
    assert_eq!(read(&batch).expect("valid").len(), 1);
    assert_eq!(builder.push(0, None, Some(&[2; 20]), []), Ok(0));
}

#[test]
fn a_batch_may_be_exactly_as_large_as_the_limit() {
    let size = one_batch(&[&[1; 20]]).len();
    assert!(BatchBuilder::new(size).push(5, None, Some(&[1; 20]), []).is_ok());
    assert!(BatchBuilder::new(size - 1).push(5, None, Some(&[1; 20]), []).is_err());
}

#[test]
fn a_record_that_no_batch_can_hold_is_told_so() {
    let mut builder = BatchBuilder::new(100);
    let refused = builder.push(0, None, Some(&[0; 100]), []);
    assert!(matches!(refused, Err(PushError::RecordTooLarge { limit: 100, bytes }) if bytes > 161));
    assert!(builder.is_empty());
}

#[test]
fn a_builder_is_used_again_without_a_trace_of_the_last_batch() {
    let mut builder = BatchBuilder::new(1 << 20);
    builder.push(900, Some(b"old"), None, []).expect("fits");
    let first = builder.finish_plain();
    builder.push(5, None, Some(b"new"), []).expect("fits");
    let second = builder.finish_plain();
    assert_eq!(second, one_batch(&[b"new"]));
    assert_eq!(read(&first).expect("valid")[0].key, Some(&b"old"[..]));
}

#[test]
fn timestamps_at_the_ends_of_time_come_back() {
    let times = [0, i64::MAX, i64::MIN, -1];
    let mut builder = BatchBuilder::new(1 << 20);
    for time in times {
        builder.push(time, None, None, []).expect("fits");
    }
    let batch = builder.finish_plain();
    let header = check_for_produce(&batch).expect("may be produced");
    let back: Vec<_> =
        read(&batch).expect("valid").iter().map(|record| record.timestamp_ms(&header)).collect();
    assert_eq!(back, times);
}

#[test]
fn an_empty_value_is_not_a_null_one() {
    let batch = one_batch(&[b""]);
    let records = read(&batch).expect("valid");
    assert_eq!((records[0].key, records[0].value), (None, Some(&b""[..])));
}

#[test]
fn compressed_records_name_their_codec() {
    let mut builder = BatchBuilder::new(1 << 20);
    builder.push(5, None, Some(&[7; 100]), []).expect("fits");
    let batch = builder.finish(Compression::Zstd, |section| {
        assert_eq!(section.len(), 109);
        Ok::<_, ()>(b"small".to_vec())
    });
    let batch = batch.expect("compressed");
    let header = check_for_produce(&batch).expect("may be produced");
    assert_eq!(verify_crc(&header, &batch), Ok(()));
    assert_eq!(header.compression(), Some(Compression::Zstd));
    assert_eq!(records_section(&batch), b"small");
    assert!(builder.is_empty());
}

#[test]
fn records_that_compression_makes_larger_stay_as_they_are() {
    let mut builder = BatchBuilder::new(1 << 20);
    builder.push(5, None, Some(b"new"), []).expect("fits");
    let batch = builder.finish(Compression::Gzip, |section| Ok::<_, ()>([section, &[0; 20]].concat()));
    assert_eq!(batch, Ok(one_batch(&[b"new"])));
}

#[test]
fn a_failed_compression_loses_no_records() {
    let mut builder = BatchBuilder::new(1 << 20);
    builder.push(5, None, Some(b"new"), []).expect("fits");
    assert_eq!(builder.finish(Compression::Gzip, |_| Err("out of memory")), Err("out of memory"));
    assert_eq!(builder.finish_plain(), one_batch(&[b"new"]));
}

#[test]
fn records_are_slices_of_their_batch() {
    let batch = one_batch(&[b"first", b"second"]);
    let records = read(&batch).expect("valid");
    let value = batch.slice_ref(records[1].value.expect("has a value"));
    assert_eq!(&value[..], b"second");
}

#[test]
fn a_broken_header_key_does_not_make_a_partition_unreadable() {
    let mut builder = BatchBuilder::new(1 << 20);
    let header = Header { key: b"caf\xe9", value: None };
    builder.push(5, None, None, [header]).expect("fits");
    let batch = builder.finish_plain();
    let records = read(&batch).expect("valid");
    let mut headers = records[0].headers;
    assert_eq!(headers.len(), 1);
    assert_eq!(headers.next().expect("one header").key_lossy(), "caf\u{fffd}");
}

/// Reads a records section of one's own making.
fn read_section(count: i32, section: &[u8]) -> Result<usize, RecordError> {
    let batch = one_batch(&[b"any"]);
    let mut header = BatchHeader::parse(&batch).expect("a batch");
    header.record_count = count;
    header.last_offset_delta = count - 1;
    RecordIter::new(&header, section).try_fold(0, |records, record| record.map(|_| records + 1))
}

#[test]
fn the_records_are_as_many_as_the_header_says() {
    // length 6: attributes, timestamp delta, offset delta 0, null key, null value, no headers
    let section = [12, 0, 0, 0, 1, 1, 0];
    assert_eq!(read_section(1, &section), Ok(1));
    assert_eq!(read_section(2, &section), Err(RecordError::Malformed(1)));
    assert_eq!(read_section(1, &[&section[..], &section].concat()), Err(RecordError::Trailing(7)));
}

#[test]
fn a_record_that_does_not_fill_its_length_is_refused() {
    assert_eq!(read_section(1, &[14, 0, 0, 0, 1, 1, 0, 0]), Err(RecordError::Malformed(0)));
    assert_eq!(read_section(1, &[10, 0, 0, 0, 1, 1]), Err(RecordError::Malformed(0)));
}

#[test]
fn lengths_that_reach_outside_or_below_zero_are_refused() {
    // A key of 100 bytes, of -2 bytes; -1 headers; a billion headers; a record of length -1.
    assert_eq!(read_section(1, &[14, 0, 0, 0, 0xc8, 1, 1, 0]), Err(RecordError::Malformed(0)));
    assert_eq!(read_section(1, &[12, 0, 0, 0, 3, 1, 0]), Err(RecordError::Malformed(0)));
    assert_eq!(read_section(1, &[12, 0, 0, 0, 1, 1, 1]), Err(RecordError::Malformed(0)));
    assert_eq!(
        read_section(1, &[20, 0, 0, 0, 1, 1, 0x80, 0xa8, 0xd6, 0xb9, 7]),
        Err(RecordError::Malformed(0))
    );
    assert_eq!(read_section(1, &[1, 0, 0, 0, 1, 1, 0]), Err(RecordError::Malformed(0)));
}

#[test]
fn offsets_that_do_not_increase_or_pass_the_last_are_refused() {
    let first = [12, 0, 0, 0, 1, 1, 0];
    let same = [first, first].concat();
    assert_eq!(read_section(2, &same), Err(RecordError::Offset(1)));
    let past = [12, 0, 0, 2, 1, 1, 0];
    assert_eq!(read_section(1, &past), Err(RecordError::Offset(0)));
    let negative = [12, 0, 0, 1, 1, 1, 0];
    assert_eq!(read_section(1, &negative), Err(RecordError::Offset(0)));
}

#[test]
fn an_error_is_the_last_item() {
    let batch = one_batch(&[b"any"]);
    let header = BatchHeader::parse(&batch).expect("a batch");
    let mut records = RecordIter::new(&header, &[]);
    assert!(matches!(records.next(), Some(Err(_))));
    assert!(records.next().is_none());
}
