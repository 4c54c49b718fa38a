//! Entries on their way past the journal: runs of whole blocks, in memory just as their segment will hold them.
//!
//! Invariants:
//! - While a partition bypasses, every batch appended to it joins its runs: the log's order is theirs.
//! - A run begins at a block boundary, of memory and of its segment, and is whole blocks once it is taken to be written.
//! - The runs hold the tail's newest entries: all that are neither in a journal frame nor in a segment.
//! - What somebody was told of never leaves the runs but into a segment, or the journal.

use bytes::{BufMut, Bytes, BytesMut};
use ringlog_protocol::batch::{BatchError, BatchHeader};
use ringlog_reactor::sim::{mutant, reached};

use super::runs::{OpenRun, Runs};
use super::tail::ChunkId;
use super::{Partition, TailEntry};
use crate::config::TopicAck;
use crate::entry;
use crate::format::envelope::{ENVELOPE_BYTES, EntryKind};
use crate::format::mark::Mark;
use crate::segment::{Segment, WriteRun};

impl Partition {
    /// Whether its batches go past the journal now.
    pub(crate) fn is_bypassing(&self) -> bool {
        self.runs.borrow().bypassing
    }

    /// Begins to bypass. False if it does so already.
    pub(crate) fn begin_bypass(&self) -> bool {
        !std::mem::replace(&mut self.runs.borrow_mut().bypassing, true)
    }

    /// The partition's batches go into the journal again. Nothing may be left in the runs.
    pub(crate) fn end_bypass(&self) {
        *self.runs.borrow_mut() = Runs::default();
    }

    /// The kind of an entry that goes past the journal now.
    pub(crate) fn bypassed_kind(&self, header: &BatchHeader) -> EntryKind {
        match self.durable_end() == header.base_offset {
            true => EntryKind::BypassedNext,
            false => EntryKind::Unproven,
        }
    }

    /// Bytes that no write has taken yet.
    pub(crate) fn pending_bytes(&self) -> usize {
        self.runs.borrow().bytes
    }

    /// The first offset that no write has taken yet.
    pub(crate) fn pending_start(&self) -> i64 {
        let runs = self.runs.borrow();
        let first = runs.sealed.front().or(runs.open.as_ref().map(|open| &open.run));
        first.map_or(self.log_end(), WriteRun::first_offset)
    }

    /// Adds a batch that lies in memory as its segment will have it: envelope, batch, zeros to the block's end.
    pub(crate) fn push_run(&self, memory: Bytes, entry_bytes: usize, header: &BatchHeader, chunk: ChunkId) {
        self.push_entry(memory.slice(..entry_bytes), header, chunk);
        let mut run = WriteRun { bytes: memory.len(), pieces: vec![memory], entries: Vec::with_capacity(1) };
        run.note(header, 0);
        let runs = &mut *self.runs.borrow_mut();
        runs.seal();
        runs.bytes += run.bytes;
        runs.sealed.push_back(run);
    }

    /// Whether the run that is open takes a batch of that many bytes.
    pub(crate) fn run_has_room(&self, batch_bytes: usize) -> bool {
        let runs = self.runs.borrow();
        runs.open.as_ref().is_some_and(|open| open.place_of(ENVELOPE_BYTES + batch_bytes).is_some())
    }

    /// Opens a new run in aligned memory, which log memory has taken in as `chunk`.
    pub(crate) fn open_run(&self, memory: BytesMut, chunk: ChunkId) {
        let runs = &mut *self.runs.borrow_mut();
        runs.seal();
        runs.open = Some(OpenRun { spare: memory, chunk, run: WriteRun::default() });
    }

    /// Copies a batch into the open run, which has room. After an error nothing has changed.
    pub(crate) fn copy_into_run(&self, batch: &[u8], header: &BatchHeader) -> Result<(), BatchError> {
        let mut runs = self.runs.borrow_mut();
        let open = runs.open.as_mut().expect("room was made in a run");
        let at = open.place_of(ENVELOPE_BYTES + batch.len()).expect("room was made in the run");
        let before = open.run.bytes;
        open.spare.put_bytes(0, at - before);
        if let Err(error) =
            entry::copy_in(&mut open.spare, self.id(), self.bypassed_kind(header), batch, header)
        {
            open.spare.clear();
            return Err(error);
        }
        if at > before {
            let gap = open.spare.split_to(at - before).freeze();
            open.run.bytes += gap.len();
            open.run.pieces.push(gap);
        }
        let entry = open.carve();
        open.run.note(header, at);
        let (chunk, more) = (open.chunk, open.run.bytes - before);
        runs.bytes += more;
        drop(runs);
        self.push_entry(entry, header, chunk);
        Ok(())
    }

