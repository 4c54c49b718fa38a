//! A producer's lane to one partition: takes its batches in order, keeps some in flight, and brings every one to an outcome.
//!
//! Invariants:
//! - Batches are accepted in the order in which they were taken. While a batch that was refused for now waits to be resent, nothing new is
//!   sent; one that was refused after a later one had been accepted fails, since resending it would break the order.
//! - A batch whose bytes may have left and whose answer is lost is never resent: the broker may have it.
//! - After a refusal one batch at a time is sent until one is accepted.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use ringlog_protocol::batch::Compression;
use ringlog_protocol::{Ack, ErrorCode};
use ringlog_reactor::{Instant, Notify, now, sleep, timeout};

use super::backoff::Backoff;
use super::link::{Link, Trouble};
use super::pool::Pool;
use crate::accumulator::{Accumulator, Batch, Take};
use crate::compression;
use crate::error::{AdminError, DeliveryError, Refusal};
use crate::session::Reply;

pub(crate) struct Lane {
    owner: Arc<Accumulator>,
    partition: u32,
    changed: Notify,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    flights: VecDeque<Flight>,
    next_flight: u64,
    /// The latest flight that was accepted.
    accepted: Option<u64>,
    /// Batches to be sent again, before any new one.
    again: VecDeque<Finished>,
    /// One at a time, until one is accepted.
    probing: bool,
    /// The handle is not known any more.
    reopen: bool,
    not_before: Option<Instant>,
    backoff: Backoff,
    /// What stood in the way last.
    obstacle: Option<Arc<str>>,
    open: Option<(Rc<Link>, u32)>,
}

/// A batch that was sent.
struct Flight {
    id: u64,
    finished: Finished,
    /// It came back, and may be sent again.
    returned: Option<Option<Refusal>>,
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

impl Lane {
    pub fn new(owner: Arc<Accumulator>, partition: u32) -> Rc<Self> {
        Rc::new(Self { owner, partition, changed: Notify::new(), state: RefCell::default() })
    }

    /// Something is new: records, an answer, or the clock.
    pub fn wake(&self) {
        self.changed.notify_all();
    }

    /// Gives up everything. What may have left has an unknown outcome, the rest was never sent.
    pub fn abandon(&self) {
        let left = {
            let mut state = self.state.borrow_mut();
            if let Some((link, handle)) = state.open.take() {
                link.close_partition(handle);
            }
            (std::mem::take(&mut state.flights), std::mem::take(&mut state.again))
        };
        drop(left);
    }

