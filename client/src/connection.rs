//! What an application learns of its connections.
//!
//! Invariant: `Lost` and `Restored` take turns, `Lost` first. A broker that goes away and comes back is reported once each, however often
//! the client tries meanwhile; only connections that are lost one after the other, each once the one before it is restored, are reported one by one.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Something happened to a client's connections; see [`ClientBuilder::on_connection_event`](crate::ClientBuilder::on_connection_event).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectionEvent {
    /// A connection ended that the client still wants. It tries again by itself until it is restored.
    Lost {
        /// The broker's address, as it was given.
        address: Arc<str>,
        /// Why it ended.
        reason: Arc<str>,
    },
    /// There is a connection again.
    Restored {
        /// The broker's address, as it was given.
        address: Arc<str>,
    },
}

impl fmt::Display for ConnectionEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { address, reason } => {
                write!(f, "connection to {address} lost ({reason}); trying again")
            }
            Self::Restored { address } => write!(f, "connection to {address} restored"),
        }
    }
}

/// Called on the driver's thread.
pub(crate) type Listener = Arc<dyn Fn(&ConnectionEvent) + Send + Sync>;

/// The callback for a client's connections, and what was reported last.
#[derive(Clone, Default)]
pub(crate) struct Connections {
    listener: Option<Listener>,
    lost: Arc<AtomicBool>,
}

impl Connections {
    pub fn new(listener: Option<Listener>) -> Self {
        Self { listener, lost: Arc::default() }
    }

    /// A connection ended.
    pub fn lost(&self, address: &Arc<str>, reason: &dyn fmt::Display) {
        if !self.lost.swap(true, Ordering::Relaxed) {
            let reason = reason.to_string().into();
            self.tell(&ConnectionEvent::Lost { address: Arc::clone(address), reason });
        }
    }

    /// A connection was made.
    pub fn made(&self, address: &Arc<str>) {
        if self.lost.swap(false, Ordering::Relaxed) {
            self.tell(&ConnectionEvent::Restored { address: Arc::clone(address) });
        }
    }

    fn tell(&self, event: &ConnectionEvent) {
        self.listener.iter().for_each(|listener| listener(event));
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("lost", &self.lost).finish_non_exhaustive()
    }
}
