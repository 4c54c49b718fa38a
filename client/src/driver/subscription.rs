//! A consumer's subscription to one partition: keeps it alive over reconnects, and hands credit out as the application takes batches.
//!
//! Invariants: `next` is behind everything that was put into the inbox, so a new subscription goes on where the old one was cut, without a gap and
//! without a repeat. What is received is of the topic that the consumer was built for: one that was deleted and made again is another
//! topic, whose records are never delivered. Credit left plus bytes in the inbox is at most the partition's share, but for one push.
//!
//! A topic that acknowledges in memory can lose what was received, when its broker crashes, and have other records in those places later. So
//! a new subscription to one begins only when the last batch that was received still stands where it stood: see `look_back`.

use std::sync::Arc;

use bytes::Bytes;
use ringlog_protocol::batch::{BatchError, BatchHeader, split_batches};
use ringlog_protocol::messages::{Fetch, Opened, Position, Subscribed};
use ringlog_protocol::{Ack, ErrorCode, Kind};
use ringlog_reactor::sim::{mutant, reached};

use super::backoff::Backoff;
use super::link::{Link, Receiver, Trouble, nonsense};
use super::lock::Lock;
use super::notify::Notify;
use super::pool::Pool;
use crate::error::{AdminError, ConsumeError, Refusal};
use crate::inbox::{Inbox, Received};
use crate::plan::OffsetReset;
use crate::session::Reply;

pub(crate) struct Subscription {
    inbox: Arc<Inbox>,
    place: usize,
    partition: u32,
    reset: OffsetReset,
    changed: Notify,
    state: Lock<State>,
}

struct State {
    next: Position,
    /// The last batch that was received.
    last: Option<BatchHeader>,
    /// The broker ended the subscription.
    refused: Option<Refusal>,
    /// What came cannot be read.
    bad: Option<ConsumeError>,
}

/// Why a subscription does not go on.
enum Stop {
    /// Begin again, after a pause if it is true.
    Again(bool),
    /// The application is gone, or wants nothing more of this partition.
    Unwanted,
    Failed(ConsumeError),
}

impl Receiver for Subscription {
    /// Batches came.
    fn deliver(&self, payload: &Bytes) {
        let mut state = self.state.lock();
        if state.bad.is_some() {
            // What came in the same breath stands behind what cannot be read.
            return;
        }
        let expected = match state.next {
            Position::Offset(offset) => offset,
            _ => 0,
        };
        let mut batches = Vec::new();
        let mut next = expected;
        for batch in split_batches(payload) {
            match batch {
                Ok((header, bytes)) => {
                    let last = header.base_offset + i64::from(header.last_offset_delta);
                    let read_before =
                        state.last.as_ref().filter(|_| header.base_offset < next && last >= next);
                    if let Some(before) = read_before {
                        // Batches never change their bounds: this one was written anew where others stood.
                        let (partition, offset) = (self.partition, before.base_offset);
                        state.bad = Some(ConsumeError::Truncated { partition, offset });
                        break;
                    }
                    if last >= next {
                        batches.push(Received { header, bytes: payload.slice_ref(bytes) });
                        state.last = Some(header);
                        next = last + 1;
                    }
                }
                Err(error) => {
                    state.bad = Some(self.bad_batch(next, &error));
                    break;
                }
            }
        }
        if !batches.is_empty() {
            state.next = Position::Offset(next);
        }
        let failed = state.bad.is_some();
        drop(state);
        self.inbox.push(self.place, batches);
        if failed {
            self.changed.notify_all();
        }
    }

    /// The broker ended the subscription.
    fn refuse(&self, refusal: Refusal) {
        self.state.lock().refused = Some(refusal);
        self.changed.notify_all();
    }

    /// The application took something, or the link has changed.
    fn wake(&self) {
        self.changed.notify_all();
    }
}

impl Subscription {
    pub fn new(
        inbox: Arc<Inbox>,
        place: usize,
        partition: u32,
        from: Position,
        reset: OffsetReset,
    ) -> Arc<Self> {
        match from {
            Position::Offset(offset) => inbox.begin_at(place, offset, None),
            Position::Time(time_ms) => inbox.begin_at(place, 0, Some(time_ms)),
            Position::Begin | Position::End => {}
        }
        let state = Lock::new(State { next: from, last: None, refused: None, bad: None });
        Arc::new(Self { inbox, place, partition, reset, changed: Notify::new(), state })
    }

    /// Serves the subscription until the application is gone or the partition fails.
    pub async fn run(self: Arc<Self>, pool: Arc<Pool>) {
        let mut backoff = Backoff::default();
        loop {
            match self.serve(&pool, &mut backoff).await {
                Stop::Again(false) => {}
                Stop::Again(true) => pool.runtime.sleep(backoff.next_pause()).await,
                Stop::Unwanted => return,
                Stop::Failed(error) => return self.inbox.fail(self.place, error),
            }
        }
    }

