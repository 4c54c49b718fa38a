//! An owned file descriptor, of the kernel's or of the simulation's.
//!
//! Invariant: a descriptor is closed after every operation on it that was started before it was dropped, because
//! its close is queued behind them.

use std::os::fd::RawFd;

use crate::core;
use crate::sys;

/// Simulated descriptors start here: far above what the kernel hands out, so the two are never confused.
pub(crate) const FIRST_SIMULATED: RawFd = 1 << 30;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Descriptor(RawFd);

impl Descriptor {
    /// Takes ownership of an open descriptor.
    pub(crate) fn new(raw: RawFd) -> Descriptor {
        debug_assert!(raw >= 0);
        Descriptor(raw)
    }

    pub(crate) fn raw(&self) -> RawFd {
        self.0
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        let simulated = self.0 >= FIRST_SIMULATED;
        let queued = core::try_with(|core| {
            let ours = core.is_simulated() == simulated;
            if ours {
                core.close_later(self.0);
            }
            ours
        });
        // Without a core to do it, the thread closes it itself; a simulated one went with its world.
        if queued != Some(true) && !simulated {
            sys::close(self.0);
        }
    }
}
