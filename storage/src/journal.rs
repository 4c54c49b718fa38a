//! The frames of a journal: the one that is open, those that wait to be written, and how far it is durable.
//!
//! Invariants:
//! - Sequences are consecutive, from 1 in every epoch; `durable < every queued frame < the open frame`.
//! - An entry is appended to the open frame only; a sealed frame is never changed.
//! - An open frame has an entry or a mark, but between `make_room` and `copy_in` or `put`.
//! - A frame is handed out to be written only when all but the last `MAX_COMMITS_IN_FLIGHT - 1` before it are durable, and
//!   says so in its header. Frames become durable in their order, whichever write ends first.

use std::collections::VecDeque;
use std::rc::Rc;

use bytes::{BufMut, Bytes, BytesMut};
use ringlog_protocol::batch::{BatchError, BatchHeader};
use ringlog_reactor::sim::mutant;

use crate::CommitSeq;
use crate::config::TopicAck;
use crate::entry;
use crate::format::envelope::{ENVELOPE_BYTES, EntryKind};
use crate::format::frame::{self, Chain};
use crate::format::identity::JournalIdentity;
use crate::journal_files::JournalFiles;
use crate::limits::{
    CHUNK_BYTES, FRAME_OVERHEAD, LAZY_COMMIT_BYTES, MAX_COMMITS_IN_FLIGHT, MAX_QUEUED_FRAMES, round_up,
};
use crate::memory::LogMemory;
use crate::partition::{ChunkId, Partition};

/// A partition with entries in a frame, and the log end behind the last of them.
pub(crate) struct Touched {
    pub(crate) partition: Rc<Partition>,
    pub(crate) end: i64,
}

/// A frame that only needs to be written.
pub(crate) struct SealedFrame {
    pub(crate) sequence: CommitSeq,
    /// Neighbours in memory, together a multiple of the block size.
    pub(crate) pieces: Vec<Bytes>,
    pub(crate) bytes: usize,
    /// It was handed out while another was under way.
    pub(crate) overlaps: bool,
    touched: Vec<Touched>,
}

struct OpenFrame {
    sequence: u64,
    /// Cut off with the first entry, filled in when the frame is sealed.
    header: BytesMut,
    /// The first is kept free for the header.
    pieces: Vec<Bytes>,
    bytes: usize,
    chain: Chain,
    touched: Vec<Touched>,
    /// It has a place in the journal's files up to this length.
    most_bytes: usize,
    /// Somebody waits for it to be durable.
    urgent: bool,
}

impl OpenFrame {
    fn is_due(&self) -> bool {
        self.urgent || self.bytes >= LAZY_COMMIT_BYTES
    }
}

/// A frame on its way to the disk.
struct Writing {
    touched: Vec<Touched>,
    written: bool,
}

pub(crate) struct Journal {
    identity: JournalIdentity,
    memory: LogMemory,
    open: Option<OpenFrame>,
    sealed: VecDeque<SealedFrame>,
    /// The frames behind the durable one that were handed out to be written, in order.
    writing: VecDeque<Writing>,
    /// The sequence of the last durable frame.
    durable: u64,
    /// The sequence of the next frame to be opened.
    next: u64,
    max_frame_bytes: usize,
}

/// Where an entry went.
pub(crate) struct Carved {
    pub(crate) entry: Bytes,
    pub(crate) chunk: ChunkId,
    pub(crate) sequence: CommitSeq,
    /// The frame was empty before, or has become due: the commit task must look.
    pub(crate) news: bool,
}

/// Why there is no room for an entry now.
pub(crate) enum NoRoom {
    /// Log memory is full of unflushed entries.
    Memory,
    /// Too many frames wait to be written.
    Queue,
    /// The files of the journal have no place for another frame.
    Files,
}

impl Journal {
    pub(crate) fn new(identity: JournalIdentity, tail_bytes: u64, max_frame_bytes: usize) -> Journal {
        Journal {
            identity,
            memory: LogMemory::new(tail_bytes),
            open: None,
            sealed: VecDeque::new(),
            writing: VecDeque::with_capacity(MAX_COMMITS_IN_FLIGHT),
            durable: 0,
            next: 1,
            max_frame_bytes,
        }
    }

    pub(crate) fn identity(&self) -> JournalIdentity {
        self.identity
    }

    pub(crate) fn memory(&mut self) -> &mut LogMemory {
        &mut self.memory
    }

    pub(crate) fn durable(&self) -> CommitSeq {
        CommitSeq(self.durable)
    }

