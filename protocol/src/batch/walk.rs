//! Checks every record of a batch without making any: what a broker does before it gives the batch an offset.
//!
//! Invariant: a batch passes exactly if [`RecordIter`](super::RecordIter) reads all of its records and no record is
//! later than the largest timestamp that the header states, because a search by time would pass it over.
//!
//! The walk takes its bytes one after another from a `Source`: a slice, or a codec that unpacks as it goes. It
//! allocates nothing.

use super::header::{BatchHeader, NO_TIMESTAMP};
use super::varint::{self, zigzag_to_i64};
use crate::limits::{MAX_UNPACKED_BYTES, UNPACKED_HEADER_BYTES, UNPACKED_NAME_FACTOR, UNPACKED_RECORD_BYTES};

/// What is wrong with one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordFault {
    /// The length is no number, or negative.
    #[error("has an impossible length")]
    Length,
    /// There is no room for the attributes.
    #[error("is too short for a record")]
    Attributes,
    /// The timestamp delta is no number.
    #[error("has a malformed timestamp delta")]
    Timestamp,
    /// Readers that look for a time go by the header.
    #[error("has a timestamp later than the largest that the batch states")]
    LaterThanLargest,
    /// The offset delta is no number.
    #[error("has a malformed offset delta")]
    OffsetDelta,
    /// The offset delta is not after the one before, or past the batch's last.
    #[error("has an offset delta that is not after the one before it, or is past the batch's last")]
    Order,
    /// The key's length is no number, or does not fit into the record.
    #[error("has a key that does not fit into the record")]
    Key,
    /// The value's length is no number, or does not fit into the record.
    #[error("has a value that does not fit into the record")]
    Value,
    /// A header is malformed, or does not fit into the record.
    #[error("has headers that do not fit into the record")]
    Headers,
    /// The record is longer than what it holds.
    #[error("is longer than its content")]
    LeftOver,
}

/// Why the records of a batch cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordsError {
    /// One record is malformed. Records are counted from 0.
    #[error("record {index} of {count} {fault}")]
    Record {
        /// Which.
        index: i32,
        /// How many the header states.
        count: i32,
        /// What is wrong with it.
        fault: RecordFault,
    },
    /// The batch ends early.
    #[error("the batch states {count} records and has {found}")]
    Missing {
        /// How many there are.
        found: i32,
        /// How many the header states.
        count: i32,
    },
    /// Bytes follow the last record.
    #[error("bytes follow the last of the batch's {0} records")]
    Trailing(i32),
    /// A reader would need too much memory.
    #[error(
        "the batch's records and headers would take a reader more than {MAX_UNPACKED_BYTES} bytes; send fewer in one batch"
    )]
    TooMany,
    /// The records unpack to more than the limit.
    #[error("the batch unpacks to more than {0} bytes")]
    TooLarge(usize),
    /// The codec cannot unpack the records.
    #[error("the batch's records cannot be unpacked: {0}")]
    Packed(String),
}

/// What a walk over all records found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walked {
    /// The earliest timestamp of a record, Unix milliseconds. None if no record has one.
    pub earliest_ms: Option<i64>,
}

/// Walks over an uncompressed records section: `header` is its batch's. None if that takes more than `steps` steps; a
/// record is one, and so is a header of a record.
pub fn check_records(
    header: &BatchHeader,
    section: &[u8],
    steps: usize,
) -> Result<Option<Walked>, RecordsError> {
    let mut source = Slice { rest: section };
    Walk::new(header, steps).run(&mut source)
}

/// Where a walk takes its bytes from.
pub(crate) trait Source {
    /// The next byte; none at the end, or after a failure.
    fn byte(&mut self) -> Option<u8>;
    /// Passes over so many bytes; none if there are fewer.
    fn skip(&mut self, bytes: usize) -> Option<()>;
}

struct Slice<'a> {
    rest: &'a [u8],
}

impl Source for Slice<'_> {
    #[inline(always)]
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    #[inline(always)]
    fn skip(&mut self, bytes: usize) -> Option<()> {
        self.rest = self.rest.get(bytes..)?;
        Some(())
    }
}

/// One record of a source: it gives no byte beyond the record's end.
struct Content<'s, S> {
    source: &'s mut S,
    left: usize,
}

impl<S: Source> Source for Content<'_, S> {
    #[inline(always)]
    fn byte(&mut self) -> Option<u8> {
        self.left = self.left.checked_sub(1)?;
        self.source.byte()
    }

    #[inline(always)]
    fn skip(&mut self, bytes: usize) -> Option<()> {
        self.left = self.left.checked_sub(bytes)?;
        self.source.skip(bytes)
    }
}

/// A walk over the records of one batch.
pub(crate) struct Walk {
    count: i32,
    last_offset_delta: i32,
    base_timestamp: i64,
    max_timestamp: i64,
    previous_delta: i32,
    earliest_ms: i64,
    /// Steps that the walk may still take.
    steps: usize,
    /// Bytes that a reader may still need.
    memory: usize,
}

/// Why a record was not passed.
enum Stop {
    Fault(RecordFault),
    /// No byte of the record is there.
    Missing,
    TooMany,
    OutOfSteps,
}

impl From<RecordFault> for Stop {
    fn from(fault: RecordFault) -> Stop {
        Stop::Fault(fault)
    }
}

