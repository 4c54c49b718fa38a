//! The publishing side: sends records, and a second thread that waits for their acks and writes them in the ledger.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use bytes::Bytes;
use ringlog_client::{Delivery, Producer, Record, TrySendError, block_on};

use super::super::failure::Failure;
use super::ledger::{Entry, Ledger};

/// Records sent whose ack was not looked at yet.
const IN_FLIGHT: usize = 64 << 10;

struct Sent {
    delivery: Delivery,
    value: Bytes,
    due: Option<Instant>,
}

/// Sends records to the topic.
pub struct Publisher {
    producer: Producer,
    ledger: Arc<Ledger>,
    sent: u64,
    to_acks: SyncSender<Sent>,
    acks: JoinHandle<()>,
}

impl Publisher {
    /// Starts the thread that waits for acks.
    pub fn start(producer: Producer, ledger: &Arc<Ledger>) -> Publisher {
        let (to_acks, receiver) = sync_channel(IN_FLIGHT);
        let acks = {
            let ledger = Arc::clone(ledger);
            thread::spawn(move || {
                if let Err(failure) = wait_for_acks(&receiver, &ledger) {
                    ledger.break_off(failure.words());
                }
            })
        };
        Publisher { producer, ledger: Arc::clone(ledger), sent: 0, to_acks, acks }
    }

    /// Records sent so far.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Sends one record; waits only while the producer's buffer is full.
    pub fn send(&mut self, value: Bytes, due: Option<Instant>) -> Result<(), Failure> {
        let delivery = match self.producer.try_send(Record::new(value.clone())) {
            Ok(delivery) => delivery,
            Err(TrySendError::Full(record)) => block_on(self.producer.send(record)).map_err(Failure::said)?,
            Err(TrySendError::Refused(error)) => return Err(Failure::said(error)),
        };
        self.sent += 1;
        if self.to_acks.send(Sent { delivery, value, due }).is_err() {
            // The thread ended by an error, which the ledger holds.
            self.ledger.wait_acked(self.sent)?;
        }
        Ok(())
    }

    /// Waits until so many of the records are acknowledged.
    pub fn wait_acked(&self, records: u64) -> Result<(), Failure> {
        self.ledger.wait_acked(records)
    }

    /// Ends the thread.
    pub fn finish(self) -> Result<(), Failure> {
        drop(self.to_acks);
        self.acks.join().map_err(|_| Failure::said("the thread that waits for acks has panicked"))
    }
}

fn wait_for_acks(sent: &Receiver<Sent>, ledger: &Ledger) -> Result<(), Failure> {
    while let Ok(Sent { delivery, value, due }) = sent.recv() {
        let acked = delivery
            .wait()
            .map_err(|error| Failure::said(format!("a record was not acknowledged: {error}")))?;
        let at = Instant::now();
        ledger.acked(Entry { partition: acked.partition, offset: acked.offset, value, due }, at)?;
    }
    Ok(())
}
