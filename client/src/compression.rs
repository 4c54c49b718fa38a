//! Kafka's four codecs for the records section of a batch. The broker never uses them.
//!
//! Reading is safe against hostile input: output is bounded by `MAX_DECOMPRESSED_BYTES`, and memory grows with the output that really comes,
//! never with a length that the input merely claims.
//!
//! Snappy is written in the framing of xerial's snappy-java, which is what Kafka's clients write: the magic, two version numbers, then blocks with
//! a big-endian length each. On reading, a section without that magic is one raw block, as librdkafka and Sarama may write it.

use std::io::{self, Read, Write};

use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};
use ringlog_protocol::batch::Compression;
use thiserror::Error;

use crate::limits::MAX_DECOMPRESSED_BYTES;

/// Why a section could not be packed or unpacked.
#[derive(Debug, Error)]
pub(crate) enum CodecError {
    #[error("{codec}: {source}", codec = codec.name())]
    Codec { codec: Compression, source: io::Error },
    #[error("the batch unpacks to more than {MAX_DECOMPRESSED_BYTES} bytes")]
    TooLarge,
}

const XERIAL_MAGIC: [u8; 8] = *b"\x82SNAPPY\0";
/// The version written, and the oldest that can read it: both 1, big-endian.
const XERIAL_VERSIONS: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 1];
/// The block size of snappy-java.
const XERIAL_BLOCK_BYTES: usize = 32 << 10;
/// zstd allocates a frame's window before it has seen any content: 2^26 bytes is the bound on output too.
const ZSTD_WINDOW_LOG_MAX: u32 = MAX_DECOMPRESSED_BYTES.ilog2();

/// Packs a records section.
pub(crate) fn compress(codec: Compression, section: &[u8]) -> Result<Vec<u8>, CodecError> {
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

/// Unpacks a records section.
pub(crate) fn decompress(codec: Compression, packed: &[u8]) -> Result<Vec<u8>, CodecError> {
    let failed = |source| CodecError::Codec { codec, source };
    match codec {
        Compression::None => Ok(packed.to_vec()),
        Compression::Gzip => read_bounded(codec, MultiGzDecoder::new(packed)),
        Compression::Snappy => unpack_snappy(packed),
        Compression::Lz4 => read_bounded(codec, FrameDecoder::new(packed)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(packed).map_err(failed)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(failed)?;
            read_bounded(codec, decoder)
        }
    }
}

fn read_bounded(codec: Compression, reader: impl Read) -> Result<Vec<u8>, CodecError> {
    let mut out = Vec::new();
    let limit = MAX_DECOMPRESSED_BYTES as u64;
    reader.take(limit + 1).read_to_end(&mut out).map_err(|source| CodecError::Codec { codec, source })?;
    if out.len() > MAX_DECOMPRESSED_BYTES {
        return Err(CodecError::TooLarge);
    }
    Ok(out)
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

fn unpack_snappy(packed: &[u8]) -> Result<Vec<u8>, CodecError> {
    let mut out = Vec::new();
    let Some(framed) = packed.strip_prefix(&XERIAL_MAGIC) else {
        unpack_block(packed, &mut out)?;
        return Ok(out);
    };
    let mut rest = framed.get(XERIAL_VERSIONS.len()..).ok_or_else(cut_short)?;
    while !rest.is_empty() {
        let (length, behind) = rest.split_first_chunk::<4>().ok_or_else(cut_short)?;
        let length = u32::from_be_bytes(*length) as usize;
        unpack_block(behind.get(..length).ok_or_else(cut_short)?, &mut out)?;
        rest = &behind[length..];
    }
    Ok(out)
}

fn unpack_block(block: &[u8], out: &mut Vec<u8>) -> Result<(), CodecError> {
    let failed = |error| CodecError::Codec { codec: Compression::Snappy, source: io::Error::other(error) };
    let length = snap::raw::decompress_len(block).map_err(failed)?;
    if length > MAX_DECOMPRESSED_BYTES - out.len() {
        return Err(CodecError::TooLarge);
    }
    // A snappy copy makes at most 64 bytes from 2 or more: a longer claim is a lie, and is not worth the memory.
    if length > block.len().saturating_mul(64) {
        return Err(cut_short());
    }
    out.extend_from_slice(&snap::raw::Decoder::new().decompress_vec(block).map_err(failed)?);
    Ok(())
}

fn cut_short() -> CodecError {
    CodecError::Codec { codec: Compression::Snappy, source: io::ErrorKind::UnexpectedEof.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODECS: [Compression; 4] =
        [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

    fn text(bytes: usize) -> Vec<u8> {
        b"the quick brown fox jumps over the lazy dog; ".iter().copied().cycle().take(bytes).collect()
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
                assert_eq!(decompress(codec, &packed).expect("unpacks"), text(bytes), "{codec:?} {bytes}");
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
        assert_eq!(decompress(Compression::Snappy, &raw).expect("unpacks"), text(1000));
    }

    #[test]
    fn what_unpacks_to_more_than_the_bound_is_refused() {
        let bomb = vec![0; MAX_DECOMPRESSED_BYTES + 1];
        for codec in CODECS {
            let packed = compress(codec, &bomb).expect("packs");
            assert!(decompress(codec, &packed).is_err(), "{codec:?}");
        }
    }

    #[test]
    fn a_claimed_length_alone_makes_no_memory() {
        // A snappy preamble of 63 MiB with nothing behind it.
        assert!(decompress(Compression::Snappy, &[0x80, 0x80, 0x80, 0x1f]).is_err());
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
                let _ = decompress(codec, &damaged);
            }
        }
    }
}