    /// Takes the open run back if nothing came of it, and returns its chunk.
    pub(crate) fn drop_empty_run(&self) -> Option<ChunkId> {
        let mut runs = self.runs.borrow_mut();
        runs.open.take_if(|open| open.run.entries.is_empty()).map(|open| open.chunk)
    }

    fn push_entry(&self, bytes: Bytes, header: &BatchHeader, chunk: ChunkId) {
        self.push(TailEntry {
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            max_timestamp: header.max_timestamp,
            chunk,
            bytes,
        });
    }

    /// How many bytes the oldest runs have that may be written into `segment` at `position` next: about `most`, and one run at
    /// least. None if the segment has no room for the first.
    pub(crate) fn next_runs(&self, segment: &Segment, position: u64, most: usize) -> Option<usize> {
        let runs = &mut *self.runs.borrow_mut();
        if runs.sealed.is_empty() {
            runs.seal();
        }
        let mut bytes = 0;
        for run in &runs.sealed {
            let (at, last_offset) = (position + bytes as u64, run.next_offset() - 1);
            if bytes >= most || !segment.has_room_for(at, last_offset, run.bytes, self.segment_bytes()) {
                break;
            }
            bytes += run.bytes;
        }
        (bytes > 0).then_some(bytes)
    }

    /// Takes the runs that [`Partition::next_runs`] has counted, as far as they are still there.
    pub(crate) fn take_runs(&self, segment: &Segment, position: u64, bytes: usize) -> Option<Vec<WriteRun>> {
        // Others may have come in their place.
        let bytes = self.next_runs(segment, position, bytes).filter(|next| *next <= bytes)?;
        let runs = &mut *self.runs.borrow_mut();
        let (mut taken, mut left) = (Vec::new(), bytes);
        while left > 0 {
            let run = runs.sealed.pop_front().expect("it was counted just now");
            assert!(run.is_whole(), "a run is neighbours in memory, and whole blocks");
            left -= run.bytes;
            taken.push(run);
        }
        runs.bytes -= bytes;
        Some(taken)
    }

    /// Takes out of the log what no write has taken and nobody was told of; a small batch that shares its run with one that
    /// somebody was told of stays with it. True if that was anything: then nothing is
    /// appended until [`Partition::take_refused`] has said from where on.
    pub(crate) fn refuse_unwritten(&self) -> bool {
        let told_end = match self.config().ack {
            TopicAck::Disk if mutant("told-taken-back") => 0,
            TopicAck::Disk => self.told_end.get(),
            TopicAck::Memory => i64::MAX,
        };
        let Some(from) = self.runs.borrow_mut().take_back(told_end) else { return false };
        reached("large batch refused on a full disk");
        assert!(from >= self.durable_end().max(self.flushed_end()), "what is written stays");
        self.tail.borrow_mut().take_back(from);
        self.log_end.set(from);
        assert_eq!(
            self.refused_from.replace(Some(from)),
            None,
            "nothing is appended behind a refusal that is untold"
        );
        true
    }

    /// Notes that these runs stand in the active segment, synced, with everything before them.
    pub(crate) fn runs_written(&self, segment: &Segment, runs: &[WriteRun]) {
        let mut entries = 0;
        for run in runs {
            segment.hold(run);
            entries += run.entries.len();
        }
        self.tail.borrow_mut().flushed(entries);
        self.flushed_end.set(segment.end_offset());
        self.synced.set((segment.end_offset(), Some(segment.point())));
        self.grown.set(true);
    }

    /// What the journal is to say of the segments: all they hold is synced.
    pub(crate) fn mark(&self) -> Option<Mark> {
        let (next_offset, segment) = self.synced.get();
        segment.map(|segment| Mark { id: self.id(), segment, next_offset })
    }

    /// The entries that no write has taken, oldest first.
    pub(crate) fn pending_entries(&self) -> Vec<Bytes> {
        let from = self.pending_start();
        let tail = self.tail.borrow();
        let all = tail.to_flush(i64::MAX, |_| true);
        all.into_iter().filter(|entry| entry.base_offset >= from).map(|entry| entry.bytes).collect()
    }
}
