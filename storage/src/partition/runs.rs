//! Runs on their way past the journal: those that wait to be written, and the one that small batches are still added to.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};

use super::tail::ChunkId;
use crate::format::entry::entry_start;
use crate::limits::round_up;
use crate::segment::WriteRun;

/// The run that small batches are still added to.
pub(super) struct OpenRun {
    pub(super) spare: BytesMut,
    pub(super) chunk: ChunkId,
    pub(super) run: WriteRun,
}

#[derive(Default)]
pub(super) struct Runs {
    pub(super) bypassing: bool,
    pub(super) sealed: VecDeque<WriteRun>,
    pub(super) open: Option<OpenRun>,
    /// Of all runs.
    pub(super) bytes: usize,
}

impl OpenRun {
    /// Where an entry of that many bytes would stand, if it fits with the zeros behind it.
    pub(super) fn place_of(&self, bytes: usize) -> Option<usize> {
        let at = entry_start(self.run.bytes as u64) as usize;
        (round_up(at + bytes) - self.run.bytes <= self.spare.capacity()).then_some(at)
    }

    pub(super) fn carve(&mut self) -> Bytes {
        let piece = self.spare.split().freeze();
        self.run.bytes += piece.len();
        self.run.pieces.push(piece.clone());
        piece
    }

    pub(super) fn seal(mut self) -> WriteRun {
        self.spare.put_bytes(0, round_up(self.run.bytes) - self.run.bytes);
        self.carve();
        self.run
    }
}

impl Runs {
    pub(super) fn seal(&mut self) {
        let Some(open) = self.open.take() else { return };
        let before = open.run.bytes;
        let run = open.seal();
        self.bytes += run.bytes - before;
        self.sealed.push_back(run);
    }
}

impl Runs {
    /// Drops the newest runs, as long as they begin at `told_end` or behind. Returns the first offset that is gone.
    pub(super) fn take_back(&mut self, told_end: i64) -> Option<i64> {
        let open = self.open.take_if(|open| open.run.first_offset() >= told_end);
        let mut from = None;
        if let Some(OpenRun { run, .. }) = open {
            self.bytes -= run.bytes;
            from = Some(run.first_offset());
        }
        while self.open.is_none()
            && let Some(run) = self.sealed.pop_back_if(|run| run.first_offset() >= told_end)
        {
            self.bytes -= run.bytes;
            from = Some(run.first_offset());
        }
        from
    }
}
