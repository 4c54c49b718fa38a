//! The signals that end a process in order.

use std::future::pending;
use std::io;

use bytes::BytesMut;

use crate::core;
use crate::op::{Op, Operation};
use crate::sys;

/// Blocks SIGTERM and SIGINT in this thread and all it starts later, so that only [`termination`] sees them. Call
/// it first thing in `main`.
///
/// # Errors
/// Those of pthread_sigmask(3).
pub fn block_termination() -> io::Result<()> {
    sys::block_termination()
}

/// Waits for SIGTERM or SIGINT, which [`block_termination`] must have blocked. In a simulation it waits for ever.
/// If the signals cannot be watched, that is said on the standard error and it waits for ever as well.
pub async fn termination() {
    if core::with(|core| core.is_simulated()) {
        return pending().await;
    }
    if let Err(error) = wait().await {
        eprintln!("ringlog: SIGTERM and SIGINT cannot be watched: {error}");
        pending().await
    }
}

async fn wait() -> io::Result<()> {
    let descriptor = sys::termination_descriptor()?;
    let len = size_of::<libc::signalfd_siginfo>();
    let buf = BytesMut::with_capacity(len);
    let op = Op::Read { fd: descriptor.raw(), buf, offset: u64::MAX, len: len as u32 };
    Operation::start(op).await.0.map(drop)
}
