//! What every record begins with, so that whoever receives it knows whose it is, when it was due, and that it is whole.
//!
//! | bytes | what |
//! |---|---|
//! | 0–3 | magic |
//! | 4–7 | CRC-32C of all bytes from 8 on, payload included |
//! | 8–15 | run |
//! | 16–19 | producer |
//! | 20–23 | partition that it was meant for |
//! | 24–31 | sequence, from 0 for each producer and partition |
//! | 32–39 | when it was due, `CLOCK_MONOTONIC` in nanoseconds |
//!
//! All numbers are little-endian.

use crc32c::crc32c;

/// The size of a stamp, and so of the smallest record.
pub const STAMP_BYTES: usize = 40;

const MAGIC: u32 = 0x474C_4452; // "RDLG"

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Which run sent it, so that runs that share a topic do not take each other's records for their own.
    pub run: u64,
    /// Which producer of the run sent it.
    pub producer: u32,
    /// The partition that it was meant for.
    pub partition: u32,
    /// Its number among those of this producer and partition, from 0.
    pub sequence: u64,
    /// When it was due.
    pub due_ns: u64,
}

/// A record without a good stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadStamp {
    /// It does not begin as a stamp does: somebody else's record, or a damaged one.
    NotStamped,
    /// The checksum does not fit; this is what the stamp claims.
    Damaged(Stamp),
}

impl Stamp {
    /// Writes the stamp over the first bytes of a value whose payload stands there already.
    ///
    /// # Panics
    /// If the value is shorter than a stamp.
    pub fn write(&self, value: &mut [u8]) {
        assert!(value.len() >= STAMP_BYTES, "a value has room for its stamp");
        value[8..16].copy_from_slice(&self.run.to_le_bytes());
        value[16..20].copy_from_slice(&self.producer.to_le_bytes());
        value[20..24].copy_from_slice(&self.partition.to_le_bytes());
        value[24..32].copy_from_slice(&self.sequence.to_le_bytes());
        value[32..40].copy_from_slice(&self.due_ns.to_le_bytes());
        let sum = crc32c(&value[8..]);
        value[..4].copy_from_slice(&MAGIC.to_le_bytes());
        value[4..8].copy_from_slice(&sum.to_le_bytes());
    }

    /// Reads the stamp of a received value and checks every byte of it.
    pub fn read(value: &[u8]) -> Result<Stamp, BadStamp> {
        let Some((head, _)) = value.split_first_chunk::<STAMP_BYTES>() else {
            return Err(BadStamp::NotStamped);
        };
        if u32_at(head, 0) != MAGIC {
            return Err(BadStamp::NotStamped);
        }
        let stamp = Stamp {
            run: u64_at(head, 8),
            producer: u32_at(head, 16),
            partition: u32_at(head, 20),
            sequence: u64_at(head, 24),
            due_ns: u64_at(head, 32),
        };
        if u32_at(head, 4) == crc32c(&value[8..]) { Ok(stamp) } else { Err(BadStamp::Damaged(stamp)) }
    }
}

fn u32_at(head: &[u8; STAMP_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]])
}

fn u64_at(head: &[u8; STAMP_BYTES], at: usize) -> u64 {
    u64::from(u32_at(head, at)) | u64::from(u32_at(head, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp =
        Stamp { run: 1 << 60 | 7, producer: 3, partition: 9, sequence: 1 << 40, due_ns: u64::MAX };

    #[test]
    fn a_stamp_comes_back_with_any_payload() {
        for len in [STAMP_BYTES, STAMP_BYTES + 1, 1000] {
            let mut value = vec![0xAB; len];
            STAMP.write(&mut value);
            assert_eq!(Stamp::read(&value), Ok(STAMP));
        }
    }

    #[test]
    fn any_flipped_bit_is_found() {
        let mut value = vec![0x55; STAMP_BYTES + 20];
        STAMP.write(&mut value);
        for bit in 0..value.len() * 8 {
            let mut damaged = value.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Stamp::read(&damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_cut_value_is_found() {
        let mut value = vec![0x55; STAMP_BYTES + 20];
        STAMP.write(&mut value);
        assert!(matches!(Stamp::read(&value[..STAMP_BYTES + 19]), Err(BadStamp::Damaged(_))));
        assert_eq!(Stamp::read(&value[..STAMP_BYTES - 1]), Err(BadStamp::NotStamped));
        assert_eq!(Stamp::read(b""), Err(BadStamp::NotStamped));
    }
}
