//! Subscriptions: a reader's place in a partition, which goes on as records come.

use std::rc::Rc;

use bytes::Bytes;
use ringlog_protocol::messages::Position;
use ringlog_reactor::sim::{mutant, reached};
use ringlog_storage::{Partition, ReadError};

use super::offsets::{Resolved, resolve};
use crate::net::outbox::{Outbox, Reservation};

/// Where a reader goes on.
pub struct Cursor {
    partition: Rc<Partition>,
    next: i64,
}

/// What comes next.
pub struct Delivery {
    /// The batches.
    pub batches: Vec<Bytes>,
    /// Their bytes together.
    pub bytes: usize,
    /// The offset after the last record that may be read.
    pub high_watermark: i64,
    /// Room in the outbox, until the batches are in it.
    _room: Option<Reservation>,
}

impl Cursor {
    /// Begins at a position, and says where that is.
    pub async fn open(partition: Rc<Partition>, from: Position) -> Result<(Cursor, Resolved), ReadError> {
        let resolved = resolve(&partition, from).await?;
        let Resolved { offset, start_offset, high_watermark, .. } = resolved;
        if offset < start_offset || offset > high_watermark {
            return Err(ReadError::OutOfRange { start: start_offset, end: high_watermark });
        }
        Ok((Cursor { partition, next: offset }, resolved))
    }

    /// What comes next, about `most` bytes of it. None when there was nothing, and there may be now: the caller looks again at
    /// what it may send.
    pub async fn next(&mut self, most: usize, outbox: &Rc<Outbox>) -> Result<Option<Delivery>, ReadError> {
        // Taken before the read, so that a commit between the two is not missed.
        let changed = self.partition.changed();
        let (read, room) = match self.partition.try_read_tail(self.next, most) {
            Some(read) => (read, None),
            None => {
                reached("subscriber reads from the disk");
                let room = outbox.reserve(most).await;
                (self.partition.read(self.next, most).await?, Some(room))
            }
        };
        if read.batches.is_empty() {
            drop(room);
            changed.await;
            return Ok(None);
        }
        let high_watermark = self.partition.high_watermark();
        self.next =
            if read.bytes >= most && mutant("credit-gap") { high_watermark } else { read.next_offset };
        Ok(Some(Delivery { batches: read.batches, bytes: read.bytes, high_watermark, _room: room }))
    }
}
