//! The ways to change bytes.

use std::ops::Range;

use crate::Random;

/// What formats are made of: whole disk blocks, and the sizes of headers.
const PARTS: [usize; 6] = [8, 16, 24, 48, 512, 4096];

/// Changes `bytes` in one way; `other` gives parts for it.
pub fn mutate(random: &mut Random, bytes: &mut Vec<u8>, other: &[u8]) {
    if bytes.is_empty() {
        bytes.extend_from_slice(other);
        return;
    }
    match random.below(16) {
        0..=2 => {
            let at = random.below(bytes.len());
            bytes[at] ^= 1 << random.below(8);
        }
        3 => {
            let at = random.below(bytes.len());
            bytes[at] = random.next() as u8;
        }
        4..=6 => set_number(random, bytes),
        7 => bytes.truncate(random.below(bytes.len())),
        8 => {
            let more = random.below(64);
            let noise = if random.below(2) == 0 { vec![0; more] } else { random.bytes(more) };
            let at = random.below(bytes.len() + 1);
            bytes.splice(at..at, noise);
        }
        9 => drop(bytes.drain(range(random, bytes.len()))),
        10 => {
            let part = bytes[range(random, bytes.len())].to_vec();
            let at = random.below(bytes.len() + 1);
            bytes.splice(at..at, part);
        }
        11 => {
            let part = range(random, bytes.len());
            bytes[part].fill([0, 0xff, 0x7f, 0x80][random.below(4)]);
        }
        12 => swap_parts(random, bytes),
        13 => {
            // The front of one, the end of another.
            bytes.truncate(random.below(bytes.len() + 1));
            bytes.extend_from_slice(&other[random.below(other.len() + 1)..]);
        }
        14 => {
            let part = range(random, other.len());
            let at = random.below(bytes.len());
            let end = bytes.len().min(at + part.len());
            bytes.splice(at..end, other[part].iter().copied());
        }
        _ => {
            let part = range(random, bytes.len());
            let noise = random.bytes(part.len());
            bytes.splice(part, noise);
        }
    }
}

/// A part of that many bytes, short more often than long.
fn range(random: &mut Random, length: usize) -> Range<usize> {
    let from = random.below(length);
    let most = match random.below(3) {
        0 => 4,
        1 => PARTS[random.below(PARTS.len())],
        _ => length,
    };
    from..length.min(from + 1 + random.below(most))
}

/// Two parts change places.
fn swap_parts(random: &mut Random, bytes: &mut [u8]) {
    let size = PARTS[random.below(PARTS.len())];
    let parts = bytes.len() / size;
    if parts < 2 {
        return bytes.reverse();
    }
    let (one, two) = (random.below(parts) * size, random.below(parts) * size);
    for at in 0..size {
        bytes.swap(one + at, two + at);
    }
}

/// Takes some bytes for a length, a count or an offset, and makes it another: extreme, or just beside the right one.
fn set_number(random: &mut Random, bytes: &mut [u8]) {
    let width = [1, 2, 4, 8][random.below(4)];
    let Some(last) = bytes.len().checked_sub(width) else { return };
    // Most formats keep their numbers at even places.
    let mut at = random.below(last + 1);
    if random.below(4) > 0 {
        at -= at % width.min(4);
    }
    let big_endian = random.below(2) == 0;
    let field = &mut bytes[at..at + width];
    if big_endian {
        field.reverse();
    }
    let mut number = [0; 8];
    number[..width].copy_from_slice(field);
    let old = u64::from_le_bytes(number);
    let new = match random.below(10) {
        0 => 0,
        1 => u64::MAX,
        2 => u64::MAX >> 1 >> (64 - 8 * width),
        3 => 1 << (8 * width - 1),
        4 => old.wrapping_add(1),
        5 => old.wrapping_sub(1),
        6 => old.wrapping_mul(2),
        7 => 1 << random.below(64),
        8 => random.next() >> random.below(64),
        _ => bytes_left(last, at, random),
    };
    let field = &mut bytes[at..at + width];
    field.copy_from_slice(&new.to_le_bytes()[..width]);
    if big_endian {
        field.reverse();
    }
}

/// Just as much as there is, or one more or less.
fn bytes_left(last: usize, at: usize, random: &mut Random) -> u64 {
    ((last - at) as u64).wrapping_add(random.below(3) as u64).wrapping_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_can_be_changed_and_most_are() {
        let mut random = Random::new(7);
        let mut changed = 0;
        for round in 0..20_000 {
            let length = round % 9_000;
            let (before, other) = (random.bytes(length), random.bytes(round % 13));
            let mut after = before.clone();
            mutate(&mut random, &mut after, &other);
            changed += usize::from(after != before);
        }
        assert!(changed > 15_000, "only {changed} changed");
    }
}