    async fn serve(self: &Arc<Self>, pool: &Arc<Pool>, backoff: &mut Backoff) -> Stop {
        if self.inbox.queued_bytes(self.place).is_none() {
            return Stop::Unwanted;
        }
        let (known, seat) = match pool.seat(&self.inbox.topic, self.partition).await {
            Ok(route) => route,
            Err(error) => return self.stopped_by(error),
        };
        let link = seat.link();
        let (handle, opened) = match link.open_partition(&self.inbox.topic, self.partition).await {
            Ok(opened) => opened,
            Err(trouble) => {
                pool.forget(&known);
                return self.stopped_by(AdminError::from(trouble));
            }
        };
        if opened.topic_id != self.inbox.topic_id && !mutant("topic-id-unchecked") {
            reached("subscription to a topic that was made again");
            link.close_partition(handle);
            pool.forget(&known);
            return Stop::Failed(self.recreated());
        }
        let stop = match self.look_back(link, handle, &opened).await {
            Ok(()) => self.receive(link, handle, backoff).await,
            Err(stop) => stop,
        };
        link.close_partition(handle);
        stop
    }

    /// Whether what was received is still in the log, as far as its topic does not promise that. What comes before a batch that stands in
    /// its place does, too: a crash takes the end of a log.
    async fn look_back(&self, link: &Link, handle: u32, opened: &Opened) -> Result<(), Stop> {
        let Some(last) = self.state.lock().last else { return Ok(()) };
        if opened.ack == Ack::Disk || last.base_offset < opened.start_offset {
            return Ok(());
        }
        let (partition, offset) = (self.partition, last.base_offset);
        let truncated = || Err(Stop::Failed(ConsumeError::Truncated { partition, offset }));
        if offset >= opened.high_watermark {
            return truncated();
        }
        // One batch comes whole, however large it is.
        let fetch = Fetch { offset, max_bytes: 1, min_bytes: 0, max_wait_ms: 0 };
        let batches = match link.ask(Kind::Fetch, handle, &fetch).await {
            Ok(Reply::Fetched { batches, .. }) => batches,
            Ok(other) => return Err(self.stopped_by(AdminError::from(nonsense(&other)))),
            // Retention was faster.
            Err(Trouble::Refused(refusal)) if refusal.code == ErrorCode::OffsetOutOfRange => return Ok(()),
            Err(trouble) => return Err(self.stopped_by(AdminError::from(trouble))),
        };
        match split_batches(&batches).next() {
            Some(Ok((found, _))) if (found.base_offset, found.crc) == (offset, last.crc) => Ok(()),
            Some(Err(error)) => Err(Stop::Failed(self.bad_batch(offset, &error))),
            _ => truncated(),
        }
    }

    /// Receives until something stops it.
    async fn receive(self: &Arc<Self>, link: &Arc<Link>, handle: u32, backoff: &mut Backoff) -> Stop {
        let Some(credit) = self.first_credit().await else { return Stop::Unwanted };
        self.state.lock().refused = None;
        let from = self.state.lock().next;
        // The link may have ended during the wait for credit, or in the breath that opened the partition.
        let (id, answer) = match link.subscribe(handle, from, credit, self.clone()) {
            Ok(begun) => begun,
            Err(trouble) => return self.stopped_by(AdminError::from(trouble)),
        };
        match answer.recv_async().await.unwrap_or(Err(Trouble::Lost { sent: true })) {
            Ok(Reply::Subscribed(subscribed)) => self.begun(&subscribed),
            Ok(other) => return self.stopped_by(AdminError::from(nonsense(&other))),
            Err(trouble) => {
                link.unsubscribe(id);
                return self.stopped_by(AdminError::from(trouble));
            }
        }
        backoff.reset();
        loop {
            let changed = self.changed.notified();
            if let Some(stop) = self.look(link, id) {
                link.unsubscribe(id);
                return stop;
            }
            changed.await;
        }
    }

    /// Waits until the application has taken enough for a subscription to be worth while.
    async fn first_credit(&self) -> Option<u32> {
        loop {
            let changed = self.changed.notified();
            let room = self.inbox.credit_bytes.saturating_sub(self.inbox.queued_bytes(self.place)?);
            if room >= self.inbox.credit_bytes / 4 {
                return u32::try_from(room).ok();
            }
            changed.await;
        }
    }

    fn begun(&self, subscribed: &Subscribed) {
        let mut state = self.state.lock();
        // A delivery that came in the same breath knows better.
        if !matches!(state.next, Position::Offset(_)) {
            state.next = Position::Offset(subscribed.next_offset);
        }
    }

