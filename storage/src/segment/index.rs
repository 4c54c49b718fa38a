//! How a segment's index is made whole from its file or by scanning.

use ringlog_reactor::fs;
use ringlog_reactor::sim::{mutant, reached};

use super::partial_index::{FIRST_ENTRY, PartialIndex, Place, UNKNOWN_TIME, push};
use super::read::{Cursor, Found};
use super::{Segment, SegmentError};
use crate::format::index::{Index, IndexEntry};
use crate::layout;
use crate::limits::{BLOCK_BYTES, SCAN_READ_BYTES};
use crate::stats::count;

/// Where an index is made whole from.
#[derive(Clone, Copy)]
enum Source<'a> {
    /// Its file, and the segment for the rest.
    File,
    /// The segment alone. Where damage is in the way, the entries of an index that is not trusted say where to go on: they
    /// are believed as far as what stands there agrees.
    Segment { hints: &'a [IndexEntry] },
}

impl Segment {
    /// Where to begin to read for `offset`.
    pub(crate) async fn place_of(&self, offset: i64) -> Result<Place, SegmentError> {
        if let Some(place) = self.index.borrow().place_of(offset) {
            return Ok(place);
        }
        self.complete_index(Source::File).await?;
        let first = Place { position: FIRST_ENTRY, base_offset: Some(self.base_offset) };
        Ok(self.index.borrow().place_of(offset).unwrap_or(first))
    }

    /// Builds the index again without its file, if some of it came from there. Says whether it did.
    pub(crate) async fn distrust_index(&self) -> Result<bool, SegmentError> {
        if !self.index.borrow().from_file || mutant("trust-index") {
            return Ok(false);
        }
        reached("index file was wrong");
        let unknown = PartialIndex::from(self.base_offset, self.written(), self.end_offset());
        let hints = self.index.replace(unknown).index.entries;
        self.complete_index(Source::Segment { hints: &hints }).await?;
        Ok(true)
    }

    /// The offset from which on to look for the first batch with a timestamp of at least `timestamp`, if there is one.
    pub(crate) async fn offset_of_time(&self, timestamp: i64) -> Result<Option<i64>, SegmentError> {
        self.complete_index(Source::File).await?;
        Ok(self.index.borrow().offset_of_time(timestamp))
    }

    /// The largest timestamp of the segment's batches; none if some of them cannot be read.
    pub(crate) async fn newest_timestamp(&self) -> Result<Option<i64>, SegmentError> {
        let known = |newest: i64| (newest != UNKNOWN_TIME).then_some(newest);
        if !self.index.borrow().is_whole() {
            // A reader of the segment needs the index in memory; retention needs this alone.
            let file = self.load_index(self.written(), self.end_offset()).await;
            if let Some(index) = file.filter(|index| index.covered_bytes == self.written()) {
                return Ok(known(index.max_timestamp));
            }
        }
        self.complete_index(Source::File).await?;
        Ok(known(self.index.borrow().index.max_timestamp))
    }

    /// Makes the index whole: from its file, if that is to be used, as far as it is good; the rest by scanning.
    async fn complete_index(&self, source: Source<'_>) -> Result<(), SegmentError> {
        let _indexing = self.indexing.acquire().await;
        // Sealing and closing the segment meanwhile makes another index: then this goes round once more.
        while !self.index.borrow().is_whole() {
            self.extend_index_back(source).await?;
        }
        Ok(())
    }

