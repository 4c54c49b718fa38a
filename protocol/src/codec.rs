//! Kafka's four codecs for the records section of a batch.
//!
//! Reading is safe against hostile input: output is bounded, and memory grows with the output that really comes, never
//! with a length that the input merely claims. A check ([`check_compressed`]) keeps no output at all.
//!
//! Snappy is written in the framing of xerial's snappy-java, which is what Kafka's clients write: the magic, two
//! version numbers, then blocks with a big-endian length each. On reading, a section without that magic is one raw
//! block, as librdkafka and Sarama may write it.

use std::io::{self, Read, Write};

use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};
use thiserror::Error;

use crate::batch::walk::{Source, Walk};
use crate::batch::{BatchHeader, Compression, RecordsError, Walked};

/// Why a section could not be packed or unpacked.
#[derive(Debug, Error)]
pub enum CodecError {
    /// The codec failed: the section is not what it is said to be, or is damaged.
    #[error("{codec}: {source}", codec = codec.name())]
    Codec {
        /// Which.
        codec: Compression,
        /// What it said.
        source: io::Error,
    },
    /// There is more than the caller takes.
    #[error("the batch unpacks to more than {0} bytes")]
    TooLarge(usize),
}

const XERIAL_MAGIC: [u8; 8] = *b"\x82SNAPPY\0";
/// The version written, and the oldest that can read it: both 1, big-endian.
const XERIAL_VERSIONS: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 1];
/// The block size of snappy-java.
const XERIAL_BLOCK_BYTES: usize = 32 << 10;
/// The largest window that zstd's own decoder takes without being asked (`ZSTD_WINDOWLOG_LIMIT_DEFAULT`). It reserves
/// a frame's window before it has seen any content, and touches as much of it as there is content.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// A check unpacks so much at a time.
const CHECK_STEP_BYTES: usize = 32 << 10;

/// Packs a records section.
pub fn compress(codec: Compression, section: &[u8]) -> Result<Vec<u8>, CodecError> {
    let packed = match codec {
        Compression::None => Ok(section.to_vec()),
        Compression::Gzip => gzip(section),
        Compression::Snappy => xerial(section),
        Compression::Lz4 => lz4(section),
        // 0 is zstd's own default level.
        Compression::Zstd => zstd::bulk::compress(section, 0),
    };
    packed.map_err(|source| CodecError::Codec { codec, source })
}

/// Unpacks a records section of at most `limit` bytes.
pub fn decompress(codec: Compression, packed: &[u8], limit: usize) -> Result<Vec<u8>, CodecError> {
    let failed = |source| CodecError::Codec { codec, source };
    let mut out = Vec::new();
    let mut reader = reader(codec, packed, limit).map_err(failed)?;
    reader
        .by_ref()
        .take(limit as u64 + 1)
        .read_to_end(&mut out)
        .map_err(|source| too_large(&source, limit).unwrap_or_else(|| failed(source)))?;
    if out.len() > limit {
        return Err(CodecError::TooLarge(limit));
    }
    Ok(out)
}

/// Walks over the records of a compressed section, as [`check_records`](crate::batch::check_records) does over one that
/// is not: the codec must accept all of it, and it must unpack to at most `limit` bytes.
pub fn check_compressed(
    header: &BatchHeader,
    codec: Compression,
    packed: &[u8],
    limit: usize,
) -> Result<Walked, RecordsError> {
    let reader = reader(codec, packed, limit).map_err(|error| RecordsError::Packed(error.to_string()))?;
    let mut source = Unpacking::new(reader, limit);
    let walked = Walk::new(header, usize::MAX).run(&mut source);
    match source.failure {
        Some(error) => Err(match too_large(&error, limit) {
            Some(_) => RecordsError::TooLarge(limit),
            None => RecordsError::Packed(CodecError::Codec { codec, source: error }.to_string()),
        }),
        None => walked.map(|walked| walked.expect("a walk with any number of steps comes to its end")),
    }
}

fn reader<'a>(codec: Compression, packed: &'a [u8], limit: usize) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match codec {
        Compression::None => Box::new(packed),
        Compression::Gzip => Box::new(MultiGzDecoder::new(packed)),
        Compression::Snappy => Box::new(Snappy::new(packed, limit)?),
        Compression::Lz4 => Box::new(FrameDecoder::new(packed)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(packed)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Box::new(decoder)
        }
    })
}

