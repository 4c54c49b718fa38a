//! Cuts a socket's bytes into frames.
//!
//! A frame that lies whole in one receive buffer is handled in place. One that does not is gathered; what a
//! connection gathers beyond a free allowance comes out of a budget shared by the shard (`gather_budget.rs`), whole if there
//! is much of it, and else in steps.
//!
//! Such a large frame is received into memory of its own, laid out so that the batch of a produce request stands where
//! a segment will have it: behind room for its envelope, from the start of a block on. The log keeps that very memory.

use bytes::{BufMut, BytesMut};
use ringlog_protocol::limits::HEADER_BYTES;
use ringlog_protocol::{FrameError, FrameHeader, frame_len};
use ringlog_storage::format::envelope::ENVELOPE_BYTES;
use ringlog_storage::limits::round_up;

use crate::limits::GATHER_FREE_BYTES;
use crate::net::gather_budget::GatherPermit;
use crate::net::lent::Lent;

/// Where a frame begins in memory of its own: a produce request has no body, so its batch begins where an envelope ends.
const LEAD_BYTES: usize = ENVELOPE_BYTES - HEADER_BYTES;

/// What came of offering bytes to a frame.
pub enum Fill {
    /// This many bytes were taken.
    Taken(usize),
    /// None can be: the frame is so large that memory must be asked for.
    NeedsMemory {
        /// Bytes of the frame that have come and are held.
        have: usize,
        /// Bytes of the frame.
        whole: usize,
    },
}

/// A gathered produce request that another thread looks at. It has no body, so its batch begins behind its header.
pub struct LentFrame {
    memory: BytesMut,
    batch_from: usize,
}

impl Lent for LentFrame {
    fn batch(&self) -> &[u8] {
        &self.memory[self.batch_from..]
    }
}

/// The beginning of a frame whose end has not come yet.
#[derive(Default)]
pub struct PartialFrame {
    /// The frame; with a permit it is aligned, and the frame has `LEAD_BYTES` before it.
    bytes: BytesMut,
    permit: Option<GatherPermit>,
    /// It is large and gets its memory in steps.
    in_steps: bool,
}

impl PartialFrame {
    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What is held.
    pub fn bytes(&self) -> &[u8] {
        if self.is_large() { &self.bytes[LEAD_BYTES..] } else { &self.bytes }
    }

    /// Whether the frame has memory of its own.
    pub fn is_large(&self) -> bool {
        self.permit.is_some()
    }

    /// How many bytes a large frame still lacks, as far as it has memory for them; zero if none is begun, or it is whole.
    pub fn lacks(&self) -> usize {
        match (&self.permit, frame_len(self.bytes())) {
            (Some(permit), Ok(Some(whole))) => whole.min(permit.bytes()) - self.bytes().len(),
            _ => 0,
        }
    }

    /// A large frame's memory, with room for what it lacks: to be received into and put back, or for the log to keep.
    pub fn memory(&mut self) -> &mut BytesMut {
        assert!(self.is_large(), "only a large frame has memory of its own");
        &mut self.bytes
    }

    /// Lends the memory of a whole produce request out; until it is put back the frame must not be used.
    pub fn lend(&mut self) -> LentFrame {
        let lead = if self.is_large() { LEAD_BYTES } else { 0 };
        LentFrame { memory: std::mem::take(&mut self.bytes), batch_from: lead + HEADER_BYTES }
    }

    /// Puts back what was lent out.
    pub fn put_back(&mut self, lent: LentFrame) {
        self.bytes = lent.memory;
    }

    /// Takes from the front of `input` what the frame still lacks, and nothing beyond its end.
    ///
    /// # Errors
    /// When the header announces a frame that no one may send.
    pub fn fill(&mut self, input: &[u8]) -> Result<Fill, FrameError> {
        let mut taken = 0;
        loop {
            let have = self.bytes().len();
            let whole = frame_len(self.bytes())?;
            // Without a whole header the length is not known: one byte more at a time finds it out.
            let want = whole.unwrap_or(have + 1);
            if have >= want {
                return Ok(Fill::Taken(taken));
            }
            let room = self.room(want);
            if room <= have {
                self.check_is_request()?;
                return Ok(match taken {
                    0 => Fill::NeedsMemory { have, whole: want },
                    _ => Fill::Taken(taken),
                });
            }
            if taken == input.len() {
                return Ok(Fill::Taken(taken));
            }
            let more = (room.min(want) - have).min(input.len() - taken);
            self.bytes.extend_from_slice(&input[taken..taken + more]);
            taken += more;
            if have + more == room.min(want) {
                self.is_filled();
            }
        }
    }

    /// Bytes that may be held of a frame with `want` bytes.
    fn room(&self, want: usize) -> usize {
        match &self.permit {
            Some(permit) => permit.bytes(),
            None if want <= GATHER_FREE_BYTES || self.in_steps => GATHER_FREE_BYTES,
            None => 0,
        }
    }

    /// Memory is given to frames that a client may send, and to no others.
    fn check_is_request(&self) -> Result<(), FrameError> {
        let Some(header) = self.bytes().first_chunk() else { return Ok(()) };
        let kind = FrameHeader::decode(header)?.kind;
        if kind.is_request() { Ok(()) } else { Err(FrameError::UnknownKind { kind: kind as u8 }) }
    }

    /// Takes memory that [`Fill::NeedsMemory`] asked for.
    pub fn give(&mut self, permit: GatherPermit) {
        let mut memory = ringlog_reactor::aligned(round_up(LEAD_BYTES + permit.bytes()));
        memory.put_bytes(0, LEAD_BYTES);
        memory.put_slice(self.bytes());
        self.bytes = memory;
        self.permit = Some(permit);
    }

    /// There is no memory for all of the frame: it gets its free allowance first, and more as it comes.
    pub fn gather_in_steps(&mut self) {
        self.in_steps = true;
    }

    /// The memory that was given is full.
    pub fn is_filled(&self) {
        if let Some(permit) = &self.permit {
            permit.is_filled();
        }
    }

    /// Forgets the frame and gives its memory back.
    pub fn clear(&mut self) {
        if self.permit.take().is_some() {
            self.bytes = BytesMut::new();
        }
        self.bytes.clear();
        self.in_steps = false;
    }
}
