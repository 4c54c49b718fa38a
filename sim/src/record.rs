//! What the workload writes: values that say who sent them, and that show every damage.

use bytes::{BufMut, Bytes, BytesMut};

/// Names a record for ever: producers are numbered over the whole run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId {
    /// Who sent it.
    pub producer: u32,
    /// How many that producer had sent before.
    pub sequence: u32,
}

impl std::fmt::Display for RecordId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "record {} of producer {}", self.sequence, self.producer)
    }
}

/// What stands at the head of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The topic's id, as its producer knew it.
    pub topic: u64,
    /// Which record it is.
    pub record: RecordId,
}

/// The shortest value.
pub const MIN_VALUE_BYTES: usize = 20;

/// The value of a record: its stamp, something to fill `bytes`, and a checksum over all of it.
pub fn encode(stamp: Stamp, bytes: usize) -> Bytes {
    let bytes = bytes.max(MIN_VALUE_BYTES);
    let mut value = BytesMut::with_capacity(bytes);
    value.put_u64_le(stamp.topic);
    value.put_u32_le(stamp.record.producer);
    value.put_u32_le(stamp.record.sequence);
    let mut word = stamp.topic ^ u64::from(stamp.record.sequence) << 32 | u64::from(stamp.record.producer);
    while value.len() + 4 < bytes {
        word = word.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
        // Half of the bytes are zeros, so that compression finds something to do.
        let filler = ((word >> 32) as u32 as u64).to_le_bytes();
        let more = filler.len().min(bytes - 4 - value.len());
        value.put_slice(&filler[..more]);
    }
    value.put_u32_le(crc32c::crc32c(&value));
    value.freeze()
}

/// Whose value it is; none if it is not as it was written.
pub fn decode(value: &[u8]) -> Option<Stamp> {
    if value.len() < MIN_VALUE_BYTES {
        return None;
    }
    let (body, checksum) = value.split_at(value.len() - 4);
    if crc32c::crc32c(body).to_le_bytes() != checksum {
        return None;
    }
    let word = |at: usize| u32::from_le_bytes(body[at..at + 4].try_into().expect("four bytes"));
    let topic = u64::from(word(0)) | u64::from(word(4)) << 32;
    Some(Stamp { topic, record: RecordId { producer: word(8), sequence: word(12) } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_says_whose_it_is_and_shows_every_flipped_bit() {
        let stamp = Stamp { topic: 1 << 40, record: RecordId { producer: 7, sequence: 9 } };
        for bytes in [0, 20, 21, 27, 28, 100] {
            let value = encode(stamp, bytes);
            assert_eq!(value.len(), bytes.max(MIN_VALUE_BYTES));
            assert_eq!(decode(&value), Some(stamp));
            for bit in 0..value.len() * 8 {
                let mut bad = value.to_vec();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(decode(&bad), None, "bit {bit}");
            }
        }
        assert_eq!(decode(b""), None);
    }
}
