//! The metadata file: which topics there are, and which journal epoch is the live one.
//!
//! Invariants
//! - There are two copies. What is answered for is on stable storage in both, so either may be lost; a start uses the newer one.
//! - A deletion needs no space: there is a reserve for each copy beside it.
//! - A copy is replaced whole (write aside, fsync, rename, fsync the folder): a crash leaves the old or the new one.
//! - `epoch` grows at every start; a journal of another epoch is not read, and never trusted.
//! - A topic id is used once. A topic being deleted stays in `deleting` until its files are gone.
//! - If neither copy can be read, the start is refused. Nothing is guessed, nothing is overwritten.
//!
//! Layout: one line `ringlog-metadata <format> crc32c=<8 hex digits>`, then JSON, which the checksum covers.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use ringlog_reactor::fs::{self, Kind};
use ringlog_reactor::sim::reached;
use ringlog_storage::{StoreError, replace_copies};
use serde::{Deserialize, Serialize};

use crate::metadata::topic::Topic;
use crate::metadata::topic_config::partition_config;

/// The format this broker writes, and the newest it reads.
pub const FORMAT: u32 = 2;
/// The names of the two copies in the data folder: the first is replaced first.
pub const FILE_NAMES: [&str; 2] = ["metadata", "metadata.copy"];

/// What a node must remember about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// Grows with every replacement: tells which of two copies is newer. Format 1 had one copy, and no such number.
    #[serde(default)]
    pub generation: u64,
    /// The live journal epoch; 0 before the first start.
    pub epoch: u64,
    /// How many shards wrote that epoch.
    pub shards: u32,
    /// The id the next topic gets.
    pub next_topic_id: u64,
    /// All topics.
    pub topics: Vec<Topic>,
    /// Topics whose files are still to be removed.
    pub deleting: Vec<Topic>,
}

impl Default for Metadata {
    fn default() -> Self {
        Metadata {
            generation: 0,
            epoch: 0,
            shards: 0,
            next_topic_id: 1,
            topics: Vec::new(),
            deleting: Vec::new(),
        }
    }
}

/// Why the metadata file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// Made by a newer Ringlog.
    #[error(
        "the data folder has format {found}, and this ringlog knows formats up to {FORMAT}; start it with the newer version that wrote it"
    )]
    NewerFormat {
        /// The format found.
        found: u32,
    },
    /// Both copies are damaged.
    #[error(
        "the metadata file and its copy are damaged ({0}); nothing was changed: put back one of them, or keep the folder and ask for help"
    )]
    Damaged(String),
    /// A topic has settings that this version does not know: with others it would lose what it was told to keep.
    #[error(
        "topic `{topic}`: {why}; nothing was changed: start the folder with the version that wrote it, or put back a copy of the metadata file"
    )]
    Settings {
        /// The topic's name.
        topic: String,
        /// What cannot be read.
        why: String,
    },
    /// There are journals or topics, but no metadata file.
    #[error(
        "the folder holds `{0}` but no metadata file; nothing was changed: put the file back, or name another folder"
    )]
    Missing(&'static str),
    /// It cannot be read or written.
    #[error("the metadata file: {0}")]
    Io(#[from] std::io::Error),
}

impl MetadataError {
    /// Whether there was no space, which ends by itself.
    pub fn is_disk_full(&self) -> bool {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, MetadataError::Io(error) if matches!(error.kind(), StorageFull | QuotaExceeded))
    }
}

/// What the copies of the metadata file say.
#[derive(Debug)]
pub struct ReadMetadata {
    /// The newer one of those that are sound.
    pub metadata: Metadata,
    /// The copy that cannot be used, and why.
    pub damaged: Option<(PathBuf, String)>,
}

