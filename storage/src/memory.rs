//! Log memory: chunks of aligned memory that frames are carved out of, in the order of the journal.
//!
//! Invariants:
//! - Memory layout is journal layout: a frame is one run of memory, begins at a block boundary of its chunk and ends at
//!   one, so a commit is one direct write of memory that is never copied again.
//! - `bytes <= limit`, but for a single chunk larger than the limit.
//! - Only the oldest chunk is evicted, only when every entry in it stands in a segment (or its partition is gone), and
//!   only between frames: what is not in a segment stays in memory.

use std::collections::VecDeque;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};

use crate::limits::CHUNK_BYTES;
use crate::partition::Partition;

/// Numbers chunks in the order they were opened.
pub(crate) type ChunkId = u64;

struct Chunk {
    id: ChunkId,
    bytes: u64,
    /// Who has entries here. Each once.
    partitions: Vec<Rc<Partition>>,
}

pub(crate) struct LogMemory {
    chunks: VecDeque<Chunk>,
    /// What is left of the newest chunk.
    spare: BytesMut,
    next_id: ChunkId,
    bytes: u64,
    limit: u64,
    /// Bytes of chunks opened since the last call of [`LogMemory::take_growth`].
    growth: u64,
}

/// No chunk could be opened: unflushed entries fill the bound.
pub(crate) struct MemoryFull;

impl LogMemory {
    pub(crate) fn new(limit: u64) -> LogMemory {
        LogMemory { chunks: VecDeque::new(), spare: BytesMut::new(), next_id: 1, bytes: 0, limit, growth: 0 }
    }

    /// Bytes that can still be carved out of the open chunk.
    pub(crate) fn spare(&self) -> usize {
        self.spare.capacity() - self.spare.len()
    }

    /// Opens a chunk with room for `need` bytes, evicting old ones as the bound asks for. Returns how many were evicted.
    pub(crate) fn open_chunk(&mut self, need: usize) -> Result<u64, MemoryFull> {
        debug_assert!(self.spare.is_empty(), "what was carved was taken");
        let bytes = need.max(CHUNK_BYTES) as u64;
        let mut evicted = 0;
        while !self.chunks.is_empty() && self.bytes + bytes > self.limit {
            if !self.evict_oldest() {
                return Err(MemoryFull);
            }
            evicted += 1;
        }
        self.spare = ringlog_reactor::aligned(bytes as usize);
        self.chunks.push_back(Chunk { id: self.next_id, bytes, partitions: Vec::new() });
        self.next_id += 1;
        self.bytes += bytes;
        self.growth += bytes;
        Ok(evicted)
    }

    fn evict_oldest(&mut self) -> bool {
        let Some(oldest) = self.chunks.front() else { return false };
        if !oldest.partitions.iter().all(|partition| partition.has_flushed_chunk(oldest.id)) {
            return false;
        }
        for partition in &oldest.partitions {
            partition.evict_chunk(oldest.id);
        }
        self.bytes -= oldest.bytes;
        self.chunks.pop_front();
        true
    }

    /// Notes that `partition` has an entry in the open chunk. The partition remembers the last chunk it was noted in.
    pub(crate) fn note(&mut self, partition: &Rc<Partition>) -> ChunkId {
        let open = self.chunks.back_mut().expect("an entry was carved out of an open chunk");
        if partition.swap_last_chunk(open.id) != open.id {
            open.partitions.push(Rc::clone(partition));
        }
        open.id
    }

    /// The end of the open chunk, to write behind what was carved.
    pub(crate) fn tail(&mut self) -> &mut BytesMut {
        &mut self.spare
    }

    /// Takes the first `bytes` of what was written since the last carving.
    pub(crate) fn carve_front(&mut self, bytes: usize) -> BytesMut {
        self.spare.split_to(bytes)
    }

    /// Takes what was written since the last carving.
    pub(crate) fn carve(&mut self) -> Bytes {
        self.spare.split().freeze()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes of chunks opened since the last call.
    pub(crate) fn take_growth(&mut self) -> u64 {
        std::mem::take(&mut self.growth)
    }

    pub(crate) fn growth(&self) -> u64 {
        self.growth
    }
}
