//! Where each partition stood at the last checkpoint, and whether its folder still agrees.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bytes::BytesMut;
use ringlog_protocol::TopicName;
use ringlog_reactor::fs::{self, DirEntry, File, Kind, OpenOptions};
use ringlog_reactor::sim::{mutant, reached};

use super::journals::Journals;
use super::plan::Plan;
use super::summary::{Damage, RecoverySummary};
use crate::config::{PartitionSpec, StoreConfig};
use crate::descriptors::Descriptors;
use crate::error::{RecoveryError, SYNCING, StoreError};
use crate::folders::list;
use crate::format::FormatError;
use crate::format::checkpoint::PartitionPoint;
use crate::format::identity::ActiveSegment;
use crate::format::index::Index;
use crate::format::segment::{self, SegmentHeader};
use crate::layout;
use crate::limits::{BLOCK_BYTES, SYNCS_IN_FLIGHT};
use crate::parallel::in_parallel;
use crate::partition::{Partition, Shared};
use crate::partition_folders;
use crate::partition_id::PartitionId;
use crate::reading::{open_file, tried};
use crate::segment::WalkError;

/// One partition before the replay.
pub(crate) struct Place {
    pub(crate) spec: PartitionSpec,
    /// How far its segments are known: by the checkpoint, and then by marks.
    pub(crate) point: PartitionPoint,
    /// The same by the checkpoint alone.
    checkpointed: PartitionPoint,
    /// No checkpoint says anything of it that can be read.
    is_lost: bool,
    /// Which journal's checkpoint names it.
    pub(crate) journal: Option<usize>,
    /// What is wrong, if it is to be quarantined.
    pub(crate) damage: Option<String>,
    pub(crate) dir: PathBuf,
    /// All segments of the folder, in order.
    pub(super) found: Vec<FoundSegment>,
    pub(crate) sealed: Vec<(i64, u64)>,
    /// Segments that neither checkpoint nor mark knows.
    pub(crate) unknown: Vec<i64>,
    /// What earlier recoveries have put aside.
    aside: Vec<PathBuf>,
    /// The segments, by their base offsets, beside which an index lies.
    indexed: Vec<i64>,
    /// Folders of it that were put aside, or that a start before this one has.
    aside_dirs: Vec<PathBuf>,
    /// The journal that has the partition ended in order: the checkpoint says all of it.
    orderly: bool,
}

/// A segment as it lies in its folder.
#[derive(Clone, Copy)]
pub(super) struct FoundSegment {
    pub(super) base_offset: i64,
    /// Its whole blocks. What is behind the last was cut: it cannot be read, and is missed.
    pub(super) bytes: u64,
    pub(super) kind: Kind,
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
            is_lost: false,
            damage: None,
            found: Vec::new(),
            sealed: Vec::new(),
            unknown: Vec::new(),
            aside: Vec::new(),
            indexed: Vec::new(),
            aside_dirs: Vec::new(),
            orderly: false,
        };
        let journal = place.journal.and_then(|journal| journals.journals.get(journal));
        place.orderly = journal.is_some_and(|journal| journal.checkpoint.clean) && !journals.checkpoint_lost;

        if place.journal.is_none() && journals.checkpoint_lost {
            place.is_lost = true;
            let reason = "no readable checkpoint says how far it is synced; what its segments show is served";
            place.damaged(place.dir.clone(), reason, summary);
        }
        places.insert(id, place);
    }
    Ok(places)
}

/// Looks at the partitions' folders, once it is known how far its segments are to be believed. After an orderly end the
/// checkpoint says which partitions have no segment: their folders are looked at only if it is to be `thorough`.
pub(crate) async fn inspect(
    config: &StoreConfig,
    places: &mut Places,
    plan: &Plan,
    shared: &Shared,
    summary: &mut RecoverySummary,
    thorough: bool,
) -> Result<(), RecoveryError> {
    let may_have_files = |place: &Place| thorough || place.point.active.is_some() || !place.orderly;
    let folders = Folders::list(config, places.values().filter(|place| may_have_files(place))).await?;
    for place in places.values_mut().filter(|place| may_have_files(place)) {
        if folders.has(place.spec.id) {
            place.look(summary).await?;
        }
        place.aside_dirs.extend(folders.aside_of(place.spec.id));
    }
    let mut checked = check_active_segments(places, shared).await?;
    for (id, place) in places {
        if place.is_lost {
            place.take_from_segments(shared).await;
            place.point.start_offset = place.found.first().map_or(0, |first| first.base_offset);
            continue;
        }
        place.check(checked.remove(id), summary)?;
        place.check_marked(shared, summary).await?;
        let end = plan.ends.get(id).copied().unwrap_or(place.point.next_offset);
        place.find_lost_end(end, shared, summary).await?;
    }
    Ok(())
}

/// Which partitions have a folder: one listing of each topic's folder shows it for all.
#[derive(Default)]
struct Folders {
    there: BTreeSet<PartitionId>,
    aside: BTreeMap<PartitionId, Vec<PathBuf>>,
}

