//! Record batches against bytes put together by hand from Kafka's documentation of the format.
#![forbid(unsafe_code)]

use ringlog_protocol::batch::*;
use ringlog_protocol::limits::MAX_BATCH_BYTES;

/// Three records: a key and a value; no key but two headers, one null; a key and a null value, a second earlier.
/// Each row begins with its length, attributes, timestamp delta and offset delta.
#[rustfmt::skip]
const RECORDS: &[u8] = &[
    22, 0, 0, 0,                // 11 bytes
    2, b'k',
    8, b'a', b'b', b'c', b'd',
    0,                          // no headers
    34, 0, 0xb8, 0x17, 2,       // 17 bytes, 1500 ms later: zigzag 3000
    1,                          // null key
    2, b'v',
    4,                          // two headers
    4, b'h', b'1', 2, b'x',
    4, b'h', b'2', 1,           // null value
    16, 0, 0xcf, 0x0f, 4,       // 8 bytes, 1000 ms earlier: zigzag 1999
    2, b'd',
    1,                          // null value
    0,
];

const BASE_TIMESTAMP: i64 = 1_700_000_000_000;

/// The bit-by-bit definition of CRC-32C, so that the golden bytes do not depend on the code under test.
fn crc32c_by_definition(bytes: &[u8]) -> u32 {
    let mut crc = !0_u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

/// What Kafka's own client would have sent, with no idempotence.
fn golden() -> Vec<u8> {
    let mut covered = Vec::new();
    covered.extend([0, 0]); // attributes
    covered.extend([0, 0, 0, 2]); // last offset delta
    covered.extend([0x00, 0x00, 0x01, 0x8b, 0xcf, 0xe5, 0x68, 0x00]); // base timestamp
    covered.extend([0x00, 0x00, 0x01, 0x8b, 0xcf, 0xe5, 0x6d, 0xdc]); // max timestamp, 1500 later
    covered.extend([0xff; 8]); // producer id
    covered.extend([0xff; 2]); // producer epoch
    covered.extend([0xff; 4]); // base sequence
    covered.extend([0, 0, 0, 3]); // record count
    covered.extend(RECORDS);
    let mut batch = vec![0; 8]; // base offset
    batch.extend([0, 0, 0, 49 + RECORDS.len() as u8]); // length after this field
    batch.extend([0xff; 4]); // leader epoch
    batch.push(2); // magic
    batch.extend(crc32c_by_definition(&covered).to_be_bytes());
    batch.extend(covered);
    batch
}

fn built() -> bytes::Bytes {
    let mut builder = BatchBuilder::new(1 << 20);
    builder.push(BASE_TIMESTAMP, Some(b"k"), Some(b"abcd"), []).expect("fits");
    let headers = [Header::new("h1", b"x"), Header { key: b"h2", value: None }];
    builder.push(BASE_TIMESTAMP + 1500, None, Some(b"v"), headers).expect("fits");
    builder.push(BASE_TIMESTAMP - 1000, Some(b"d"), None, []).expect("fits");
    builder.finish_plain()
}

#[test]
fn a_built_batch_is_kafkas_to_the_byte() {
    assert_eq!(&built()[..], &golden()[..]);
}

#[test]
fn kafkas_batch_is_read_in_full() {
    let batch = golden();
    let header = check_for_produce(&batch).expect("may be produced");
    assert_eq!(verify_crc(&header, &batch), Ok(()));
    assert_eq!(header.total_len(), batch.len());
    assert_eq!((header.base_offset, header.last_offset(), header.next_offset()), (0, 2, 3));
    assert_eq!((header.leader_epoch, header.record_count), (-1, 3));
    assert_eq!((header.base_timestamp, header.max_timestamp), (BASE_TIMESTAMP, BASE_TIMESTAMP + 1500));
    assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (-1, -1, -1));
    assert_eq!(header.compression(), Some(Compression::None));

    let records: Result<Vec<_>, _> = RecordIter::new(&header, records_section(&batch)).collect();
    let records = records.expect("all are well-formed");
    assert_eq!(records.len(), 3);
    assert_eq!((records[0].key, records[0].value), (Some(&b"k"[..]), Some(&b"abcd"[..])));
    assert_eq!((records[1].key, records[1].value), (None, Some(&b"v"[..])));
    assert_eq!((records[2].key, records[2].value), (Some(&b"d"[..]), None));
    let headers: Vec<_> = records[1].headers.collect();
    assert_eq!(headers, [Header::new("h1", b"x"), Header { key: b"h2", value: None }]);
    let times: Vec<_> = records.iter().map(|record| record.timestamp_ms(&header) - BASE_TIMESTAMP).collect();
    assert_eq!(times, [0, 1500, -1000]);
    let offsets: Vec<_> = records.iter().map(|record| record.offset(&header)).collect();
    assert_eq!(offsets, [0, 1, 2]);
}

