//! A producer's lane to one partition: takes its batches in order, keeps some in flight, and brings every one to an outcome.
//!
//! The order of batches is `window`'s; the lane adds the link, the clock and the accumulator.
//!
//! What it sends goes into the topic that the producer was built for: one that was deleted and made again is another topic, and what
//! waits for the old one fails.
//!
//! A producer that stops at a failure has one batch on its way at a time, and once one has failed, nothing after it is sent: the log has a
//! prefix of what the lane took.
//!
//! Invariant: whoever tells an open lane something serves it in the same call (`wake`), be it the engine with its handles locked or the
//! link. So serving a lane comes back to neither: it puts bytes into the link's session, and settles batches.

use std::sync::Arc;

use bytes::Bytes;
use ringlog_protocol::{ErrorCode, codec};
use ringlog_reactor::sim::{mutant, reached};
use ringlog_reactor::{Instant, now};

use super::backoff::Backoff;
use super::link::{Link, Sender, Trouble};
use super::lock::Lock;
use super::notify::Notify;
use super::pool::{Pool, Seat};
use super::window::{Answer, Settled, Window};
use crate::accumulator::{Accumulator, Batch, ProducerSettings, Take};
use crate::doorbell::Bell;
use crate::error::{AdminError, DeliveryError, Refusal};
use crate::session::Reply;

/// The offset of a batch whose broker was not asked for it.
const NO_OFFSET: i64 = -1;

pub(crate) struct Lane {
    owner: Arc<Accumulator>,
    partition: u32,
    bell: Bell,
    changed: Notify,
    state: Lock<State>,
}

#[derive(Default)]
struct State {
    window: Window<Finished>,
    /// The handle is not known any more.
    reopen: bool,
    not_before: Option<Instant>,
    backoff: Backoff,
    /// A batch failed, and the producer wants nothing after it to be sent.
    stopped: bool,
    /// What stood in the way last.
    obstacle: Option<Arc<str>>,
    open: Option<(Arc<Link>, u32)>,
}

/// A batch and its bytes as they go over the wire.
struct Finished {
    batch: Box<Batch>,
    bytes: Bytes,
}

/// Why the lane is not open.
enum Obstacle {
    /// Try again, after a pause if it is true.
    Later(Arc<str>, bool),
    /// Nothing of what waits can be delivered.
    Fatal(DeliveryError),
}

impl Sender for Lane {
    /// A batch was answered, or its link was lost. The lane must be woken once all that came together is told: with only half of
    /// it known, it might send what must not be sent behind the other half.
    fn answer(&self, flight: u64, answer: Result<Reply, Trouble>) {
        if matches!(&answer, Err(Trouble::Refused(refusal)) if refusal.code == ErrorCode::Quarantined) {
            self.note_refusing(true);
        }
        self.settle(|state, settled| state.answer(flight, answer, settled));
    }

    /// A batch that asked for no ack has left: that is all that will be known of it.
    fn departed(&self, flight: u64) {
        self.settle(|state, settled| state.window.answer(flight, Answer::Accepted(NO_OFFSET), settled));
    }

    /// An error came for one of the batches that asked for no ack, and says that the handle may be dead.
    fn distrust_handle(&self) {
        self.state.lock().reopen = true;
        self.changed.notify_all();
    }

    fn wake(self: Arc<Self>) {
        Lane::wake(&self);
    }
}

impl Lane {
    pub fn new(owner: Arc<Accumulator>, partition: u32, bell: Bell) -> Arc<Self> {
        Arc::new(Self { owner, partition, bell, changed: Notify::new(), state: Lock::default() })
    }

    /// Something is new: records, or an answer. An open lane is served on the spot: to wake its task costs more than the
    /// task has to do, above all where there are a thousand of them and none is in the CPU's caches.
    pub fn wake(self: &Arc<Self>) {
        if !self.try_serve() {
            self.changed.notify_all();
        }
    }