impl Folders {
    async fn list(
        config: &StoreConfig,
        places: impl Iterator<Item = &Place>,
    ) -> Result<Folders, RecoveryError> {
        let mut folders = Folders::default();
        let places: Vec<_> = places.collect();
        let topics: BTreeMap<u64, PathBuf> = places
            .iter()
            .map(|place| (place.spec.id.topic, &place.spec.topic_name))
            .map(|(topic, name)| (topic, layout::topic_dir(&config.data_dir, name, topic)))
            .collect();
        for (topic, dir) in topics {
            let entries = match list(&dir).await {
                Ok(entries) => entries,
                Err(RecoveryError::Store(StoreError::Io { action, path, error })) => {
                    StoreError::unreadable(action, path, error)?;
                    // Each of its partitions is named when its own folder cannot be listed.
                    let ids = places.iter().map(|place| place.spec.id);
                    folders.there.extend(ids.filter(|id| id.topic == topic));
                    continue;
                }
                Err(error) => return Err(error),
            };
            for (path, entry) in entries {
                if let Ok(partition) = entry.name.parse() {
                    folders.there.insert(PartitionId { topic, partition });
                } else if let Some(partition) = layout::unsynced_dir_of(&entry.name) {
                    folders.aside.entry(PartitionId { topic, partition }).or_default().push(path);
                }
            }
        }
        Ok(folders)
    }

    fn has(&self, id: PartitionId) -> bool {
        self.there.contains(&id)
    }

    fn aside_of(&self, id: PartitionId) -> impl Iterator<Item = PathBuf> + '_ {
        self.aside.get(&id).into_iter().flatten().cloned()
    }
}

/// What is wrong with an active segment's file, if something is.
type Checked = Result<Result<(), String>, RecoveryError>;

/// Looks at the active segments that the checkpoints or marks name, several at a time.
async fn check_active_segments(
    places: &Places,
    shared: &Shared,
) -> Result<BTreeMap<PartitionId, Checked>, RecoveryError> {
    let named = places.values().filter_map(|place| {
        let active = place.point.active?;
        Some((place.spec.id, active, layout::segment_file(&place.dir, active.base_offset)))
    });
    let named: Vec<_> = named.collect();
    let checked: Rc<RefCell<BTreeMap<_, _>>> = Rc::default();
    in_parallel(SYNCS_IN_FLIGHT, named.iter(), |(id, active, path)| {
        let (checked, descriptors) = (Rc::clone(&checked), Rc::clone(&shared.descriptors));
        async move {
            let found = check_active(&descriptors, id, &path, active).await;
            checked.borrow_mut().insert(id, found);
            Ok(())
        }
    })
    .await?;
    Ok(checked.take())
}