/// A codec's output, a step at a time.
struct Unpacking<'a> {
    reader: Box<dyn Read + 'a>,
    step: Vec<u8>,
    /// What of `step` was not taken yet.
    at: usize,
    end: usize,
    /// Output that may still come.
    left: usize,
    failure: Option<io::Error>,
}

impl<'a> Unpacking<'a> {
    fn new(reader: Box<dyn Read + 'a>, limit: usize) -> Unpacking<'a> {
        Unpacking { reader, step: vec![0; CHECK_STEP_BYTES], at: 0, end: 0, left: limit, failure: None }
    }

    #[cold]
    fn refill(&mut self) -> Option<()> {
        if self.failure.is_some() {
            return None;
        }
        match self.reader.read(&mut self.step) {
            Ok(0) => return None,
            Ok(read) if read > self.left => self.failure = Some(over_limit()),
            Ok(read) => {
                (self.at, self.end) = (0, read);
                self.left -= read;
                return Some(());
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return self.refill(),
            Err(error) => self.failure = Some(error),
        }
        None
    }
}

impl Source for Unpacking<'_> {
    #[inline(always)]
    fn byte(&mut self) -> Option<u8> {
        if self.at == self.end {
            self.refill()?;
        }
        self.at += 1;
        Some(self.step[self.at - 1])
    }

    fn skip(&mut self, mut bytes: usize) -> Option<()> {
        if bytes > self.end - self.at + self.left {
            // No need to unpack it to know.
            self.failure.get_or_insert_with(over_limit);
            return None;
        }
        while bytes > self.end - self.at {
            bytes -= self.end - self.at;
            self.at = self.end;
            self.refill()?;
        }
        self.at += bytes;
        Some(())
    }
}

/// The mark of output beyond the limit, among a reader's errors.
#[derive(Debug, Error)]
#[error("more output than is taken")]
struct OverLimit;

fn over_limit() -> io::Error {
    io::Error::other(OverLimit)
}

fn too_large(error: &io::Error, limit: usize) -> Option<CodecError> {
    error.get_ref().is_some_and(|inner| inner.is::<OverLimit>()).then_some(CodecError::TooLarge(limit))
}

fn gzip(section: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(section)?;
    encoder.finish()
}

fn lz4(section: &[u8]) -> io::Result<Vec<u8>> {
    // Kafka's Java reader takes independent blocks only.
    let info = FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB);
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(section)?;
    encoder.finish().map_err(io::Error::other)
}

fn xerial(section: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(section.len() / 2 + 32);
    out.extend_from_slice(&XERIAL_MAGIC);
    out.extend_from_slice(&XERIAL_VERSIONS);
    let mut encoder = snap::raw::Encoder::new();
    for block in section.chunks(XERIAL_BLOCK_BYTES) {
        let packed = encoder.compress_vec(block).map_err(io::Error::other)?;
        out.extend_from_slice(&(packed.len() as u32).to_be_bytes());
        out.extend_from_slice(&packed);
    }
    Ok(out)
}

/// Unpacks snappy, a block at a time.
struct Snappy<'a> {
    rest: &'a [u8],
    framed: bool,
    block: Vec<u8>,
    at: usize,
    /// Output that may still come.
    left: usize,
}

impl<'a> Snappy<'a> {
    fn new(packed: &'a [u8], limit: usize) -> io::Result<Snappy<'a>> {
        let (rest, framed) = match packed.strip_prefix(&XERIAL_MAGIC) {
            Some(framed) => (framed.get(XERIAL_VERSIONS.len()..).ok_or_else(cut_short)?, true),
            None if packed.is_empty() => return Err(cut_short()),
            None => (packed, false),
        };
        Ok(Snappy { rest, framed, block: Vec::new(), at: 0, left: limit })
    }

    fn next_block(&mut self) -> io::Result<&'a [u8]> {
        if !self.framed {
            return Ok(std::mem::take(&mut self.rest));
        }
        let (length, behind) = self.rest.split_first_chunk::<4>().ok_or_else(cut_short)?;
        let length = u32::from_be_bytes(*length) as usize;
        let block = behind.get(..length).ok_or_else(cut_short)?;
        self.rest = &behind[length..];
        Ok(block)
    }

