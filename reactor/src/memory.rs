//! Memory that the process has freed and its allocator keeps.

use crate::core;

/// Gives it back to the system, where the C library can. It holds up who allocates meanwhile: for the end of a start, and not for a
/// core that serves.
/// Nothing in a simulation, which has the memory of many machines.
pub fn give_back_freed() {
    if core::try_with(|core| core.machine().is_some()).unwrap_or(false) {
        return;
    }
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointer, and may be called at any time from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}
