//! Log memory: chunks of aligned memory that frames are carved out of, in the order of the journal, and the memory of
//! batches that bypass it.
//!
//! Invariants:
//! - Memory layout is journal layout: a frame is one run of memory, begins at a block boundary of its chunk and ends at
//!   one, so a commit is one direct write of memory that is never copied again.
//! - `bytes <= limit`, but for a single chunk larger than the limit beside the open one.
//! - The chunks that hold a partition's entries, in the entries' order, have rising numbers: the open chunk gets a new one
//!   whenever memory is adopted behind which its next entries come.
//! - Only the oldest chunk is evicted, only when every entry in it stands in a segment (or its partition is gone), and
//!   only between frames: what is not in a segment stays in memory.

use std::collections::VecDeque;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use ringlog_reactor::sim::reached;

use crate::limits::CHUNK_BYTES;
use crate::partition::{ChunkId, Partition};

struct Chunk {
    id: ChunkId,
    bytes: u64,
    /// Who has entries here.
    partitions: Vec<Rc<Partition>>,
}

pub(crate) struct LogMemory {
    /// In the order of their numbers.
    chunks: VecDeque<Chunk>,
    /// The chunk that frames are carved out of: its number is above all others.
    open: Option<Chunk>,
    /// What is left of it.
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
        LogMemory {
            chunks: VecDeque::new(),
            open: None,
            spare: BytesMut::new(),
            next_id: 1,
            bytes: 0,
            limit,
            growth: 0,
        }
    }

    /// Bytes that can still be carved out of the open chunk.
    pub(crate) fn spare(&self) -> usize {
        self.spare.capacity() - self.spare.len()
    }

    /// Opens a chunk with room for `need` bytes, evicting old ones as the bound asks for. Returns how many were evicted.
    pub(crate) fn open_chunk(&mut self, need: usize) -> Result<u64, MemoryFull> {
        debug_assert!(self.spare.is_empty(), "what was carved was taken");
        let bytes = need.max(CHUNK_BYTES) as u64;
        let was_open = self.open.as_ref().map(|open| open.id);
        self.chunks.extend(self.open.take());
        let evicted = self.evict_for(bytes);
        if evicted.is_err() {
            // Where eviction ends, the newest chunk is still there.
            self.open = self.chunks.pop_back_if(|last| Some(last.id) == was_open);
            return evicted;
        }
        self.spare = ringlog_reactor::aligned(bytes as usize);
        self.open = Some(self.new_chunk(bytes));
        self.growth += bytes;
        evicted
    }

    /// Takes in `bytes` bytes of memory for entries of one partition, which lie behind all it has. Returns the number they
    /// have as a chunk, and how many chunks were evicted.
    pub(crate) fn adopt(
        &mut self,
        partition: &Rc<Partition>,
        bytes: usize,
    ) -> Result<(ChunkId, u64), MemoryFull> {
        let evicted = self.evict_for(bytes as u64)?;
        let mut chunk = self.new_chunk(bytes as u64);
        chunk.partitions.push(Rc::clone(partition));
        let id = chunk.id;
        self.chunks.push_back(chunk);
        if let Some(open) = &mut self.open {
            open.id = self.next_id;
            self.next_id += 1;
        }
        Ok((id, evicted))
    }

    /// Gives up the memory adopted last: no entry came of it.
    pub(crate) fn give_up(&mut self, id: ChunkId) {
        let last = self.chunks.pop_back().expect("it was adopted just now");
        assert_eq!(last.id, id, "it was adopted just now");
        self.bytes -= last.bytes;
    }

    fn new_chunk(&mut self, bytes: u64) -> Chunk {
        let id = self.next_id;
        self.next_id += 1;
        self.bytes += bytes;
        Chunk { id, bytes, partitions: Vec::new() }
    }

    /// Evicts the oldest chunks, as many as `more` bytes need. Returns how many.
    fn evict_for(&mut self, more: u64) -> Result<u64, MemoryFull> {
        let mut evicted = 0;
        while !self.chunks.is_empty() && self.bytes + more > self.limit {
            if !self.evict_oldest() {
                return Err(MemoryFull);
            }
            evicted += 1;
        }
        Ok(evicted)
    }

    fn evict_oldest(&mut self) -> bool {
        let Some(oldest) = self.chunks.front() else { return false };
        if !oldest.partitions.iter().all(|partition| partition.has_flushed_chunk(oldest.id)) {
            return false;
        }
        reached("log memory evicted");
        for partition in &oldest.partitions {
            partition.evict_chunk(oldest.id);
        }
        self.bytes -= oldest.bytes;
        self.chunks.pop_front();
        true
    }

    /// Notes that `partition` has an entry in the open chunk. The partition remembers the last number it was noted under.
    pub(crate) fn note(&mut self, partition: &Rc<Partition>) -> ChunkId {
        let open = self.open.as_mut().expect("an entry was carved out of an open chunk");
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
