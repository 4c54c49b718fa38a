//! A node: its data folder, its cores, and the order in which they start and stop.
//!
//! Start: lock the folder → bind → make the new epoch's folder → recover every shard from the previous epoch → make the
//! new epoch durable → activate the shards → drop the previous epoch → accept. A crash at any step leaves a folder from which the
//! next start recovers the same records.

use std::collections::BTreeSet;
use std::fmt;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use ringlog_reactor::net::Listener;
use ringlog_reactor::sim::mutant;
use ringlog_reactor::{
    CoreConfig, CoreThread, fs, launch, mailbox, memory, now, probe, signal, sleep, spawn,
};
use ringlog_storage::{
    Damage, FolderTurn, PreviousEpoch, RecoverySummary, keep_damaged_epoch, last_topic_id, prepare_epoch,
    remove_epoch,
};

use crate::config::{BrokerConfig, ConfigError};
use crate::controller::HOME_SHARD;
use crate::descriptors::{Share, TooFewFiles};
use crate::limits::{MAILBOX_MESSAGES, MAX_SHARDS, PORT_FREE_WITHIN, PORT_TRIED_EVERY};
use crate::metadata::{self, Metadata, MetadataError, ReadMetadata};
use crate::peers::{PeerError, PeerMessage, Peers, RecoveryPlan};
use crate::{acceptor, core_loop};

/// The file of a data folder that the running broker has locked.
pub(crate) const LOCK_NAME: &str = "LOCK";

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// What it was told makes no sense here.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// The process may not have enough files open.
    #[error("{0}")]
    Files(#[from] TooFewFiles),
    /// The data folder cannot be used.
    #[error("cannot use the data folder {}: {source}; name a folder this user may write with --data", path.display())]
    DataDir {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another broker has it.
    #[error("the data folder {} is in use by another broker; stop that one, or name another folder with --data", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The metadata file cannot be used.
    #[error("data folder {}: {source}", path.display())]
    Metadata {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: MetadataError,
    },
    /// The port cannot be had.
    #[error("cannot listen on {address}: {source}; name another address with --listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A core cannot be started.
    #[error("cannot start a core: {0}; `ringlog doctor` says what is missing")]
    Core(#[source] std::io::Error),
    /// Recovery failed.
    #[error("cannot recover the data folder {}: {why}", path.display())]
    Recovery {
        /// The folder.
        path: PathBuf,
        /// Which shard, and why.
        why: String,
    },
}

/// Why a node did not stop cleanly. Nothing acknowledged is lost: the next start recovers it.
#[derive(Debug, thiserror::Error)]
#[error("the broker did not stop cleanly: {0}; what was acknowledged is recovered at the next start")]
pub struct StopError(String);

/// What a start found and did.
#[derive(Clone, Debug)]
pub struct StartSummary {
    /// Where clients connect.
    pub address: SocketAddr,
    /// One per core.
    pub shards: u32,
    /// Topics there are.
    pub topics: usize,
    /// Partitions of all topics.
    pub partitions: usize,
    /// From the start to the first accept.
    pub took: Duration,
    /// What each shard recovered.
    pub recovery: Vec<RecoverySummary>,
}

impl fmt::Display for StartSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let frames = self.recovery.iter().map(|shard| shard.replayed_frames).sum::<u64>() as usize;
        let records = self.recovery.iter().map(|shard| shard.replayed_records).sum::<u64>() as usize;
        // What is wrong with a journal is found by every shard.
        let damaged: BTreeSet<_> = self
            .recovery
            .iter()
            .flat_map(|shard| shard.damage.iter().chain(&shard.spare_copies))
            .map(place_of)
            .collect();
        let damaged = damaged.len();
        let quarantined: usize = self.recovery.iter().map(|shard| shard.quarantined.len()).sum();
        let count = |number: usize, noun| format!("{number} {noun}{}", if number == 1 { "" } else { "s" });
        write!(f, "listening on {}, {}", self.address, count(self.shards as usize, "shard"))?;
        write!(f, ", {}, {}", count(self.topics, "topic"), count(self.partitions, "partition"))?;
        match frames {
            0 => f.write_str(", nothing to recover")?,
            _ => write!(f, ", replayed {} of {}", count(records, "record"), count(frames, "journal frame"))?,
        }
        if damaged > 0 {
            write!(f, ", {} DAMAGED: see above", count(damaged, "place"))?;
        }
        if quarantined > 0 {
            write!(f, ", {} QUARANTINED: see above", count(quarantined, "partition"))?;
        }
        write!(f, ", ready in {} ms", self.took.as_millis())
    }
}

