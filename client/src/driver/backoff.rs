//! How long to wait before trying again: doubling, with jitter, so that many clients do not come back at the same moment.

use std::time::Duration;

use crate::limits::{BACKOFF_MAX, BACKOFF_MIN};

#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next pause: between half and the whole of 50 ms, 100 ms … 2 s.
    pub fn next_pause(&mut self) -> Duration {
        let whole = BACKOFF_MIN.saturating_mul(1 << self.failures.min(16)).min(BACKOFF_MAX);
        self.failures = self.failures.saturating_add(1);
        let jitter_ms = ringlog_reactor::random_u64() % (whole.as_millis() as u64 / 2);
        whole - Duration::from_millis(jitter_ms)
    }

    /// Something succeeded.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound_and_start_again_after_a_success() {
        let mut backoff = Backoff::default();
        assert!(backoff.next_pause() <= BACKOFF_MIN);
        let late = (0..40).map(|_| backoff.next_pause()).last();
        assert!(late.is_some_and(|pause| pause >= BACKOFF_MAX / 2 && pause <= BACKOFF_MAX));
        backoff.reset();
        assert!(backoff.next_pause() <= BACKOFF_MIN);
    }
}
