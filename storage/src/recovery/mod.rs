//! Recovery: the journals of the epoch before, replayed over the segments.
//!
//! Rules:
//! - The checkpoint, and the marks behind it in the journal, say which part of each segment is synced. What is behind that was
//!   never promised, or is in the journal: it is overwritten, and segments that neither knows are put aside.
//! - What only marks vouch for is read once, like the journal's frames: rot there is damage.
//! - A frame that is not whole ends the journal, if no frame with a higher sequence was begun: that one was never
//!   acknowledged. If one was, the frame had been durable, and this is damage.
//! - Damage is named and quarantines the partitions that cannot be shown to be complete. Of these nothing is written, moved
//!   or deleted.
//! - Recovering twice equals recovering once: of the old epoch's files all that is needed is only read, and the new checkpoint is
//!   written last.

mod apply;
mod journals;
mod places;
mod plan;
mod proof;
mod summary;
mod verify;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

use ringlog_reactor::random_u64;
use ringlog_reactor::sim::reached;

use crate::checkpoint;
use crate::config::{PartitionSpec, StoreConfig};
use crate::error::{RecoveryError, StoreError};
use crate::folders::make_durable;
use crate::format::identity::JournalIdentity;
use crate::layout;
use crate::partition::{Partition, Shared};
use crate::partition_folders;
use crate::partition_id::PartitionId;
use crate::reserve::Reserve;
use journals::Journals;
pub(crate) use places::Place;
use places::Places;
use plan::Plan;
pub use summary::{Damage, RecoverySummary};

/// A shard's log, complete in its segments. Nothing can be appended yet.
pub struct Recovered {
    pub(crate) config: StoreConfig,
    pub(crate) identity: JournalIdentity,
    pub(crate) partitions: BTreeMap<PartitionId, Rc<Partition>>,
    pub(crate) shared: Shared,
    pub(crate) journal_damaged: bool,
    /// Superseded segment files of sound partitions.
    pub(crate) unsynced: Vec<PathBuf>,
}

impl std::fmt::Debug for Recovered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recovered").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Brings the segments of this shard's partitions up to what was acknowledged, from the journals of *all* shards of the
/// epoch before: there may have been more or fewer of them. Several shards may do this at the same time.
///
/// When this returns, the new epoch's checkpoint is on stable storage; then the caller makes the new epoch's number durable,
/// and then [`Recovered::activate`]s.
///
/// On a full disk, what earlier lives have left to be removed goes first, then the journal files of which nothing is needed, and the
/// reserve is used.
pub async fn recover(
    config: StoreConfig,
    partitions: Vec<PartitionSpec>,
) -> Result<(Recovered, RecoverySummary), RecoveryError> {
    match recover_once(config.clone(), partitions.clone(), false).await {
        Err(error) if error.is_disk_full() => {
            reached("start on a full disk");
            give_up_reserves(&config).await;
            recover_once(config, partitions, true).await
        }
        done => done,
    }
}

/// Gives the old epoch's reserves of this shard back: the new epoch makes its own.
async fn give_up_reserves(config: &StoreConfig) {
    let Some(previous) = config.previous else { return };
    let dir = layout::shard_dir(&config.data_dir, previous.epoch, config.shard);
    for reserve in Reserve::both_of(&dir) {
        if let Err(error) = reserve.remove().await {
            tracing::warn!(path = %reserve.path().display(), %error, "a reserve could not be given back");
        }
    }
}