    fn unpack(&mut self, block: &[u8]) -> io::Result<()> {
        let length = snap::raw::decompress_len(block).map_err(io::Error::other)?;
        self.left = self.left.checked_sub(length).ok_or_else(over_limit)?;
        // A snappy copy makes at most 64 bytes from 2 or more: a longer claim is a lie, and is not worth the memory.
        if length > block.len().saturating_mul(64) {
            return Err(cut_short());
        }
        self.block.resize(length, 0);
        let unpacked =
            snap::raw::Decoder::new().decompress(block, &mut self.block).map_err(io::Error::other)?;
        self.block.truncate(unpacked);
        self.at = 0;
        Ok(())
    }
}

impl Read for Snappy<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at == self.block.len() {
            if self.rest.is_empty() {
                return Ok(0);
            }
            let block = self.next_block()?;
            self.unpack(block)?;
        }
        let given = out.len().min(self.block.len() - self.at);
        out[..given].copy_from_slice(&self.block[self.at..self.at + given]);
        self.at += given;
        Ok(given)
    }
}

fn cut_short() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}

#[cfg(test)]
mod tests {
    use ringlog_fuzz::Target;

    use super::*;
    use crate::batch::{BatchBuilder, RecordFault, RecordIter, check_for_produce, records_section};
    use crate::limits::MAX_DECOMPRESSED_BYTES;

