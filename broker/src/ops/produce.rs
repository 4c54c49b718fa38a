//! Produce: one record batch to the end of a partition, acknowledged at the level the producer asks for.
//!
//! Invariant: no batch is appended before its header, its records and its timestamps have been checked, and the checks
//! are of the very bytes that are appended.

use std::rc::Rc;

use bytes::BytesMut;
use ringlog_protocol::Ack;
use ringlog_protocol::batch::{BatchHeader, Walked};
use ringlog_reactor::sim::{mutant, reached};
use ringlog_reactor::wall_clock_ms;
use ringlog_storage::format::envelope::ENVELOPE_BYTES;
use ringlog_storage::{AppendError, Appended, Partition};

use super::record_checks::{Unreadable, Verdict, check_here};
use super::timestamps::{self, InvalidTimestamp};
use crate::shard::acks::AckSink;
use crate::shard::state::Shard;

/// A batch, and the memory it lies in.
pub enum Batch<'a> {
    /// In a receive buffer: it is copied.
    Received(&'a [u8]),
    /// In memory of its own, behind room for its envelope: the log may keep it.
    Owned(&'a mut BytesMut),
}

/// What to append, and how it is to be acknowledged.
pub struct Produce<'a> {
    /// Where to.
    pub partition: &'a Rc<Partition>,
    /// What the acknowledgement is to mean.
    pub ack: Ack,
    /// What.
    pub batch: Batch<'a>,
    /// What was found of its records, if they were checked already.
    pub verdict: Option<Verdict>,
}

/// What came of it.
pub enum Produced {
    /// It is in the log, and is acknowledged now.
    Acked {
        /// The offset of its first record.
        base_offset: i64,
        /// The first offset that may be read.
        start_offset: i64,
    },
    /// It is in the log. The sink is told when it is on stable storage.
    WhenDurable,
    /// It is in the log, and nobody wants to know.
    Unasked,
    /// Nothing was done: offer it again, with this verdict, when the store has room.
    NoRoom(Verdict),
    /// Nothing was done: have its records checked, and offer it again with the verdict.
    Unchecked {
        /// What it may unpack to, in bytes.
        limit: usize,
    },
}

/// Why a batch is not in the log.
#[derive(Debug, thiserror::Error)]
pub enum ProduceError {
    /// The node is going down.
    #[error("the broker is shutting down; send it again")]
    Stopping,
    /// The store does not take it.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// Nobody could read its records.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// A record's time is not one that the topic takes.
    #[error(transparent)]
    Timestamp(#[from] InvalidTimestamp),
}

impl Batch<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Batch::Received(bytes) => bytes,
            Batch::Owned(memory) => &memory[ENVELOPE_BYTES..],
        }
    }

    fn append(
        self,
        shard: &Shard,
        partition: &Rc<Partition>,
        header: &BatchHeader,
    ) -> Result<Appended, AppendError> {
        match self {
            Batch::Received(bytes) => shard.store().append_checked(partition, bytes, header),
            Batch::Owned(memory) => shard.store().append_owned(partition, memory, header),
        }
    }
}

/// Appends a batch. Where that is to be acknowledged later, `sink` is told, by `ticket`.
pub fn produce(
    shard: &Shard,
    args: Produce<'_>,
    sink: &Rc<impl AckSink + 'static>,
    ticket: u64,
) -> Result<Produced, ProduceError> {
    let Produce { partition, ack, batch, verdict } = args;
    if shard.is_stopping() {
        return Err(ProduceError::Stopping);
    }
    let mut header = shard.store().check(partition, batch.bytes())?;
    let walked = match verdict.or_else(|| check_here(&header, batch.bytes())) {
        Some(Ok(walked)) => walked,
        _ if mutant("records-unchecked") => Walked { earliest_ms: None },
        Some(Err(error)) => return Err(error.into()),
        None => {
            let limit = partition.config().max_decompressed_bytes as usize;
            return Ok(Produced::Unchecked { limit });
        }
    };
    let valid = timestamps::check_or_give(partition.config(), &mut header, walked, wall_clock_ms());
    if let Err(error) = valid {
        reached("timestamp refused");
        return Err(error.into());
    }
    let appended = match batch.append(shard, partition, &header) {
        Ok(appended) => appended,
        Err(AppendError::Full) => return Ok(Produced::NoRoom(Ok(walked))),
        Err(error) => return Err(error.into()),
    };
    match ack {
        Ack::Disk if !mutant("ack-before-commit") => {
            shard.store().hurry();
            shard.acks().wait_for(partition, appended, sink.clone(), ticket);
            Ok(Produced::WhenDurable)
        }
        Ack::Disk | Ack::Memory => {
            partition.told(&appended);
            let (base_offset, start_offset) = (appended.base_offset, partition.start_offset());
            Ok(Produced::Acked { base_offset, start_offset })
        }
        Ack::None => {
            partition.told(&appended);
            Ok(Produced::Unasked)
        }
    }
}
