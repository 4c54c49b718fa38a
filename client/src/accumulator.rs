//! What a producer's application threads and the driver share: the batches that are filling up, and the byte budget.
//!
//! Invariants:
//! - `used_bytes` is the sum of the charges of all batches that have no outcome yet; it passes the budget only by one record
//!   that is larger than the whole budget and alone.
//! - Admission is first come, first served: nobody is admitted while somebody waits who came before.
//! - A partition with something to take that the driver was not told of is in `dirty`, and then a doorbell is under way (`told`).
//! - A record without key and partition goes to no partition that refuses records, as long as there is another.
//! - The lock is held for pushing one record or taking one batch; compressing and checksums happen outside.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ringlog_protocol::Ack;
use ringlog_protocol::batch::{BatchBuilder, Compression, Header};
use ringlog_protocol::limits::MAX_BATCH_BYTES;
use ringlog_protocol::partitioner::partition_for_key;
use ringlog_reactor::Instant;

use crate::delivery::{Delivery, Outcome};
use crate::doorbell::Shared;
use crate::error::{DeliveryError, SendError};
use crate::in_order::InOrder;
use crate::record::Record;

/// What a producer was built with.
#[derive(Clone, Debug)]
pub(crate) struct ProducerSettings {
    pub ack: Ack,
    pub linger: Duration,
    pub batch_bytes: usize,
    pub compression: Compression,
    pub buffer_bytes: usize,
    pub delivery_timeout: Duration,
    pub max_in_flight: usize,
    pub stop_on_failure: bool,
}

/// The shared part of one producer.
#[derive(Debug)]
pub(crate) struct Accumulator {
    pub topic: Arc<str>,
    /// The topic's number: another topic of the same name has another one.
    pub topic_id: u64,
    pub settings: ProducerSettings,
    /// The largest batch that the broker takes for this topic, compressed as it is sent.
    pub max_batch_bytes: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    partitions: Vec<Queue>,
    dirty: Vec<u32>,
    told: bool,
    /// The bound of `usual_bytes`: one large record must not make every batch after it begin large.
    most_usual_bytes: usize,
    /// Where records without a key go until their batch is closed.
    sticky: u32,
    used_bytes: usize,
    /// Records admitted so far.
    admitted: u64,
    waiting: VecDeque<(u64, Waker)>,
    next_ticket: u64,
    /// Which batches have their outcome, by sequence.
    progress: InOrder,
    /// Batches before this one do not linger.
    flush_before: u64,
    flushing: Vec<Flushing>,
    last_flush: u64,
    failed_records: u64,
    closing: bool,
    orphaned: bool,
}

/// One who waits for every batch before `mark`.
#[derive(Debug)]
struct Flushing {
    id: u64,
    mark: u64,
    waker: Waker,
}

#[derive(Debug, Default)]
struct Queue {
    full: VecDeque<Filling>,
    open: Option<Filling>,
    in_dirty: bool,
    /// It takes no records: those that may go anywhere go elsewhere.
    refusing: bool,
    /// It was opened once, so `refusing` is not a guess.
    known: bool,
    /// The number of the last record that was admitted to it.
    last_admitted: u64,
    /// How large the last batch became: the next one begins with that much memory, so that it hardly grows under the lock.
    usual_bytes: usize,
}

#[derive(Debug)]
struct Filling {
    sequence: u64,
    builder: BatchBuilder,
    outcome: Arc<Outcome>,
    opened_at: Instant,
    /// It has a record whose key or partition says that it belongs here.
    bound: bool,
    /// The number of its first record.
    first_admitted: u64,
}

/// A batch on its way. Dropped without `settle`, it fails its deliveries.
#[derive(Debug)]
pub(crate) struct Batch {
    owner: Arc<Accumulator>,
    sequence: u64,
    outcome: Arc<Outcome>,
    charge: usize,
    /// How many records it has.
    pub records: u32,
    /// When its first record was admitted.
    pub opened_at: Instant,
    /// The records, until the batch is finished.
    pub builder: BatchBuilder,
    /// True from the moment that its bytes may have left.
    pub sent: bool,
    settled: bool,
}