    /// Serves the lane until its producer is gone, which drops this future.
    pub async fn run(self: Rc<Self>, pool: Rc<Pool>) {
        loop {
            self.wait_for_work().await;
            let patience = self.deadline().map_or(std::time::Duration::ZERO, |deadline| deadline - now());
            let opened = match timeout(patience, self.open(&pool)).await {
                Ok(opened) => opened,
                Err(_) => Err(Obstacle::Later(self.last_obstacle(), false)),
            };
            let obstacle = match opened {
                Ok((link, handle)) => self.serve(&link, handle).await,
                Err(obstacle) => obstacle,
            };
            match obstacle {
                Obstacle::Later(why, pause) => {
                    self.state.borrow_mut().obstacle = Some(why);
                    self.expire(now());
                    if pause {
                        let pause = self.state.borrow_mut().backoff.next_pause();
                        sleep(pause).await;
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
        let again = self.state.borrow().again.front().map(|finished| finished.batch.opened_at);
        let oldest = again.or_else(|| self.owner.oldest(self.partition));
        oldest.map(|opened_at| opened_at + self.owner.settings.delivery_timeout)
    }

    async fn open(&self, pool: &Rc<Pool>) -> Result<(Rc<Link>, u32), Obstacle> {
        let (known, link) = pool.route(&self.owner.topic, self.partition).await.map_err(Obstacle::from)?;
        match link.open_partition(&self.owner.topic, self.partition).await {
            Ok((handle, _)) => {
                let mut state = self.state.borrow_mut();
                state.open = Some((Rc::clone(&link), handle));
                state.reopen = false;
                Ok((link, handle))
            }
            Err(trouble) => {
                pool.forget(&known);
                Err(Obstacle::from(AdminError::from(trouble)))
            }
        }
    }

    /// Sends what there is until the link is lost.
    async fn serve(self: &Rc<Self>, link: &Rc<Link>, handle: u32) -> Obstacle {
        loop {
            let changed = self.changed.notified();
            if link.has_ended() {
                // The link has given back what it had.
                let mut state = self.state.borrow_mut();
                state.open = None;
                state.regroup();
                return Obstacle::Later("the connection to the broker was lost".into(), false);
            }
            if self.must_reopen() {
                return Obstacle::Later("the partition has to be opened again".into(), true);
            }
            match self.pump(link, handle) {
                Some(at) => drop(timeout(at - now(), changed).await),
                None => changed.await,
            }
        }
    }

    fn must_reopen(&self) -> bool {
        let mut state = self.state.borrow_mut();
        let must = state.reopen && state.flights.iter().all(|flight| flight.returned.is_some());
        if must {
            state.regroup();
        }
        must
    }

    /// Sends as much as may go now. Says when to look again, if not at the next change.
    fn pump(self: &Rc<Self>, link: &Rc<Link>, handle: u32) -> Option<Instant> {
        let now = now();
        {
            let mut state = self.state.borrow_mut();
            if state.flights.iter().any(|flight| flight.returned.is_some()) {
                if state.flights.iter().any(|flight| flight.returned.is_none()) {
                    return None;
                }
                state.regroup();
                let pause = state.backoff.next_pause();
                state.not_before = Some(now + pause);
            }
        }
        self.expire(now);
        if let Some(at) = self.state.borrow().not_before.filter(|at| *at > now) {
            return Some(at);
        }
        while self.has_window() {
            if self.owner.settings.ack == Ack::None && link.is_congested(&self.changed) {
                return None;
            }
            let again = self.state.borrow_mut().again.pop_front();
            let finished = match again {
                Some(finished) => finished,
                None => match self.owner.take(self.partition, now) {
                    Take::Batch(batch) => match finish(batch, self.owner.settings.compression) {
                        Some(finished) => finished,
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

    fn has_window(&self) -> bool {
        let state = self.state.borrow();
        let window = if state.probing { 1 } else { self.owner.settings.max_in_flight };
        state.flights.len() < window
    }

    fn send(self: &Rc<Self>, link: &Rc<Link>, handle: u32, mut finished: Finished) {
        let id = {
            let mut state = self.state.borrow_mut();
            state.next_flight += 1;
            state.next_flight
        };
        finished.batch.sent = true;
        let answered = link.produce(handle, self.owner.settings.ack, finished.bytes.clone(), self, id);
        if answered {
            self.state.borrow_mut().flights.push_back(Flight { id, finished, returned: None });
        } else {
            finished.batch.settle(Ok(-1));
        }
    }

    /// A batch was answered, or its link was lost.
    pub fn answer(&self, id: u64, answer: Result<Reply, Trouble>) {
        let settled = self.state.borrow_mut().answer(id, answer);
        for (finished, result) in settled {
            finished.batch.settle(result);
        }
        self.changed.notify_all();
    }

    /// Fails what has waited for too long.
    fn expire(&self, now: Instant) {
        let timeout = self.owner.settings.delivery_timeout;
        let late = |opened_at: Instant| opened_at + timeout <= now;
        let timed_out = || {
            let obstacle = self.state.borrow().obstacle.clone();
            Err(DeliveryError::TimedOut { obstacle })
        };
        loop {
            let expired = {
                let mut state = self.state.borrow_mut();
                match state.again.front() {
                    Some(front) if late(front.batch.opened_at) => state.again.pop_front(),
                    _ => break,
                }
            };
            expired.into_iter().for_each(|finished| finished.batch.settle(timed_out()));
        }
        while self.owner.oldest(self.partition).is_some_and(late) {
            let Take::Batch(batch) = self.owner.take(self.partition, now) else { return };
            batch.settle(timed_out());
        }
    }

    /// Fails everything that has not been sent.
    fn fail_waiting(&self, error: &DeliveryError) {
        let again = std::mem::take(&mut self.state.borrow_mut().again);
        again.into_iter().for_each(|finished| finished.batch.settle(Err(error.clone())));
        let all_linger_is_over = now() + self.owner.settings.linger;
        while let Take::Batch(batch) = self.owner.take(self.partition, all_linger_is_over) {
            batch.settle(Err(error.clone()));
        }
    }

    fn last_obstacle(&self) -> Arc<str> {
        self.state.borrow().obstacle.clone().unwrap_or_else(|| "no connection to the broker".into())
    }
}

/// Outcomes to be told once the state is not borrowed any more.
type Settled = Vec<(Finished, Result<i64, DeliveryError>)>;

impl State {
    fn answer(&mut self, id: u64, answer: Result<Reply, Trouble>) -> Settled {
        let Some(place) = self.flights.iter().position(|flight| flight.id == id) else { return Vec::new() };
        match answer {
            Ok(Reply::Produced(produced)) => self.accept(place, produced.base_offset),
            Err(Trouble::Refused(refusal)) if may_resend(&refusal) => {
                self.reopen |= refusal.code == ErrorCode::UnknownHandle;
                if self.accepted.is_none_or(|accepted| accepted < id) {
                    self.obstacle = Some(Arc::from(refusal.to_string()));
                    self.come_back(place, Some(refusal));
                    return Vec::new();
                }
                self.settle(place, Err(DeliveryError::Overtaken { refusal }))
            }
            Err(Trouble::Refused(refusal)) => self.settle(place, Err(DeliveryError::Refused(refusal))),
            Err(Trouble::Lost { sent: false }) => {
                self.come_back(place, None);
                Vec::new()
            }
            Ok(_) | Err(Trouble::Lost { .. } | Trouble::Nonsense(_)) => {
                self.settle(place, Err(DeliveryError::OutcomeUnknown))
            }
        }
    }

    fn accept(&mut self, place: usize, base_offset: i64) -> Settled {
        self.probing = false;
        self.not_before = None;
        self.backoff.reset();
        self.accepted = self.accepted.max(self.flights.get(place).map(|flight| flight.id));
        let mut settled = self.settle(place, Ok(base_offset));
        // What was refused before it cannot be resent behind it.
        let mut kept = VecDeque::with_capacity(self.flights.len());
        for (index, mut flight) in std::mem::take(&mut self.flights).into_iter().enumerate() {
            match flight.returned.take() {
                Some(Some(refusal)) if index < place => {
                    settled.push((flight.finished, Err(DeliveryError::Overtaken { refusal })));
                }
                returned => kept.push_back(Flight { returned, ..flight }),
            }
        }
        self.flights = kept;
        settled
    }

    fn settle(&mut self, place: usize, result: Result<i64, DeliveryError>) -> Settled {
        self.flights.remove(place).map(|flight| (flight.finished, result)).into_iter().collect()
    }

    fn come_back(&mut self, place: usize, refusal: Option<Refusal>) {
        if let Some(flight) = self.flights.get_mut(place) {
            flight.finished.batch.sent = false;
            flight.returned = Some(refusal);
        }
    }

    /// All flights have come back: they go again, before anything else, in their order.
    fn regroup(&mut self) {
        self.probing |= self.flights.iter().any(|flight| matches!(flight.returned, Some(Some(_))));
        while let Some(flight) = self.flights.pop_back() {
            self.again.push_front(flight.finished);
        }
    }
}

/// The broker has certainly not taken the batch, and may take it later.
fn may_resend(refusal: &Refusal) -> bool {
    refusal.retryable || refusal.code == ErrorCode::UnknownHandle
}

/// Closes a batch. One that cannot be compressed has failed.
fn finish(mut batch: Box<Batch>, codec: Compression) -> Option<Finished> {
    match batch.builder.finish(codec, |section| compression::compress(codec, section)) {
        Ok(bytes) => Some(Finished { batch, bytes }),
        Err(error) => {
            batch.settle(Err(DeliveryError::Compression { reason: error.to_string().into() }));
            None
        }
    }
}

impl From<AdminError> for Obstacle {
    fn from(error: AdminError) -> Self {
        match error {
            AdminError::Refused(refusal) if refusal.retryable => {
                Self::Later(refusal.to_string().into(), true)
            }
            AdminError::Refused(refusal) => Self::Fatal(DeliveryError::Refused(refusal)),
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