    /// Sends what there is. False if the lane's task has something to do: open it, or look at the clock.
    fn try_serve(self: &Arc<Self>) -> bool {
        let open = {
            let state = self.state.lock();
            state.open.clone().filter(|(link, _)| !state.reopen && !link.has_ended())
        };
        open.is_some_and(|(link, handle)| self.pump(&link, handle).is_none())
    }

    /// Gives up everything. What may have left has an unknown outcome, the rest was never sent.
    pub fn abandon(&self) {
        let left = {
            let mut state = self.state.lock();
            if let Some((link, handle)) = state.open.take() {
                link.close_partition(handle);
            }
            state.window.clear()
        };
        for (finished, away) in left {
            let error = if away { DeliveryError::OutcomeUnknown } else { DeliveryError::Closed };
            finished.batch.settle(Err(error));
        }
    }

    /// Serves the lane until its producer is gone, which drops this future.
    pub async fn run(self: Arc<Self>, pool: Arc<Pool>) {
        loop {
            self.wait_for_work().await;
            if self.is_stopped() {
                self.fail_waiting(&DeliveryError::NotSent);
                continue;
            }
            let patience = self.deadline().map_or(std::time::Duration::ZERO, |deadline| deadline - now());
            let opened = match pool.runtime.timeout(patience, self.open(&pool)).await {
                Ok(opened) => opened,
                Err(_) => Err(Obstacle::Later(self.last_obstacle(), false)),
            };
            let obstacle = match opened {
                Ok((seat, handle)) => self.serve(&pool, seat.link(), handle).await,
                Err(obstacle) => obstacle,
            };
            match obstacle {
                Obstacle::Later(why, pause) => {
                    self.state.lock().obstacle = Some(why);
                    self.expire(now());
                    if pause {
                        let pause = self.state.lock().backoff.next_pause();
                        pool.runtime.sleep(pause).await;
                    }
                }
                Obstacle::Fatal(error) => self.fail_waiting(&error),
            }
        }
    }

    async fn wait_for_work(&self) {
        loop {
            let changed = self.changed.notified();
            if self.deadline().is_some() {
                return;
            }
            changed.await;
        }
    }

    /// When the oldest batch that waits fails; none if nothing waits.
    fn deadline(&self) -> Option<Instant> {
        let again = self.state.lock().window.first_again().map(|finished| finished.batch.opened_at);
        let oldest = again.or_else(|| self.owner.oldest(self.partition));
        oldest.map(|opened_at| opened_at + self.owner.settings.delivery_timeout)
    }

    async fn open(&self, pool: &Arc<Pool>) -> Result<(Seat, u32), Obstacle> {
        let (known, seat) = pool.seat(&self.owner.topic, self.partition).await.map_err(Obstacle::from)?;
        let link = seat.link();
        match link.open_partition(&self.owner.topic, self.partition).await {
            Ok((handle, opened))
                if opened.topic_id != self.owner.topic_id && !mutant("topic-id-unchecked") =>
            {
                reached("records of a topic that was made again");
                link.close_partition(handle);
                pool.forget(&known);
                let topic = Arc::clone(&self.owner.topic);
                Err(Obstacle::Fatal(DeliveryError::TopicRecreated { topic }))
            }
            Ok((handle, opened)) => {
                self.note_refusing(opened.quarantined);
                let mut state = self.state.lock();
                state.open = Some((Arc::clone(link), handle));
                state.reopen = false;
                drop(state);
                Ok((seat, handle))
            }
            Err(trouble) => {
                pool.forget(&known);
                Err(Obstacle::from(AdminError::from(trouble)))
            }
        }
    }

    /// Has records that may go anywhere go elsewhere while this partition takes none.
    fn note_refusing(&self, refusing: bool) {
        if self.owner.note_refusing(self.partition, refusing) {
            reached("records left a partition that refuses");
            self.bell.ring();
        }
    }