    const CODECS: [Compression; 4] =
        [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

    fn text(bytes: usize) -> Vec<u8> {
        b"the quick brown fox jumps over the lazy dog; ".iter().copied().cycle().take(bytes).collect()
    }

    fn unpack(codec: Compression, packed: &[u8]) -> Result<Vec<u8>, CodecError> {
        decompress(codec, packed, MAX_DECOMPRESSED_BYTES)
    }

    fn xorshift(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    #[test]
    fn every_codec_gives_back_what_it_took() {
        for codec in CODECS {
            for bytes in [0, 1, 100, 32 << 10, (32 << 10) + 1, 300_000] {
                let packed = compress(codec, &text(bytes)).expect("packs");
                assert_eq!(unpack(codec, &packed).expect("unpacks"), text(bytes), "{codec:?} {bytes}");
            }
        }
    }

    #[test]
    fn snappy_has_kafkas_framing() {
        let packed = compress(Compression::Snappy, &text(40_000)).expect("packs");
        assert_eq!(packed[..16], *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01");
        let first = u32::from_be_bytes([packed[16], packed[17], packed[18], packed[19]]) as usize;
        assert_eq!(snap::raw::decompress_len(&packed[20..20 + first]).expect("a block"), XERIAL_BLOCK_BYTES);
    }

    #[test]
    fn a_raw_snappy_block_is_read_too() {
        let raw = snap::raw::Encoder::new().compress_vec(&text(1000)).expect("packs");
        assert_eq!(unpack(Compression::Snappy, &raw).expect("unpacks"), text(1000));
    }

    #[test]
    fn what_unpacks_to_more_than_the_bound_is_refused() {
        let bomb = vec![0; MAX_DECOMPRESSED_BYTES + 1];
        for codec in CODECS {
            let packed = compress(codec, &bomb).expect("packs");
            assert!(unpack(codec, &packed).is_err(), "{codec:?}");
        }
    }

    #[test]
    fn a_claimed_length_alone_makes_no_memory() {
        // A snappy preamble of 63 MiB with nothing behind it.
        assert!(unpack(Compression::Snappy, &[0x80, 0x80, 0x80, 0x1f]).is_err());
    }

    #[test]
    fn damaged_sections_never_panic() {
        let mut seed = 0x5EED;
        for codec in CODECS {
            let valid = compress(codec, &text(2000)).expect("packs");
            for _ in 0..5_000 {
                let mut damaged = valid.clone();
                for _ in 0..=xorshift(&mut seed) % 3 {
                    let at = xorshift(&mut seed) as usize % damaged.len();
                    damaged[at] = xorshift(&mut seed) as u8;
                }
                damaged.truncate(xorshift(&mut seed) as usize % (damaged.len() + 1));
                let _ = unpack(codec, &damaged);
            }
        }
    }

    /// The header and the records of a batch of `records` records.
    fn records(records: usize) -> (BatchHeader, Vec<u8>) {
        let mut builder = BatchBuilder::new(1 << 20);
        for _ in 0..records {
            builder.push(7, Some(b"key"), Some(b"value"), []).expect("it fits");
        }
        let batch = builder.finish_plain();
        (check_for_produce(&batch).expect("a good header"), records_section(&batch).to_vec())
    }

    #[test]
    fn a_compressed_batch_passes_if_its_records_do() {
        for codec in CODECS {
            // More than is unpacked at a time.
            for count in [1, 3, 20_000] {
                let (header, section) = records(count);
                let packed = compress(codec, &section).expect("packs");
                let walked = check_compressed(&header, codec, &packed, section.len());
                assert_eq!(walked, Ok(Walked { earliest_ms: Some(7) }), "{codec:?} {count}");
                let over = check_compressed(&header, codec, &packed, section.len() - 1);
                assert_eq!(over, Err(RecordsError::TooLarge(section.len() - 1)), "{codec:?} {count}");
            }
        }
    }

    #[test]
    fn compressed_records_are_counted_and_looked_into() {
        for codec in CODECS {
            let (mut header, section) = records(3);
            let check = |header: &BatchHeader, section: &[u8]| {
                check_compressed(header, codec, &compress(codec, section).expect("packs"), 1 << 20)
            };
            let cut = check(&header, &section[..section.len() - 1]);
            let fault = RecordFault::Headers;
            assert_eq!(cut, Err(RecordsError::Record { index: 2, count: 3, fault }), "{codec:?}");
            let more = check(&header, &[&section[..], &[0]].concat());
            assert_eq!(more, Err(RecordsError::Trailing(3)), "{codec:?}");
            (header.record_count, header.last_offset_delta) = (4, 3);
            let missing = check(&header, &section);
            assert_eq!(missing, Err(RecordsError::Missing { found: 3, count: 4 }), "{codec:?}");
        }
    }

    #[test]
    fn what_no_codec_made_is_refused() {
        for codec in CODECS {
            let (header, section) = records(1);
            for garbage in [&b"this is no gzip"[..], b"", &section] {
                let checked = check_compressed(&header, codec, garbage, 1 << 20);
                assert!(checked.is_err(), "{codec:?} {garbage:?}");
            }
            let packed = compress(codec, &section).expect("packs");
            let cut = check_compressed(&header, codec, &packed[..packed.len() / 2], 1 << 20);
            assert!(cut.is_err(), "{codec:?}");
        }
    }

    #[test]
    fn more_records_than_a_reader_has_memory_for_are_refused() {
        let (header, section) = records(1);
        let many = 1 + crate::limits::MAX_UNPACKED_BYTES as i32 / crate::limits::UNPACKED_RECORD_BYTES as i32;
        let header = BatchHeader { record_count: many, last_offset_delta: many - 1, ..header };
        let mut records = Vec::new();
        for delta in 0..many {
            let mut content = bytes::BytesMut::from(&[0, 0][..]);
            crate::batch::varint::put_i32(&mut content, delta);
            content.extend_from_slice(&[1, 1, 0]);
            records.push(content.len() as u8 * 2);
            records.extend_from_slice(&content);
        }
        assert!(records.len() < MAX_DECOMPRESSED_BYTES && section.len() < 100);
        let packed = compress(Compression::Zstd, &records).expect("packs");
        let checked = check_compressed(&header, Compression::Zstd, &packed, MAX_DECOMPRESSED_BYTES);
        assert_eq!(checked, Err(RecordsError::TooMany));
    }

    #[test]
    fn a_zstd_window_of_zstds_own_limit_is_read() {
        let section = text(1 << 20);
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("an encoder");
        encoder.long_distance_matching(true).expect("a setting");
        encoder.window_log(27).expect("a setting");
        encoder.write_all(&section).expect("packs");
        let packed = encoder.finish().expect("packs");
        assert_eq!(unpack(Compression::Zstd, &packed).expect("unpacks"), section);
    }

    #[test]
    fn fuzz_packed() {
        /// Small, so that a case of it costs little.
        const LIMIT: usize = 1 << 16;
        for codec in CODECS {
            let (header, section) = records(40);
            let packed = compress(codec, &section).expect("packs");
            // What passes can be read, and the other way round: by other code, all at once. An lz4 frame may ask for
            // blocks of 8 MiB.
            Target::new("packed").seeds([packed]).allowing(20 << 20, 0).rounds(2_000).run(|packed| {
                let checked = check_compressed(&header, codec, packed, LIMIT);
                let read = decompress(codec, packed, LIMIT).is_ok_and(|section| {
                    let mut records = RecordIter::new(&header, &section);
                    records.all(|record| {
                        record.is_ok_and(|record| record.timestamp_ms(&header) <= header.max_timestamp)
                    })
                });
                assert_eq!(checked.is_ok(), read, "{codec:?}: {checked:?}");
                checked.map(drop).map_err(|error| error.to_string())
            });
        }
    }
}
