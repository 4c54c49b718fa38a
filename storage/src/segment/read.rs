//! Entries out of a segment: large aligned reads, everything checked once, slices handed out.

use bytes::Bytes;
use ringlog_reactor::sim::{mutant, reached};

use super::{Place, Segment, SegmentError};
use crate::format::entry::{Entry, EntryError, entry_start, is_padding};
use crate::format::envelope::ENVELOPE_BYTES;
use crate::limits::{BLOCK_BYTES, COLD_READ_BYTES, round_up};
use crate::stats::{add, count};

const BLOCK: u64 = BLOCK_BYTES as u64;

/// One batch that was read.
#[derive(Debug, Clone)]
pub(crate) struct ReadEntry {
    pub(crate) base_offset: i64,
    pub(crate) last_offset: i64,
    pub(crate) batch: Bytes,
}

/// Batches that stand one after another.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReadRun {
    pub(crate) entries: Vec<ReadEntry>,
    /// Where the entry behind the last begins, or padding before it.
    pub(crate) next_position: u64,
    /// Memory that the entries keep.
    pub(crate) bytes: usize,
}

/// Where a walk through entries has got to.
pub(super) struct Cursor {
    pub(super) position: u64,
    /// The base offset that the next entry must have; unknown before the first.
    pub(super) expected: Option<i64>,
}

/// What a walk found at its cursor.
pub(super) enum Found {
    /// An entry, that many bytes into the buffer. The cursor is behind it.
    Entry(usize, Entry),
    /// The buffer ends. The entry at the cursor needs that many bytes, or there is none.
    End { need: Option<usize> },
    /// What stands at the cursor is not the next entry of this segment.
    Damage(String),
}

/// What is said of a batch that its CRC does not fit.
pub(super) const UNSOUND_BODY: &str = "the batch's checksum does not match";

impl Segment {
    /// Reads from `place` on until the batch that holds `offset` and as much behind it as one read
    /// gives. Damage behind that batch is left for the read that comes to it.
    pub(crate) async fn read_run(&self, place: Place, offset: i64) -> Result<ReadRun, SegmentError> {
        let mut cursor = Cursor { position: place.position, expected: place.base_offset };
        let mut len = COLD_READ_BYTES;
        loop {
            let (bytes, from) = self.read_blocks(cursor.position, len).await?;
            let (run, end) = self.parse(&bytes, from, &mut cursor, offset);
            if !run.entries.is_empty() {
                return Ok(ReadRun { bytes: bytes.len(), next_position: cursor.position, ..run });
            }
            match end {
                Found::End { need: Some(need) } => {
                    reached("entry over the end of a cold read");
                    len = (cursor.position % BLOCK) as usize + need;
                    if cursor.position - cursor.position % BLOCK + len as u64 > self.written() {
                        return Err(SegmentError::Damaged("an entry ends behind the segment".to_owned()));
                    }
                }
                Found::End { need: None } => len = COLD_READ_BYTES,
                Found::Damage(reason) => {
                    let place = format!("{reason} at byte {} of the segment", cursor.position);
                    return Err(SegmentError::Damaged(place));
                }
                Found::Entry(..) => unreachable!("a walk does not end at an entry"),
            }
        }
    }

    /// Reads whole blocks around `position`: at least `len` bytes, if the segment has them. Returns them and where they
    /// begin.
    pub(super) async fn read_blocks(&self, position: u64, len: usize) -> Result<(Bytes, u64), SegmentError> {
        let from = position - position % BLOCK;
        let written = self.written();
        // What is wrong with the whole file is said first.
        let file = self.file().await?;
        if position >= written {
            return Err(SegmentError::Damaged("the segment ends before the offset".to_owned()));
        }
        let len = round_up(len).min((written - from) as usize);
        let read = file.read_at(ringlog_reactor::aligned(len), from, len).await?;
        reached("cold read");
        count(&self.context.counters.cold_reads);
        add(&self.context.counters.cold_bytes, read.len() as u64);
        if read.len() < len {
            return Err(SegmentError::Damaged(format!(
                "the segment file has {} bytes, {written} were written",
                from + read.len() as u64
            )));
        }
        Ok((read.freeze(), from))
    }

    fn parse(&self, bytes: &Bytes, from: u64, cursor: &mut Cursor, offset: i64) -> (ReadRun, Found) {
        let mut run = ReadRun::default();
        loop {
            let before = cursor.position;
            let (at, entry) = match self.step(bytes, from, cursor) {
                Found::Entry(at, entry) => (at, entry),
                end => return (run, end),
            };
            if entry.header.last_offset() < offset {
                continue;
            }
            if run.entries.is_empty() && entry.header.base_offset > offset {
                return (run, Found::Damage(format!("offset {offset} is missing from the segment")));
            }
            // Of the ones before, nothing is handed out: damage there is nobody's business now.
            if !entry.body_is_sound(&bytes[at..]) && !mutant("read-crc-unchecked") {
                cursor.position = before;
                return (run, Found::Damage(UNSOUND_BODY.to_owned()));
            }
            run.entries.push(ReadEntry {
                base_offset: entry.header.base_offset,
                last_offset: entry.header.last_offset(),
                batch: bytes.slice(at + ENVELOPE_BYTES..at + entry.len()),
            });
        }
    }

    /// Goes to the next entry within `bytes`, which begin at `from`. Bodies are not checked.
    pub(super) fn step(&self, bytes: &[u8], from: u64, cursor: &mut Cursor) -> Found {
        loop {
            cursor.position = entry_start(cursor.position);
            let at = (cursor.position - from) as usize;
            let rest = bytes.get(at..).unwrap_or_default();
            if rest.is_empty() {
                return Found::End { need: None };
            }
            if is_padding(rest) {
                cursor.position += BLOCK - cursor.position % BLOCK;
                continue;
            }
            return match Entry::decode(rest) {
                Ok(entry) => self.accept(entry, at, cursor),
                Err(EntryError::Short { need }) => Found::End { need: Some(need) },
                Err(error) => Found::Damage(error.to_string()),
            };
        }
    }

    fn accept(&self, entry: Entry, at: usize, cursor: &mut Cursor) -> Found {
        let stranger = self.stranger(&entry, cursor).filter(|_| !mutant("entry-identity-unchecked"));
        if let Some(reason) = stranger {
            return Found::Damage(reason);
        }
        cursor.expected = Some(entry.header.next_offset());
        cursor.position += entry.len() as u64;
        Found::Entry(at, entry)
    }

    /// Why an entry is not what must stand at the cursor, if it is not.
    fn stranger(&self, entry: &Entry, cursor: &Cursor) -> Option<String> {
        if entry.id() != self.context.id {
            return Some(format!("an entry of {} stands there", entry.id()));
        }
        let base = entry.header.base_offset;
        if base < self.base_offset || cursor.expected.is_some_and(|expected| base != expected) {
            return Some(format!("an entry at offset {base} is out of order"));
        }
        // It may be what an earlier life wrote there and nobody was told of.
        (base >= self.end_offset())
            .then(|| format!("an entry at offset {base} stands behind the segment's end"))
    }
}
