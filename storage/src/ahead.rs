//! Zeros behind small flushes, so that the next ones land on blocks that are there.
//!
//! A write that moves the end of a file is done by one of the kernel's worker threads, and the sync behind it has metadata to
//! write. For many partitions with a little each that is most of what a checkpoint costs. So a small flush that has to move the end moves it
//! further, by zeros; those that follow are plain overwrites.
//!
//! Invariant: between two checkpoints no more zeros are written than a journal file has bytes. Partitions that get none have their
//! turn at the next one, so a thousand that began together do not need new zeros together.

use std::cell::Cell;

use bytes::Bytes;

use crate::limits::{AHEAD_FLUSHES, BLOCK_BYTES};

/// How many zeros may still be written until the next checkpoint.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    left: Cell<u64>,
}

impl Ahead {
    /// A checkpoint begins, which may write that many bytes of zeros.
    pub(crate) fn renew(&self, bytes: u64) {
        self.left.set(bytes);
    }

    /// How many bytes of zeros to write behind a flush of `bytes`: all that it wants, or none.
    pub(crate) fn take(&self, bytes: u64) -> u64 {
        let wanted = bytes * AHEAD_FLUSHES;
        match self.left.get().checked_sub(wanted) {
            Some(left) => {
                self.left.set(left);
                wanted
            }
            None => 0,
        }
    }
}

const PIECE_BYTES: usize = 64 << 10;

/// In memory as direct I/O wants it.
#[repr(align(4096))]
struct Piece([u8; PIECE_BYTES]);

static PIECE: Piece = Piece([0; PIECE_BYTES]);

/// That many zeros, in whole blocks, for one write.
pub(crate) fn zeros(bytes: u64) -> impl Iterator<Item = Bytes> {
    let starts = (0..bytes).step_by(PIECE_BYTES);
    starts.map(move |start| {
        let len = (bytes - start).min(PIECE_BYTES as u64) as usize;
        Bytes::from_static(&PIECE.0[..len])
    })
}

const _: () = assert!(align_of::<Piece>() == BLOCK_BYTES);
