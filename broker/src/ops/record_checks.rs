//! Whether the records of a batch can be read: a broker acknowledges no others.
//!
//! A batch that is not compressed is walked over on its shard's thread, if that takes at most [`MAX_CHECK_STEPS`]
//! steps. All others are checked by threads beside the cores: no other connection of the shard waits for a codec. The requests
//! behind it on its connection do, so the order of a producer's batches is kept.
//!
//! Invariants:
//! - A check keeps at most as much of a codec's output as the codec itself needs, and ends at the topic's limit.
//! - What unpacks to more than [`QUICK_CHECK_BYTES`], or is larger than [`QUICK_BATCH_BYTES`], has a queue of its own:
//!   a short check waits for short ones only.

use ringlog_protocol::batch::{
    BatchError, BatchHeader, Compression, RecordsError, Walked, check_records, records_section, verify_crc,
};
use ringlog_protocol::codec::check_compressed;
use ringlog_reactor::Workers;
use ringlog_reactor::sim::reached;

use crate::limits::{LONG_CHECKERS, MAX_CHECK_STEPS, QUICK_BATCH_BYTES, QUICK_CHECK_BYTES, QUICK_CHECKERS};
use crate::net::lent::Lent;

static QUICK: Workers = Workers::new("check", QUICK_CHECKERS);
static LONG: Workers = Workers::new("check-long", LONG_CHECKERS);

/// What a check found.
pub type Verdict = Result<Walked, Unreadable>;

/// Why a batch is not appended.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// Its bytes are not those that were sent: what its records are is not known.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// Its records cannot be read.
    #[error("{0}; nothing of the batch was appended")]
    Records(#[from] RecordsError),
    /// The check did not come to an end.
    #[error("the batch could not be checked ({0}); try again")]
    Unchecked(String),
}

/// Checks on this thread, if that is short. None: have it done by [`check_aside`].
pub fn check_here(header: &BatchHeader, batch: &[u8]) -> Option<Verdict> {
    if header.compression() != Some(Compression::None) || header.record_count as usize > MAX_CHECK_STEPS {
        return None;
    }
    match check_records(header, records_section(batch), MAX_CHECK_STEPS) {
        Ok(walked) => walked.map(Ok),
        // Damage on the way is another thing than a bad producer.
        Err(error) => Some(Err(verify_crc(header, batch).map_or_else(Unreadable::from, |()| error.into()))),
    }
}

/// Has a batch checked beside the core and gives its memory back. A compressed one may unpack to `limit` bytes.
pub async fn check_aside<M: Lent>(memory: M, limit: usize) -> (Option<M>, Verdict) {
    reached("batch checked beside the core");
    let quick = memory.batch().len() <= QUICK_BATCH_BYTES;
    let first = if quick { limit.min(QUICK_CHECK_BYTES) } else { limit };
    match run(if quick { &QUICK } else { &LONG }, memory, first).await {
        (Some(memory), Err(Unreadable::Records(RecordsError::TooLarge(_)))) if first < limit => {
            reached("batch with a long check");
            run(&LONG, memory, limit).await
        }
        checked => checked,
    }
}

async fn run<M: Lent>(workers: &Workers, memory: M, limit: usize) -> (Option<M>, Verdict) {
    let checked = workers.run(move || {
        let verdict = check_fully(memory.batch(), limit);
        (Some(memory), verdict)
    });
    checked.await.unwrap_or_else(|error| (None, Err(Unreadable::Unchecked(error.to_string()))))
}

fn check_fully(batch: &[u8], limit: usize) -> Verdict {
    let header = BatchHeader::parse(batch)?;
    verify_crc(&header, batch)?;
    let section = records_section(batch);
    match header.compression() {
        Some(Compression::None) => {
            let walked = check_records(&header, section, usize::MAX)?;
            Ok(walked.expect("a walk with any number of steps comes to its end"))
        }
        Some(codec) => Ok(check_compressed(&header, codec, section, limit)?),
        None => Err(BatchError::Attributes(header.attributes).into()),
    }
}
