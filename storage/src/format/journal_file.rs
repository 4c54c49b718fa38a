//! The first block of a journal file. It says only that this is one, and how long it is: whose frames follow is said by each
//! frame, so a file is recycled by renaming it.

use super::fields::{FORMAT_VERSION, FormatError, put, u32_at, u64_at};

/// Bytes of the header; zeros follow to the end of the first block.
pub const HEADER_BYTES: usize = 24;
/// The first four bytes: "RLJF".
pub const MAGIC: u32 = u32::from_le_bytes(*b"RLJF");

const MAGIC_AT: usize = 0;
const VERSION: usize = 4;
const FILE_BYTES: usize = 8;
const RESERVED: usize = 16;
const CRC: usize = 20;

const _: () = assert!(CRC + 4 == HEADER_BYTES);

/// The header of a journal file of `file_bytes` bytes, this header's block included.
pub fn encode(file_bytes: u64) -> [u8; HEADER_BYTES] {
    let mut out = [0; HEADER_BYTES];
    put(&mut out, MAGIC_AT, &MAGIC.to_le_bytes());
    put(&mut out, VERSION, &FORMAT_VERSION.to_le_bytes());
    put(&mut out, FILE_BYTES, &file_bytes.to_le_bytes());
    put(&mut out, RESERVED, &[0; 4]);
    let crc = crc32c::crc32c(&out[..CRC]);
    put(&mut out, CRC, &crc.to_le_bytes());
    out
}

/// The file's length in bytes, as its header says.
pub fn decode(bytes: &[u8]) -> Result<u64, FormatError> {
    let header = bytes.first_chunk::<HEADER_BYTES>().ok_or(FormatError::Short)?;
    if u32_at(header, MAGIC_AT) != MAGIC {
        return Err(FormatError::Magic);
    }
    if crc32c::crc32c(&header[..CRC]) != u32_at(header, CRC) {
        return Err(FormatError::Checksum);
    }
    if u32_at(header, VERSION) != FORMAT_VERSION {
        return Err(FormatError::Version(u32_at(header, VERSION)));
    }
    if u32_at(header, RESERVED) != 0 {
        return Err(FormatError::Field("reserved bytes"));
    }
    Ok(u64_at(header, FILE_BYTES))
}
