//! What can be done with a data folder while no broker runs: deleting a topic, which a disk that is full may need before a start.

use std::path::{Path, PathBuf};

use ringlog_reactor::{CoreConfig, fs};
use ringlog_storage::remove_topic;

use crate::metadata::file::{self, Metadata, MetadataError};
use crate::node::LOCK_NAME;

/// Why a topic was not deleted.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// A broker runs.
    #[error("the data folder {} is in use by a broker: delete the topic through it, without --data", .0.display())]
    InUse(PathBuf),
    /// There is nothing of a broker's.
    #[error("{} is no data folder of a broker: it has no metadata file", .0.display())]
    NoFolder(PathBuf),
    /// There is no such topic.
    #[error("there is no topic `{0}`")]
    Unknown(String),
    /// The metadata file cannot be used.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// Files could not be removed: the next start goes on with that.
    #[error("{0}; the topic is deleted, and the next start removes what is left of its files")]
    Files(String),
    /// The system.
    #[error("the data folder cannot be used: {0}")]
    Io(#[from] std::io::Error),
}

/// Deletes a topic of a folder at rest, and its files. What a journal holds of it is passed over by the next start.
///
/// # Errors
/// When a broker runs, there is no such topic, or the folder cannot be changed.
pub fn delete_topic(data_dir: &Path, name: &str) -> Result<(), OfflineError> {
    let (data_dir, name) = (data_dir.to_path_buf(), name.to_owned());
    ringlog_reactor::run(CoreConfig::default(), async move { delete(&data_dir, &name).await })?
}

pub(crate) async fn delete(data_dir: &Path, name: &str) -> Result<(), OfflineError> {
    if !file::exists(data_dir).await? {
        return Err(OfflineError::NoFolder(data_dir.to_path_buf()));
    }
    let lock = fs::lock(data_dir.join(LOCK_NAME))?;
    let _lock = lock.ok_or_else(|| OfflineError::InUse(data_dir.to_path_buf()))?;
    let mut metadata = Metadata::load(data_dir).await?.metadata;
    let at = metadata.topics.iter().position(|topic| topic.name == name);
    let topic = metadata.topics.remove(at.ok_or_else(|| OfflineError::Unknown(name.to_owned()))?);
    metadata.deleting.push(topic.clone());
    metadata.store(data_dir).await?;
    let removed = remove_topic(data_dir, &topic.name, topic.id).await;
    removed.map_err(|error| OfflineError::Files(error.to_string()))?;
    metadata.deleting.retain(|deleted| deleted.id != topic.id);
    Ok(metadata.store(data_dir).await?)
}