/// With `short_of_space` it removes at once what is removed later otherwise.
async fn recover_once(
    config: StoreConfig,
    partitions: Vec<PartitionSpec>,
    short_of_space: bool,
) -> Result<(Recovered, RecoverySummary), RecoveryError> {
    let config = config.bounded();
    let shared = Shared::new(&config);
    let mut summary = RecoverySummary::default();
    let Survey { journals, mut places, plan } =
        survey(&config, partitions, &shared, &mut summary, false).await?;
    let mut unsynced = places::put_aside(&places).await?;
    if short_of_space {
        // The journal was found whole for these partitions: what was put aside is in it.
        remove_all(std::mem::take(&mut unsynced)).await;
        remove_all(places::take_below_start(&mut places)).await;
        if !summary.journal_damaged {
            journals.cut_free_files(config.shard).await?;
        }
    }
    let needed = journals.bytes_to_replay();
    let partitions = places::open(places, &shared);
    let applied = apply::apply(&journals, &plan, &partitions, &mut summary).await;
    applied.map_err(|error| error.on_full_disk(needed))?;
    let identity = write_checkpoint(&config, &partitions).await?;
    summary.quarantined = quarantined(&partitions);
    tell(&config, &partitions, &summary);
    let journal_damaged = summary.journal_damaged;
    Ok((Recovered { config, identity, partitions, shared, journal_damaged, unsynced }, summary))
}

async fn remove_all(paths: Vec<PathBuf>) {
    for path in paths {
        if let Err(error) = partition_folders::remove_aside(&path).await {
            tracing::warn!(path = %path.display(), %error, "a file that is not needed could not be removed");
        }
    }
}

/// What is in the folder, and what is wrong with it.
pub(crate) struct Survey {
    pub(crate) journals: Journals,
    pub(crate) places: Places,
    pub(crate) plan: Plan,
}

/// The reading half of a recovery: nothing is changed. `summary` gets the damage. `thorough`: also folders are looked at of which
/// the checkpoint says that nothing is in them.
pub(crate) async fn survey(
    config: &StoreConfig,
    partitions: Vec<PartitionSpec>,
    shared: &Shared,
    summary: &mut RecoverySummary,
    thorough: bool,
) -> Result<Survey, RecoveryError> {
    let journals = journals::find(config, summary).await?;
    let mut places = places::known(config, partitions, &journals, summary)?;
    let plan = verify::verify(&journals, &mut places, summary).await?;
    places::inspect(config, &mut places, &plan, shared, summary, thorough).await?;
    Ok(Survey { journals, places, plan })
}

/// Says loudly what is wrong: at every start, as long as it is.
fn tell(config: &StoreConfig, partitions: &BTreeMap<PartitionId, Rc<Partition>>, summary: &RecoverySummary) {
    summary.damage.iter().for_each(|damage| tracing::error!(shard = config.shard, %damage, "damage found"));
    for copy in &summary.spare_copies {
        tracing::warn!(
            shard = config.shard,
            %copy,
            "a damaged copy: the other one is used, and both are written again at the first checkpoint"
        );
    }
    for partition in partitions.values() {
        let Some(reason) = partition.quarantined() else { continue };
        let (topic, number, end) =
            (&partition.spec().topic_name, partition.id().partition, partition.log_end());
        tracing::error!(
            %topic,
            partition = number,
            reason,
            "quarantined: no appends, served up to offset {end}"
        );
    }
}

fn quarantined(partitions: &BTreeMap<PartitionId, Rc<Partition>>) -> Vec<PartitionId> {
    partitions
        .values()
        .filter(|partition| partition.quarantined().is_some())
        .map(|partition| partition.id())
        .collect()
}

/// Writes the new epoch's first checkpoint, and with it the salt of its journal.
async fn write_checkpoint(
    config: &StoreConfig,
    partitions: &BTreeMap<PartitionId, Rc<Partition>>,
) -> Result<JournalIdentity, StoreError> {
    let dir = layout::shard_dir(&config.data_dir, config.epoch, config.shard);
    // The epoch's own folder was made before any shard began.
    make_durable(&dir, &layout::epoch_dir(&config.data_dir, config.epoch)).await?;
    let identity = JournalIdentity { epoch: config.epoch, shard: config.shard, salt: random_u64() };
    checkpoint::write_first(&dir, identity, partitions.values()).await?;
    Ok(identity)
}

impl Journals {
    fn note(summary: &mut RecoverySummary, damage: Damage) {
        summary.journal_damaged = true;
        summary.damage.push(damage);
    }
}
