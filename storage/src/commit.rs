//! The commit task: one frame after another onto stable storage.
//!
//! The next commit begins when the one before it ends, with everything that was appended meanwhile: group commit without a
//! timer. A commit that fails is the last.

use std::rc::Rc;

use ringlog_reactor::fs::Sync;

use crate::journal::{SealedFrame, Touched};
use crate::journal_files::Place;
use crate::limits::EAGER_FLUSH_BYTES;
use crate::partition::Partition;
use crate::stats::{add, count};
use crate::store::Inner;

/// Runs until the store has failed or is closed.
pub(crate) async fn run(inner: Rc<Inner>) {
    while !inner.closed.get() && inner.failure().is_none() {
        let wake = inner.commit_wake.notified();
        let next = inner.journal.borrow_mut().next_frame();
        match next {
            None => wake.await,
            Some(frame) => {
                if let Err(reason) = commit(&inner, frame).await {
                    inner.fail(reason);
                    return;
                }
            }
        }
    }
}

async fn commit(inner: &Inner, frame: SealedFrame) -> Result<(), String> {
    let place = place(inner, &frame).await?;
    let written = place.file.write_at(frame.pieces, place.position, Sync::Data).await;
    written.map_err(|error| format!("writing the journal: {error}"))?;
    count(&inner.shared.counters.commits);
    add(&inner.shared.counters.committed_bytes, frame.bytes as u64);
    inner.journal.borrow_mut().committed(frame.sequence);
    for Touched { partition, end } in frame.touched {
        partition.committed(end);
        flush_eagerly(inner, &partition);
    }
    inner.committed.notify_all();
    inner.room.notify_all();
    Ok(())
}

/// The place of the frame in the journal, waiting for a free file if it must.
async fn place(inner: &Inner, frame: &SealedFrame) -> Result<Place, String> {
    loop {
        let freed = inner.files.freed();
        let durable = inner.journal.borrow().durable();
        if let Some(place) = inner.files.place(frame.bytes, durable) {
            if place.switched {
                inner.request_checkpoint();
            }
            inner.waits_for_file.set(false);
            if place.recycled {
                count(&inner.shared.counters.recycles);
            }
            return Ok(place);
        }
        inner.waits_for_file.set(true);
        // A shutdown looks at this, too.
        inner.committed.notify_all();
        inner.request_checkpoint();
        if let Some(failure) = inner.failure() {
            return Err(failure.0);
        }
        freed.await;
    }
}

/// Puts a partition with a lot unflushed into the flusher's queue.
fn flush_eagerly(inner: &Inner, partition: &Rc<Partition>) {
    if partition.unflushed_bytes() >= EAGER_FLUSH_BYTES && !partition.flush_queued.replace(true) {
        inner.eager.borrow_mut().push_back(Rc::clone(partition));
        inner.flush_wake.notify_all();
    }
}
