//! One producer: keeps the schedule, publishes, and collects the acks.
//!
//! Three moments of each record are told apart. It is *due* by the schedule, whatever the target does. It is *begun* when
//! the producer asks the client to take it. It is *acknowledged* at the end. Latency is from due to acknowledged, so
//! nothing that holds the generator back can hide in it.
//!
//! Lateness, from due to begun, is the generator's own fault and only that. A producer that waits for the client to
//! admit a record (its buffer is full since the broker is slow), or at its own bound of unanswered records, cannot begin the
//! next ones in time; that wait is the target's doing, and shows in the latency. So lateness counts from when the record was
//! due or from the end of the last such wait, whichever is later. All that comes after, such as records that have
//! piled up meanwhile and are begun one by one, is the generator's time again.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::maker::Maker;
use super::plan::Plan;
use super::worker::Worker;
use crate::executor::{now_ns, sleep_until, yield_now};
use crate::stamp::Stamp;
use crate::target::{Connection, Outgoing, Publisher, TargetError};
use crate::verify::Account;
use crate::workload::{Load, Random, Schedule};

/// Records begun in one go before acks get a chance to be seen.
const BURST: u32 = 32;

/// See the module.
pub struct Producer<C: Connection> {
    index: u32,
    worker: Rc<Worker>,
    connection: Rc<C>,
    publisher: C::Publisher,
    partitions: u32,
    own_partitions: Vec<u32>,
    maker: Maker,
    flow: Rc<Flow<<C::Publisher as Publisher>::Ack>>,
    begun: u64,
    measured: u64,
}

/// What a producer and its collectors share, and what is left of it at the end.
pub struct Flow<A> {
    index: u32,
    worker: Rc<Worker>,
    lanes: RefCell<Vec<Option<Rc<Lane<A>>>>>,
    /// Lanes that have records and no collector yet.
    uncollected: RefCell<Vec<Rc<Lane<A>>>>,
    outstanding: Cell<u64>,
    /// Records of the schedule that were begun.
    scheduled: Cell<u64>,
}

/// The records of one producer and partition: they are acknowledged in order.
struct Lane<A> {
    queue: RefCell<VecDeque<Waiting<A>>>,
    account: RefCell<Account>,
    /// The sequence that the client is asked to admit.
    in_admission: Cell<Option<u64>>,
}

struct Waiting<A> {
    ack: A,
    sequence: u64,
    due_ns: u64,
}

impl<C: Connection> Producer<C> {
    /// Producer `index`, on a topic of so many partitions.
    pub fn new(
        index: u32,
        worker: &Rc<Worker>,
        connection: &Rc<C>,
        publisher: C::Publisher,
        partitions: u32,
    ) -> Producer<C> {
        let flow = Rc::new(Flow {
            index,
            worker: Rc::clone(worker),
            lanes: RefCell::new((0..partitions).map(|_| None).collect()),
            uncollected: RefCell::default(),
            outstanding: Cell::new(0),
            scheduled: Cell::new(0),
        });
        Producer {
            index,
            worker: Rc::clone(worker),
            connection: Rc::clone(connection),
            publisher,
            partitions,
            own_partitions: worker.plan.partitions_of_producer(index, partitions),
            maker: Maker::new(&worker.plan, index),
            flow,
            begun: 0,
            measured: 0,
        }
    }

    /// What outlives the producer.
    pub fn flow(&self) -> Rc<Flow<<C::Publisher as Publisher>::Ack>> {
        Rc::clone(&self.flow)
    }

    /// Publishes until the plan's end or until publishing is stopped, and stays until every record has its answer: the
    /// client may give up what is on its way once its publisher is gone.
    pub async fn run(mut self) {
        let (worker, flow) = (Rc::clone(&self.worker), Rc::clone(&self.flow));
        let publishing = async {
            worker.publishers.guard(self.publish()).await;
            worker.producer_ended();
            self.publisher.flush().await;
            flow.room(1).await;
        };
        flow.collect_beside(publishing).await;
    }

    async fn publish(&mut self) {
        let start_ns = self.worker.control.start_ns.load(Ordering::Acquire);
        sleep_until(start_ns).await;
        match self.worker.plan.load {
            Load::Rate { .. } => self.open_loop(start_ns).await,
            Load::Depth(depth) => self.closed_loop(u64::from(depth)).await,
            Load::Unlimited => self.closed_loop(share_of_outstanding(&self.worker.plan)).await,
        }
    }