/// What there is to take from a partition.
#[derive(Debug)]
pub(crate) enum Take {
    Batch(Box<Batch>),
    /// The open batch lingers until then.
    NotBefore(Instant),
    Nothing,
}

/// What became of an attempt to admit a record.
#[derive(Debug)]
pub(crate) enum Admission {
    Admitted {
        delivery: Delivery,
        /// True when the driver must be told; the caller rings its doorbell.
        ring: bool,
    },
    /// The budget is spent; the record is given back.
    Full(Record),
    Refused(SendError),
}

/// The last application handle was dropped: closes, and lets the driver retire it.
impl Shared for Accumulator {
    fn release(&self) -> bool {
        self.lock().orphaned = true;
        self.close()
    }
}

impl Accumulator {
    pub fn new(
        topic: Arc<str>,
        topic_id: u64,
        partitions: u32,
        settings: ProducerSettings,
        max_batch_bytes: usize,
        sticky: u32,
    ) -> Arc<Self> {
        let batch_bytes = settings.batch_bytes.min(max_batch_bytes);
        let settings = ProducerSettings { batch_bytes, ..settings };
        let state = State {
            partitions: (0..partitions).map(|_| Queue::default()).collect(),
            dirty: Vec::new(),
            told: false,
            most_usual_bytes: settings.batch_bytes,
            sticky: sticky % partitions.max(1),
            used_bytes: 0,
            admitted: 0,
            waiting: VecDeque::new(),
            next_ticket: 0,
            progress: InOrder::default(),
            flush_before: 0,
            flushing: Vec::new(),
            last_flush: 0,
            failed_records: 0,
            closing: false,
            orphaned: false,
        };
        Arc::new(Self { topic, topic_id, settings, max_batch_bytes, state: Mutex::new(state) })
    }

    /// How many partitions the topic has.
    pub fn partitions(&self) -> u32 {
        self.lock().partitions.len() as u32
    }

    /// Admits a record if there is room and nobody waits.
    pub fn try_admit(&self, record: Record) -> Admission {
        let mut state = self.lock();
        if !state.waiting.is_empty() {
            return Admission::Full(record);
        }
        self.admit(&mut state, record)
    }

