//! Where each partition stood at the last checkpoint, and whether its folder still agrees.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bytes::BytesMut;
use ringlog_protocol::TopicName;
use ringlog_reactor::fs::{self, DirEntry, File, OpenOptions};
use ringlog_reactor::sim::{mutant, reached};

use super::journals::Journals;
use super::{Damage, RecoverySummary};
use crate::config::{PartitionId, PartitionSpec, StoreConfig};
use crate::error::{RecoveryError, SYNCING, StoreError};
use crate::format::FormatError;
use crate::format::checkpoint::{ActiveSegment, PartitionPoint};
use crate::format::index::Index;
use crate::format::segment::{self, SegmentHeader};
use crate::layout;
use crate::limits::BLOCK_BYTES;
use crate::partition::{Partition, Shared};
use crate::segment::WalkError;
use crate::store::make_folder;

/// One partition before the replay.
pub(crate) struct Place {
    pub(crate) spec: PartitionSpec,
    /// How far its segments are known: by the checkpoint, and then by marks.
    pub(crate) point: PartitionPoint,
    /// The same by the checkpoint alone.
    checkpointed: PartitionPoint,
    /// Which journal's checkpoint names it.
    pub(crate) journal: Option<usize>,
    /// What is wrong, if it is to be quarantined.
    pub(crate) damage: Option<String>,
    pub(crate) dir: PathBuf,
    pub(crate) sealed: Vec<(i64, u64)>,
    /// Segments that neither checkpoint nor mark knows.
    pub(crate) unknown: Vec<i64>,
    /// What earlier recoveries have put aside.
    aside: Vec<PathBuf>,
}

pub(crate) type Places = BTreeMap<PartitionId, Place>;

/// What the checkpoints say of every partition.
pub(crate) fn known(
    config: &StoreConfig,
    specs: Vec<PartitionSpec>,
    journals: &Journals,
    summary: &mut RecoverySummary,
) -> Result<Places, RecoveryError> {
    let known = known_points(journals);
    let mut places = Places::new();
    for spec in specs {
        TopicName::check(&spec.topic_name).map_err(StoreError::from)?;
        let id = spec.id;
        let point = known.get(&id).map_or(PartitionPoint::new(id), |(_, point)| *point);
        let mut place = Place {
            dir: layout::partition_dir(&config.data_dir, &spec),
            spec,
            point,
            checkpointed: point,
            journal: known.get(&id).map(|(journal, _)| *journal),
            damage: None,
            sealed: Vec::new(),
            unknown: Vec::new(),
            aside: Vec::new(),
        };
        if place.journal.is_none() && journals.checkpoint_lost {
            place.damaged(place.dir.clone(), "no readable checkpoint says how far it is synced", summary);
        }
        places.insert(id, place);
    }
    Ok(places)
}

/// Looks at every partition's folder, once it is known how far its segments are to be believed.
pub(crate) async fn inspect(
    config: &StoreConfig,
    places: &mut Places,
    shared: &Shared,
    summary: &mut RecoverySummary,
) -> Result<(), RecoveryError> {
    for place in places.values_mut() {
        place.look().await?;
        place.check(summary).await?;
        place.check_marked(config, shared, summary).await?;
    }
    Ok(())
}

fn known_points(journals: &Journals) -> BTreeMap<PartitionId, (usize, PartitionPoint)> {
    let all = journals.journals.iter().enumerate();
    let points =
        all.flat_map(|(at, journal)| journal.checkpoint.partitions.iter().map(move |point| (at, *point)));
    points.map(|(at, point)| (point.id, (at, point))).collect()
}

impl Place {
    /// Notes damage, which quarantines the partition.
    pub(crate) fn damaged(
        &mut self,
        path: PathBuf,
        reason: impl Into<String>,
        summary: &mut RecoverySummary,
    ) {
        self.damaged_at(path, 0, reason.into(), summary);
    }

    /// The same with the byte at which it was found.
    pub(crate) fn damaged_at(
        &mut self,
        path: PathBuf,
        offset: u64,
        reason: String,
        summary: &mut RecoverySummary,
    ) {
        summary.damage.push(Damage { path, offset, partition: Some(self.spec.id), reason: reason.clone() });
        self.damage.get_or_insert(reason);
    }

    /// Whether nothing of the partition may be changed.
    pub(crate) fn is_quarantined(&self) -> bool {
        self.damage.is_some() || self.point.quarantined
    }

    /// Whether checkpoint or marks know the segment that begins there.
    pub(crate) fn knows(&self, base_offset: i64) -> bool {
        let active = self.point.active.map(|active| active.base_offset);
        active == Some(base_offset) || self.sealed.iter().any(|(base, _)| *base == base_offset)
    }

    async fn look(&mut self) -> Result<(), RecoveryError> {
        let entries = match fs::read_dir(&self.dir).await {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(StoreError::io("listing", &self.dir)(error).into()),
        };
        let active = self.point.active.map(|active| active.base_offset);
        for DirEntry { name, len, .. } in entries {
            match layout::segment_base(&name) {
                // What is behind the last whole block was cut: it cannot be read, and is missed.
                Some(base) if active.is_some_and(|active| base < active) => {
                    self.sealed.push((base, len - len % BLOCK_BYTES as u64));
                }
                Some(base) if active != Some(base) => self.unknown.push(base),
                None if layout::is_unsynced_file(&name) => self.aside.push(self.dir.join(name)),
                _ => {}
            }
        }
        self.sealed.sort_unstable();
        Ok(())
    }