impl Walk {
    pub(crate) fn new(header: &BatchHeader, steps: usize) -> Walk {
        Walk {
            count: header.record_count,
            last_offset_delta: header.last_offset_delta,
            base_timestamp: header.base_timestamp,
            max_timestamp: header.max_timestamp,
            previous_delta: -1,
            earliest_ms: i64::MAX,
            steps,
            memory: MAX_UNPACKED_BYTES,
        }
    }

    /// Walks to the end. A source that fails looks like one that has ended: ask it afterwards.
    pub(crate) fn run(mut self, source: &mut impl Source) -> Result<Option<Walked>, RecordsError> {
        let count = self.count;
        for index in 0..count {
            match self.record(source) {
                Ok(()) => {}
                Err(Stop::Fault(fault)) => return Err(RecordsError::Record { index, count, fault }),
                Err(Stop::Missing) => return Err(RecordsError::Missing { found: index, count }),
                Err(Stop::TooMany) => return Err(RecordsError::TooMany),
                Err(Stop::OutOfSteps) => return Ok(None),
            }
        }
        if source.byte().is_some() {
            return Err(RecordsError::Trailing(count));
        }
        Ok(Some(Walked { earliest_ms: (self.earliest_ms != i64::MAX).then_some(self.earliest_ms) }))
    }

    #[inline(always)]
    fn record(&mut self, source: &mut impl Source) -> Result<(), Stop> {
        self.step(UNPACKED_RECORD_BYTES)?;
        let first = source.byte().ok_or(Stop::Missing)?;
        let length = varint_after(first, source).ok_or(RecordFault::Length)?;
        let left = usize::try_from(length).map_err(|_| RecordFault::Length)?;
        let mut record = Content { source, left };
        // No attribute of a record means anything in this format.
        record.byte().ok_or(RecordFault::Attributes)?;
        let timestamp_delta = varlong(&mut record).ok_or(RecordFault::Timestamp)?;
        let offset_delta = varint(&mut record).ok_or(RecordFault::OffsetDelta)?;
        skip_nullable(&mut record).ok_or(RecordFault::Key)?;
        skip_nullable(&mut record).ok_or(RecordFault::Value)?;
        let headers = varint(&mut record).ok_or(RecordFault::Headers)?;
        for _ in 0..u32::try_from(headers).map_err(|_| RecordFault::Headers)? {
            self.header(&mut record)?;
        }
        if record.left > 0 {
            return Err(RecordFault::LeftOver.into());
        }
        if offset_delta <= self.previous_delta || offset_delta > self.last_offset_delta {
            return Err(RecordFault::Order.into());
        }
        self.previous_delta = offset_delta;
        let timestamp = self.base_timestamp.wrapping_add(timestamp_delta);
        if timestamp > self.max_timestamp {
            return Err(RecordFault::LaterThanLargest.into());
        }
        if timestamp < self.earliest_ms && timestamp != NO_TIMESTAMP {
            self.earliest_ms = timestamp;
        }
        Ok(())
    }

    fn header(&mut self, record: &mut impl Source) -> Result<(), Stop> {
        let name = varint(record).and_then(|length| usize::try_from(length).ok());
        let name = name.ok_or(RecordFault::Headers)?;
        record.skip(name).ok_or(RecordFault::Headers)?;
        skip_nullable(record).ok_or(RecordFault::Headers)?;
        self.step(UNPACKED_HEADER_BYTES + UNPACKED_NAME_FACTOR * name)
    }

    /// One step, which makes so many bytes in a reader.
    #[inline(always)]
    fn step(&mut self, unpacked: usize) -> Result<(), Stop> {
        self.memory = self.memory.checked_sub(unpacked).ok_or(Stop::TooMany)?;
        self.steps = self.steps.checked_sub(1).ok_or(Stop::OutOfSteps)?;
        Ok(())
    }
}

/// Passes over a length and so many bytes; a length of -1 is null.
#[inline(always)]
fn skip_nullable(source: &mut impl Source) -> Option<()> {
    match varint(source)? {
        -1 => Some(()),
        length => source.skip(usize::try_from(length).ok()?),
    }
}

#[inline(always)]
fn varint(source: &mut impl Source) -> Option<i32> {
    let first = source.byte()?;
    varint_after(first, source)
}

/// A number of at most five bytes and 32 bits, of which the first byte was taken.
#[inline(always)]
fn varint_after(first: u8, source: &mut impl Source) -> Option<i32> {
    if first < 0x80 {
        return Some(varint::short(u16::from(first)));
    }
    let second = source.byte()?;
    if second < 0x80 {
        return Some(varint::of_two(first, second));
    }
    i32::try_from(number_after([first, second], source, 5)?).ok()
}

#[inline(always)]
fn varlong(source: &mut impl Source) -> Option<i64> {
    let first = source.byte()?;
    if first < 0x80 {
        return Some(i64::from(varint::short(u16::from(first))));
    }
    let second = source.byte()?;
    if second < 0x80 {
        return Some(i64::from(varint::of_two(first, second)));
    }
    number_after([first, second], source, 10)
}

/// The rest of a number of more than two bytes and at most `most`.
fn number_after([first, second]: [u8; 2], source: &mut impl Source, most: u32) -> Option<i64> {
    let mut value = u64::from(first & 0x7f) | u64::from(second & 0x7f) << 7;
    for place in 2..most {
        let byte = source.byte()?;
        // The tenth byte has room for one bit.
        if place == 9 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            return Some(zigzag_to_i64(value));
        }
    }
    None
}
