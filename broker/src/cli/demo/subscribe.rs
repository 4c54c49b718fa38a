//! The subscribing side: a client of its own on a thread of its own, reading from before the first record is sent.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use ringlog_client::{Client, Consumer, Position, block_on};

use super::super::failure::Failure;
use super::ledger::Ledger;

/// The subscriber's thread.
pub struct Subscriber {
    thread: JoinHandle<()>,
    ledger: Arc<Ledger>,
}

/// Subscribes to all partitions; returns once the subscription stands.
pub fn start(address: &str, topic: &str, ledger: &Arc<Ledger>) -> Result<Subscriber, Failure> {
    let client = block_on(Client::connect([address])).map_err(Failure::said)?;
    let consumer = block_on(client.consumer(topic).from(Position::Begin).build()).map_err(Failure::said)?;
    let thread = {
        let ledger = Arc::clone(ledger);
        thread::spawn(move || {
            // The client lives as long as its consumer is read.
            let _client = client;
            if let Err(failure) = receive(consumer, &ledger) {
                ledger.break_off(failure.words());
            }
        })
    };
    Ok(Subscriber { thread, ledger: Arc::clone(ledger) })
}

impl Subscriber {
    /// Checks that nothing is missing.
    ///
    /// The thread itself waits for a record that will not come, so it is left to end with the broker.
    pub fn join(self) -> Result<(), Failure> {
        if !self.ledger.is_settled() {
            return Err(Failure::said("not everything that was acknowledged has come back"));
        }
        drop(self.thread);
        Ok(())
    }
}

fn receive(mut consumer: Consumer, ledger: &Ledger) -> Result<(), Failure> {
    let mut batches = consumer.batches();
    while let Some(batch) = block_on(batches.next()) {
        let at = Instant::now();
        let batch = batch.map_err(|error| Failure::said(format!("the subscription failed: {error}")))?;
        for record in &batch.records {
            ledger.received(batch.partition, record.offset, record.value.as_deref(), at)?;
        }
    }
    Ok(())
}
