//! Hostile bytes for everything that decodes record batches: no panic, and nothing accepted that is not what it says.
#![forbid(unsafe_code)]

use ringlog_fuzz::{Random, Target, Verdict};
use ringlog_protocol::batch::*;

const CASES: usize = 40_000;
const PACKAGE: &str = env!("CARGO_MANIFEST_DIR");

/// A record to be pushed: timestamp, key, value, headers.
type Plain = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(Vec<u8>, Option<Vec<u8>>)>);

fn nullable(random: &mut Random) -> Option<Vec<u8>> {
    let length = random.below(40);
    (random.below(4) > 0).then(|| random.bytes(length))
}

fn plain(random: &mut Random) -> Plain {
    let headers = (0..random.below(4))
        .map(|_| {
            let length = random.below(10);
            (random.bytes(length), nullable(random))
        })
        .collect();
    (random.next() as i64 >> random.below(64), nullable(random), nullable(random), headers)
}

fn batch_of(records: &[Plain]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(1 << 20);
    for (time, key, value, headers) in records {
        let headers = headers.iter().map(|(key, value)| Header { key, value: value.as_deref() });
        builder.push(*time, key.as_deref(), value.as_deref(), headers).expect("fits");
    }
    builder.finish_plain().to_vec()
}

fn corpus(random: &mut Random) -> Vec<Vec<u8>> {
    (1..30).map(|count| batch_of(&(0..count).map(|_| plain(random)).collect::<Vec<_>>())).collect()
}

fn is_inside(part: &[u8], whole: &[u8]) -> bool {
    let (part, whole) = (part.as_ptr_range(), whole.as_ptr_range());
    part.start >= whole.start && part.end <= whole.end
}

/// Reads a section and gives how many records came before its end or its error; and whether it ended well.
fn read_all(header: &BatchHeader, section: &[u8]) -> (i32, bool) {
    let (mut records, mut previous) = (0, -1);
    for record in RecordIter::new(header, section) {
        let Ok(record) = record else { return (records, false) };
        assert!(record.offset_delta > previous && record.offset_delta <= header.last_offset_delta);
        previous = record.offset_delta;
        records += 1;
        let headers = record.headers.flat_map(|header| [Some(header.key), header.value]);
        for part in [record.key, record.value].into_iter().chain(headers).flatten() {
            assert!(is_inside(part, section), "a slice reaches out of its batch");
        }
        record.timestamp_ms(header);
    }
    (records, true)
}

#[test]
fn what_is_pushed_is_what_is_read() {
    let mut random = Random::new(0xba7c_0001);
    for _ in 0..500 {
        let records: Vec<Plain> = (0..1 + random.below(40)).map(|_| plain(&mut random)).collect();
        let batch = batch_of(&records);
        let header = check_for_produce(&batch).expect("may be produced");
        assert_eq!(verify_crc(&header, &batch), Ok(()));
        let back: Vec<Plain> = RecordIter::new(&header, records_section(&batch))
            .map(|record| {
                let record = record.expect("well-formed");
                let headers =
                    record.headers.map(|header| (header.key.to_vec(), header.value.map(<[u8]>::to_vec)));
                (
                    record.timestamp_ms(&header),
                    record.key.map(<[u8]>::to_vec),
                    record.value.map(<[u8]>::to_vec),
                    headers.collect(),
                )
            })
            .collect();
        assert_eq!(back, records);
    }
}

/// Length and checksum as they should be.
fn mend(batch: &mut [u8]) {
    if batch.len() >= HEADER_BYTES {
        let length = batch.len() as u32 - 12;
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        let crc = crc_of(batch);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
    }
}

/// All that a broker and a client look at, one after the other.
fn check(batch: &[u8]) -> Verdict {
    let header = check_for_produce(batch).map_err(|error| error.to_string())?;
    assert_eq!(header.total_len(), batch.len());
    assert_eq!(header.record_count - 1, header.last_offset_delta);
    assert!(header.record_count >= 1 && header.next_offset() > header.base_offset);
    verify_crc(&header, batch).map_err(|_| "another checksum".to_owned())?;
    if header.compression() != Some(Compression::None) {
        return Ok(());
    }
    walk_and_read(&header, records_section(batch))
}

