//! One topic's producer: sends at its rate, through kills, and tells the ledger what became of every record.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use ringlog_client::{Ack, Client, Delivery, Producer, Record, block_on};

use super::ledger::{Fault, Ledger};
use super::random::Random;

/// A record that was not sent by then fails. Short, because before some starts all acks must be known.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(1);
/// Records that are sent in a row at the most.
const BURST: u64 = 64;

/// A running producer. It begins paused, and ends when this is dropped.
pub struct Load {
    ledger: Arc<Ledger>,
    gate: Arc<Gate>,
}

/// Holds the producer's thread back.
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    paused: bool,
    ended: bool,
    in_flight: usize,
    most_in_flight: usize,
}

impl Load {
    /// A producer of the ledger's topic.
    pub fn start(client: &Client, ledger: &Arc<Ledger>, seed: u64) -> Result<Load, Fault> {
        let topic = ledger.topic;
        let builder = client.producer(topic.name).ack(topic.ack).batch_bytes(topic.batch_bytes);
        let building = builder.delivery_timeout(DELIVERY_TIMEOUT).build();
        let producer = block_on(building).map_err(Fault::of("a producer"))?;
        let state = State { paused: true, ended: false, in_flight: 0, most_in_flight: 1 };
        let gate = Arc::new(Gate { state: Mutex::new(state), changed: Condvar::new() });
        let (deliveries, settling) = channel();
        let (sender, settler) =
            ((Arc::clone(ledger), Arc::clone(&gate)), (Arc::clone(ledger), Arc::clone(&gate)));
        thread::spawn(move || send(&producer, &sender.0, &sender.1, &deliveries, seed));
        thread::spawn(move || settle(&settler.0, &settler.1, &settling));
        Ok(Load { ledger: Arc::clone(ledger), gate })
    }

    /// Sends, with so many records without an ack at the most.
    pub fn resume(&self, most_in_flight: usize) {
        let mut state = self.gate.lock();
        (state.paused, state.most_in_flight) = (false, most_in_flight);
        self.gate.changed.notify_all();
    }

    /// Sends nothing more.
    pub fn pause(&self) {
        self.gate.lock().paused = true;
    }

    /// If it is paused: waits until it is known what became of every record.
    pub fn settle_if_paused(&self) {
        let settled =
            self.gate.changed.wait_while(self.gate.lock(), |state| state.paused && state.in_flight > 0);
        drop(settled.unwrap_or_else(PoisonError::into_inner));
    }

    /// Whether a kill may take what it got an ack for.
    pub fn may_lose(&self) -> bool {
        self.ledger.topic.ack == Ack::Memory
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.gate.lock().ended = true;
        self.gate.changed.notify_all();
    }
}

impl Gate {
    /// Waits until one more record may be sent. False: the end.
    fn enter(&self) -> bool {
        let held =
            |state: &mut State| !state.ended && (state.paused || state.in_flight >= state.most_in_flight);
        let mut state = self.changed.wait_while(self.lock(), held).unwrap_or_else(PoisonError::into_inner);
        state.in_flight += 1;
        !state.ended
    }

    fn leave(&self) {
        self.lock().in_flight -= 1;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn send(producer: &Producer, ledger: &Ledger, gate: &Gate, deliveries: &Sender<(u64, Delivery)>, seed: u64) {
    let mut random = Random::new(seed);
    let mut left = 0;
    while gate.enter() {
        let sequence = ledger.sending();
        let value = ledger.topic.value(sequence);
        let record = Record::new(value).partition(ledger.topic.partition_of(sequence));
        match block_on(producer.send(record)) {
            Ok(delivery) => drop(deliveries.send((sequence, delivery))),
            Err(error) => {
                return ledger.note(Fault::new(format!("record {sequence} was not taken: {error}")));
            }
        }
        if left == 0 {
            left = 1 + random.below(BURST);
            thread::sleep(Duration::from_secs_f64(left as f64 / ledger.topic.per_ms / 1e3));
        }
        left -= 1;
    }
}

fn settle(ledger: &Ledger, gate: &Gate, deliveries: &Receiver<(u64, Delivery)>) {
    while let Ok((sequence, delivery)) = deliveries.recv() {
        let noted = match delivery.wait() {
            Ok(acked) => ledger.acked(sequence, acked.partition, acked.offset),
            Err(error) => ledger.failed(sequence, &error),
        };
        noted.unwrap_or_else(|fault| ledger.note(fault));
        gate.leave();
    }
}