impl Metadata {
    /// The file's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let json = serde_json::to_vec_pretty(self).expect("metadata is plain data");
        let mut file =
            format!("ringlog-metadata {FORMAT} crc32c={:08x}\n", crc32c::crc32c(&json)).into_bytes();
        file.extend_from_slice(&json);
        file
    }

    /// Reads a file's bytes.
    ///
    /// # Errors
    /// [`MetadataError::NewerFormat`], [`MetadataError::Damaged`] or [`MetadataError::Settings`].
    pub fn decode(file: &[u8]) -> Result<Metadata, MetadataError> {
        let damaged = |what: &str| MetadataError::Damaged(what.to_string());
        let end = file.iter().take(128).position(|&b| b == b'\n').ok_or_else(|| damaged("no first line"))?;
        let line = std::str::from_utf8(&file[..end]).map_err(|_| damaged("first line is no text"))?;
        let words: Vec<&str> = line.split(' ').collect();
        let ["ringlog-metadata", format, checksum] = words[..] else {
            return Err(damaged("the first line is not that of a metadata file"));
        };
        let found: u32 = format.parse().map_err(|_| damaged("no format number"))?;
        if found > FORMAT {
            return Err(MetadataError::NewerFormat { found });
        }
        let json = &file[end + 1..];
        if checksum != format!("crc32c={:08x}", crc32c::crc32c(json)) {
            return Err(damaged("the checksum is wrong"));
        }
        let metadata: Metadata =
            serde_json::from_slice(json).map_err(|error| MetadataError::Damaged(error.to_string()))?;
        metadata.topics.iter().try_for_each(check_settings)?;
        Ok(metadata)
    }

    /// Reads the file of a data folder; a folder without one, and without anything else of ours, is new.
    ///
    /// # Errors
    /// When the file cannot be read or trusted.
    pub async fn load(data_dir: &Path) -> Result<ReadMetadata, MetadataError> {
        if !exists(data_dir).await? {
            for leftover in ["journal", "topics"] {
                if fs::exists(data_dir.join(leftover)).await? {
                    return Err(MetadataError::Missing(leftover));
                }
            }
            return Ok(ReadMetadata { metadata: Metadata::default(), damaged: None });
        }
        let (mut best, mut damaged): (Option<Metadata>, _) = (None, Vec::new());
        for path in files(data_dir) {
            match read_copy(&path).await? {
                Ok(copy) => best = best.filter(|best| best.generation >= copy.generation).or(Some(copy)),
                Err(reason) => damaged.push((path, reason)),
            }
        }
        let Some(metadata) = best else {
            let reasons: Vec<_> = damaged.into_iter().map(|(_, reason)| reason).collect();
            return Err(MetadataError::Damaged(reasons.join(", ")));
        };
        let damaged = damaged.pop().filter(|_| metadata.generation > 0);
        if damaged.is_some() {
            reached("one copy of the metadata damaged");
        }
        Ok(ReadMetadata { metadata, damaged })
    }

    /// Makes this the file of the data folder, and its copy, durably: on a disk that is full to the last block too, so that topics can
    /// be deleted there.
    ///
    /// # Errors
    /// When one cannot be written; each is then the old or the new one.
    pub async fn store(&mut self, data_dir: &Path) -> Result<(), MetadataError> {
        self.generation += 1;
        for path in files(data_dir) {
            move_folder_away(&path).await?;
        }
        Ok(replace_copies(data_dir, &files(data_dir), &self.encode()).await?)
    }
}