    /// Gives credit for what was taken, and says whether to stop.
    fn look(&self, link: &Link, id: u32) -> Option<Stop> {
        if let Some(error) = self.state.lock().bad.take() {
            return Some(Stop::Failed(error));
        }
        if let Some(refusal) = self.state.lock().refused.take() {
            return Some(self.stopped_by(AdminError::Refused(refusal)));
        }
        let Some(queued) = self.inbox.queued_bytes(self.place) else { return Some(Stop::Unwanted) };
        if link.has_ended() {
            reached("subscription begun again");
            if mutant("resumed-at-end") {
                self.state.lock().next = Position::End;
            }
            return Some(Stop::Again(false));
        }
        let left = link.credit_left(id)?;
        let share = self.inbox.credit_bytes as i64;
        let room = share - left - queued as i64;
        if room >= share / 4
            && let Ok(room) = u32::try_from(room)
        {
            link.grant(id, room);
        }
        None
    }

    fn bad_batch(&self, offset: i64, error: &BatchError) -> ConsumeError {
        ConsumeError::BadBatch {
            partition: self.partition,
            offset,
            last_offset: None,
            reason: error.to_string().into(),
        }
    }

    /// The next offset is not in the log.
    fn out_of_range(&self, refusal: Refusal) -> Stop {
        let partition = self.partition;
        let from = match self.reset {
            OffsetReset::Error => return Stop::Failed(ConsumeError::OffsetOutOfRange { partition, refusal }),
            OffsetReset::Earliest => Position::Begin,
            OffsetReset::Latest => Position::End,
        };
        let topic = &*self.inbox.topic;
        tracing::warn!(topic, partition, %refusal, policy = ?self.reset, "the offset was reset");
        let mut state = self.state.lock();
        (state.next, state.last) = (from, None);
        drop(state);
        self.inbox.begin_at(self.place, 0, None);
        Stop::Again(true)
    }

    fn recreated(&self) -> ConsumeError {
        ConsumeError::TopicRecreated { topic: Arc::clone(&self.inbox.topic), partition: self.partition }
    }

    fn stopped_by(&self, error: AdminError) -> Stop {
        let partition = self.partition;
        let gone = || ConsumeError::Gone { topic: Arc::clone(&self.inbox.topic), partition };
        match error {
            AdminError::Refused(refusal) => match refusal.code {
                _ if refusal.retryable => Stop::Again(true),
                // The handle died with its topic, or with a connection: opening it again tells.
                ErrorCode::UnknownHandle | ErrorCode::UnknownSubscription => Stop::Again(true),
                ErrorCode::OffsetOutOfRange => self.out_of_range(refusal),
                ErrorCode::UnknownTopic | ErrorCode::UnknownPartition => Stop::Failed(gone()),
                _ => Stop::Failed(ConsumeError::Refused { partition, refusal }),
            },
            AdminError::UnknownTopic { .. } | AdminError::UnknownPartition { .. } => Stop::Failed(gone()),
            AdminError::TopicRecreated { .. } => Stop::Failed(self.recreated()),
            // The link was lost, or there is none: the pool keeps attempts apart.
            AdminError::Connect(_) | AdminError::OutcomeUnknown => Stop::Again(false),
            AdminError::BadAnswer { .. } => Stop::Again(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use ringlog_protocol::batch::{BatchBuilder, patch};

    use super::*;
    use crate::inbox::Reading;

    fn batch(base_offset: i64, records: usize) -> Bytes {
        let mut builder = BatchBuilder::new(1 << 20);
        for _ in 0..records {
            builder.push(0, None, Some(b"x"), []).expect("it fits");
        }
        let mut bytes = Vec::from(builder.finish_plain());
        patch(&mut bytes, base_offset, 0);
        bytes.into()
    }

    #[test]
    fn a_batch_that_reaches_back_into_what_was_received_tells_of_a_lost_log() {
        let inbox = Inbox::new(Arc::from("orders"), 1, &[0], 1 << 20, Reading::default());
        let subscription = Subscription::new(inbox, 0, 0, Position::Offset(2), OffsetReset::Error);
        subscription.deliver(&batch(0, 4));
        assert_eq!(subscription.state.lock().bad, None, "the first may begin before the wanted offset");
        subscription.deliver(&batch(0, 4));
        assert_eq!(subscription.state.lock().bad, None, "what was received is passed over");
        subscription.deliver(&batch(3, 4));
        let truncated = Some(ConsumeError::Truncated { partition: 0, offset: 0 });
        assert_eq!(subscription.state.lock().bad, truncated);
        subscription.deliver(&batch(7, 1));
        assert!(matches!(subscription.state.lock().next, Position::Offset(4)), "nothing comes behind it");
    }
}
