//! The one clock.

/// The time on the one clock that both ends are measured by, `CLOCK_MONOTONIC`, in nanoseconds.
pub fn now_ns() -> u64 {
    ringlog_reactor::now().as_nanos()
}
