//! What a worker measures: counts and histograms, one bucket a second.
//!
//! Only records that were due when the warm-up was over count. A bucket is closed by the first event of the next
//! second, or by the worker's clock when nothing happens.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

/// Length of a bucket.
pub const BUCKET_NS: u64 = 1_000_000_000;
/// Different error texts that are kept apart.
const MAX_ERRORS: usize = 50;

/// One second of one worker, or of all together.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// Its number, from 0 at the end of the warm-up.
    pub index: u64,
    /// Records admitted by the client.
    pub sent: u64,
    /// Records acknowledged.
    pub acked: u64,
    /// Records refused, or of unknown outcome.
    pub failed: u64,
    /// Records received.
    pub received: u64,
    /// Values sent, in bytes.
    pub bytes_sent: u64,
    /// Values received, in bytes.
    pub bytes_received: u64,
    /// From due to acknowledged, in nanoseconds.
    pub ack: Histogram<u64>,
    /// From due to received, in nanoseconds.
    pub end_to_end: Histogram<u64>,
    /// From due to begun, in nanoseconds, as far as that is the generator's fault.
    pub lateness: Histogram<u64>,
    /// How often which error came.
    pub errors: BTreeMap<String, u64>,
    /// When the last event of it was.
    pub last_ns: u64,
}

impl Bucket {
    /// An empty one.
    pub fn new(index: u64) -> Bucket {
        // Three digits is a setting that exists.
        let histogram = Histogram::new(3).expect("three significant digits");
        Bucket {
            index,
            sent: 0,
            acked: 0,
            failed: 0,
            received: 0,
            bytes_sent: 0,
            bytes_received: 0,
            ack: histogram.clone(),
            end_to_end: histogram.clone(),
            lateness: histogram,
            errors: BTreeMap::new(),
            last_ns: 0,
        }
    }

    /// Adds what another worker, or another second, measured.
    pub fn add(&mut self, other: &Bucket) {
        self.sent += other.sent;
        self.acked += other.acked;
        self.failed += other.failed;
        self.received += other.received;
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
        for (sum, part) in [
            (&mut self.ack, &other.ack),
            (&mut self.end_to_end, &other.end_to_end),
            (&mut self.lateness, &other.lateness),
        ] {
            *sum += part;
        }
        for (error, count) in &other.errors {
            *self.errors.entry(error.clone()).or_default() += count;
        }
        self.last_ns = self.last_ns.max(other.last_ns);
    }

    /// Counts an error by its words.
    pub fn error(&mut self, words: &str, count: u64) {
        let known = self.errors.contains_key(words) || self.errors.len() < MAX_ERRORS;
        *self.errors.entry(if known { words } else { "other errors" }.to_owned()).or_default() += count;
    }
}

/// The buckets of one worker.
#[derive(Debug)]
pub struct Recorder {
    measure_ns: u64,
    bucket: Bucket,
    closed: flume::Sender<Bucket>,
}

impl Recorder {
    /// Closed buckets go to `closed`.
    pub fn new(closed: flume::Sender<Bucket>) -> Recorder {
        Recorder { measure_ns: u64::MAX, bucket: Bucket::new(0), closed }
    }

    /// Records that are due from then on are measured.
    pub fn measure_from(&mut self, measure_ns: u64) {
        self.measure_ns = measure_ns;
    }

    /// Whether a record that was due then is measured.
    pub fn measures(&self, due_ns: u64) -> bool {
        due_ns >= self.measure_ns
    }

    /// The bucket of now, if measuring has begun.
    pub fn at(&mut self, now_ns: u64) -> Option<&mut Bucket> {
        let index = now_ns.checked_sub(self.measure_ns)? / BUCKET_NS;
        while self.bucket.index < index {
            let next = Bucket::new(self.bucket.index + 1);
            // Nobody listens any more once the run was given up.
            let _ = self.closed.send(std::mem::replace(&mut self.bucket, next));
        }
        Some(&mut self.bucket)
    }

    /// As [`Recorder::at`], for something that happened to a record due at `due_ns`.
    pub fn event(&mut self, now_ns: u64, due_ns: u64) -> Option<&mut Bucket> {
        if !self.measures(due_ns) {
            return None;
        }
        let bucket = self.at(now_ns)?;
        bucket.last_ns = now_ns;
        Some(bucket)
    }

    /// Closes the last bucket.
    pub fn finish(&mut self) {
        let last = std::mem::replace(&mut self.bucket, Bucket::new(u64::MAX));
        let _ = self.closed.send(last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_fall_into_their_seconds_and_the_warm_up_into_none() {
        let (closed, buckets) = flume::unbounded();
        let mut recorder = Recorder::new(closed);
        recorder.measure_from(5 * BUCKET_NS);
        assert!(recorder.event(6 * BUCKET_NS, 5 * BUCKET_NS - 1).is_none());
        recorder.event(6 * BUCKET_NS - 1, 5 * BUCKET_NS).expect("it is measured").acked += 1;
        // Acknowledged three seconds later, with nothing between.
        recorder.event(8 * BUCKET_NS, 5 * BUCKET_NS).expect("it is measured").acked += 1;
        recorder.finish();
        let acked: Vec<(u64, u64)> = buckets.drain().map(|bucket| (bucket.index, bucket.acked)).collect();
        assert_eq!(acked, [(0, 1), (1, 0), (2, 0), (3, 1)]);
    }
}