    /// Sends what there is until the link is lost.
    async fn serve(self: &Arc<Self>, pool: &Pool, link: &Arc<Link>, handle: u32) -> Obstacle {
        loop {
            let changed = self.changed.notified();
            if link.has_ended() {
                // The link has given back what it had.
                let mut state = self.state.lock();
                state.open = None;
                state.window.regroup();
                return Obstacle::Later("the connection to the broker was lost".into(), false);
            }
            if self.must_reopen() {
                reached("partition opened again");
                self.state.lock().open = None;
                link.close_partition(handle);
                return Obstacle::Later("the partition has to be opened again".into(), true);
            }
            match self.pump(link, handle) {
                Some(at) => drop(pool.runtime.timeout(at - now(), changed).await),
                None => changed.await,
            }
        }
    }

    /// Whether the handle is gone, and nothing is under way that would be answered on it.
    fn must_reopen(&self) -> bool {
        let mut state = self.state.lock();
        state.reopen && (state.window.regroup() || state.window.is_empty())
    }

    /// Sends as much as may go now. Says when to look again, if not at the next change.
    fn pump(self: &Arc<Self>, link: &Arc<Link>, handle: u32) -> Option<Instant> {
        let now = now();
        {
            let mut state = self.state.lock();
            if state.window.regroup() {
                reached("batch sent again");
                let pause = state.backoff.next_pause();
                state.not_before = Some(now + pause);
            }
        }
        self.expire(now);
        if self.is_stopped() {
            self.fail_waiting(&DeliveryError::NotSent);
            return None;
        }
        if self.state.lock().reopen {
            // What is on its way is answered first.
            return None;
        }
        if let Some(at) = self.state.lock().not_before.filter(|at| *at > now) {
            return Some(at);
        }
        let ProducerSettings { stop_on_failure, max_in_flight, .. } = self.owner.settings;
        let max_in_flight = if stop_on_failure { 1 } else { max_in_flight };
        while self.state.lock().window.is_open(max_in_flight) {
            let again = self.state.lock().window.take_again();
            let finished = match again {
                Some(finished) => finished,
                None => match self.owner.take(self.partition, now) {
                    Take::Batch(batch) => match self.finish(batch) {
                        Some(finished) => finished,
                        None if self.is_stopped() => {
                            self.fail_waiting(&DeliveryError::NotSent);
                            return None;
                        }
                        None => continue,
                    },
                    Take::NotBefore(at) => return Some(at),
                    Take::Nothing => return None,
                },
            };
            self.send(link, handle, finished);
        }
        None
    }

    fn send(self: &Arc<Self>, link: &Arc<Link>, handle: u32, mut finished: Finished) {
        let flight = self.state.lock().window.next_flight();
        // From now on, if nobody settles it, its outcome is unknown.
        finished.batch.sent = true;
        let bytes = finished.bytes.clone();
        self.state.lock().window.sent(finished);
        link.produce(handle, self.owner.settings.ack, bytes, self.clone(), flight);
    }

    fn settle(&self, answer: impl FnOnce(&mut State, &mut Settled<Finished>)) {
        let mut settled = Settled::new();
        answer(&mut self.state.lock(), &mut settled);
        for (finished, result) in settled {
            self.conclude(*finished.batch, result);
        }
    }

    /// Gives a batch its outcome.
    fn conclude(&self, batch: Batch, result: Result<i64, DeliveryError>) {
        if result.is_err() && self.owner.settings.stop_on_failure {
            self.state.lock().stopped = true;
        }
        batch.settle(result);
    }

    fn is_stopped(&self) -> bool {
        self.owner.settings.stop_on_failure && self.state.lock().stopped
    }

    /// Closes a batch. One that cannot be compressed, or stays too large, has failed.
    fn finish(&self, mut batch: Box<Batch>) -> Option<Finished> {
        let codec = self.owner.settings.compression;
        let error = match batch.builder.finish(codec, |section| codec::compress(codec, section)) {
            Ok(bytes) if bytes.len() <= self.owner.max_batch_bytes => return Some(Finished { batch, bytes }),
            Ok(bytes) => DeliveryError::TooLarge { bytes: bytes.len(), limit: self.owner.max_batch_bytes },
            Err(error) => DeliveryError::Compression { reason: error.to_string().into() },
        };
        self.conclude(*batch, Err(error));
        None
    }

