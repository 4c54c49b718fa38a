//! Runs a plan: starts the workers, follows them second by second, and ends them, whatever the target does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ringlog_reactor::{sleep, timeout};

use super::crew::{self, Lines, Order};
use super::plan::{Control, Plan, ReadFrom};
use super::recorder::{BUCKET_NS, Bucket};
use super::tally::Tally;
use super::worker::{Books, Event, Extents, NEVER_BEGUN};
use crate::executor::now_ns;
use crate::machine::{CpuTimes, process_that_listens};
use crate::progress::Progress;
use crate::result::Phase;
use crate::target::{Description, Extent, Target};
use crate::workload::Load;

/// From the word "go" to the first record, so that every worker is awake by then.
const HEAD_START_NS: u64 = 20_000_000;
/// How often interrupts and the lag of consumers are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// What is waited for a worker beyond the time that its target has.
const GRACE: Duration = Duration::from_secs(2);
/// Consumers that are this few records behind have caught up, or as many as come in a tenth of a second.
const CAUGHT_UP: u64 = 100;

/// What stands beside a run.
pub struct Watch {
    /// Set when the user wants an end.
    pub interrupted: Arc<AtomicBool>,
    /// The line on the terminal.
    pub progress: Progress,
    /// The broker's process, if it is known; else it is looked for.
    pub broker_pid: Option<u32>,
    /// When the whole began: intervals are placed by that.
    pub began_ns: u64,
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// What was driven.
    pub description: Description,
    /// Its process, if it is local.
    pub broker_pid: Option<u32>,
    /// One, or two when consumers caught up: before and after.
    pub phases: Vec<Phase>,
    /// What was sent and seen.
    pub books: Books,
    /// Whether consumers read all that was sent.
    pub to_the_end: bool,
    /// Why it is partial.
    pub reason: Option<String>,
    /// Some records of the schedule were never begun, because the target had fallen too far behind.
    pub overloaded: Option<String>,
    /// How long consumers that began behind took to catch up, in seconds.
    pub caught_up_seconds: Option<f64>,
}

/// Runs a plan to its end. Must be called on a core of `ringlog_reactor`, whose thread is not a worker's.
///
/// # Errors
/// In words for a person, if it could not begin. What goes wrong later stands in the outcome, with all that was measured.
pub async fn run<T: Target>(target: &T, plan: Plan, watch: &mut Watch) -> Result<Outcome, String> {
    let plan = Arc::new(plan);
    let control = Arc::new(Control::default());
    let (events_in, events) = flume::unbounded();
    let (buckets_in, buckets) = flume::unbounded();
    let lines = Lines { events: events_in, buckets: buckets_in };
    let mut orders = Vec::new();
    for index in 0..plan.threads {
        let started = crew::start(target.clone(), plan.clone(), control.clone(), index, lines.clone());
        orders.push(started.map_err(|error| format!("cannot start a thread: {error}"))?);
    }
    drop(lines);
    let tally = Tally::new(plan.threads, 0, 0.0);
    let mut coordinator = Coordinator {
        plan,
        control,
        orders,
        events,
        buckets,
        tally,
        watch,
        broker_pid: None,
        held: 0,
        next_tick_ns: u64::MAX,
        reason: None,
        overloaded: None,
        caught_up_ns: None,
        phases: Vec::new(),
    };
    coordinator.run().await
}

struct Coordinator<'a> {
    plan: Arc<Plan>,
    control: Arc<Control>,
    orders: Vec<flume::Sender<Order>>,
    events: flume::Receiver<(u32, Event)>,
    buckets: flume::Receiver<Bucket>,
    tally: Tally,
    watch: &'a mut Watch,
    broker_pid: Option<u32>,
    /// Records that the consumers find there.
    held: u64,
    next_tick_ns: u64,
    reason: Option<String>,
    overloaded: Option<String>,
    /// When the consumers had caught up.
    caught_up_ns: Option<u64>,
    phases: Vec<Phase>,
}