/// The broker's walk passes exactly what a reader can read, if no record is later than the header says.
fn walk_and_read(header: &BatchHeader, section: &[u8]) -> Verdict {
    let (records, ended_well) = read_all(header, section);
    assert!(records <= header.record_count);
    assert!(!ended_well || records == header.record_count);
    let walked = check_records(header, section, usize::MAX);
    let later = |record: Record<'_>| record.timestamp_ms(header) > header.max_timestamp;
    let in_time = RecordIter::new(header, section).all(|record| !record.is_ok_and(later));
    assert_eq!(walked.is_ok(), ended_well && in_time, "{walked:?}");
    if let Ok(walked) = &walked {
        let times = RecordIter::new(header, section).flatten().map(|record| record.timestamp_ms(header));
        let earliest = times.filter(|time| *time != NO_TIMESTAMP && *time != i64::MAX).min();
        assert_eq!(*walked, Some(Walked { earliest_ms: earliest }));
    }
    walked.map(drop).map_err(|error| error.to_string())
}

#[test]
fn fuzz_batch() {
    Target::new("batch")
        .seeds(corpus(&mut Random::new(2)))
        .corpus(PACKAGE)
        .mending(|bytes| mend(bytes))
        .run(check);
}

#[test]
fn a_changed_batch_is_refused_or_differs_only_outside_its_crc() {
    for original in corpus(&mut Random::new(2)) {
        Target::new("batch").seeds([original.clone()]).rounds(1_000).run(|batch| {
            let verdict = check(batch);
            assert!(
                verdict.is_err() || batch[CRC_FROM..] == original[CRC_FROM..],
                "a CRC that fits other bytes"
            );
            verdict
        });
    }
}

#[test]
fn fuzz_records() {
    for batch in corpus(&mut Random::new(3)) {
        let header = BatchHeader::parse(&batch).expect("valid");
        Target::new("records")
            .seeds([records_section(&batch)])
            .rounds(1_000)
            .run(|section| walk_and_read(&header, section));
    }
}

#[test]
fn random_bytes_are_no_records() {
    let mut random = Random::new(0xba7c_0004);
    let mut header = BatchHeader::parse(&batch_of(&[plain(&mut random)])).expect("valid");
    for _ in 0..CASES {
        header.record_count = 1 + random.below(i32::MAX as usize) as i32;
        header.last_offset_delta = header.record_count - 1;
        let length = random.below(100);
        read_all(&header, &random.bytes(length));
    }
}

#[test]
fn random_headers_are_refused_or_consistent() {
    let mut random = Random::new(0xba7c_0005);
    let mut parsed = 0;
    for _ in 0..CASES {
        let mut bytes = random.bytes(HEADER_BYTES);
        // Random alone gets past neither the magic nor the length.
        bytes[16] = 2;
        if random.below(2) == 0 {
            bytes[8..10].fill(0);
            bytes[57..60].fill(0);
        }
        if let Ok(header) = BatchHeader::parse(&bytes) {
            parsed += 1;
            assert!(header.total_len() >= HEADER_BYTES);
            assert!(header.base_offset >= 0 && header.next_offset() > header.base_offset);
            let mut again = [0; HEADER_BYTES];
            header.write(&mut again);
            assert_eq!(again[..], bytes[..]);
        }
        // Whatever the header, the bytes are not a batch that may be produced unless they are just the header.
        assert!(check_for_produce(&bytes).is_err() || bytes[8..12] == [0, 0, 0, 49]);
    }
    assert!(parsed > CASES / 100, "only {parsed} parsed: the bytes are no test");
}

#[test]
fn fuzz_batches() {
    let corpus = corpus(&mut Random::new(6));
    let in_a_row = (0..8).map(|from| corpus[from..from + from % 4].concat());
    Target::new("batches").seeds(in_a_row).run(|bytes| {
        let (mut taken, mut failure) = (0, None);
        for batch in split_batches(bytes) {
            assert!(failure.is_none(), "an error is the last item");
            match batch {
                Ok((header, batch)) => {
                    assert_eq!(batch.len(), header.total_len());
                    assert_eq!(batch, &bytes[taken..taken + batch.len()]);
                    taken += batch.len();
                }
                Err(error) => failure = Some(error.to_string()),
            }
        }
        assert!(failure.is_some() || taken == bytes.len(), "bytes were left out in silence");
        failure.map_or(Ok(()), Err)
    });
}