    async fn open_loop(&mut self, start_ns: u64) {
        let Some(schedule) = schedule(&self.worker.plan, self.index) else { return };
        let limit = share_of_outstanding(&self.worker.plan);
        let spin_ns = self.worker.plan.spin.as_nanos() as u64;
        let mut excused_ns = 0;
        let mut burst = 0;
        for due in schedule {
            let due_ns = start_ns + due;
            if self.is_over(due_ns) {
                return;
            }
            if now_ns() < due_ns {
                wait_until(due_ns, spin_ns).await;
                burst = 0;
            }
            if self.flow.outstanding.get() >= limit {
                self.worker
                    .count_error("waited at the bound of unanswered records (--max-outstanding)", due_ns);
                self.flow.room(limit).await;
                excused_ns = now_ns();
            }
            self.flow.scheduled.set(self.flow.scheduled.get() + 1);
            let begun_ns = now_ns();
            self.worker.note_lateness(begun_ns, due_ns, begun_ns.saturating_sub(due_ns.max(excused_ns)));
            if self.send(due_ns).await {
                excused_ns = now_ns();
            }
            burst += 1;
            if burst == BURST {
                burst = 0;
                yield_now().await;
            }
        }
    }

    async fn closed_loop(&mut self, depth: u64) {
        let mut burst = 0;
        loop {
            self.flow.room(depth).await;
            let due_ns = now_ns();
            if self.is_over(due_ns) {
                return;
            }
            self.send(due_ns).await;
            burst += 1;
            if burst == BURST {
                burst = 0;
                yield_now().await;
            }
        }
    }

    /// Whether a record that is due then is one too many.
    fn is_over(&mut self, due_ns: u64) -> bool {
        if due_ns >= self.worker.control.stop_ns.load(Ordering::Relaxed) {
            return true;
        }
        let Some(records) = records_of(&self.worker.plan, self.index) else { return false };
        if self.measured == records {
            return true;
        }
        self.measured += u64::from(self.worker.measures(due_ns));
        false
    }

    /// Publishes one record. True if the client made it wait.
    async fn send(&mut self, due_ns: u64) -> bool {
        let key = self.maker.key();
        let partition = match &key {
            Some(key) => self.connection.partition_for_key(key, self.partitions),
            None => self.own_partitions[(self.begun % self.own_partitions.len() as u64) as usize],
        };
        self.begun += 1;
        let lane = self.flow.lane(partition);
        let sequence = lane.begin();
        let run = self.worker.plan.run;
        let stamp = Stamp { run, producer: self.index, partition, sequence, due_ns };
        let value = self.maker.value(&stamp);
        let bytes = value.len() as u64;
        let named = key.is_none().then_some(partition);
        let (admitted, waited) =
            watch(self.publisher.publish(Outgoing { partition: named, key, value })).await;
        lane.in_admission.set(None);
        match admitted {
            Ok(ack) => {
                self.worker.note_sent(due_ns, bytes);
                self.flow.push(&lane, Waiting { ack, sequence, due_ns });
            }
            Err(error) => self.flow.failed(&lane, sequence, due_ns, &error),
        }
        waited
    }
}