/// Why waiting for events ended.
enum Next {
    Event(Event),
    /// Time to look around.
    Look,
    /// No worker is left.
    Gone,
}

impl Coordinator<'_> {
    async fn run(&mut self) -> Result<Outcome, String> {
        let (description, extents) = self.prepare().await?;
        self.held = match self.plan.read_from {
            ReadFrom::Begin if self.plan.consumers > 0 => {
                extents.iter().flatten().map(|extent| extent.end - extent.start).sum()
            }
            _ => 0,
        };
        self.broker_pid = self.watch.broker_pid.or_else(|| process_that_listens(&description.address));
        self.go();
        let answered = self.publish().await;
        let mut to_the_end = false;
        if self.plan.consumers > 0 {
            let ends = match self.plan.producers {
                0 if self.plan.follows() => Some(Arc::new(endless(&extents))),
                0 => Some(Arc::new(extents)),
                _ => self.ends(ends_of(&extents)).await,
            };
            if let Some(ends) = ends {
                to_the_end = self.consume(ends).await && answered;
            }
        }
        let books = self.finish().await;
        Ok(Outcome {
            description,
            broker_pid: self.broker_pid,
            phases: std::mem::take(&mut self.phases),
            books,
            to_the_end,
            reason: self.reason.take(),
            overloaded: self.overloaded.take(),
            caught_up_seconds: self
                .caught_up_ns
                .map(|at| at.saturating_sub(self.control.measure_ns.load(Ordering::Relaxed)) as f64 / 1e9),
        })
    }

    /// From nothing to open producers and consumers.
    async fn prepare(&mut self) -> Result<(Description, Extents), String> {
        let mut description = None;
        self.gather(|event| match event {
            Event::Connected(found) => {
                description = Some(*found);
                true
            }
            _ => false,
        })
        .await?;
        let description = description.ok_or("no worker is connected")?;
        let _ = self.orders[0].send(Order::Prepare);
        let mut prepared = None;
        self.gather_of(1, |event| match event {
            Event::Prepared(found) => {
                prepared = Some(found);
                true
            }
            _ => false,
        })
        .await?;
        let extents = prepared.ok_or("no worker is there")?.map_err(|error| error.to_string())?;
        let shared = Arc::new(extents);
        self.tell(|| Order::Open(Arc::clone(&shared)));
        self.gather(|event| matches!(event, Event::Ready)).await?;
        Ok((description, Extents::clone(&shared)))
    }

    /// Waits until every worker has said what is wanted.
    async fn gather(&mut self, wanted: impl FnMut(Event) -> bool) -> Result<(), String> {
        self.gather_of(self.orders.len(), wanted).await
    }

    async fn gather_of(&mut self, count: usize, mut wanted: impl FnMut(Event) -> bool) -> Result<(), String> {
        let deadline_ns = now_ns() + (self.plan.timeout + GRACE).as_nanos() as u64;
        let mut found = 0;
        while found < count {
            match self.next().await {
                Next::Event(Event::Failed(words)) => return Err(words),
                Next::Event(event) => found += usize::from(wanted(event)),
                Next::Gone => return Err("a worker ended before the start".to_owned()),
                Next::Look if self.watch.interrupted.load(Ordering::Relaxed) => {
                    return Err("interrupted before the start".to_owned());
                }
                Next::Look if now_ns() > deadline_ns => {
                    return Err(format!(
                        "the broker did not answer within {:?} (--timeout)",
                        self.plan.timeout
                    ));
                }
                Next::Look => {}
            }
        }
        Ok(())
    }

    fn go(&mut self) {
        let start_ns = now_ns() + HEAD_START_NS;
        let measure_ns = start_ns + self.plan.warm_up.as_nanos() as u64;
        let stop_ns = match self.plan.duration {
            Some(duration) if self.plan.after_catching_up.is_none() => {
                measure_ns + duration.as_nanos() as u64
            }
            _ => u64::MAX,
        };
        self.control.start_ns.store(start_ns, Ordering::Release);
        self.control.measure_ns.store(measure_ns, Ordering::Release);
        self.control.stop_ns.store(stop_ns, Ordering::Release);
        let offset_seconds = measure_ns.saturating_sub(self.watch.began_ns) as f64 / 1e9;
        self.tally = Tally::new(self.plan.threads, measure_ns, offset_seconds);
        self.next_tick_ns = measure_ns;
        if self.plan.warm_up.is_zero() {
            // The run may be over before its start is looked at.
            self.tick();
        }
        self.tell(|| Order::Go);
    }

    /// Follows the producers to their end. True if every record has its answer.
    async fn publish(&mut self) -> bool {
        let mut published = 0;
        let mut silence = Silence::new(&self.control, self.plan.timeout + GRACE, false);
        let mut stopping = false;
        while published < self.orders.len() {
            match self.next().await {
                Next::Event(Event::Published) => published += 1,
                Next::Event(Event::Trouble(words)) if !self.plan.keep_going && !stopping => {
                    stopping = self.stop_publishing(words);
                }
                Next::Event(Event::ConsumerEnded(words)) => {
                    self.add_reason(words.clone());
                    if !self.plan.keep_going && !stopping {
                        stopping = self.stop_publishing(words);
                    }
                }
                Next::Event(Event::Trouble(words)) => {
                    self.reason.get_or_insert(words);
                }
                Next::Event(Event::Failed(words)) => {
                    self.reason.get_or_insert(words);
                    return false;
                }
                Next::Event(_) => {}
                Next::Gone => return false,
                Next::Look => {
                    let stopped_for = now_ns().saturating_sub(self.control.stop_ns.load(Ordering::Relaxed));
                    if !stopping && self.watch.interrupted.load(Ordering::Relaxed) {
                        stopping = self.stop_publishing("interrupted".to_owned());
                    } else if !stopping && stopped_for > self.plan.drain.as_nanos() as u64 {
                        // What was never begun is counted at the end.
                        self.tell(|| Order::StopPublishing);
                        stopping = true;
                    } else if silence.is_too_long(&self.control) && self.plan.producers > 0 {
                        let words = format!("nothing was heard of the broker for {:?}", silence.limit);
                        self.reason.get_or_insert(words);
                        return false;
                    }
                    self.look_whether_caught_up();
                }
            }
        }
        true
    }

    /// Always true: publishing now stops.
    fn stop_publishing(&mut self, why: String) -> bool {
        self.reason.get_or_insert(why);
        self.control.stop_ns.fetch_min(now_ns(), Ordering::Relaxed);
        self.tell(|| Order::StopPublishing);
        true
    }

    /// Records that consumers have yet to get.
    fn backlog(&self) -> Option<u64> {
        let there = self.held + self.control.acked.load(Ordering::Relaxed);
        (self.plan.consumers > 0).then(|| there.saturating_sub(self.control.received.load(Ordering::Relaxed)))
    }

    fn look_whether_caught_up(&mut self) {
        let (Some(after), Some(backlog)) = (self.plan.after_catching_up, self.backlog()) else { return };
        let now = now_ns();
        let measuring_for = now.saturating_sub(self.control.measure_ns.load(Ordering::Relaxed));
        if self.caught_up_ns.is_some() || measuring_for == 0 {
            return;
        }
        let rate = match self.plan.load {
            Load::Rate { per_second, .. } => per_second,
            _ => 0.0,
        };
        if backlog <= CAUGHT_UP.max((rate / 10.0) as u64) {
            self.caught_up_ns = Some(now);
            self.control.stop_ns.store(now + after.as_nanos() as u64, Ordering::Relaxed);
        } else if measuring_for > self.plan.give_up.as_nanos() as u64 && self.reason.is_none() {
            let words = format!("the consumers had not caught up after {:?} (--give-up)", self.plan.give_up);
            self.stop_publishing(words);
        }
    }

    /// What is in the topics once everything is answered and can be read. An ack may come before that, when it means
    /// less than the topic's own level.
    async fn ends(&mut self, before: u64) -> Option<Arc<Extents>> {
        let deadline_ns = now_ns() + self.plan.timeout.as_nanos() as u64;
        let expected = before + self.control.acked.load(Ordering::Relaxed);
        let _ = self.orders[0].send(Order::Look);
        loop {
            match self.next().await {
                Next::Event(Event::Looked(Ok(extents)))
                    if ends_of(&extents) >= expected || now_ns() > deadline_ns =>
                {
                    return Some(Arc::new(extents));
                }
                Next::Event(Event::Looked(Ok(_))) => {
                    sleep(LOOK_EVERY).await;
                    let _ = self.orders[0].send(Order::Look);
                }
                Next::Event(Event::Looked(Err(error))) => {
                    self.reason.get_or_insert(format!("the ends of the topics could not be read: {error}"));
                    return None;
                }
                Next::Gone => return None,
                Next::Look if now_ns() > deadline_ns => {
                    self.reason.get_or_insert("the broker did not say where the topics end".to_owned());
                    return None;
                }
                _ => {}
            }
        }
    }

    /// Follows the consumers to these ends. True if they got there.
    async fn consume(&mut self, ends: Arc<Extents>) -> bool {
        self.tell(|| Order::ReadUntil(Arc::clone(&ends)));
        let mut silence = Silence::new(&self.control, self.plan.timeout, true);
        let mut consumed = vec![false; self.orders.len()];
        while consumed.contains(&false) {
            match self.next_of().await {
                Some((index, Event::Consumed)) => consumed[index as usize] = true,
                Some((_, Event::Trouble(words) | Event::Failed(words) | Event::ConsumerEnded(words))) => {
                    self.add_reason(words);
                    return false;
                }
                Some(_) => {}
                None => {
                    let only_reading = self.plan.producers == 0;
                    if self.watch.interrupted.load(Ordering::Relaxed) {
                        self.reason.get_or_insert("interrupted".to_owned());
                        return false;
                    }
                    if only_reading && now_ns() >= self.control.stop_ns.load(Ordering::Relaxed) {
                        return false;
                    }
                    // Nobody need produce what is followed.
                    if !self.plan.follows() && silence.is_too_long(&self.control) {
                        let left = self.backlog().unwrap_or(0);
                        let words = format!(
                            "consumers received nothing for {:?}, {left} records before the end",
                            silence.limit
                        );
                        self.add_reason(words);
                        return false;
                    }
                }
            }
        }
        true
    }

    /// An earlier trouble may be the cause of a later one, and does not say what is missing since then.
    fn add_reason(&mut self, words: String) {
        self.reason = Some(match self.reason.take() {
            Some(before) => format!("{before}; then {words}"),
            None => words,
        });
    }

    /// Ends the workers and takes what they have.
    async fn finish(&mut self) -> Books {
        let stop_ns = self.control.stop_ns.load(Ordering::Relaxed);
        let end_ns = if stop_ns == u64::MAX { 0 } else { stop_ns.min(now_ns()) };
        let times = CpuTimes::now(self.broker_pid);
        self.tell(|| Order::Finish);
        let mut books = Books::default();
        let (mut done, mut closed) = (0, 0);
        let deadline_ns = now_ns() + GRACE.as_nanos() as u64 * 2;
        self.next_tick_ns = u64::MAX;
        while closed < self.orders.len() && now_ns() < deadline_ns {
            match self.next().await {
                Next::Event(Event::Done(own)) => {
                    done += 1;
                    books.accounts.extend(own.accounts);
                    books.ledgers.extend(own.ledgers);
                }
                Next::Event(Event::Closed) => closed += 1,
                Next::Gone => break,
                _ => {}
            }
        }
        if done < self.orders.len() {
            self.reason
                .get_or_insert("a worker did not end, and what it measured last is missing".to_owned());
        }
        self.buckets.drain().for_each(|bucket| self.tally.add(bucket));
        self.tally.settle_all(end_ns, times);
        let label = if self.phases.is_empty() { "run" } else { "after" };
        let offered = self.offered();
        self.phases.push(self.tally.end_phase(label, offered));
        self.watch.progress.clear();
        let never_begun: u64 = self.phases.iter().filter_map(|phase| phase.errors.get(NEVER_BEGUN)).sum();
        self.overloaded = (never_begun > 0)
            .then(|| format!("the target fell behind: {never_begun} records that were due were never begun"));
        books
    }

    fn offered(&self) -> Option<f64> {
        match self.plan.load {
            Load::Rate { per_second, .. } if self.plan.producers > 0 => Some(per_second),
            _ => None,
        }
    }

    fn tell(&self, order: impl Fn() -> Order) {
        // A worker that is gone has said why.
        self.orders.iter().for_each(|worker| drop(worker.send(order())));
    }

    async fn next(&mut self) -> Next {
        match timeout(LOOK_EVERY, self.events.recv_async()).await {
            Ok(Ok((_, event))) => Next::Event(event),
            Ok(Err(_)) => Next::Gone,
            Err(_) => {
                self.keep_time();
                Next::Look
            }
        }
    }

    /// As `next`, with the worker's number; none when it is time to look around.
    async fn next_of(&mut self) -> Option<(u32, Event)> {
        if let Ok(Ok(event)) = timeout(LOOK_EVERY, self.events.recv_async()).await {
            return Some(event);
        }
        self.keep_time();
        None
    }

    fn tick(&mut self) {
        self.tally.tick(CpuTimes::now(self.broker_pid), self.backlog());
        self.next_tick_ns += BUCKET_NS;
    }

    /// Settles seconds that are over.
    fn keep_time(&mut self) {
        self.buckets.drain().for_each(|bucket| self.tally.add(bucket));
        let now = now_ns();
        while now >= self.next_tick_ns {
            self.tick();
        }
        while let Some(bucket) = self.tally.settle_one() {
            self.watch.progress.show(&bucket, self.plan.duration);
            if self.caught_up_ns.is_some() && self.phases.is_empty() {
                let offered = self.offered();
                self.phases.push(self.tally.end_phase("catch-up", offered));
            }
        }
    }
}

