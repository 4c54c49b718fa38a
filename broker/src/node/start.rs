//! The order of a start and of a stop.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use ringlog_reactor::net::Listener;
use ringlog_reactor::sim::mutant;
use ringlog_reactor::{CoreConfig, CoreThread, launch, mailbox, memory, now, sleep, spawn};
use ringlog_storage::{
    FolderTurn, PreviousEpoch, RecoverySummary, keep_damaged_epoch, last_topic_id, prepare_epoch,
    remove_epoch,
};

use super::descriptors::Share;
use super::errors::{NodeError, StartError, StopError};
use super::folder::take_folder;
use super::summary::StartSummary;
use super::{acceptor, core_loop};
use crate::config::BrokerConfig;
use crate::control::controller::HOME_SHARD;
use crate::limits::{MAILBOX_MESSAGES, MAX_SHARDS, PORT_FREE_WITHIN, PORT_TRIED_EVERY};
use crate::metadata::file::{Metadata, ReadMetadata};
use crate::peers::{PeerError, PeerMessage, Peers, RecoveryPlan};

/// The node on the current core, which becomes shard 0; the other cores are launched from here. Runs on the
/// real ring and in the simulation alike.
pub(super) async fn run(
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

/// How a shard's core is to be launched.
pub(super) fn core_config(config: &BrokerConfig, shard: u32, cpu: Option<usize>) -> CoreConfig {
    CoreConfig { name: format!("ringlog-{shard}"), cpu, wait: config.wait, ..CoreConfig::default() }
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