    /// Checks that the folder has what the checkpoint or the last mark says.
    async fn check(&mut self, summary: &mut RecoverySummary) -> Result<(), RecoveryError> {
        let Some(active) = self.point.active else { return Ok(()) };
        let path = layout::segment_file(&self.dir, active.base_offset);
        if let Err(reason) = self.check_active(&path, active).await? {
            self.damaged(path, reason, summary);
        }
        let first = self.sealed.first().map_or(active.base_offset, |(base, _)| *base);
        if first > self.point.start_offset {
            let reason = format!("segments begin at offset {first}, the log at {}", self.point.start_offset);
            self.damaged(self.dir.clone(), reason, summary);
        }
        Ok(())
    }

    /// Reads what only marks say is there.
    async fn check_marked(
        &mut self,
        config: &StoreConfig,
        shared: &Shared,
        summary: &mut RecoverySummary,
    ) -> Result<(), RecoveryError> {
        if self.is_quarantined() || self.point.next_offset == self.checkpointed.next_offset {
            return Ok(());
        }
        let (spec, shared) = (self.spec.clone(), shared.clone());
        let partition = Partition::at_rest(&config.data_dir, spec, &self.point, &self.sealed, shared);
        match partition.check_from(&self.checkpointed).await {
            Ok(()) => Ok(()),
            Err((path, WalkError::Io(error))) => Err(StoreError::io("reading", path)(error).into()),
            Err((path, WalkError::Damaged { position, reason, .. })) => {
                self.damaged_at(path, position, reason, summary);
                Ok(())
            }
        }
    }

    async fn check_active(
        &self,
        path: &Path,
        active: ActiveSegment,
    ) -> Result<Result<(), String>, RecoveryError> {
        let file = match File::open(path, &OpenOptions::new().read(true)).await {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Err("it is missing".to_owned())),
            Err(error) => return Err(StoreError::io("opening", path)(error).into()),
        };
        let len = file.len().await.map_err(StoreError::io("reading", path))?;
        if len < active.bytes {
            return Ok(Err(format!("it has {len} bytes, of which {} were synced", active.bytes)));
        }
        let header =
            file.read_at(BytesMut::with_capacity(segment::HEADER_BYTES), 0, segment::HEADER_BYTES).await;
        match SegmentHeader::decode(&header.map_err(StoreError::io("reading", path))?) {
            Ok(header) if header == (SegmentHeader { id: self.spec.id, base_offset: active.base_offset }) => {
                Ok(Ok(()))
            }
            Ok(_) => Ok(Err("it is of another segment".to_owned())),
            Err(error @ FormatError::Version(_)) => {
                Err(RecoveryError::Format { path: path.to_path_buf(), error })
            }
            Err(error) => Ok(Err(error.to_string())),
        }
    }

    /// Removes the active segment's index if it tells of more than is synced: what will stand there may be laid out in
    /// another way.
    async fn remove_stale_index(&self, base_offset: i64, synced: u64) -> Result<bool, StoreError> {
        let path = layout::index_file(&self.dir, base_offset);
        let Ok(bytes) = fs::read(&path).await else { return Ok(false) };
        let fits = Index::decode(&bytes).is_ok_and(|index| index.covered_bytes <= synced);
        if fits || mutant("trust-index") {
            return Ok(false);
        }
        reached("stale index removed");
        fs::remove_file(&path).await.map_err(StoreError::io("removing", &path))?;
        Ok(true)
    }
}

/// Renames the segments that neither checkpoint nor mark knows, of sound partitions: they may hold anything, and what of it was
/// promised is in the journal. Returns all files that are put aside, to be removed once the new epoch is active.
pub(crate) async fn put_aside(places: &Places) -> Result<Vec<PathBuf>, RecoveryError> {
    let mut aside = Vec::new();
    let may_change = |place: &&Place| !place.is_quarantined() || mutant("quarantined-cleaned");
    for place in places.values().filter(may_change) {
        aside.extend(place.aside.iter().cloned());
        let mut changed = false;
        if let Some(active) = place.point.active {
            changed |= place.remove_stale_index(active.base_offset, active.bytes).await?;
        }
        for base in &place.unknown {
            aside.push(rename_aside(&place.dir, *base).await?);
            place.remove_stale_index(*base, 0).await?;
            changed = true;
        }
        if changed {
            fs::sync_dir(&place.dir).await.map_err(StoreError::io(SYNCING, &place.dir))?;
        }
    }
    Ok(aside)
}

async fn rename_aside(dir: &Path, base_offset: i64) -> Result<PathBuf, StoreError> {
    reached("segment put aside");
    let from = layout::segment_file(dir, base_offset);
    let mut attempt = 0;
    loop {
        let to = layout::unsynced_file(dir, base_offset, attempt);
        if !fs::exists(&to).await.map_err(StoreError::io("reading", &to))? {
            fs::rename(&from, &to).await.map_err(StoreError::io("renaming", from))?;
            return Ok(to);
        }
        attempt += 1;
    }
}

/// Makes the partitions as they stood, with their folders.
pub(crate) async fn open(
    config: &StoreConfig,
    places: Places,
    shared: &Shared,
) -> Result<BTreeMap<PartitionId, Rc<Partition>>, RecoveryError> {
    let mut partitions = BTreeMap::new();
    for (id, place) in places {
        if place.point.active.is_none() {
            make_folder(&config.data_dir, &place.spec).await?;
        }
        let partition =
            Partition::new(&config.data_dir, place.spec, &place.point, &place.sealed, shared.clone());
        if let Some(reason) = place.damage {
            partition.quarantine_for_good(&reason);
        }
        partitions.insert(id, Rc::new(partition));
    }
    Ok(partitions)
}