#[test]
fn the_header_fields_stand_where_the_page_says() {
    let header = BatchHeader {
        base_offset: 0x0001_0203_0405_0607,
        batch_length: 0x0009_0a0b,
        leader_epoch: 0x0c0d_0e0f,
        crc: 0x1112_1314,
        attributes: 0x0016,
        last_offset_delta: 0x1718_191a,
        base_timestamp: 0x1b1c_1d1e_1f20_2122,
        max_timestamp: 0x2324_2526_2728_292a,
        producer_id: 0x2b2c_2d2e_2f30_3132,
        producer_epoch: 0x3334,
        base_sequence: 0x3536_3738,
        record_count: 0x0a3a_3b3c,
    };
    let mut bytes = [0; HEADER_BYTES];
    header.write(&mut bytes);
    for (at, byte) in bytes.iter().enumerate() {
        let expected = match at {
            0 | 8 | 21 => 0,
            16 => 2,
            22 => 0x16,
            57 => 0x0a,
            // Every other byte holds its own offset.
            _ => at as u8,
        };
        assert_eq!(*byte, expected, "byte {at}");
    }
    assert_eq!(BatchHeader::parse(&bytes), Ok(header));
}

#[test]
fn a_page_table_row_names_every_header_field() {
    let page = include_str!("../../docs/wire.md");
    for field in [
        " 0 base offset ",
        " 8 batch length ",
        "12 leader epoch ",
        "16 magic ",
        "17 CRC-32C ",
        "21 attributes ",
        "23 last offset delta ",
        "27 base timestamp ",
        "35 max timestamp ",
        "43 producer id ",
        "51 producer epoch ",
        "53 base sequence ",
        "57 record count ",
        "61 records",
    ] {
        assert!(page.contains(field), "{field:?}");
    }
}

#[test]
fn what_a_broker_patches_is_outside_the_crc() {
    let mut batch = golden();
    patch(&mut batch, 1_000_000, 7);
    let header = BatchHeader::parse(&batch).expect("still a batch");
    assert_eq!((header.base_offset, header.leader_epoch), (1_000_000, 7));
    assert_eq!(verify_crc(&header, &batch), Ok(()));
    assert_eq!(header.crc, crc_of(&batch));
}

#[test]
fn the_crc_covers_everything_from_the_attributes_on() {
    let batch = golden();
    for at in CRC_FROM..batch.len() {
        let mut flipped = batch.clone();
        flipped[at] ^= 0x10;
        assert_ne!(crc_of(&flipped), crc_of(&batch), "byte {at}");
    }
}

fn with(change: impl FnOnce(&mut [u8])) -> Result<BatchHeader, BatchError> {
    let mut batch = golden();
    change(&mut batch);
    check_for_produce(&batch)
}

#[test]
fn a_stamped_batch_has_the_brokers_time_and_the_checksum_of_its_bytes() {
    let mut batch = golden();
    let mut header = check_for_produce(&batch).expect("may be produced");
    header.set_log_append_time(1_800_000_000_000);
    stamp(&mut batch, &header);
    let mut expected = golden();
    expected[22] = 8; // bit 3 of the attributes
    expected[35..43].copy_from_slice(&[0x00, 0x00, 0x01, 0xa3, 0x18, 0x5c, 0x50, 0x00]); // max timestamp
    let crc = crc32c_by_definition(&expected[21..]);
    expected[17..21].copy_from_slice(&crc.to_be_bytes());
    assert_eq!(batch, expected);
    let stamped = BatchHeader::parse(&batch).expect("a good header");
    let records =
        RecordIter::new(&stamped, records_section(&batch)).map(|record| record.expect("a good record"));
    assert!(records.map(|record| record.timestamp_ms(&stamped)).eq([1_800_000_000_000; 3]));
}

#[test]
fn a_batch_of_another_magic_is_refused() {
    assert_eq!(with(|batch| batch[16] = 1), Err(BatchError::Magic(1)));
}