    /// Whether everything appended is durable.
    pub(crate) fn is_idle(&self) -> bool {
        self.durable + 1 == self.next
    }

    /// The longest batch that fits a frame of this journal.
    pub(crate) fn max_batch_bytes(&self) -> usize {
        self.max_frame_bytes - FRAME_OVERHEAD - ENVELOPE_BYTES
            + usize::from(mutant("journaled-batch-too-long"))
    }

    /// Makes room for `need` bytes of entries or marks in an open frame. Returns how many chunks were evicted for it.
    pub(crate) fn make_room(&mut self, need: usize, files: &JournalFiles) -> Result<u64, NoRoom> {
        if self.open.as_ref().is_some_and(|open| self.fits(open, need)) {
            return Ok(0);
        }
        if self.sealed.len() >= MAX_QUEUED_FRAMES {
            return Err(NoRoom::Queue);
        }
        self.seal();
        let (frame, mut evicted) = (round_up(FRAME_OVERHEAD + need), 0);
        let most_bytes = files.room_behind(self.sealed.iter().map(|frame| frame.bytes));
        if frame > most_bytes {
            return Err(NoRoom::Files);
        }
        if frame > self.memory.spare() {
            evicted = self.memory.open_chunk(frame).map_err(|_| NoRoom::Memory)?;
        }
        self.open_frame(most_bytes);
        Ok(evicted)
    }

    /// Whether an entry of `need` bytes fits the open frame, in its chunk and in its file.
    fn fits(&self, open: &OpenFrame, need: usize) -> bool {
        let grown = round_up(open.bytes + need + frame::END_BYTES);
        let limit = self.max_frame_bytes.min(CHUNK_BYTES).min(open.most_bytes);
        grown <= limit && grown - open.bytes <= self.memory.spare()
    }

    fn open_frame(&mut self, most_bytes: usize) {
        let sequence = self.next;
        self.next += 1;
        self.memory.tail().put_bytes(0, frame::HEADER_BYTES);
        self.open = Some(OpenFrame {
            sequence,
            header: BytesMut::new(),
            bytes: frame::HEADER_BYTES,
            pieces: Vec::new(),
            chain: self.identity.chain(sequence),
            touched: Vec::new(),
            most_bytes,
            urgent: false,
        });
    }

    /// Copies a batch into the open frame, with its final base offset and leader epoch, and checks its CRC in the same
    /// pass. If that does not fit, the journal is as it was before. There must be room: see [`Journal::make_room`].
    pub(crate) fn copy_in(
        &mut self,
        partition: &Rc<Partition>,
        batch: &[u8],
        header: &BatchHeader,
    ) -> Result<Carved, BatchError> {
        self.assert_room(ENVELOPE_BYTES + batch.len());
        let envelope_crc =
            match entry::copy_in(self.memory.tail(), partition.id(), EntryKind::Journaled, batch, header) {
                Ok(crc) => crc,
                Err(error) => {
                    self.close_if_empty();
                    return Err(error);
                }
            };
        let (entry, first, was_due) = self.carve(envelope_crc);
        let chunk = self.memory.note(partition);
        let open = self.open.as_mut().expect("room was made in an open frame");
        touch(open, partition, header.next_offset());
        open.urgent |= partition.config().ack == TopicAck::Disk;
        let news = first || open.is_due() != was_due;
        Ok(Carved { entry, chunk, sequence: CommitSeq(open.sequence), news })
    }

    /// Copies what is sound already, an entry or a mark with this checksum, into the open frame. With its commit the
    /// partition is durable up to `end`. There must be room.
    pub(crate) fn put(&mut self, partition: &Rc<Partition>, bytes: &[u8], crc: u32, end: i64) {
        self.assert_room(bytes.len());
        self.memory.tail().put_slice(bytes);
        self.carve(crc);
        let open = self.open.as_mut().expect("room was made in an open frame");
        touch(open, partition, end);
        open.urgent = true;
    }

    fn assert_room(&mut self, need: usize) {
        assert!(need + frame::END_BYTES <= self.memory.spare(), "room was made for the entry");
    }

    /// Takes what was written last, with this checksum, into the open frame. Says whether it is the first there, and whether
    /// the frame was due before.
    fn carve(&mut self, crc: u32) -> (Bytes, bool, bool) {
        let open = self.open.as_mut().expect("room was made in an open frame");
        let first = open.pieces.is_empty();
        if first {
            open.header = self.memory.carve_front(frame::HEADER_BYTES);
            open.pieces.push(Bytes::new());
        }
        let piece = self.memory.carve();
        open.chain = open.chain.with(crc);
        let was_due = open.is_due();
        open.bytes += piece.len();
        open.pieces.push(piece.clone());
        (piece, first, was_due)
    }

