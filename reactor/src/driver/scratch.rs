//! The small structures the kernel reads or writes while an operation runs, kept per slot of the operation table
//! and used again by the next operation in that slot: a steady load allocates nothing for them.

use std::net::SocketAddr;

use io_uring::types;

use crate::op::{FileTimes, Gather, Kind, MAX_SLICES, Metadata};
use crate::sys::{self, Address};

/// Everything the kernel is given a pointer to has an allocation of its own, so that a scratch may move.
#[derive(Default)]
pub(crate) struct Scratch {
    slices: Vec<libc::iovec>,
    message: Option<Box<libc::msghdr>>,
    address: Option<Box<Address>>,
    statx: Option<Box<libc::statx>>,
}

/// What is to be sent, for the kernel.
pub(crate) enum Outgoing {
    /// One run of memory: the kernel has no header and no list of slices to copy in.
    Slice(*const u8, u32),
    Message(*const libc::msghdr),
}

impl Scratch {
    /// Describes the front of `data`, with neighbours in memory merged: a frame made of several slices of one
    /// aligned buffer stays one aligned write.
    pub(crate) fn gather(&mut self, data: &Gather) -> (*const libc::iovec, u32) {
        self.slices.clear();
        for bytes in data.remaining() {
            let base: *mut libc::c_void = bytes.as_ptr().cast_mut().cast();
            if let Some(last) = self.slices.last_mut()
                && last.iov_base.addr() + last.iov_len == base.addr()
            {
                last.iov_len += bytes.len();
                continue;
            }
            if self.slices.len() == MAX_SLICES {
                break;
            }
            if !bytes.is_empty() {
                self.slices.push(libc::iovec { iov_base: base, iov_len: bytes.len() });
            }
        }
        (self.slices.as_ptr(), self.slices.len() as u32)
    }

    /// The same, to send: as a message only if it must be one.
    pub(crate) fn outgoing(&mut self, data: &Gather) -> Outgoing {
        self.gather(data);
        if let [only] = self.slices[..]
            && let Ok(len) = u32::try_from(only.iov_len)
        {
            return Outgoing::Slice(only.iov_base.cast(), len);
        }
        let message = self.message.get_or_insert_with(|| Box::new(sys::empty_message()));
        message.msg_iov = self.slices.as_mut_ptr();
        message.msg_iovlen = self.slices.len();
        Outgoing::Message(&raw const **message)
    }

    pub(crate) fn address(&mut self, address: SocketAddr) -> (*const libc::sockaddr, libc::socklen_t) {
        let stored = self.address.insert(Box::new(Address::new(address)));
        (stored.as_ptr(), stored.len())
    }

    /// Where the kernel puts a file's metadata.
    pub(crate) fn statx(&mut self) -> *mut types::statx {
        let statx = self.statx.get_or_insert_with(|| Box::new(sys::empty_statx()));
        (&raw mut **statx).cast()
    }

    /// What it put there.
    pub(crate) fn metadata(&self) -> Metadata {
        let statx = self.statx.as_ref().expect("a stat was prepared in this slot");
        let kind = match u32::from(statx.stx_mode) & libc::S_IFMT {
            libc::S_IFREG => Kind::File,
            libc::S_IFDIR => Kind::Folder,
            libc::S_IFLNK => Kind::Link,
            _ => Kind::Other,
        };
        let ms = |time: &libc::statx_timestamp| time.tv_sec * 1000 + i64::from(time.tv_nsec) / 1_000_000;
        let modified_ms = ms(&statx.stx_mtime);
        let knows_birth = statx.stx_mask & libc::STATX_BTIME != 0;
        let made_ms = if knows_birth { ms(&statx.stx_btime) } else { modified_ms };
        Metadata { len: statx.stx_size, kind, times: FileTimes { modified_ms, made_ms } }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn lengths(scratch: &Scratch) -> Vec<usize> {
        scratch.slices.iter().map(|slice| slice.iov_len).collect()
    }

    #[test]
    fn neighbours_in_memory_become_one_slice() {
        let whole = Bytes::from(vec![7; 100]);
        let other = Bytes::from(vec![8; 10]);
        let data = Gather::new(vec![whole.slice(0..10), whole.slice(10..40), other, whole.slice(40..100)]);
        let mut scratch = Scratch::default();
        let (_, count) = scratch.gather(&data);
        assert_eq!(count, 3);
        assert_eq!(lengths(&scratch), [40, 10, 60]);
    }

    #[test]
    fn no_more_slices_than_the_kernel_takes() {
        let piece = Bytes::from(vec![1; 2]);
        let data = Gather::new((0..3000).map(|_| piece.slice(0..1)).collect());
        let mut scratch = Scratch::default();
        assert_eq!(scratch.gather(&data).1, MAX_SLICES as u32);
    }
}