#[test]
fn a_batch_whose_count_does_not_fit_its_deltas_is_refused() {
    for count in [0_i32, 2, 4, -1, i32::MAX, i32::MIN] {
        let refused = with(|batch| batch[57..61].copy_from_slice(&count.to_be_bytes()));
        assert_eq!(refused, Err(BatchError::Count { records: count, last_offset_delta: 2 }));
    }
    for delta in [-1_i32, 3, i32::MAX, i32::MIN] {
        let refused = with(|batch| batch[23..27].copy_from_slice(&delta.to_be_bytes()));
        assert_eq!(refused, Err(BatchError::Count { records: 3, last_offset_delta: delta }));
    }
}

#[test]
fn a_batch_with_an_impossible_length_is_refused() {
    for length in [0_i32, -1, 48, i32::MIN] {
        let refused = with(|batch| batch[8..12].copy_from_slice(&length.to_be_bytes()));
        assert_eq!(refused, Err(BatchError::Length(length)));
    }
    let refused = with(|batch| batch[8..12].copy_from_slice(&i32::MAX.to_be_bytes()));
    assert!(matches!(refused, Err(BatchError::TooLarge { limit: MAX_BATCH_BYTES, .. })));
}

#[test]
fn a_batch_that_is_not_alone_or_not_whole_is_refused() {
    let mut batch = golden();
    batch.push(0);
    assert_eq!(check_for_produce(&batch), Err(BatchError::Trailing(1)));
    batch.truncate(batch.len() - 2);
    assert!(matches!(check_for_produce(&batch), Err(BatchError::Truncated { .. })));
    assert!(matches!(check_for_produce(&[]), Err(BatchError::Truncated { have: 0, need: HEADER_BYTES })));
}

#[test]
fn attributes_that_a_producer_may_not_use_are_refused() {
    // Five and more are no codec; then log append time, transactional, control, delete horizon, unknown bits.
    for attributes in [5_i16, 6, 7, 1 << 3, 1 << 4, 1 << 5, 1 << 6, 1 << 7, i16::MIN] {
        let refused = with(|batch| batch[21..23].copy_from_slice(&attributes.to_be_bytes()));
        assert_eq!(refused, Err(BatchError::Attributes(attributes)));
    }
}

#[test]
fn every_codec_that_kafka_has_may_be_produced() {
    let codecs =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    for (number, codec) in codecs.into_iter().enumerate() {
        let header = with(|batch| batch[22] = number as u8).expect("may be produced");
        assert_eq!(header.compression(), Some(codec));
    }
}

#[test]
fn a_base_timestamp_later_than_the_largest_is_refused() {
    let refused = with(|batch| batch[35..43].copy_from_slice(&0_i64.to_be_bytes()));
    assert_eq!(refused, Err(BatchError::Timestamps { base: BASE_TIMESTAMP, max: 0 }));
}

#[test]
fn a_base_offset_whose_batch_would_overflow_is_refused() {
    for offset in [-1, i64::MIN, i64::MAX, i64::MAX - 2] {
        let refused = with(|batch| batch[..8].copy_from_slice(&i64::to_be_bytes(offset)));
        assert_eq!(refused, Err(BatchError::Offset(offset)));
    }
    assert!(with(|batch| batch[..8].copy_from_slice(&i64::to_be_bytes(i64::MAX - 3))).is_ok());
}

#[test]
fn a_wrong_crc_is_seen() {
    let mut batch = golden();
    batch[70] ^= 1;
    let header = check_for_produce(&batch).expect("its header is sane");
    assert!(matches!(verify_crc(&header, &batch), Err(BatchError::Crc { .. })));
}

#[test]
fn batches_back_to_back_are_cut_apart() {
    let mut bytes = golden();
    patch(&mut bytes, 10, 0);
    let mut second = golden();
    patch(&mut second, 13, 0);
    bytes.extend(&second);
    let split: Vec<_> = split_batches(&bytes).map(|batch| batch.expect("valid")).collect();
    assert_eq!(split.len(), 2);
    assert_eq!((split[0].0.base_offset, split[1].0.base_offset), (10, 13));
    assert_eq!(split[1].1, &second[..]);
}

#[test]
fn a_cut_off_last_batch_is_an_error_and_the_last_item() {
    let mut bytes = golden();
    bytes.extend(&golden()[..70]);
    let mut split = split_batches(&bytes);
    assert!(matches!(split.next(), Some(Ok(_))));
    assert!(matches!(split.next(), Some(Err(BatchError::Truncated { have: 70, .. }))));
    assert!(split.next().is_none());
}
