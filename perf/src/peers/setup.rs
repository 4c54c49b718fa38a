//! What the drivers of all peers are told.

use ringlog_loadgen::target::AckClass;

/// What all drivers are told.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Where the broker is.
    pub address: String,
    /// What its acks are to mean.
    pub class: AckClass,
    /// The client is to gather large batches, where it can, rather than to send each record at once.
    #[cfg_attr(not(any(feature = "kafka", feature = "nats", feature = "iggy")), expect(dead_code))]
    pub large_batches: bool,
}