    async fn extend_index_back(&self, source: Source<'_>) -> Result<(), SegmentError> {
        let (position, offset) = {
            let index = self.index.borrow();
            (index.from_position, index.from_offset)
        };
        let (loaded, hints) = match source {
            Source::File => (self.load_index(position, offset).await, &[][..]),
            Source::Segment { hints } => (None, hints),
        };
        let from_file = loaded.is_some();
        reached(if from_file { "index loaded" } else { "index rebuilt" });
        let covered = loaded.as_ref().map_or(FIRST_ENTRY, |index| index.covered_bytes);
        count(match &loaded {
            Some(_) => &self.context.counters.index_loads,
            None => &self.context.counters.index_rebuilds,
        });
        let front = loaded.unwrap_or_else(|| Index::empty(self.base_offset));
        let mut front = self.scan(front, position, hints).await?;
        if front.next_offset < offset {
            // Damage ended the scan early. What stands behind it counts as new as can be: retention keeps it, and whoever
            // looks for a time reads on to the damage and is told.
            front.max_timestamp = UNKNOWN_TIME;
        }
        if self.index.borrow().from_position == position {
            self.index.borrow_mut().prepend(front, from_file);
        }
        if covered < position && self.is_sealed() {
            self.save_index().await;
        }
        Ok(())
    }

    /// The index file, if it is there, sound, and about what is before `position`.
    async fn load_index(&self, position: u64, offset: i64) -> Option<Index> {
        let path = layout::index_file(self.dir(), self.base_offset);
        let bytes = self.context.descriptors.with_one(|| fs::read(&path)).await.ok()?;
        let index = Index::decode(&bytes).ok()?;
        let fits = index.segment_base == self.base_offset
            && index.covered_bytes <= position
            && index.next_offset <= offset;
        fits.then_some(index)
    }

    /// Goes on from what `index` covers to `until`. Damage ends it early, unless a hint leads behind it.
    async fn scan(&self, mut index: Index, until: u64, hints: &[IndexEntry]) -> Result<Index, SegmentError> {
        let mut cursor = Cursor { position: index.covered_bytes, expected: None };
        let mut len = SCAN_READ_BYTES;
        // Where an index from a file ends, and behind damage, an entry must be found again.
        let mut must_be_found = index.covered_bytes > FIRST_ENTRY;
        while cursor.position < until {
            let (bytes, from) = self.read_blocks(cursor.position, len).await?;
            let begun = cursor.position;
            let end = loop {
                match self.step(&bytes, from, &mut cursor) {
                    // Padding may have led behind the end.
                    Found::Entry(at, entry) if from + (at as u64) < until => {
                        let header = &entry.header;
                        let offsets = (header.base_offset, header.next_offset());
                        push(&mut index, offsets, header.max_timestamp, from + at as u64, must_be_found);
                        must_be_found = false;
                    }
                    end => break end,
                }
            };
            match end {
                Found::End { need: Some(need) } if cursor.position == begun && len < need => {
                    len = need + BLOCK_BYTES
                }
                Found::End { .. } if cursor.position > begun => len = SCAN_READ_BYTES,
                Found::Damage(_) | Found::End { .. } => {
                    let Some(hint) = hints.iter().find(|hint| u64::from(hint.position) > cursor.position)
                    else {
                        break;
                    };
                    let offset = self.base_offset + i64::from(hint.relative_offset);
                    cursor = Cursor { position: hint.position.into(), expected: Some(offset) };
                    // What was skipped counts as new as can be: see `extend_index_back`.
                    index.max_timestamp = UNKNOWN_TIME;
                    (must_be_found, len) = (true, SCAN_READ_BYTES);
                }
                Found::Entry(..) => break,
            }
        }
        index.covered_bytes = until;
        Ok(index)
    }

    /// Writes the index file, if the index is whole. It is a cache, so a failure only costs a scan later.
    pub(crate) async fn save_index(&self) {
        let Some(_working) = self.context.activity.enter() else { return };
        let bytes = {
            let index = self.index.borrow();
            if !index.is_whole() || index.index.entries.is_empty() {
                return;
            }
            index.index.encode()
        };
        let path = layout::index_file(self.dir(), self.base_offset);
        if let Err(error) = self.context.descriptors.with_one(|| fs::replace(&path, &bytes)).await {
            tracing::warn!(path = %path.display(), %error, "an index could not be written");
        }
    }
}
