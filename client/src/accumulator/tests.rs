//! The accumulator without a driver: the tests take and settle batches themselves.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use super::*;

/// Counts how often it was woken.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn accumulator(buffer_bytes: usize, linger: Duration) -> Arc<Accumulator> {
    let settings = ProducerSettings {
        ack: Ack::Disk,
        linger,
        batch_bytes: 1000,
        compression: Compression::None,
        buffer_bytes,
        delivery_timeout: Duration::from_secs(60),
        max_in_flight: 5,
        stop_on_failure: false,
    };
    Accumulator::new(Arc::from("orders"), 1, 2, settings, 10_000, 0)
}

fn record(bytes: usize) -> Record {
    Record::new(vec![b'x'; bytes]).partition(0)
}

fn admit(accumulator: &Accumulator, bytes: usize) -> bool {
    matches!(accumulator.try_admit(record(bytes)), Admission::Admitted { .. })
}

fn take(accumulator: &Arc<Accumulator>) -> Batch {
    match accumulator.take(0, ringlog_reactor::now()) {
        Take::Batch(batch) => *batch,
        other => panic!("{other:?}"),
    }
}

/// A sender that waits for room.
struct Waiting {
    record: Option<Record>,
    ticket: Option<u64>,
    wakes: Arc<Count>,
}

impl Waiting {
    fn new(bytes: usize) -> Self {
        Self { record: Some(record(bytes)), ticket: None, wakes: Arc::default() }
    }

    fn is_admitted(&mut self, accumulator: &Accumulator) -> bool {
        let waker = Waker::from(Arc::clone(&self.wakes));
        let mut context = Context::from_waker(&waker);
        accumulator.poll_admit(&mut self.record, &mut self.ticket, &mut context).is_ready()
    }

    fn woken(&self) -> bool {
        self.wakes.0.load(Ordering::SeqCst) > 0
    }
}

#[test]
fn room_goes_to_those_who_came_first() {
    let accumulator = accumulator(1000, Duration::ZERO);
    assert!(admit(&accumulator, 900));
    let (mut first, mut second) = (Waiting::new(800), Waiting::new(10));
    assert!(!first.is_admitted(&accumulator) && !second.is_admitted(&accumulator));
    assert!(!admit(&accumulator, 1), "a small one does not overtake");
    take(&accumulator).settle(Ok(0));
    assert!(first.woken() && !second.woken());
    assert!(!second.is_admitted(&accumulator), "not its turn");
    assert!(first.is_admitted(&accumulator));
    assert!(second.woken(), "the next may fit as well");
    assert!(second.is_admitted(&accumulator));
}

#[test]
fn a_sender_that_gives_up_lets_the_next_one_in() {
    let accumulator = accumulator(1000, Duration::ZERO);
    assert!(admit(&accumulator, 800));
    let (mut first, mut second) = (Waiting::new(900), Waiting::new(10));
    assert!(!first.is_admitted(&accumulator) && !second.is_admitted(&accumulator));
    accumulator.give_up(first.ticket.expect("it waits"));
    assert!(second.woken() && second.is_admitted(&accumulator));
}

#[test]
fn a_record_larger_than_the_budget_goes_alone() {
    let accumulator = accumulator(100, Duration::ZERO);
    assert!(admit(&accumulator, 500));
    assert!(!admit(&accumulator, 1));
    take(&accumulator).settle(Ok(0));
    assert!(admit(&accumulator, 1));
}

#[test]
fn the_driver_is_told_once_until_it_has_looked() {
    let accumulator = accumulator(10_000, Duration::ZERO);
    let rings = |accumulator: &Accumulator| match accumulator.try_admit(record(10)) {
        Admission::Admitted { ring, .. } => ring,
        other => panic!("{other:?}"),
    };
    assert!(rings(&accumulator));
    assert!(!rings(&accumulator), "a doorbell is under way");
    let mut dirty = Vec::new();
    accumulator.take_dirty(&mut dirty);
    assert_eq!(dirty, [0]);
    assert!(!rings(&accumulator), "its lane was woken for this batch");
    take(&accumulator).settle(Ok(0));
    accumulator.take_dirty(&mut Vec::new());
    assert!(rings(&accumulator), "a new batch is news");
}

#[test]
fn a_linger_ends_with_its_time_or_a_full_batch() {
    let accumulator = accumulator(10_000, Duration::from_secs(60));
    assert!(admit(&accumulator, 400));
    let now = ringlog_reactor::now();
    assert!(matches!(accumulator.take(0, now), Take::NotBefore(at) if at > now));
    assert!(admit(&accumulator, 400) && admit(&accumulator, 400));
    assert_eq!(take(&accumulator).records, 2, "the third began a new batch");
    assert!(matches!(accumulator.take(0, now), Take::NotBefore(_)));
    assert!(
        matches!(accumulator.take(0, now + Duration::from_secs(61)), Take::Batch(batch) if batch.records == 1)
    );
}

#[test]
fn a_batch_that_is_dropped_fails_its_deliveries_and_frees_its_bytes() {
    let accumulator = accumulator(1000, Duration::ZERO);
    let Admission::Admitted { delivery, .. } = accumulator.try_admit(record(900)) else { panic!("admitted") };
    let mut batch = take(&accumulator);
    batch.sent = true;
    drop(batch);
    assert_eq!(delivery.try_result(), Some(Err(DeliveryError::OutcomeUnknown)));
    assert!(admit(&accumulator, 900));
}

#[test]
fn the_end_of_everything_fails_what_was_never_taken() {
    let accumulator = accumulator(1000, Duration::ZERO);
    let Admission::Admitted { delivery, .. } = accumulator.try_admit(record(10)) else { panic!("admitted") };
    drop(accumulator);
    assert_eq!(delivery.try_result(), Some(Err(DeliveryError::Closed)));
}

#[test]
fn a_flush_that_is_given_up_leaves_nothing_behind() {
    let accumulator = accumulator(10_000, Duration::ZERO);
    assert!(admit(&accumulator, 1));
    let (mark, _) = accumulator.begin_flush();
    let mut context = Context::from_waker(Waker::noop());
    let mut stays = accumulator.flushed(mark);
    assert!(Pin::new(&mut stays).poll(&mut context).is_pending());
    assert!(Pin::new(&mut accumulator.flushed(mark)).poll(&mut context).is_pending());
    assert_eq!(accumulator.lock().flushing.len(), 1);
    take(&accumulator).settle(Ok(0));
    assert!(Pin::new(&mut stays).poll(&mut context).is_ready());
}