    /// Makes the open frame due. False if there is none that was not.
    pub(crate) fn hurry(&mut self) -> bool {
        let lazy = self.open.as_mut().filter(|open| !open.is_due());
        lazy.map(|open| open.urgent = true).is_some()
    }

    /// Whether there are entries that nobody waits for.
    pub(crate) fn is_lazy(&self) -> bool {
        self.open.as_ref().is_some_and(|open| !open.is_due())
    }

    /// Takes an open frame back whose first entry was refused: a frame has at least one.
    fn close_if_empty(&mut self) {
        if self.open.take_if(|open| open.pieces.is_empty()).is_some() {
            self.memory.tail().clear();
            self.next -= 1;
        }
    }

    /// Closes the open frame, if there is one, and queues it.
    fn seal(&mut self) {
        let Some(mut open) = self.open.take() else { return };
        let length = open.bytes + frame::END_BYTES;
        let end = self.identity.end_marker(open.sequence, length as u32, open.chain);
        let bytes = round_up(length);
        let tail = self.memory.tail();
        tail.put_slice(&end);
        tail.put_bytes(0, bytes - length);
        open.pieces.push(self.memory.carve());
        let OpenFrame { sequence, mut header, mut pieces, touched, .. } = open;
        let window = (sequence - 1 - self.durable).min(MAX_COMMITS_IN_FLIGHT as u64 - 1);
        header.copy_from_slice(&self.identity.header(sequence, window as u32));
        pieces[0] = header.freeze();
        self.sealed.push_back(SealedFrame {
            sequence: CommitSeq(sequence),
            pieces,
            bytes,
            overlaps: false,
            touched,
        });
    }

    /// The next frame to write, sealing the open one if nothing else waits and it is due. None while as many as may be are
    /// under way.
    pub(crate) fn next_frame(&mut self) -> Option<SealedFrame> {
        if self.writing.len() >= MAX_COMMITS_IN_FLIGHT {
            return None;
        }
        if self.sealed.is_empty() && self.open.as_ref().is_some_and(OpenFrame::is_due) {
            self.seal();
        }
        let mut frame = self.sealed.pop_front()?;
        let before = self.durable + self.writing.len() as u64;
        assert_eq!(frame.sequence.0, before + 1, "frames are written in their order");
        frame.overlaps = !self.writing.is_empty();
        self.writing.push_back(Writing { touched: std::mem::take(&mut frame.touched), written: false });
        Some(frame)
    }

    /// Notes that a frame that was handed out is on stable storage.
    pub(crate) fn written(&mut self, sequence: CommitSeq) {
        if mutant("acked-out-of-order") {
            let upto = sequence.0.saturating_sub(self.durable) as usize;
            return self.writing.iter_mut().take(upto).for_each(|writing| writing.written = true);
        }
        let place = (sequence.0 - self.durable - 1) as usize;
        self.writing[place].written = true;
        if mutant("watermark-before-frame-before") {
            self.publish_ahead(place);
        }
    }

    /// A known bug: partitions that the frames before do not touch need not wait for them.
    fn publish_ahead(&self, place: usize) {
        let touches = |frame: &Writing, partition| {
            frame.touched.iter().any(|touched| Rc::ptr_eq(&touched.partition, partition))
        };
        for Touched { partition, end, .. } in &self.writing[place].touched {
            if !self.writing.iter().take(place).any(|frame| touches(frame, partition)) {
                partition.committed(*end);
            }
        }
    }

    /// Takes one step forward if the next frame is on stable storage: what has become durable with it.
    pub(crate) fn advance_durable(&mut self) -> Option<Vec<Touched>> {
        let done = self.writing.pop_front_if(|next| next.written)?;
        self.durable += 1;
        Some(done.touched)
    }
}

/// Notes the log end that becomes durable with the frame. A partition remembers its place in the open frame.
fn touch(open: &mut OpenFrame, partition: &Rc<Partition>, end: i64) {
    let (sequence, slot) = partition.frame_slot();
    if sequence == open.sequence {
        open.touched[slot].end = end;
        return;
    }
    partition.set_frame_slot(open.sequence, open.touched.len());
    open.touched.push(Touched { partition: Rc::clone(partition), end });
}
