//! What an ack means.

use ringlog_loadgen::target::AckClass;

/// What an ack means, as far as all of them can be asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Class {
    /// In the broker's memory or the page cache.
    Memory,
    /// On stable storage.
    Flushed,
}

impl Class {
    pub fn ack_class(self) -> AckClass {
        match self {
            Class::Memory => AckClass::Memory,
            Class::Flushed => AckClass::Flushed,
        }
    }
}