fn place_of(damage: &Damage) -> (&Path, u64) {
    (&damage.path, damage.offset)
}

/// A running node.
pub struct Node {
    summary: StartSummary,
    stop: mailbox::Sender<()>,
    thread: JoinHandle<Result<(), NodeError>>,
}

/// How a node came to a bad end.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// It did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It did not stop cleanly.
    #[error(transparent)]
    Stop(StopError),
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

fn core_config(config: &BrokerConfig, shard: u32, cpu: Option<usize>) -> CoreConfig {
    CoreConfig { name: format!("ringlog-{shard}"), cpu, wait: config.wait, ..CoreConfig::default() }
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

/// The node on the current core, which becomes shard 0; the other cores are launched from here. Runs on the
/// real ring and in the simulation alike.
async fn run(
    config: BrokerConfig,
    cpus: Vec<Option<usize>>,
    ready: impl FnOnce(StartSummary),
    stop: impl Future<Output = ()>,
) -> Result<(), NodeError> {
    let started_at = now();
    let share = Share::of(config.open_files, cpus.len(), config.storage.journal_files as usize);
    let share = share.map_err(StartError::from)?;
    let _lock = take_folder(&config.data_dir).await?;
    let listener = listen(config.listen).await?;
    let address = listener.local_addr();

    let (peers, cores) = start_cores(&config, &cpus)?;
    let (metadata, recovery) = match bring_up(&config.data_dir, share.storage, &peers).await {
        Ok(up) => up,
        Err(error) => {
            end_cores(&peers, cores).await;
            return Err(error.into());
        }
    };
    let accepting = spawn(acceptor::accept(listener, peers.clone(), share));
    ready(StartSummary {
        address,
        shards: peers.count(),
        topics: metadata.topics.len(),
        partitions: metadata.topics.iter().map(|topic| topic.partitions as usize).sum(),
        took: now() - started_at,
        recovery,
    });

    stop.await;
    drop(accepting);
    let stopped = peers.ask_all(|_, done| PeerMessage::Stop { done }).await;
    end_cores(&peers, cores).await;
    stopped.map(|_| ()).map_err(|error| NodeError::Stop(StopError(error.to_string())))
}

/// Binds. The kernel closes the sockets of a killed broker's ring a moment after the process is gone, and whoever starts the next
/// one at once need not know that: a port in use is tried again for a little while.
async fn listen(address: SocketAddr) -> Result<Listener, StartError> {
    let until = now() + PORT_FREE_WITHIN;
    loop {
        match Listener::bind(address) {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == ErrorKind::AddrInUse && now() < until => {
                sleep(PORT_TRIED_EVERY).await;
            }
            Err(source) => return Err(StartError::Listen { address, source }),
        }
    }
}

async fn take_folder(path: &Path) -> Result<fs::LockedFile, StartError> {
    let unusable = |source| StartError::DataDir { path: path.to_path_buf(), source };
    make_durable_folder(path).await.map_err(unusable)?;
    let lock = fs::lock(path.join(LOCK_NAME)).map_err(unusable)?;
    lock.ok_or_else(|| StartError::InUse { path: path.to_path_buf() })
}

/// Makes the folder and those above it. A new folder is durable once the one above it is synced: without
/// that, a crash can take all that was acknowledged in it. One that is there already may be an operator's, with an owner and a
/// mode, so it is not made anew: a kill between a sync that fails here and what is undone for it is not outlived.
async fn make_durable_folder(path: &Path) -> std::io::Result<()> {
    if metadata::exists(path).await? {
        // It is written behind all that follows here.
        return Ok(());
    }
    let made = fs::create_dir_all(path).await?;
    // All of them: a start that was killed may have made a folder and not synced the one above it.
    for (index, above) in path.ancestors().skip(1).enumerate() {
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        match fs::sync_dir(above).await {
            // Somebody else's, and not to be looked into.
            Err(error) if error.kind() == ErrorKind::PermissionDenied && index >= made.len() => {}
            Err(error) => {
                // No later sync would save an entry whose sync has failed; a new one is another entry.
                fs::unmake(&made).await;
                return Err(error);
            }
            Ok(()) => {}
        }
    }
    Ok(())
}

struct Cores {
    first: ringlog_reactor::Task<()>,
    others: Vec<CoreThread>,
}

fn start_cores(config: &BrokerConfig, cpus: &[Option<usize>]) -> Result<(Peers, Cores), StartError> {
    assert!((1..=MAX_SHARDS).contains(&cpus.len()), "a node has 1 to 256 shards");
    let (mailboxes, inboxes): (Vec<_>, Vec<_>) =
        cpus.iter().map(|_| mailbox::channel(MAILBOX_MESSAGES)).unzip();
    let peers = Peers::new(mailboxes);
    let mut inboxes = inboxes.into_iter();
    let own_inbox = inboxes.next().expect("there is at least one shard");
    let first = spawn(core_loop::run(config.clone(), peers.clone(), own_inbox));
    let mut others = Vec::new();
    for (shard, inbox) in (1..).zip(inboxes) {
        let (shard_config, peers) = (config.clone(), peers.seen_from(shard));
        let core = core_config(config, shard, cpus[shard as usize]);
        let launched = launch(core, move || core_loop::run(shard_config, peers, inbox));
        others.push(launched.map_err(StartError::Core)?);
    }
    Ok((peers, Cores { first, others }))
}

async fn end_cores(peers: &Peers, cores: Cores) {
    for shard in 0..peers.count() {
        peers.tell(shard, PeerMessage::End).await;
    }
    cores.first.await;
    for core in cores.others {
        if core.join().await.is_err() {
            tracing::error!("a core panicked");
        }
    }
}

/// Recovers and activates all shards; the metadata file names the new epoch in between.
async fn bring_up(
    data_dir: &Path,
    open_files: usize,
    peers: &Peers,
) -> Result<(Metadata, Vec<RecoverySummary>), StartError> {
    let in_folder = |source| StartError::Metadata { path: data_dir.to_path_buf(), source };
    let failed = |why| StartError::Recovery { path: data_dir.to_path_buf(), why };
    let shard_failed = |error: PeerError| failed(error.to_string());

    let ReadMetadata { mut metadata, damaged } = Metadata::load(data_dir).await.map_err(in_folder)?;
    if let Some((path, reason)) = damaged {
        tracing::warn!(path = %path.display(), reason, "a damaged copy: the other one is used, and both are written again");
    }
    if metadata.epoch == 0 {
        // The folder is ours from here on: what a first start that ends early has left is not a stranger's.
        metadata.store(data_dir).await.map_err(in_folder)?;
    }
    let epoch = metadata.epoch + 1;
    prepare_epoch(data_dir, epoch).await.map_err(|error| failed(error.to_string()))?;
    // A topic whose making failed may have left a folder, of which no file is to be another topic's.
    let last_topic_id = last_topic_id(data_dir).await.map_err(|error| failed(error.to_string()))?;
    metadata.next_topic_id = metadata.next_topic_id.max(last_topic_id.saturating_add(1));
    let previous =
        (metadata.epoch > 0).then_some(PreviousEpoch { epoch: metadata.epoch, shards: metadata.shards });
    let plan = Arc::new(RecoveryPlan {
        epoch,
        previous,
        topics: metadata.topics.iter().cloned().map(Arc::new).collect(),
        open_files,
        folder_turn: FolderTurn::default(),
    });
    let recovery = peers
        .ask_all(|_, done| PeerMessage::Recover { plan: plan.clone(), done })
        .await
        .map_err(shard_failed)?;

    if let Some(PreviousEpoch { epoch, .. }) = previous.filter(|_| mutant("old-epoch-removed-early")) {
        remove_epoch(data_dir, epoch).await.map_err(|error| failed(error.to_string()))?;
    }
    (metadata.epoch, metadata.shards) = (plan.epoch, peers.count());
    metadata.store(data_dir).await.map_err(in_folder)?;
    let for_shard = |shard| (shard == HOME_SHARD).then(|| metadata.clone());
    peers
        .ask_all(|shard, done| PeerMessage::Activate { metadata: for_shard(shard), done })
        .await
        .map_err(shard_failed)?;

    let damaged = recovery.iter().any(|shard| shard.journal_damaged) && !mutant("damaged-journals-removed");
    if let Some(PreviousEpoch { epoch, .. }) = previous {
        let dropped = match damaged {
            true => keep_damaged_epoch(data_dir, epoch).await,
            false => remove_epoch(data_dir, epoch).await,
        };
        dropped.map_err(|error| failed(error.to_string()))?;
    }
    // Recovery held more for each partition than a partition takes.
    memory::give_back_freed();
    Ok((metadata, recovery))
}

#[cfg(test)]
mod failed_syncs;
#[cfg(test)]
mod full_disk;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod timestamps;
#[cfg(test)]
mod unreadable;
