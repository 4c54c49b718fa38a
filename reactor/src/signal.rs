//! The signals that end a process in order.
//!
//! Waiting takes a thread and no descriptor, so it cannot fail for want of one.

use std::io;

use crate::sys;

/// A signal that asks the process to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal(i32);

impl Signal {
    /// The exit code of a process that ends because of it, by the shells' rule.
    pub fn exit_code(self) -> u8 {
        u8::try_from(128 + self.0).unwrap_or(u8::MAX)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self.0 {
            libc::SIGTERM => "SIGTERM",
            libc::SIGINT => "SIGINT",
            libc::SIGHUP => "SIGHUP",
            _ => "a signal",
        }
    }
}

/// SIGTERM, SIGINT, and SIGHUP unless the caller of this process wants it ignored, as nohup(1) does.
fn termination() -> &'static [i32] {
    const ALL: [i32; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP];
    if sys::is_ignored(libc::SIGHUP) { &ALL[..2] } else { &ALL }
}

/// Blocks SIGTERM, SIGINT and SIGHUP in this thread and all it starts later, so that only [`wait_for_termination`] sees
/// them. Call it first thing in `main`. SIGHUP stays ignored if it was ignored at the start.
///
/// # Errors
/// Those of pthread_sigmask(3).
pub fn block_termination() -> io::Result<()> {
    sys::block_signals(termination()).map(drop)
}

/// Waits in the calling thread, which is no core's, for one of the signals that [`block_termination`] has blocked. Each
/// call takes one, so a second call waits for a second signal.
///
/// # Errors
/// Those of sigwaitinfo(2).
pub fn wait_for_termination() -> io::Result<Signal> {
    sys::wait_for_signal(termination()).map(Signal)
}

/// Lets writes fail where the kernel would end or stop the whole process by default: beyond a limit of file sizes
/// (SIGXFSZ; the write then fails with `EFBIG`), and to a terminal that wants no output of background processes (SIGTTOU;
/// the write then succeeds). Call it early in `main`. SIGPIPE is ignored by Rust's runtime.
pub fn outlive_writes() {
    sys::ignore(libc::SIGXFSZ);
    sys::ignore(libc::SIGTTOU);
}
