//! Memory that direct I/O accepts.

use bytes::BytesMut;

/// The alignment, in bytes, of memory, offsets and lengths for direct I/O: one page, which satisfies every
/// block device with sectors of up to 4 KiB.
pub const DIRECT_ALIGN: usize = 4096;

/// An empty buffer whose first byte is [`DIRECT_ALIGN`]-aligned, with room for just `capacity` bytes: how much
/// more was allocated depends on an address, and a run that asked for it would not be the same twice.
///
/// Growing it beyond its capacity moves it, and the alignment is lost: fill it, or split frozen pieces off its
/// front, and make a new one when it is full.
pub fn aligned(capacity: usize) -> BytesMut {
    // Over-allocate and split the unaligned head off: `BytesMut` can then own the memory by itself.
    let mut whole = BytesMut::with_capacity(capacity + DIRECT_ALIGN);
    let skip = whole.spare_capacity_mut().as_ptr().align_offset(DIRECT_ALIGN);
    assert!(skip < DIRECT_ALIGN, "a byte pointer can always be aligned");
    let mut buffer = whole.split_off(skip);
    drop(buffer.split_off(capacity));
    buffer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_aligned_at_every_size() {
        for capacity in [0, 1, 511, 4096, 4097, 1 << 20] {
            let buffer = aligned(capacity);
            assert_eq!(buffer.as_ptr() as usize % DIRECT_ALIGN, 0, "capacity {capacity}");
            assert_eq!((buffer.len(), buffer.capacity()), (0, capacity));
        }
    }

    #[test]
    fn pieces_frozen_off_the_front_stay_in_place() {
        let mut buffer = aligned(8192);
        let base = buffer.as_ptr() as usize;
        buffer.extend_from_slice(&[1; 4096]);
        let first = buffer.split().freeze();
        buffer.extend_from_slice(&[2; 4096]);
        let second = buffer.split().freeze();
        assert_eq!(first.as_ptr() as usize, base);
        assert_eq!(second.as_ptr() as usize, base + 4096);
    }
}
