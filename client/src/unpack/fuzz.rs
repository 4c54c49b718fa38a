//! Batches as an application takes them: any codec, any content, checksums mended. No panic, no record out of its place,
//! and no more memory than the limits say.

use bytes::Bytes;
use ringlog_fuzz::{Target, Verdict};
use ringlog_protocol::batch::{BatchBuilder, HEADER_BYTES, Header, crc_of};

use super::*;
use crate::inbox::{Reading, Received};

const CODECS: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

fn batch(codec: Compression) -> Vec<u8> {
    let mut builder = BatchBuilder::new(1 << 20);
    for number in 0..40 {
        let value = format!("value {number} {}", "x".repeat(number));
        let headers =
            (0..number % 3).map(|_| Header { key: b"name", value: (number % 2 == 0).then_some(&b"v"[..]) });
        let key = (number % 4 > 0).then_some(&b"key"[..]);
        builder.push(number as i64, key, Some(value.as_bytes()), headers).expect("it fits");
    }
    let packed = builder.finish(codec, |section| codec::compress(codec, section));
    packed.expect("it can be compressed").to_vec()
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

fn check(bytes: &[u8]) -> Verdict {
    let header = BatchHeader::parse(bytes).map_err(|error| error.to_string())?;
    if header.total_len() != bytes.len() {
        return Err("another length".to_owned());
    }
    let received = Received { header, bytes: Bytes::copy_from_slice(bytes) };
    let inbox = Inbox::new(Arc::from("orders"), 1, &[0], 1 << 20, Reading::default());
    let taken =
        Taken { place: 0, partition: 0, received, wanted: i64::MIN, not_before_ms: None, ring: false };
    let batch = unpack(&inbox, &taken).map_err(|error| error.to_string())?;
    let mut last = None;
    for record in &batch.records {
        let delta = record.offset.wrapping_sub(header.base_offset);
        assert!((0..=i64::from(header.last_offset_delta)).contains(&delta), "a record out of its batch");
        assert!(last < Some(delta), "records out of order");
        last = Some(delta);
    }
    Ok(())
}

#[test]
fn fuzz_unpack_plain() {
    // The smallest header makes two bytes into a `Header`, in a vector that doubles as it grows; errors and codecs take a little.
    Target::new("unpack")
        .seeds([batch(Compression::None)])
        .mending(|bytes| mend(bytes))
        .allowing(1 << 20, 160)
        .run(check);
}

#[test]
fn fuzz_unpack_compressed() {
    let most = 2 * MAX_DECOMPRESSED_BYTES + MAX_UNPACKED_BYTES;
    let seeds = CODECS.map(batch);
    Target::new("unpack-compressed")
        .seeds(seeds)
        .mending(|bytes| mend(bytes))
        .allowing(most, 0)
        .rounds(8_000)
        .run(check);
}
