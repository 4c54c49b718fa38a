//! Kafka's variable-length numbers: zigzag, seven bits a byte, lowest first (as in Protocol Buffers).

use bytes::{BufMut, BytesMut};

/// Bytes that a number takes.
pub(super) const fn len_i64(value: i64) -> usize {
    let bits = 64 - zigzag(value).leading_zeros() as usize;
    if bits == 0 { 1 } else { bits.div_ceil(7) }
}

/// Bytes that a 32-bit number takes: sign extension makes no difference to zigzag.
pub(super) const fn len_i32(value: i32) -> usize {
    len_i64(value as i64)
}

pub(super) fn put_i64(out: &mut BytesMut, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        out.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

pub(crate) fn put_i32(out: &mut BytesMut, value: i32) {
    put_i64(out, i64::from(value));
}

/// Takes a number of at most ten bytes and 64 bits off the front; `None` if there is none.
#[inline]
pub(super) fn take_i64(bytes: &mut &[u8]) -> Option<i64> {
    match take_short(bytes) {
        Some(value) => Some(i64::from(value)),
        None => take_long(bytes),
    }
}

/// A number of one or two bytes, as most are.
#[inline(always)]
fn take_short(bytes: &mut &[u8]) -> Option<i32> {
    match **bytes {
        [first, ref rest @ ..] if first < 0x80 => {
            *bytes = rest;
            Some(short(u16::from(first)))
        }
        [first, second, ref rest @ ..] if second < 0x80 => {
            *bytes = rest;
            Some(of_two(first, second))
        }
        _ => None,
    }
}

/// The number that two bytes are.
#[inline(always)]
pub(super) const fn of_two(first: u8, second: u8) -> i32 {
    short(first as u16 & 0x7f | (second as u16) << 7)
}

/// The number that [`zigzag`] made this of.
#[inline(always)]
pub(super) const fn short(value: u16) -> i32 {
    (value >> 1) as i32 ^ -((value & 1) as i32)
}

fn take_long(bytes: &mut &[u8]) -> Option<i64> {
    let mut value = 0_u64;
    for (i, byte) in bytes.iter().copied().enumerate().take(10) {
        // The tenth byte has room for one bit.
        if i == 9 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            *bytes = &bytes[i + 1..];
            return Some(zigzag_to_i64(value));
        }
    }
    None
}

/// As [`take_i64`], for a number that must fit in 32 bits.
#[inline]
pub(super) fn take_i32(bytes: &mut &[u8]) -> Option<i32> {
    match take_short(bytes) {
        Some(value) => Some(value),
        None => take_long_i32(bytes),
    }
}

fn take_long_i32(bytes: &mut &[u8]) -> Option<i32> {
    let mut rest = *bytes;
    let value = take_long(&mut rest)?;
    // Five bytes hold 32 bits; more are padding that no writer makes.
    if bytes.len() - rest.len() > 5 {
        return None;
    }
    let value = i32::try_from(value).ok()?;
    *bytes = rest;
    Some(value)
}

const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The number that [`zigzag`] made this of.
pub(super) const fn zigzag_to_i64(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBERS: [i64; 14] =
        [0, -1, 1, 63, -64, 64, -65, 8191, -8192, 8192, i32::MAX as i64, i32::MIN as i64, i64::MAX, i64::MIN];

    #[test]
    fn numbers_come_back_and_take_the_bytes_foretold() {
        for number in NUMBERS {
            let mut out = BytesMut::new();
            put_i64(&mut out, number);
            assert_eq!(out.len(), len_i64(number), "{number}");
            let mut rest = &out[..];
            assert_eq!(take_i64(&mut rest), Some(number));
            assert!(rest.is_empty());
        }
    }

    #[test]
    fn bytes_are_those_of_protocol_buffers_zigzag() {
        for (number, bytes) in
            [(0, &[0][..]), (-1, &[1]), (1, &[2]), (-64, &[0x7f]), (64, &[0x80, 1]), (300, &[0xd8, 0x04])]
        {
            let mut out = BytesMut::new();
            put_i32(&mut out, number);
            assert_eq!(&out[..], bytes);
        }
    }

    #[test]
    fn a_number_that_does_not_end_is_refused() {
        assert_eq!(take_i64(&mut &[0x80; 3][..]), None);
        assert_eq!(take_i64(&mut &[0xff; 20][..]), None);
        assert_eq!(take_i64(&mut &[][..]), None);
    }

    #[test]
    fn a_number_of_more_than_64_bits_is_refused() {
        let mut bytes = [0xff; 10];
        bytes[9] = 0x01;
        assert_eq!(take_i64(&mut &bytes[..]), Some(i64::MIN));
        bytes[9] = 0x02;
        assert_eq!(take_i64(&mut &bytes[..]), None);
    }

    #[test]
    fn a_number_of_more_than_32_bits_is_not_a_varint() {
        let mut out = BytesMut::new();
        put_i64(&mut out, i64::from(i32::MAX) + 1);
        assert_eq!(take_i32(&mut &out[..]), None);
        assert_eq!(take_i32(&mut &[0x80, 0x80, 0x80, 0x80, 0x80, 0x00][..]), None);
    }
}
