//! A node: its data folder, its cores, and the order in which they start and stop.
//!
//! Start: lock the folder → bind → make the new epoch's folder → recover every shard from the previous epoch → make the
//! new epoch durable → activate the shards → drop the previous epoch → accept. A crash at any step leaves a folder from which the
//! next start recovers the same records.

pub mod descriptors;

mod acceptor;
mod core_loop;
mod errors;
mod folder;
mod start;
mod summary;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread::JoinHandle;

use ringlog_reactor::{mailbox, probe, signal};

pub use errors::{NodeError, StartError, StopError};
pub(crate) use folder::LOCK_NAME;
pub use summary::StartSummary;

use crate::config::BrokerConfig;
use start::{core_config, run};

/// A running node.
pub struct Node {
    summary: StartSummary,
    stop: mailbox::Sender<()>,
    thread: JoinHandle<Result<(), NodeError>>,
}

impl Node {
    /// Starts a node and returns once it accepts clients.
    ///
    /// # Errors
    /// Anything that keeps it from doing so; the folder is then as it was, or recovers the same.
    pub fn start(config: BrokerConfig) -> Result<Node, StartError> {
        let cpus = config.cores.assign(&probe::allowed_cpus().map_err(StartError::Core)?)?;
        let limit = probe::open_files().map_err(StartError::Core)?.soft;
        let open_files = config.open_files.min(usize::try_from(limit).unwrap_or(usize::MAX));
        let config = BrokerConfig { open_files, ..config };
        let (ready, started) = mpsc::channel();
        let (stop, stopped) = mailbox::channel(1);
        let core = core_config(&config, 0, cpus[0]);
        let thread = std::thread::Builder::new()
            .name(core.name.clone())
            .spawn(move || {
                let main = run(config, cpus, move |summary| drop(ready.send(summary)), async move {
                    stopped.recv().await;
                });
                ringlog_reactor::run(core, main).map_err(StartError::Core)?
            })
            .map_err(StartError::Core)?;
        match started.recv() {
            Ok(summary) => Ok(Node { summary, stop, thread }),
            Err(_) => match join(thread) {
                Err(NodeError::Start(error)) => Err(error),
                _ => Err(StartError::Core(std::io::Error::other("the first core ended early"))),
            },
        }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.summary.address
    }

    /// What the start found and did.
    pub fn summary(&self) -> &StartSummary {
        &self.summary
    }

    /// Serves until SIGTERM, SIGINT or SIGHUP, then stops. Call [`signal::block_termination`] before [`Node::start`].
    ///
    /// # Errors
    /// When the stop was not clean.
    pub fn wait(self) -> Result<(), StopError> {
        let signal = signal::wait_for_termination()
            .map_err(|error| StopError(format!("cannot wait for signals: {error}")))?;
        tracing::info!("{}: stopping: finishing commits, writing a checkpoint", signal.name());
        self.stop()
    }

    /// Stops: no new clients, commits finished, everything in segments, checkpoints written.
    ///
    /// # Errors
    /// When some of that failed.
    pub fn stop(self) -> Result<(), StopError> {
        let _ = self.stop.send_blocking(());
        match join(self.thread) {
            Ok(()) => Ok(()),
            Err(NodeError::Stop(error)) => Err(error),
            Err(NodeError::Start(error)) => Err(StopError(error.to_string())),
        }
    }
}

fn join(thread: JoinHandle<Result<(), NodeError>>) -> Result<(), NodeError> {
    thread.join().unwrap_or_else(|_| Err(NodeError::Stop(StopError("a core panicked".into()))))
}

/// A node of so many shards on the current core, until `stop` is ready: how a simulated machine runs one. `ready` is called
/// once it accepts clients. [`Node`] has threads of its own.
///
/// # Errors
/// When it does not start, or does not stop cleanly.
///
/// # Panics
/// If the node would have no shard, or more than there can be.
pub async fn serve(
    config: BrokerConfig,
    shards: usize,
    ready: impl FnOnce(StartSummary),
    stop: impl Future<Output = ()>,
) -> Result<(), NodeError> {
    run(config, vec![None; shards], ready, stop).await
}