    /// Admits a record when its turn has come. `ticket` is the caller's place in the queue; it must be given back with
    /// `give_up` if the wait is abandoned. The flag says whether the driver must be told.
    pub fn poll_admit(
        &self,
        waiting: &mut Option<Record>,
        ticket: &mut Option<u64>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(Delivery, bool), SendError>> {
        let mut state = self.lock();
        let first = state.waiting.front().map(|(first, _)| *first);
        let my_turn = state.closing || first == *ticket;
        if my_turn {
            let record = waiting.take().expect("a send is not polled after its end");
            match self.admit(&mut state, record) {
                Admission::Full(record) => *waiting = Some(record),
                Admission::Admitted { delivery, ring } => {
                    state.leave_queue(ticket.take());
                    return Poll::Ready(Ok((delivery, ring)));
                }
                Admission::Refused(error) => {
                    state.leave_queue(ticket.take());
                    return Poll::Ready(Err(error));
                }
            }
        }
        state.enqueue(ticket, context.waker());
        Poll::Pending
    }

    /// Leaves the queue of those who wait for room.
    pub fn give_up(&self, ticket: u64) {
        self.lock().leave_queue(Some(ticket));
    }

    fn admit(&self, state: &mut State, record: Record) -> Admission {
        if state.closing {
            return Admission::Refused(SendError::Closed);
        }
        let partition = match state.partition_of(&record) {
            Ok(partition) => partition,
            Err(error) => return Admission::Refused(error),
        };
        let timestamp_ms = record.timestamp_ms.unwrap_or_else(ringlog_reactor::wall_clock_ms);
        let growth = state.partitions[partition as usize].open.as_ref().and_then(|open| {
            let joined_bytes = measure(&open.builder, timestamp_ms, &record);
            (joined_bytes <= self.settings.batch_bytes).then(|| joined_bytes - open.builder.len())
        });
        // A batch of several is within `batch_bytes` before compression; one large record may get small enough by it.
        let alone_limit = match self.settings.compression {
            Compression::None => self.max_batch_bytes,
            _ => self.max_batch_bytes.max(MAX_BATCH_BYTES),
        };
        let alone = BatchBuilder::new(alone_limit);
        let needed = growth.unwrap_or_else(|| measure(&alone, timestamp_ms, &record));
        // One that joins is within `batch_bytes`, which is no more than this.
        if growth.is_none() && needed > alone_limit {
            return Admission::Refused(SendError::TooLarge { bytes: needed, limit: alone_limit });
        }
        if state.used_bytes > 0 && state.used_bytes + needed > self.settings.buffer_bytes {
            return Admission::Full(record);
        }
        state.used_bytes += needed;
        state.admitted += 1;
        state.partitions[partition as usize].last_admitted = state.admitted;
        if growth.is_none() {
            state.close_open(partition);
            state.open_new(partition, alone.with_room(state.partitions[partition as usize].usual_bytes));
        }
        let open = state.partitions[partition as usize].open.as_mut().expect("a batch was just opened");
        open.bound |= record.key.is_some() || record.partition.is_some();
        let index = push(&mut open.builder, timestamp_ms, &record);
        let delivery = Delivery::new(Arc::clone(&open.outcome), index);
        Admission::Admitted { delivery, ring: state.must_ring() }
    }

    /// Puts the partitions with something new into `dirty`, which is empty; from now on another doorbell may come.
    pub fn take_dirty(&self, dirty: &mut Vec<u32>) {
        let mut state = self.lock();
        state.told = false;
        std::mem::swap(&mut state.dirty, dirty);
        for partition in &*dirty {
            state.partitions[*partition as usize].in_dirty = false;
        }
    }

    /// The next batch of a partition, if one may go now.
    pub fn take(self: &Arc<Self>, partition: u32, now: Instant) -> Take {
        let mut state = self.lock();
        let in_a_hurry = state.closing || self.settings.linger.is_zero();
        let flush_before = state.flush_before;
        let queue = &mut state.partitions[partition as usize];
        let full = queue.full.pop_front();
        if let (None, Some(open)) = (&full, &queue.open) {
            let ready_at = open.opened_at + self.settings.linger;
            if !in_a_hurry && open.sequence >= flush_before && now < ready_at {
                return Take::NotBefore(ready_at);
            }
        }
        match full.or_else(|| state.take_open(partition)) {
            Some(filling) => Take::Batch(Box::new(self.batch(filling))),
            None => Take::Nothing,
        }
    }

    /// When the oldest record of the partition that was not taken was admitted.
    pub fn oldest(&self, partition: u32) -> Option<Instant> {
        let state = self.lock();
        let queue = &state.partitions[partition as usize];
        queue.full.front().or(queue.open.as_ref()).map(|filling| filling.opened_at)
    }

    fn batch(self: &Arc<Self>, filling: Filling) -> Batch {
        Batch {
            owner: Arc::clone(self),
            sequence: filling.sequence,
            charge: filling.builder.len(),
            records: filling.builder.record_count() as u32,
            outcome: filling.outcome,
            opened_at: filling.opened_at,
            builder: filling.builder,
            sent: false,
            settled: false,
        }
    }

    /// A partition was opened: notes whether it takes records. What waits for one that does not, and may go anywhere, goes to another one
    /// that has nothing admitted later, so that each partition keeps the order of the sends. True when the driver must look at what is dirty.
    pub fn note_refusing(&self, partition: u32, refusing: bool) -> bool {
        let mut state = self.lock();
        let queue = &mut state.partitions[partition as usize];
        (queue.known, queue.refusing) = (true, refusing);
        if !refusing {
            return false;
        }
        let waiting = queue.full.iter().chain(&queue.open);
        let first = waiting.filter(|filling| !filling.bound).map(|filling| filling.first_admitted).next();
        let target = state.next_for_any(|queue| first.is_none_or(|first| queue.last_admitted < first));
        let Some(target) = target else { return false };
        if state.sticky == partition {
            state.sticky = target;
        }
        if first.is_some() {
            state.move_unbound(partition, target);
        }
        state.must_ring()
    }

    /// Lets all that was admitted so far go at once. Gives the mark for `flushed`, and whether to ring.
    pub fn begin_flush(&self) -> (u64, bool) {
        let mut state = self.lock();
        state.flush_before = state.progress.next();
        for partition in 0..state.partitions.len() as u32 {
            if state.partitions[partition as usize].open.is_some() {
                state.mark_dirty(partition);
            }
        }
        (state.flush_before, state.must_ring())
    }

    /// Waits until every batch before `mark` has its outcome.
    pub fn flushed(&self, mark: u64) -> Flushed<'_> {
        Flushed { shared: self, mark, id: None }
    }