impl<A: Future<Output = Result<(), TargetError>> + Unpin + 'static> Flow<A> {
    fn lane(&self, partition: u32) -> Rc<Lane<A>> {
        let mut lanes = self.lanes.borrow_mut();
        let lane = lanes[partition as usize].get_or_insert_with(|| {
            let run = self.worker.plan.run;
            let account = Account { run, producer: self.index, partition, ..Account::default() };
            Rc::new(Lane {
                queue: RefCell::default(),
                account: RefCell::new(account),
                in_admission: Cell::new(None),
            })
        });
        Rc::clone(lane)
    }

    fn push(&self, lane: &Rc<Lane<A>>, waiting: Waiting<A>) {
        self.outstanding.set(self.outstanding.get() + 1);
        self.worker.outstanding.set(self.worker.outstanding.get() + 1);
        let mut queue = lane.queue.borrow_mut();
        if queue.is_empty() {
            self.uncollected.borrow_mut().push(Rc::clone(lane));
        }
        queue.push_back(waiting);
    }

    /// Collects acks until `publishing` ends, which is polled again after each. All in one task, with a collector for just those
    /// lanes that wait for an ack: one for each lane would be in no cache when there are a thousand.
    async fn collect_beside(&self, publishing: impl Future<Output = ()>) {
        let mut publishing = pin!(publishing);
        let mut collectors = FuturesUnordered::new();
        let mut collect = |context: &mut Context<'_>| {
            let waiting = self.outstanding.get();
            let begun = self.uncollected.take();
            collectors.extend(begun.into_iter().map(|lane| self.collect(lane)));
            while let Poll::Ready(Some(())) = collectors.poll_next_unpin(context) {}
            self.outstanding.get() < waiting
        };
        poll_fn(|context| {
            collect(context);
            let published = publishing.as_mut().poll(context);
            // What was begun just now waits for its ack from here on. Not polled on the spot: publishing ends its bursts by a yield.
            if published.is_pending() && collect(context) {
                context.waker().wake_by_ref();
            }
            published
        })
        .await;
    }

    /// Takes a lane's acks until it waits for none.
    async fn collect(&self, lane: Rc<Lane<A>>) {
        poll_fn(|context| self.poll_collect(&lane, context)).await;
    }

    /// Takes the acks that are there, in order.
    fn poll_collect(&self, lane: &Lane<A>, context: &mut Context<'_>) -> Poll<()> {
        let mut acked = 0;
        let now = now_ns();
        loop {
            let mut queue = lane.queue.borrow_mut();
            let Some(first) = queue.front_mut() else { break };
            let Poll::Ready(answer) = Pin::new(&mut first.ack).poll(context) else { break };
            let (sequence, due_ns) = (first.sequence, first.due_ns);
            queue.pop_front();
            drop(queue);
            match answer {
                Ok(()) => {
                    self.worker.note_acked(now, due_ns);
                    acked += 1;
                }
                Err(error) => self.failed(lane, sequence, due_ns, &error),
            }
            self.outstanding.set(self.outstanding.get() - 1);
            self.worker.outstanding.set(self.worker.outstanding.get() - 1);
        }
        if acked > 0 {
            self.worker.control.acked.fetch_add(acked, Ordering::Relaxed);
        }
        self.worker.look_whether_published();
        if lane.queue.borrow().is_empty() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Waits until fewer than `limit` records are without an answer. Only within `collect_beside`, which looks again.
    async fn room(&self, limit: u64) {
        poll_fn(|_| if self.outstanding.get() < limit { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    fn failed(&self, lane: &Lane<A>, sequence: u64, due_ns: u64, error: &TargetError) {
        let partition = {
            let mut account = lane.account.borrow_mut();
            account.unacked.insert(sequence, sequence + 1);
            account.partition
        };
        self.worker.note_failed(due_ns, error, || {
            format!("producer {}, sequence {sequence} to partition {partition}: {error}", self.index)
        });
    }

    /// What was sent, once nothing runs any more. What has no answer yet has none.
    pub fn accounts(&self) -> Vec<Account> {
        self.lanes.borrow().iter().flatten().map(|lane| lane.account()).collect()
    }

    /// Records that were due before `end_ns` and were never begun, counted with their latency so far, which is the
    /// least that it can be.
    pub fn note_never_begun(&self, end_ns: u64) {
        let Some(schedule) = schedule(&self.worker.plan, self.index) else { return };
        let start_ns = self.worker.control.start_ns.load(Ordering::Acquire);
        let stop_ns = self.worker.control.stop_ns.load(Ordering::Relaxed).min(end_ns);
        let limit = records_of(&self.worker.plan, self.index).map_or(usize::MAX, |records| records as usize);
        let due = schedule.map(|due| start_ns + due).take_while(|due_ns| *due_ns < stop_ns).take(limit);
        for due_ns in due.skip(self.scheduled.get() as usize) {
            self.worker.note_never_begun(end_ns, due_ns);
        }
    }
}

impl<A> Lane<A> {
    fn begin(&self) -> u64 {
        let mut account = self.account.borrow_mut();
        let sequence = account.sent;
        account.sent += 1;
        self.in_admission.set(Some(sequence));
        sequence
    }

    fn account(&self) -> Account {
        let mut account = self.account.borrow().clone();
        let unanswered = self.queue.borrow().iter().map(|waiting| waiting.sequence).collect::<Vec<_>>();
        for sequence in unanswered.into_iter().chain(self.in_admission.get()) {
            account.unacked.insert(sequence, sequence + 1);
        }
        account
    }
}

/// The schedule of producer `index`; none of a closed loop.
fn schedule(plan: &Plan, index: u32) -> Option<Schedule> {
    let Load::Rate { per_second, arrivals } = plan.load else { return None };
    let random = Random::new(plan.seed, 2 * u64::from(index));
    Some(Schedule::new(per_second, arrivals, index, plan.producers, random))
}

/// How many of the plan's records producer `index` sends.
fn records_of(plan: &Plan, index: u32) -> Option<u64> {
    let producers = u64::from(plan.producers);
    plan.records.map(|records| records / producers + u64::from(u64::from(index) < records % producers))
}

fn share_of_outstanding(plan: &Plan) -> u64 {
    (plan.max_outstanding / u64::from(plan.producers.max(1))).max(1)
}

/// Sleeps until shortly before, and polls the rest.
async fn wait_until(due_ns: u64, spin_ns: u64) {
    sleep_until(due_ns.saturating_sub(spin_ns)).await;
    while now_ns() < due_ns {
        yield_now().await;
    }
}

/// The output of a future, and whether it was there at once.
async fn watch<F: Future>(future: F) -> (F::Output, bool) {
    let mut future = pin!(future);
    let mut waited = false;
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready((output, waited)),
        Poll::Pending => {
            waited = true;
            Poll::Pending
        }
    })
    .await
}