async fn check_active(
    descriptors: &Rc<Descriptors>,
    id: PartitionId,
    path: &Path,
    active: ActiveSegment,
) -> Checked {
    let read = descriptors.with_one(|| tried(|| read_front(path)));
    let (len, header) = match read.await {
        Ok(read) => read,
        Err(error) => return Ok(Err(StoreError::unreadable("reading", path, error)?)),
    };
    if len < active.bytes {
        return Ok(Err(format!("it has {len} bytes, of which {} were synced", active.bytes)));
    }
    match SegmentHeader::decode(&header) {
        Ok(header) if (header.id, header.base_offset) == (id, active.base_offset) => Ok(Ok(())),
        Ok(_) => Ok(Err("it is of another segment".to_owned())),
        Err(error @ FormatError::Version(_)) => {
            Err(RecoveryError::Format { path: path.to_path_buf(), error })
        }
        Err(error) => Ok(Err(error.to_string())),
    }
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

    async fn look(&mut self, summary: &mut RecoverySummary) -> Result<(), RecoveryError> {
        let entries = match fs::read_dir(&self.dir).await {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                let reason = StoreError::unreadable("listing", &self.dir, error)?;
                self.damaged(self.dir.clone(), reason, summary);
                Vec::new()
            }
        };
        for DirEntry { name, len, kind } in entries {
            self.indexed.extend(layout::index_base(&name));
            match layout::segment_base(&name) {
                Some(base_offset) => {
                    let bytes = len - len % BLOCK_BYTES as u64;
                    self.found.push(FoundSegment { base_offset, bytes, kind });
                }
                None if layout::is_unsynced_file(&name) => self.aside.push(self.dir.join(name)),
                None => {}
            }
        }
        self.found.sort_unstable_by_key(|found| found.base_offset);
        self.sort_found();
        Ok(())
    }

    /// Tells the sealed segments from those that neither checkpoint nor mark knows.
    pub(super) fn sort_found(&mut self) {
        let active = self.point.active.map(|active| active.base_offset);
        let is_sealed = |found: &&FoundSegment| active.is_some_and(|active| found.base_offset < active);
        let is_unknown = |found: &&FoundSegment| active.is_none_or(|active| found.base_offset > active);
        let (sealed, unknown) = (self.found.iter().filter(is_sealed), self.found.iter().filter(is_unknown));
        self.sealed = sealed.map(|found| (found.base_offset, found.bytes)).collect();
        self.unknown = unknown.map(|found| found.base_offset).collect();
    }

    /// What the folder has of the segment that begins there.
    pub(super) fn found(&self, base_offset: i64) -> Option<&FoundSegment> {
        self.found.iter().find(|found| found.base_offset == base_offset)
    }

    /// Checks that the folder has what the checkpoint or the last mark says.
    fn check(
        &mut self,
        checked: Option<Checked>,
        summary: &mut RecoverySummary,
    ) -> Result<(), RecoveryError> {
        let Some(active) = self.point.active else { return Ok(()) };
        if let Err(reason) = checked.unwrap_or(Ok(Ok(())))? {
            self.damaged(layout::segment_file(&self.dir, active.base_offset), reason, summary);
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
        shared: &Shared,
        summary: &mut RecoverySummary,
    ) -> Result<(), RecoveryError> {
        if self.is_quarantined() || self.point.next_offset == self.checkpointed.next_offset {
            return Ok(());
        }
        let (spec, shared) = (self.spec.clone(), shared.clone());
        let partition = Partition::at_rest(spec, &self.point, &self.sealed, shared);
        match partition.check_from(&self.checkpointed).await {
            Ok(()) => Ok(()),
            Err((path, WalkError::Io(error))) => {
                let reason = StoreError::unreadable("reading", &path, error)?;
                self.damaged(path, reason, summary);
                Ok(())
            }
            Err((path, WalkError::Damaged { position, reason, .. })) => {
                self.damaged_at(path, position, reason, summary);
                Ok(())
            }
        }
    }

    /// Ends the active segment where it is known to be synced. What stands behind was never promised, or is in the journal; a later
    /// start must not take it for what was written in its place.
    async fn cut_leftover(&self, active: ActiveSegment) -> Result<(), StoreError> {
        if self.found(active.base_offset).is_none_or(|found| found.bytes <= active.bytes) {
            return Ok(());
        }
        reached("leftover cut");
        let path = layout::segment_file(&self.dir, active.base_offset);
        let file = File::open(&path, &OpenOptions::new().write(true)).await;
        let file = file.map_err(StoreError::io("opening", &path))?;
        file.truncate(active.bytes).await.map_err(StoreError::io("truncating", &path))?;
        file.sync_all().await.map_err(StoreError::io(SYNCING, &path))
    }

    /// Removes the active segment's index if it tells of more than is synced: what will stand there may be laid out in
    /// another way.
    async fn remove_stale_index(&self, base_offset: i64, synced: u64) -> Result<bool, StoreError> {
        if !self.indexed.contains(&base_offset) {
            return Ok(false);
        }
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
        aside.extend(place.aside_dirs.iter().cloned());
        let Some(active) = place.point.active else {
            // Its first segment gets a folder of its own: this one is put aside.
            if !(place.unknown.is_empty() && place.aside.is_empty()) {
                reached("segment put aside");
                aside.push(partition_folders::put_aside(&place.dir).await?);
            }
            continue;
        };
        aside.extend(place.aside.iter().cloned());
        let mut changed = false;
        if !place.orderly {
            changed |= place.remove_stale_index(active.base_offset, active.bytes).await?;
            place.cut_leftover(active).await?;
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

/// Takes the segments out that lie below the start offset, which a checkpoint has: the last life did not come to remove them. Returns their
/// files.
pub(crate) fn take_below_start(places: &mut Places) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for place in places.values_mut().filter(|place| !place.is_quarantined()) {
        let Some(active) = place.point.active else { continue };
        let ends = place.sealed.iter().skip(1).map(|(base, _)| *base).chain([active.base_offset]);
        // Of a log without a sealed segment nothing ends.
        let ends = ends.take(place.sealed.len());
        let below = ends.take_while(|end| *end <= place.checkpointed.start_offset).count();
        for (base, _) in place.sealed.drain(..below) {
            files.extend([layout::segment_file(&place.dir, base), layout::index_file(&place.dir, base)]);
        }
    }
    files
}

/// A file's length, and the bytes of a segment's header.
pub(super) async fn read_front(path: &Path) -> io::Result<(u64, BytesMut)> {
    let file = open_file(path).await?;
    let header = BytesMut::with_capacity(segment::HEADER_BYTES);
    Ok((file.len().await?, file.read_at(header, 0, segment::HEADER_BYTES).await?))
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

/// Makes the partitions as they stood.
pub(crate) fn open(places: Places, shared: &Shared) -> BTreeMap<PartitionId, Rc<Partition>> {
    let mut partitions = BTreeMap::new();
    for (id, place) in places {
        let partition = Partition::new(place.spec, &place.point, &place.sealed, shared.clone());
        if let Some(reason) = place.damage {
            partition.quarantine_for_good(&reason);
        }
        partitions.insert(id, Rc::new(partition));
    }
    partitions
}
