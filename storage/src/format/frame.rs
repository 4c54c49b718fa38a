//! A journal frame: what one commit writes.
//!
//! ```text
//! header 32 | entries: envelope + batch, and marks, back to back | end marker 24 | zeros to the next block
//! ```
//! There is no checksum over the whole frame: envelopes, batches' CRCs and marks cover each byte once. The end marker's
//! `chain` covers the checksums of envelopes and marks in their order, seeded with the epoch and the sequence, so an entry of another
//! frame, left in a recycled file and valid by itself, is seen.
//!
//! Header, end marker and chain are seeded with the journal's *salt*, a random number that stands only in the checkpoint: a
//! producer cannot forge a frame inside its batches.

use ringlog_reactor::sim::mutant;

use super::entry::{Entry, EntryError};
use super::fields::{put, u32_at, u64_at};
use super::identity::JournalIdentity;
use super::mark::{MARK_BYTES, Mark, MarkError};

/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 32;
/// Bytes of a frame's end marker.
pub const END_BYTES: usize = 24;
/// The first four bytes of a frame: "RLFR".
pub const HEADER_MAGIC: u32 = u32::from_le_bytes(*b"RLFR");
/// The first four bytes of an end marker: "RLFE".
pub const END_MAGIC: u32 = u32::from_le_bytes(*b"RLFE");

const MAGIC: usize = 0;
const SHARD: usize = 4;
const EPOCH: usize = 8;
const SEQUENCE: usize = 16;
const WINDOW: usize = 24;
const HEADER_CRC: usize = 28;

const END_LENGTH: usize = 4;
const END_SEQUENCE: usize = 8;
const END_CHAIN: usize = 16;
const END_CRC: usize = 20;

const _: () = assert!(HEADER_CRC + 4 == HEADER_BYTES && END_CRC + 4 == END_BYTES);

/// What a frame's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Its place in the journal, from 1.
    pub sequence: u64,
    /// How many frames right before it may not have been durable when it was written.
    pub window: u32,
}

impl FrameHeader {
    /// The last frame that was durable when this one was written.
    pub fn shows_durable(&self) -> u64 {
        let window = if mutant("window-ignored") { 0 } else { self.window };
        self.sequence.saturating_sub(1 + u64::from(window))
    }
}

impl JournalIdentity {
    /// The header of frame `sequence`, which is written when all but the last `window` frames before it are durable.
    pub fn header(&self, sequence: u64, window: u32) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        put(&mut out, MAGIC, &HEADER_MAGIC.to_le_bytes());
        put(&mut out, SHARD, &self.shard.to_le_bytes());
        put(&mut out, EPOCH, &self.epoch.to_le_bytes());
        put(&mut out, SEQUENCE, &sequence.to_le_bytes());
        put(&mut out, WINDOW, &window.to_le_bytes());
        let crc = self.seeded(&out[..HEADER_CRC]);
        put(&mut out, HEADER_CRC, &crc.to_le_bytes());
        out
    }

    /// What the header of a frame says, if `bytes` begin with one of this journal.
    pub fn frame_at(&self, bytes: &[u8]) -> Option<FrameHeader> {
        let header = bytes.first_chunk::<HEADER_BYTES>()?;
        if u32_at(header, MAGIC) != HEADER_MAGIC {
            return None;
        }
        let ours = u32_at(header, SHARD) == self.shard && u64_at(header, EPOCH) == self.epoch;
        let sound = self.seeded(&header[..HEADER_CRC]) == u32_at(header, HEADER_CRC);
        (ours && sound || mutant("old-frames-taken"))
            .then(|| FrameHeader { sequence: u64_at(header, SEQUENCE), window: u32_at(header, WINDOW) })
    }

    /// The end marker of a frame of `length` bytes, header and marker included.
    pub fn end_marker(&self, sequence: u64, length: u32, chain: Chain) -> [u8; END_BYTES] {
        let mut out = [0; END_BYTES];
        put(&mut out, MAGIC, &END_MAGIC.to_le_bytes());
        put(&mut out, END_LENGTH, &length.to_le_bytes());
        put(&mut out, END_SEQUENCE, &sequence.to_le_bytes());
        put(&mut out, END_CHAIN, &chain.0.to_le_bytes());
        let crc = self.seeded(&out[..END_CRC]);
        put(&mut out, END_CRC, &crc.to_le_bytes());
        out
    }

    /// The chain of a frame without entries.
    pub fn chain(&self, sequence: u64) -> Chain {
        let seed = self.seeded(&self.epoch.to_le_bytes());
        Chain(crc32c::crc32c_append(seed, &sequence.to_le_bytes()))
    }

    fn seeded(&self, bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(&self.salt.to_le_bytes()), bytes)
    }

    /// Walks the frame `sequence` at the front of `bytes`, which go on to the journal file's end.
    ///
    /// The frame is whole if the walk reaches an end marker that fits. Damage to a batch's body does not end the walk: it
    /// is told with its entry.
    pub fn walk<'a>(&self, bytes: &'a [u8], sequence: u64) -> FrameWalk<'a> {
        let identity = *self;
        FrameWalk { identity, bytes, sequence, at: HEADER_BYTES, chain: self.chain(sequence) }
    }
}