    /// Records that were admitted and failed, since the beginning.
    pub fn failed_records(&self) -> u64 {
        self.lock().failed_records
    }

    /// Whether no application handle is left.
    pub fn is_orphaned(&self) -> bool {
        self.lock().orphaned
    }

    /// Admits nothing more; what lingers goes at once. True when the driver must be told.
    pub fn close(&self) -> bool {
        let mut state = self.lock();
        state.closing = true;
        let refused = std::mem::take(&mut state.waiting);
        for partition in 0..state.partitions.len() as u32 {
            state.mark_dirty(partition);
        }
        let ring = state.must_ring();
        drop(state);
        refused.into_iter().for_each(|(_, waker)| waker.wake());
        ring
    }

    /// Closes, and fails all that was not taken.
    pub fn abandon(self: &Arc<Self>) {
        self.close();
        let left: Vec<Filling> = {
            let mut state = self.lock();
            state
                .partitions
                .iter_mut()
                .flat_map(|queue| queue.full.drain(..).chain(queue.open.take()))
                .collect()
        };
        for filling in left {
            self.batch(filling).settle(Err(DeliveryError::Closed));
        }
    }

    fn settled(&self, batch: &Batch, failed: bool) {
        let mut state = self.lock();
        state.used_bytes -= batch.charge;
        state.progress.finish(batch.sequence);
        if failed {
            state.failed_records += u64::from(batch.records);
        }
        let admitted = state.waiting.front().map(|(_, waker)| waker.clone());
        let State { progress, flushing, .. } = &mut *state;
        let flushed: Vec<_> = flushing.extract_if(.., |one| progress.all_before(one.mark)).collect();
        drop(state);
        admitted.into_iter().chain(flushed.into_iter().map(|one| one.waker)).for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Accumulator {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        for queue in &mut state.partitions {
            for filling in queue.full.drain(..).chain(queue.open.take()) {
                filling.outcome.settle(Err(DeliveryError::Closed));
            }
        }
    }
}

impl State {
    fn partition_of(&self, record: &Record) -> Result<u32, SendError> {
        let partitions = self.partitions.len() as u32;
        match (record.partition, &record.key) {
            (Some(partition), _) if partition >= partitions => {
                Err(SendError::UnknownPartition { partition, partitions })
            }
            (Some(partition), _) => Ok(partition),
            (None, Some(key)) => Ok(partition_for_key(key, partitions)),
            (None, None) => Ok(self.sticky),
        }
    }

    fn open_new(&mut self, partition: u32, builder: BatchBuilder) {
        let filling = Filling {
            sequence: self.progress.begin(),
            builder,
            outcome: Outcome::new(partition),
            opened_at: ringlog_reactor::now(),
            bound: false,
            first_admitted: self.admitted,
        };
        self.partitions[partition as usize].open = Some(filling);
        self.mark_dirty(partition);
    }

    fn close_open(&mut self, partition: u32) {
        let closed = self.take_open(partition);
        self.partitions[partition as usize].full.extend(closed);
    }

    fn take_open(&mut self, partition: u32) -> Option<Filling> {
        let queue = &mut self.partitions[partition as usize];
        let filling = queue.open.take()?;
        queue.usual_bytes = filling.builder.len().min(self.most_usual_bytes);
        // One that is not known yet keeps them: whatever it turns out to be, nothing later is anywhere else.
        if partition == self.sticky && self.partitions[partition as usize].known {
            self.sticky = self.next_for_any(|_| true).unwrap_or(partition);
        }
        Some(filling)
    }

    /// The next partition after the sticky one that takes records, as far as is known, and that fits.
    fn next_for_any(&self, fits: impl Fn(&Queue) -> bool) -> Option<u32> {
        let count = self.partitions.len() as u32;
        let mut others = (1..=count).map(|step| (self.sticky + step) % count);
        others.find(|partition| {
            let queue = &self.partitions[*partition as usize];
            !queue.refusing && fits(queue)
        })
    }