/// Consumers of others' live records never come to an end by themselves.
fn endless(extents: &Extents) -> Extents {
    let endless = |extent: &Extent| Extent { start: extent.start, end: u64::MAX };
    extents.iter().map(|topic| topic.iter().map(endless).collect()).collect()
}

/// All that was ever put there.
fn ends_of(extents: &Extents) -> u64 {
    extents.iter().flatten().map(|extent| extent.end).sum()
}

/// How long nothing has happened.
struct Silence {
    limit: Duration,
    /// Consumers have not got all that is there, so silence always means something.
    reading: bool,
    progress: u64,
    since_ns: u64,
}

impl Silence {
    fn new(control: &Control, limit: Duration, reading: bool) -> Silence {
        Silence { limit, reading, progress: control.progress(), since_ns: now_ns() }
    }

    fn is_too_long(&mut self, control: &Control) -> bool {
        let (progress, now) = (control.progress(), now_ns());
        // Before the first record is due, and while none is on its way, silence means nothing.
        let waiting = control.sent.load(Ordering::Relaxed)
            > control.acked.load(Ordering::Relaxed) + control.failed.load(Ordering::Relaxed);
        if progress != self.progress || !(waiting || self.reading) {
            self.progress = progress;
            self.since_ns = now;
        }
        now - self.since_ns > self.limit.as_nanos() as u64
    }
}