/// The running checksum over the envelopes and marks of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain(u32);

impl Chain {
    /// The chain with one more entry or mark.
    #[must_use]
    pub fn with(self, crc: u32) -> Chain {
        Chain(crc32c::crc32c_append(self.0, &crc.to_le_bytes()))
    }
}

/// Why a frame is not whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The file ends before the frame does.
    #[error("the frame is cut short")]
    Short,
    /// What stands where an entry should is none.
    #[error("at byte {at} of the frame: {error}")]
    Entry {
        /// Offset from the frame's first byte.
        at: usize,
        /// What is wrong there.
        error: EntryError,
    },
    /// What stands where a mark should is none.
    #[error("at byte {at} of the frame: {error}")]
    Mark {
        /// Offset from the frame's first byte.
        at: usize,
        /// What is wrong there.
        error: MarkError,
    },
    /// The end marker does not fit the frame.
    #[error("the frame's end marker does not fit it")]
    End,
}

/// One step through a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameStep {
    /// An entry, `at` bytes from the frame's first.
    Entry {
        /// Offset from the frame's first byte.
        at: usize,
        /// The entry.
        entry: Entry,
        /// Whether the batch's CRC fits.
        sound: bool,
    },
    /// A mark.
    Mark(Mark),
    /// The end: the frame has this many bytes, without padding, and all its envelopes are the ones that were written.
    End {
        /// Bytes from the header to the end marker.
        length: usize,
    },
}

/// See [`JournalIdentity::walk`].
#[derive(Debug, Clone)]
pub struct FrameWalk<'a> {
    identity: JournalIdentity,
    bytes: &'a [u8],
    sequence: u64,
    at: usize,
    chain: Chain,
}

impl FrameWalk<'_> {
    /// The next entry or mark, or the end. After the end or an error, there is nothing more to ask for.
    pub fn step(&mut self) -> Result<FrameStep, FrameError> {
        let rest = self.bytes.get(self.at..).ok_or(FrameError::Short)?;
        if rest.len() < END_BYTES {
            return Err(FrameError::Short);
        }
        if u32_at(rest, MAGIC) == END_MAGIC {
            return self.end(rest);
        }
        if Mark::begins(rest) {
            let (mark, crc) = Mark::decode(rest).map_err(|error| FrameError::Mark { at: self.at, error })?;
            self.at += MARK_BYTES;
            self.chain = self.chain.with(crc);
            return Ok(FrameStep::Mark(mark));
        }
        let entry = Entry::decode(rest).map_err(|error| FrameError::Entry { at: self.at, error })?;
        let at = self.at;
        self.at += entry.len();
        self.chain = self.chain.with(entry.envelope.crc);
        let sound = entry.body_is_sound(rest) || mutant("replay-crc-unchecked");
        Ok(FrameStep::Entry { at, entry, sound })
    }

    fn end(&self, rest: &[u8]) -> Result<FrameStep, FrameError> {
        let length = self.at + END_BYTES;
        let expected = self.identity.end_marker(self.sequence, length as u32, self.chain);
        if rest[..END_BYTES] == expected { Ok(FrameStep::End { length }) } else { Err(FrameError::End) }
    }
}