    /// Fails what has waited for too long.
    fn expire(&self, now: Instant) {
        let timeout = self.owner.settings.delivery_timeout;
        let late = |opened_at: Instant| opened_at + timeout <= now;
        let timed_out = || {
            let obstacle = self.state.lock().obstacle.clone();
            Err(DeliveryError::TimedOut { obstacle })
        };
        loop {
            let expired = {
                let mut state = self.state.lock();
                match state.window.first_again() {
                    Some(first) if late(first.batch.opened_at) => state.window.take_again(),
                    _ => break,
                }
            };
            expired.into_iter().for_each(|finished| self.conclude(*finished.batch, timed_out()));
        }
        // What is late does not linger any more.
        let all_linger_is_over = now + self.owner.settings.linger;
        while self.owner.oldest(self.partition).is_some_and(late) {
            let Take::Batch(batch) = self.owner.take(self.partition, all_linger_is_over) else { return };
            self.conclude(*batch, timed_out());
        }
    }

    /// Fails everything that has not been sent.
    fn fail_waiting(&self, error: &DeliveryError) {
        loop {
            let again = self.state.lock().window.take_again();
            let Some(finished) = again else { break };
            self.conclude(*finished.batch, Err(error.clone()));
        }
        let all_linger_is_over = now() + self.owner.settings.linger;
        while let Take::Batch(batch) = self.owner.take(self.partition, all_linger_is_over) {
            self.conclude(*batch, Err(error.clone()));
        }
    }

    fn last_obstacle(&self) -> Arc<str> {
        self.state.lock().obstacle.clone().unwrap_or_else(|| "no connection to the broker".into())
    }
}

impl State {
    fn answer(&mut self, flight: u64, answer: Result<Reply, Trouble>, settled: &mut Settled<Finished>) {
        let answer = match answer {
            Ok(Reply::Produced(produced)) => {
                self.not_before = None;
                self.backoff.reset();
                Answer::Accepted(produced.base_offset)
            }
            Err(Trouble::Refused(refusal)) if may_resend(&refusal) => {
                reached("batch refused for now");
                self.reopen |= refusal.is_of_a_dead_handle();
                self.obstacle = Some(Arc::from(refusal.to_string()));
                Answer::NotNow(refusal)
            }
            Err(Trouble::Refused(refusal)) => {
                self.reopen |= refusal.is_of_a_dead_handle();
                Answer::Never(refusal)
            }
            Err(Trouble::Lost { sent }) if !sent || mutant("resend-unknown-outcome") => Answer::NotSent,
            Ok(_) | Err(Trouble::Lost { .. } | Trouble::Nonsense(_)) => Answer::Unknown,
        };
        self.window.answer(flight, answer, settled);
    }
}

/// The broker has certainly not taken the batch, and may take it later.
fn may_resend(refusal: &Refusal) -> bool {
    refusal.retryable || refusal.code == ErrorCode::UnknownHandle
}

impl From<AdminError> for Obstacle {
    fn from(error: AdminError) -> Self {
        match error {
            AdminError::Refused(refusal) if refusal.retryable => {
                Self::Later(refusal.to_string().into(), true)
            }
            AdminError::Refused(refusal) => Self::Fatal(DeliveryError::Refused(refusal)),
            AdminError::TopicRecreated { topic } => Self::Fatal(DeliveryError::TopicRecreated { topic }),
            AdminError::UnknownTopic { .. } | AdminError::UnknownPartition { .. } => {
                let code = match error {
                    AdminError::UnknownTopic { .. } => ErrorCode::UnknownTopic,
                    _ => ErrorCode::UnknownPartition,
                };
                let message = error.to_string().into();
                Self::Fatal(DeliveryError::Refused(Refusal { code, retryable: false, message }))
            }
            other => Self::Later(other.to_string().into(), true),
        }
    }
}
