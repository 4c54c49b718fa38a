//! The commit task: frame after frame onto stable storage.
//!
//! A commit takes everything that was appended before it begins: group commit without a timer. A second may begin while the
//! first is under way; they become durable, and are told to those who wait, in their order. A commit that fails is the last.

use std::rc::Rc;

use ringlog_reactor::fs::Sync;
use ringlog_reactor::sim::{mutant, reached};
use ringlog_reactor::{Notified, spawn, timeout};

use crate::inner::Inner;
use crate::journal::{SealedFrame, Touched};
use crate::journal_files::Place;
use crate::limits::{EAGER_FLUSH_BYTES, LAZY_COMMIT};
use crate::partition::Partition;
use crate::stats::{add, count};

/// Runs until the store has failed or is closed.
pub(crate) async fn run(inner: Rc<Inner>) {
    while !inner.closed.get() && inner.health.failure().is_none() {
        let wake = inner.committer.wake.notified();
        let next = inner.committer.journal.borrow_mut().next_frame();
        let Some(frame) = next else {
            pause(&inner, wake).await;
            continue;
        };
        let place = place(&inner, &frame);
        spawn(commit(Rc::clone(&inner), frame, place)).detach();
    }
}

/// Waits for something to do. Entries that nobody waits for are given time, so that they share a commit.
async fn pause(inner: &Inner, wake: Notified) {
    if !inner.committer.journal.borrow().is_lazy() {
        return wake.await;
    }
    if inner.closing.get() || timeout(LAZY_COMMIT, wake).await.is_err() {
        inner.committer.journal.borrow_mut().hurry();
    }
}

async fn commit(inner: Rc<Inner>, frame: SealedFrame, place: Place) {
    let sync = if mutant("ack-before-sync") { Sync::None } else { Sync::Data };
    let written = place.file.write_at(frame.pieces, place.position, sync).await;
    if inner.health.failure().is_some() {
        return;
    }
    if let Err(error) = written
        && !mutant("failed-write-acked")
    {
        return inner.health.fail(format!("writing the journal: {error}"));
    }
    count(&inner.shared.counters.commits);
    if frame.overlaps {
        count(&inner.shared.counters.overlapped_commits);
    }
    add(&inner.shared.counters.committed_bytes, frame.bytes as u64);
    inner.committer.journal.borrow_mut().written(frame.sequence);
    settle(&inner);
}

/// Tells those who wait what has become durable, in the order of the frames.
fn settle(inner: &Inner) {
    let mut advanced = false;
    while let Some(touched) = { inner.committer.journal.borrow_mut().advance_durable() } {
        for Touched { partition, end } in touched {
            partition.committed(end);
            inner.committer.note_advanced(&partition);
            flush_eagerly(inner, &partition);
        }
        advanced = true;
    }
    if advanced {
        inner.committer.committed.notify_all();
        inner.committer.room.notify_all();
        inner.committer.wake.notify_all();
    }
}

/// The place of the frame in the journal.
fn place(inner: &Inner, frame: &SealedFrame) -> Place {
    let place = inner.committer.files.place(frame.bytes, frame.sequence);
    if place.switched {
        inner.flusher.request_checkpoint();
    }
    if place.recycled {
        reached("journal file recycled");
        count(&inner.shared.counters.recycles);
    }
    place
}

/// Puts a partition with a lot unflushed into the flusher's queue.
fn flush_eagerly(inner: &Inner, partition: &Rc<Partition>) {
    if partition.unflushed_bytes() >= EAGER_FLUSH_BYTES && !partition.is_bypassing() {
        inner.flusher.flush_soon(partition);
    }
}
