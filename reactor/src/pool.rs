//! The receive buffers of one core: a provided-buffer ring that the kernel fills.
//!
//! Invariants:
//! - A buffer is either in the ring, where the kernel may write it, or out, where exactly one [`RecvBuf`] reads it.
//! - At most half of the buffers are out once a completion has been looked at: what comes beyond that is copied, and
//!   its buffer goes back at once. So readers that hold on to what they have, or do not read at all, cannot take the
//!   buffers from the other sockets of the core. What they hold is bounded by the unread limit of each socket.
//! - Ring memory and buffers live as long as any `RecvBuf`, and longer than the io_uring they are registered with.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::fmt;
use std::ops::Deref;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

use bytes::Bytes;
use io_uring::types::BufRingEntry;

/// Page size: what the kernel wants the ring aligned to.
const PAGE: usize = 4096;

/// See the head of this file.
pub(crate) struct Pool {
    ring: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    /// A power of two.
    count: u16,
    buffer_bytes: u32,
    /// The ring's tail as we last published it.
    tail: Cell<u16>,
    /// How many buffers are out.
    out: Cell<u16>,
}

impl Pool {
    /// `count` buffers of `buffer_bytes` each, all in the ring.
    pub(crate) fn new(count: u16, buffer_bytes: u32) -> Pool {
        assert!(count.is_power_of_two(), "the kernel wants a power of two of buffers");
        assert!(buffer_bytes > 0);
        let pool = Pool {
            ring: allocate(Pool::ring_layout(count)).cast(),
            memory: allocate(Pool::memory_layout(count, buffer_bytes)),
            count,
            buffer_bytes,
            tail: Cell::new(0),
            out: Cell::new(count),
        };
        (0..count).for_each(|id| pool.put_back(id));
        pool
    }

    fn ring_layout(count: u16) -> Layout {
        let bytes = usize::from(count) * size_of::<BufRingEntry>();
        Layout::from_size_align(bytes, PAGE).expect("the ring's size is small")
    }

    fn memory_layout(count: u16, buffer_bytes: u32) -> Layout {
        let bytes = usize::from(count) * buffer_bytes as usize;
        Layout::from_size_align(bytes, PAGE).expect("the buffers fit into memory")
    }

    pub(crate) fn ring_address(&self) -> u64 {
        self.ring.as_ptr() as u64
    }

    pub(crate) fn count(&self) -> u16 {
        self.count
    }

    /// The kernel filled buffer `id` with `len` bytes: it is out until the result is dropped, or comes back at once
    /// if too many are out.
    pub(crate) fn take_out(self: &Rc<Self>, id: u16, len: u32) -> RecvBuf {
        assert!(id < self.count && len <= self.buffer_bytes, "the kernel names a buffer of this ring");
        self.out.set(self.out.get() + 1);
        let lent = RecvBuf { source: Source::Pool { pool: Rc::clone(self), id, len } };
        if self.out.get() > self.count / 2 { RecvBuf::owned(Bytes::copy_from_slice(&lent)) } else { lent }
    }

    fn put_back(&self, id: u16) {
        let tail = self.tail.get();
        let slot = usize::from(tail & (self.count - 1));
        // SAFETY: `slot` < `count`, so the entry lies in the ring's allocation. The kernel does not read it before
        // the tail below passes it, and no reference to ring memory outlives this block.
        unsafe {
            let entry = self.ring.as_ptr().add(slot);
            (*entry).set_addr(self.memory.as_ptr().add(usize::from(id) * self.buffer_bytes as usize) as u64);
            (*entry).set_len(self.buffer_bytes);
            (*entry).set_bid(id);
        }
        let tail = tail.wrapping_add(1);
        self.tail.set(tail);
        self.out.set(self.out.get() - 1);
        // SAFETY: the tail lies inside the first entry of the ring, which lives as long as `self`; it is aligned
        // for u16. Only this thread writes it and the kernel reads it, so it is shared as an atomic.
        let shared = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.ring.as_ptr()).cast_mut()) };
        shared.store(tail, Ordering::Release);
    }

    fn bytes(&self, id: u16, len: u32) -> &[u8] {
        // SAFETY: `take_out` checked `id` and `len`. The buffer is out, so the kernel does not write it, and was
        // initialized when it was allocated.
        unsafe {
            let start = self.memory.as_ptr().add(usize::from(id) * self.buffer_bytes as usize);
            std::slice::from_raw_parts(start, len as usize)
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: both were allocated in `new` with these layouts. No `RecvBuf` is left, for each holds the pool;
        // the driver holds it too, and lets go of it only after its ring has no operation in flight.
        unsafe {
            dealloc(self.ring.as_ptr().cast(), Pool::ring_layout(self.count));
            dealloc(self.memory.as_ptr(), Pool::memory_layout(self.count, self.buffer_bytes));
        }
    }
}

fn allocate(layout: Layout) -> NonNull<u8> {
    assert!(layout.size() > 0);
    // SAFETY: the layout's size is not zero.
    let memory = unsafe { alloc_zeroed(layout) };
    NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout))
}

/// Bytes received from a socket. They may lie in one of the core's receive buffers, which goes back to work when this
/// is dropped: copy what must be kept, and drop it soon.
pub struct RecvBuf {
    source: Source,
}

enum Source {
    Pool { pool: Rc<Pool>, id: u16, len: u32 },
    Owned(Bytes),
}

impl RecvBuf {
    pub(crate) fn owned(bytes: Bytes) -> RecvBuf {
        RecvBuf { source: Source::Owned(bytes) }
    }
}

impl From<Bytes> for RecvBuf {
    fn from(bytes: Bytes) -> RecvBuf {
        RecvBuf::owned(bytes)
    }
}

impl Deref for RecvBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.source {
            Source::Pool { pool, id, len } => pool.bytes(*id, *len),
            Source::Owned(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for RecvBuf {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for RecvBuf {
    fn drop(&mut self) {
        if let Source::Pool { pool, id, .. } = &self.source {
            pool.put_back(*id);
        }
    }
}

impl fmt::Debug for RecvBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvBuf").field("len", &self.len()).finish_non_exhaustive()
    }
}
