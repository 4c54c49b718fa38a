//! A look at a data folder at rest: the metadata, the folder itself, and then what the storage keeps in it. Nothing is changed.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use ringlog_reactor::fs;
use ringlog_storage::check::Known;
use ringlog_storage::{PartitionId, PreviousEpoch, Reserve};

pub use ringlog_storage::check::{CheckProgress, CheckReport, Finding, Weight};

use crate::metadata::file::{self, Metadata, MetadataError, ReadMetadata};
use crate::node::LOCK_NAME;

/// What a folder may hold.
const NAMES: [&[&str]; 4] = [&[LOCK_NAME], &file::FILE_NAMES, &Reserve::NAMES, &["journal", "topics"]];

/// Why a folder could not be looked at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// It cannot be read.
    #[error("cannot look at the data folder {}: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A broker has it.
    #[error("the data folder {} is in use by a broker; stop it first: a log that grows cannot be checked", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// There is nothing of ours in it.
    #[error("{} holds nothing of Ringlog; name the data folder with --data", path.display())]
    NothingThere {
        /// The folder.
        path: PathBuf,
    },
}

/// What is in a data folder.
#[derive(Debug, Clone, Default)]
pub struct FolderReport {
    /// The folder.
    pub data_dir: PathBuf,
    /// The names of the topics there are, by their ids.
    pub topics: BTreeMap<u64, String>,
    /// What was found.
    pub report: CheckReport,
}

impl FolderReport {
    /// A partition as people name it.
    pub fn name_of(&self, id: PartitionId) -> String {
        match self.topics.get(&id.topic) {
            Some(name) => format!("{name}/{}", id.partition),
            None => id.to_string(),
        }
    }

    fn found(&mut self, weight: Weight, path: PathBuf, what: String, outcome: &str) {
        let outcome = outcome.to_owned();
        let finding = Finding { weight, path, offset: 0, partition: None, offsets: None, what, outcome };
        self.report.findings.push(finding);
    }
}

/// Looks at everything in a data folder that no broker is using. Runs on a reactor, the simulated one too.
///
/// # Errors
/// When there is nothing to look at, or it may not be looked at. Damage is no error: it is in the report.
pub async fn check(
    data_dir: &Path,
    progress: &mut dyn FnMut(CheckProgress),
) -> Result<FolderReport, CheckError> {
    let failed = |source| CheckError::Folder { path: data_dir.to_path_buf(), source };
    let entries = fs::read_dir(data_dir).await.map_err(failed)?;
    let is_ours = |name: &str| NAMES.iter().any(|names| names.contains(&name));
    if !entries.iter().any(|entry| is_ours(&entry.name)) {
        return Err(CheckError::NothingThere { path: data_dir.to_path_buf() });
    }
    let _lock = lock(data_dir)?;
    let mut found = FolderReport { data_dir: data_dir.to_path_buf(), ..FolderReport::default() };
    match Metadata::load(data_dir).await {
        Ok(ReadMetadata { metadata, damaged }) => {
            look(&metadata, &mut found, progress).await;
            if let Some((path, reason)) = damaged {
                let outcome = "a start uses the other copy, and writes both again";
                found.found(Weight::Harmless, path, format!("a damaged copy: {reason}"), outcome);
            }
        }
        Err(MetadataError::Io(source)) => return Err(failed(source)),
        Err(error) => {
            let path = data_dir.join(file::FILE_NAMES[0]);
            let outcome = "a start refuses; nothing else can be checked without it";
            found.found(Weight::RefusesStart, path, error.to_string(), outcome);
        }
    }
    for entry in entries.iter().filter(|entry| !is_ours(&entry.name)) {
        let what = "not a file of Ringlog's, or one that was not finished".to_owned();
        found.found(Weight::Harmless, data_dir.join(&entry.name), what, "a start leaves it alone");
    }
    Ok(found)
}

/// Keeps brokers away meanwhile. Where nothing can be written, none can run.
fn lock(data_dir: &Path) -> Result<Option<fs::LockedFile>, CheckError> {
    match fs::lock(data_dir.join(LOCK_NAME)) {
        Ok(Some(lock)) => Ok(Some(lock)),
        Ok(None) => Err(CheckError::InUse { path: data_dir.to_path_buf() }),
        Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => Ok(None),
        Err(source) => Err(CheckError::Folder { path: data_dir.to_path_buf(), source }),
    }
}

async fn look(metadata: &Metadata, found: &mut FolderReport, progress: &mut dyn FnMut(CheckProgress)) {
    found.topics = metadata.topics.iter().map(|topic| (topic.id, topic.name.clone())).collect();
    let every = |topic: &crate::metadata::topic::Topic| topic.owned_by(0, 1).collect::<Vec<_>>();
    let known = Known {
        previous: (metadata.epoch > 0)
            .then_some(PreviousEpoch { epoch: metadata.epoch, shards: metadata.shards }),
        partitions: metadata.topics.iter().flat_map(every).collect(),
        deleted: metadata.deleting.iter().map(|topic| (topic.name.clone(), topic.id)).collect(),
    };
    let data_dir = found.data_dir.clone();
    match ringlog_storage::check::check(&data_dir, &known, progress).await {
        Ok(report) => found.report = report,
        Err(error) => {
            found.found(
                Weight::RefusesStart,
                data_dir,
                error.to_string(),
                "a start refuses for the same reason",
            );
        }
    }
}