    /// Moves the batches of a partition that belong to no partition to the end of another's.
    fn move_unbound(&mut self, from: u32, to: u32) {
        self.close_open(to);
        let queue = &mut self.partitions[from as usize];
        let last_admitted = queue.last_admitted;
        let (bound, mut moving): (VecDeque<Filling>, VecDeque<Filling>) =
            std::mem::take(&mut queue.full).into_iter().partition(|filling| filling.bound);
        queue.full = bound;
        moving.extend(queue.open.take_if(|filling| !filling.bound));
        moving.iter().for_each(|filling| filling.outcome.move_to(to));
        let queue = &mut self.partitions[to as usize];
        queue.full.extend(moving);
        queue.last_admitted = last_admitted;
        self.mark_dirty(to);
    }

    fn mark_dirty(&mut self, partition: u32) {
        let queue = &mut self.partitions[partition as usize];
        if !std::mem::replace(&mut queue.in_dirty, true) {
            self.dirty.push(partition);
        }
    }

    fn must_ring(&mut self) -> bool {
        !self.dirty.is_empty() && !std::mem::replace(&mut self.told, true)
    }

    fn leave_queue(&mut self, ticket: Option<u64>) {
        if let Some(mine) = ticket {
            self.waiting.retain(|(ticket, _)| *ticket != mine);
        }
        // The next in the queue may fit as well; it finds out by itself.
        if let Some((_, waker)) = self.waiting.front() {
            waker.wake_by_ref();
        }
    }

    fn enqueue(&mut self, ticket: &mut Option<u64>, waker: &Waker) {
        match *ticket {
            Some(mine) => {
                if let Some((_, old)) = self.waiting.iter_mut().find(|(ticket, _)| *ticket == mine) {
                    old.clone_from(waker);
                }
            }
            None => {
                *ticket = Some(self.next_ticket);
                self.waiting.push_back((self.next_ticket, waker.clone()));
                self.next_ticket += 1;
            }
        }
    }
}

/// See [`Accumulator::flushed`].
pub(crate) struct Flushed<'a> {
    shared: &'a Accumulator,
    mark: u64,
    id: Option<u64>,
}

impl Future for Flushed<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.shared.lock();
        if state.progress.all_before(self.mark) {
            return Poll::Ready(());
        }
        let waker = context.waker();
        match state.flushing.iter_mut().find(|one| Some(one.id) == self.id) {
            Some(mine) => mine.waker.clone_from(waker),
            None => {
                state.last_flush += 1;
                let id = state.last_flush;
                state.flushing.push(Flushing { id, mark: self.mark, waker: waker.clone() });
                drop(state);
                self.id = Some(id);
            }
        }
        Poll::Pending
    }
}

impl Drop for Flushed<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.shared.lock().flushing.retain(|one| one.id != id);
        }
    }
}

impl Batch {
    /// Gives all deliveries of the batch their result, and its bytes back to the budget.
    pub fn settle(mut self, result: Result<i64, DeliveryError>) {
        self.settle_once(result);
    }

    fn settle_once(&mut self, result: Result<i64, DeliveryError>) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        let failed = result.is_err();
        self.outcome.settle(result);
        self.owner.settled(self, failed);
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        let result = if self.sent { DeliveryError::OutcomeUnknown } else { DeliveryError::Closed };
        self.settle_once(Err(result));
    }
}

fn headers(record: &Record) -> impl Iterator<Item = Header<'_>> + Clone {
    record.headers.iter().map(|header| Header { key: header.name.as_bytes(), value: header.value.as_deref() })
}

fn measure(builder: &BatchBuilder, timestamp_ms: i64, record: &Record) -> usize {
    builder.len_with(timestamp_ms, record.key.as_deref(), record.value.as_deref(), headers(record))
}

fn push(builder: &mut BatchBuilder, timestamp_ms: i64, record: &Record) -> u32 {
    let pushed = builder.push(timestamp_ms, record.key.as_deref(), record.value.as_deref(), headers(record));
    pushed.expect("the record was measured and fits") as u32
}

#[cfg(test)]
mod tests;
