//! One topic's consumer, which reads from the beginning and lives through all kills.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use ringlog_client::{Ack, Client, ConsumeError, ConsumedRecord, Consumer, block_on};

use super::super::helpers::patiently;
use super::ledger::{Fault, Ledger};

/// Before the broker is asked again.
const PAUSE: Duration = Duration::from_millis(5);

/// A running consumer. It ends when this is dropped.
pub struct Follower {
    shared: Arc<Shared>,
}

struct Shared {
    ledger: Arc<Ledger>,
    /// Sequences by partition and offset.
    seen: Mutex<Vec<Vec<u64>>>,
    /// How often it was told that what it had read is lost.
    told: AtomicU64,
    stopped: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Follower {
    /// A consumer of the ledger's topic.
    pub fn start(client: &Client, ledger: &Arc<Ledger>) -> Follower {
        let shared = Arc::new(Shared {
            ledger: Arc::clone(ledger),
            seen: Mutex::new(vec![Vec::new(); ledger.topic.partitions as usize]),
            told: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            waker: Mutex::new(None),
        });
        let (following, client) = (Arc::clone(&shared), client.clone());
        thread::spawn(move || {
            while !following.stopped.load(Ordering::SeqCst) {
                if let Err(fault) = following.follow(&client) {
                    return following.ledger.note(fault);
                }
            }
        });
        Follower { shared }
    }

    /// Waits until it has seen what the ledger says was read, up to these ends.
    pub fn must_have_seen(&self, ends: &[i64]) -> Result<(), Fault> {
        let mut difference = None;
        let outcome = patiently(|wait| {
            difference = self.shared.first_difference(ends);
            if difference.is_none() {
                return Some(Ok(()));
            }
            thread::sleep(wait / 4);
            self.shared.ledger.fault().map(Err)
        });
        outcome.unwrap_or_else(|| {
            let (partition, offset, have) = difference.unwrap_or_default();
            Err(Fault::new(format!(
                "a consumer of topic {}, partition {partition}, stands at offset {have}; the log ends at {}; \
                from offset {offset} on it did not see what is there",
                self.shared.ledger.topic.name, ends[partition]
            )))
        })
    }

    /// How often it was told that what it had read is lost.
    pub fn told(&self) -> u64 {
        self.shared.told.load(Ordering::SeqCst)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        let waker = self.shared.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        waker.into_iter().for_each(Waker::wake);
    }
}

impl Shared {
    /// Follows with one consumer until it is told that something was lost.
    fn follow(&self, client: &Client) -> Result<(), Fault> {
        let from: Vec<_> =
            self.lock().iter().enumerate().map(|(at, seen)| (at as u32, seen.len() as i64)).collect();
        let building = client.consumer(self.ledger.topic.name).from_offsets(from).build();
        let Ok(mut consumer) = block_on(building) else {
            // The broker is away.
            thread::sleep(PAUSE);
            return Ok(());
        };
        while let Some(next) = self.next(&mut consumer) {
            match next {
                Ok(record) => self.take(&record)?,
                Err(error) => return self.recover(error),
            }
        }
        Ok(())
    }

    /// The next record; none when it is to end.
    fn next(&self, consumer: &mut Consumer) -> Option<Result<ConsumedRecord, ConsumeError>> {
        block_on(std::future::poll_fn(|context| {
            *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(context.waker().clone());
            if self.stopped.load(Ordering::SeqCst) {
                return Poll::Ready(None);
            }
            pin!(consumer.next()).poll(context)
        }))
    }

    fn take(&self, record: &ConsumedRecord) -> Result<(), Fault> {
        let value = record.value.as_deref().unwrap_or_default();
        let sequence = self.ledger.sequence(record.partition, record.offset, value)?;
        let seen = &mut self.lock()[record.partition as usize];
        if record.offset != seen.len() as i64 {
            return Err(Fault::new(format!(
                "a consumer of topic {}, partition {}, got offset {} where {} was due",
                self.ledger.topic.name,
                record.partition,
                record.offset,
                seen.len()
            )));
        }
        seen.push(sequence);
        Ok(())
    }

    /// Where memory acknowledges, what was read can be lost: the consumer is told, and begins again. Elsewhere it cannot.
    fn recover(&self, error: ConsumeError) -> Result<(), Fault> {
        match error {
            ConsumeError::Truncated { .. } if self.ledger.topic.ack == Ack::Memory => {
                // With all partitions: the next consumer does not know what this one would have been told of the others.
                self.lock().iter_mut().for_each(Vec::clear);
                self.told.fetch_add(1, Ordering::SeqCst);
                Ok(())
            }
            error => Err(Fault::new(format!("a consumer of topic {}: {error}", self.ledger.topic.name))),
        }
    }

    /// Partition and offset from which on it has not seen what the ledger says, and how much it has seen.
    fn first_difference(&self, ends: &[i64]) -> Option<(usize, usize, usize)> {
        let seen = self.lock();
        let differs = |(partition, seen): (usize, &Vec<u64>)| {
            let offset = self.ledger.differs(partition, seen, ends[partition])?;
            Some((partition, offset, seen.len()))
        };
        seen.iter().enumerate().find_map(differs)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Vec<u64>>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
