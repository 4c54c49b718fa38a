//! Zeros behind small flushes, so that the next ones land on blocks that are there.
//!
//! A write that moves the end of a file is done by one of the kernel's worker threads, and the sync behind it has metadata to
//! write. For many partitions with a little each that is most of what a checkpoint costs. So a small flush that has to move the end moves it
//! further, by zeros; those that follow are plain overwrites.
//!
//! Invariants:
//! - A checkpoint writes no more zeros than a journal file has bytes. Partitions that get none have their turn at the next one, so a
//!   thousand that began together do not need new zeros together.
//! - None are written where space is short: others need it more.

use std::cell::Cell;

use bytes::Bytes;

use crate::limits::{AHEAD_FLUSHES, BLOCK_BYTES, FLUSH_WRITE_BYTES};

/// How many zeros the checkpoint under way may still write.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    left: Cell<u64>,
}

impl Ahead {
    /// That many bytes of zeros may be written from now on.
    pub(crate) fn set(&self, bytes: u64) {
        self.left.set(bytes);
    }

    /// How many bytes of zeros to write behind a flush of `bytes`, at most `room`: all that it wants, or none.
    pub(crate) fn take(&self, bytes: u64, room: u64) -> u64 {
        let wanted = (bytes * AHEAD_FLUSHES).min((FLUSH_WRITE_BYTES as u64).saturating_sub(bytes)).min(room);
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
