//! A core of `ringlog_reactor`.

use std::future::Future;
use std::io;
use std::time::Duration;

use ringlog_reactor::{CoreConfig, WaitPolicy, now, sleep_until as sleep};

use super::clock::now_ns;

pub fn run<F: Future>(wait: WaitPolicy, main: F) -> io::Result<F::Output> {
    // It has no sockets of its own under load: the client's thread has them.
    let config = CoreConfig { wait, receive_buffers: 2, ..CoreConfig::default() };
    ringlog_reactor::run(config, main)
}

pub async fn sleep_until(due_ns: u64) {
    sleep(now() + Duration::from_nanos(due_ns.saturating_sub(now_ns()))).await;
}

pub fn spawn(task: impl Future<Output = ()> + 'static) {
    ringlog_reactor::spawn(task).detach();
}
