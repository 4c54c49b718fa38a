//! All entries of a segment, one after another, each with everything checked: for those who look at a log at rest.
//!
//! Only the file is read, with no help of the index.

use std::io;

use ringlog_protocol::batch::BatchHeader;

use super::read::{Cursor, Found, UNSOUND_BODY};
use super::{Segment, SegmentError};
use crate::format::envelope::EntryKind;
use crate::limits::{BLOCK_BYTES, COLD_READ_BYTES};

/// An entry that stands where it should.
pub(crate) struct WalkedEntry {
    /// Where its envelope begins.
    pub(crate) position: u64,
    /// Where the batch ends.
    pub(crate) end: u64,
    pub(crate) kind: EntryKind,
    pub(crate) header: BatchHeader,
    /// Whether the batch's CRC fits.
    pub(crate) sound: bool,
}

/// Why a walk did not come to the segment's end.
#[derive(Debug)]
pub(crate) enum WalkError {
    Io(io::Error),
    /// The entry of offset `offset` is not at `position`.
    Damaged {
        position: u64,
        offset: i64,
        reason: String,
    },
}

impl WalkedEntry {
    /// What is wrong with the batch, as where the walk might have ended.
    pub(crate) fn damage(&self) -> Option<WalkError> {
        let (position, offset) = (self.position, self.header.base_offset);
        (!self.sound).then(|| WalkError::Damaged { position, offset, reason: UNSOUND_BODY.to_owned() })
    }
}

impl Segment {
    /// Tells `see` of every entry from `position` on, where that of `offset` is, to the segment's end. Returns the position
    /// behind the last. A batch whose body alone is damaged does not end the walk.
    pub(crate) async fn walk(
        &self,
        position: u64,
        offset: i64,
        see: &mut dyn FnMut(&WalkedEntry),
    ) -> Result<u64, WalkError> {
        // A header that is wrong is found at the file's first byte.
        self.file().await.map_err(|error| walk_error(error, 0, offset))?;
        let mut cursor = Cursor { position, expected: Some(offset) };
        let mut len = COLD_READ_BYTES;
        while let Some(offset) = cursor.expected.filter(|offset| *offset < self.end_offset()) {
            let read = self.read_blocks(cursor.position, len).await;
            let (bytes, from) = read.map_err(|error| walk_error(error, cursor.position, offset))?;
            len = COLD_READ_BYTES;
            match self.see_all(&bytes, from, &mut cursor, see) {
                Found::Damage(reason) => return Err(damaged(&cursor, reason)),
                Found::End { need: Some(need) } if cursor.position + need as u64 > self.written() => {
                    return Err(damaged(&cursor, "an entry ends behind the segment".to_owned()));
                }
                Found::End { need: Some(need) } => len = len.max(need + BLOCK_BYTES),
                Found::End { need: None } | Found::Entry(..) => {}
            }
        }
        Ok(cursor.position)
    }

    /// Tells `see` of the entries from `position` on, where that of `offset` is, as long as one follows on another: of a segment
    /// whose end is not known.
    pub(crate) async fn walk_on(
        &self,
        position: u64,
        offset: i64,
        see: &mut dyn FnMut(&WalkedEntry),
    ) -> io::Result<()> {
        let mut cursor = Cursor { position, expected: Some(offset) };
        let mut len = COLD_READ_BYTES;
        while cursor.position < self.written() {
            let (bytes, from) = match self.read_blocks(cursor.position, len).await {
                Ok(read) => read,
                Err(SegmentError::Io(error)) => return Err(error),
                Err(SegmentError::Damaged(_)) => return Ok(()),
            };
            let before = cursor.expected;
            len = match self.see_all(&bytes, from, &mut cursor, see) {
                Found::End { need: Some(need) } if cursor.position + need as u64 <= self.written() => {
                    COLD_READ_BYTES.max(need + BLOCK_BYTES)
                }
                Found::End { need: None } if cursor.expected != before => COLD_READ_BYTES,
                Found::End { .. } | Found::Damage(_) | Found::Entry(..) => return Ok(()),
            };
        }
        Ok(())
    }

    /// Goes through `bytes`, up to the segment's last entry.
    fn see_all(
        &self,
        bytes: &[u8],
        from: u64,
        cursor: &mut Cursor,
        see: &mut dyn FnMut(&WalkedEntry),
    ) -> Found {
        loop {
            let found = self.step(bytes, from, cursor);
            let Found::Entry(at, entry) = &found else { return found };
            let (position, header, kind) = (from + *at as u64, entry.header, entry.envelope.kind);
            let end = position + entry.len() as u64;
            see(&WalkedEntry { position, end, kind, header, sound: entry.body_is_sound(&bytes[*at..]) });
            if header.next_offset() >= self.end_offset() {
                return found;
            }
        }
    }
}

fn damaged(cursor: &Cursor, reason: String) -> WalkError {
    WalkError::Damaged { position: cursor.position, offset: cursor.expected.unwrap_or(0), reason }
}

fn walk_error(error: SegmentError, position: u64, offset: i64) -> WalkError {
    match error {
        SegmentError::Io(error) => WalkError::Io(error),
        SegmentError::Damaged(reason) => WalkError::Damaged { position, offset, reason },
    }
}