/// A folder that somebody has put in the place of a copy is nothing that a file could replace, and not ours to remove.
async fn move_folder_away(path: &Path) -> std::io::Result<()> {
    match fs::kind(path).await {
        Ok(Kind::Folder) => fs::rename(path, path.with_added_extension("not-a-file")).await,
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Whether there is a metadata file in the folder, in either copy.
///
/// # Errors
/// When that cannot be told.
pub async fn exists(data_dir: &Path) -> std::io::Result<bool> {
    let [first, second] = files(data_dir);
    Ok(fs::exists(first).await? || fs::exists(second).await?)
}

fn files(data_dir: &Path) -> [PathBuf; 2] {
    FILE_NAMES.map(|name| data_dir.join(name))
}

/// One copy, or what is wrong with it. That it is of a newer version is no damage.
async fn read_copy(path: &Path) -> Result<Result<Metadata, String>, MetadataError> {
    let bytes = match fs::read(path).await {
        Ok(bytes) => bytes,
        Err(error) => match StoreError::unreadable("reading", path, error) {
            Ok(reason) => return Ok(Err(reason)),
            Err(error) => return Err(MetadataError::Io(std::io::Error::other(error))),
        },
    };
    match Metadata::decode(&bytes) {
        Err(MetadataError::Damaged(reason)) => Ok(Err(reason)),
        decoded => decoded.map(Ok),
    }
}

fn check_settings(topic: &Topic) -> Result<(), MetadataError> {
    let unreadable = |why| MetadataError::Settings { topic: topic.name.clone(), why };
    partition_config(&topic.config).map(drop).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use ringlog_reactor::sim::Simulation;

    use super::*;

    fn sample() -> Metadata {
        let topic = Topic { id: 1, name: "orders".into(), partitions: 3, config: Default::default() };
        Metadata {
            generation: 3,
            epoch: 7,
            shards: 2,
            next_topic_id: 2,
            topics: vec![topic],
            deleting: vec![],
        }
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(Metadata::decode(&sample().encode()).unwrap(), sample());
    }

    #[test]
    fn every_flipped_byte_is_seen() {
        let good = sample().encode();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x11;
            assert!(Metadata::decode(&bad).is_err(), "a flip at {at} went through");
        }
        for cut in 0..good.len() {
            assert!(Metadata::decode(&good[..cut]).is_err(), "a cut at {cut} went through");
        }
    }

    #[test]
    fn settings_that_are_not_known_are_refused_and_not_replaced() {
        let mut metadata = sample();
        metadata.topics[0].config.insert("retention.hours".into(), "8".into());
        let refused = Metadata::decode(&metadata.encode()).unwrap_err();
        assert!(matches!(&refused, MetadataError::Settings { topic, .. } if topic == "orders"), "{refused}");
    }

    #[test]
    fn fuzz_metadata() {
        let mend = |file: &mut Vec<u8>| {
            if let Some(end) = file.iter().position(|byte| *byte == b'\n') {
                let json = file.split_off(end + 1);
                let line = format!("ringlog-metadata {FORMAT} crc32c={:08x}\n", crc32c::crc32c(&json));
                *file = [line.as_bytes(), &json].concat();
            }
        };
        // A topic takes some hundred bytes, an empty map in JSON two.
        let target = ringlog_fuzz::Target::new("metadata").corpus(env!("CARGO_MANIFEST_DIR"));
        target.mending(mend).allowing(64 << 10, 256).run(|file| {
            let read = Metadata::decode(file).map_err(|error| error.to_string())?;
            assert_eq!(Metadata::decode(&read.encode()).ok().as_ref(), Some(&read));
            Ok(())
        });
    }

    #[test]
    fn a_newer_format_says_so() {
        let file = b"ringlog-metadata 3 crc32c=00000000\n{}";
        assert!(matches!(Metadata::decode(file), Err(MetadataError::NewerFormat { found: 3 })));
    }

    /// Two changes, of which the second one is cut off behind its first copy if `cut`.
    async fn changed_twice(data_dir: &Path, cut: bool) -> [Metadata; 2] {
        fs::create_dir_all(data_dir).await.unwrap();
        let mut old = sample();
        old.store(data_dir).await.unwrap();
        let mut new = Metadata { next_topic_id: 9, ..old.clone() };
        if cut {
            new.generation += 1;
            fs::replace(files(data_dir)[0].clone(), &new.encode()).await.unwrap();
        } else {
            new.store(data_dir).await.unwrap();
        }
        [old, new]
    }

    #[test]
    fn either_copy_may_be_lost_and_the_newer_one_is_used() {
        for lost in 0..2 {
            Simulation::new(1).run(async move {
                let data_dir = Path::new("/data");
                let [_, new] = changed_twice(data_dir, false).await;
                let path = files(data_dir)[lost].clone();
                for contents in [None, Some(&b""[..]), Some(&new.encode()[1..])] {
                    match contents {
                        Some(contents) => fs::replace(&path, contents).await.unwrap(),
                        None => fs::remove_file(&path).await.unwrap(),
                    }
                    let read = Metadata::load(data_dir).await.unwrap();
                    assert_eq!(
                        (read.metadata, read.damaged.map(|(path, _)| path)),
                        (new.clone(), Some(path.clone()))
                    );
                }
            });
        }
        Simulation::new(1).run(async {
            let data_dir = Path::new("/data");
            let [old, new] = changed_twice(data_dir, true).await;
            let read = Metadata::load(data_dir).await.unwrap();
            assert!(read.metadata == new && read.damaged.is_none());
            fs::remove_file(&files(data_dir)[0]).await.unwrap();
            assert_eq!(Metadata::load(data_dir).await.unwrap().metadata, old);
        });
    }

    #[test]
    fn a_folder_of_the_format_with_one_copy_is_read() {
        Simulation::new(1).run(async {
            let data_dir = Path::new("/data");
            fs::create_dir_all(data_dir).await.unwrap();
            let json = br#"{"epoch":7,"shards":2,"next_topic_id":2,"topics":[],"deleting":[]}"#;
            let line = format!("ringlog-metadata 1 crc32c={:08x}\n", crc32c::crc32c(json));
            fs::replace(files(data_dir)[0].clone(), &[line.as_bytes(), json].concat()).await.unwrap();
            let read = Metadata::load(data_dir).await.unwrap();
            assert!(read.metadata.epoch == 7 && read.damaged.is_none());
        });
    }
}
