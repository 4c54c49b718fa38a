//! A closed loop on one blocking connection: so many batches in flight, each answered before the next takes its
//! place. What may be sent leaves in one gather write; batches are never copied here.

use std::io::IoSlice;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ringlog_protocol::Ack;
use ringlog_protocol::limits::HEADER_BYTES;

use super::connection::Connection;
use super::frames::{AckReader, produce_head};
use crate::failure::Failure;
use crate::stats::Latencies;

/// Slices of one write: the kernel takes 1,024.
const MAX_WRITE: usize = 512;

/// When a measurement ends.
#[derive(Clone, Copy)]
pub enum Until {
    /// After so many batches.
    Count(usize),
    /// After so long.
    Elapsed(Duration),
}

/// What the loop did.
pub struct Done {
    /// From before the write to the acknowledgement.
    pub latencies: Latencies,
    /// Acknowledged batches a second.
    pub per_second: f64,
}

/// A closed loop.
pub struct Pipeline {
    /// The connection; free while the loop does not run.
    pub connection: Connection,
    /// The partitions, in turn.
    pub handles: Vec<u32>,
    /// What is sent.
    pub batch: Bytes,
    /// How it is acknowledged.
    pub ack: Ack,
    /// Batches in flight.
    pub depth: usize,
}

impl Pipeline {
    /// Runs the loop until the end and all acknowledgements are there.
    pub fn run(&mut self, until: Until) -> Result<Done, Failure> {
        let begun = Instant::now();
        // A request's number is its slot's, plus one: a number may come again once it is answered.
        let mut free: Vec<u32> = (1..=self.depth as u32).rev().collect();
        let mut started = vec![begun; self.depth];
        let mut acks = AckReader::default();
        let mut latencies = Latencies::default();
        let (mut sent, mut now) = (0, begun);
        loop {
            let wanted = match until {
                Until::Count(count) => count - sent,
                Until::Elapsed(limit) if now - begun < limit => usize::MAX,
                Until::Elapsed(_) => 0,
            };
            let sending = free.split_off(free.len() - free.len().min(wanted).min(MAX_WRITE));
            if sending.is_empty() && free.len() == self.depth {
                break;
            }
            if !sending.is_empty() {
                now = Instant::now();
                sending.iter().for_each(|slot| started[*slot as usize - 1] = now);
                self.send(&sending, sent)?;
                sent += sending.len();
            }
            let piece = self.connection.read_some()?;
            now = Instant::now();
            acks.take(piece, |slot| {
                latencies.record(now - started[slot as usize - 1]);
                free.push(slot);
            })?;
        }
        let per_second = latencies.count() as f64 / begun.elapsed().as_secs_f64();
        Ok(Done { latencies, per_second })
    }

    /// Sends one batch, and says when; its acknowledgement is to be taken before the next.
    pub fn publish_one(&mut self) -> Result<Instant, Failure> {
        let begun = Instant::now();
        self.send(&[1], 0)?;
        Ok(begun)
    }

    /// Waits for the acknowledgement of the batch sent by [`publish_one`](Pipeline::publish_one).
    pub fn take_ack(&mut self) -> Result<(), Failure> {
        let mut acks = AckReader::default();
        let mut acked = false;
        while !acked {
            acks.take(self.connection.read_some()?, |_| acked = true)?;
        }
        Ok(())
    }

    fn send(&mut self, slots: &[u32], already: usize) -> Result<(), Failure> {
        let heads: Vec<[u8; HEADER_BYTES]> = (already..)
            .zip(slots)
            .map(|(number, slot)| {
                let handle = self.handles[number % self.handles.len()];
                produce_head(*slot, handle, self.ack, self.batch.len())
            })
            .collect();
        let mut slices: Vec<IoSlice<'_>> =
            heads.iter().flat_map(|head| [IoSlice::new(head), IoSlice::new(&self.batch)]).collect();
        self.connection.write_slices(&mut slices)
    }
}
