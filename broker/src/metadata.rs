//! The metadata file: which topics there are, and which journal epoch is the live one.
//!
//! Invariants
//! - A deletion needs no space: there is a reserve for the file beside it.
//! - It is replaced whole (write aside, fsync, rename, fsync the folder): a crash leaves the old or the new one.
//! - `epoch` grows at every start; a journal of another epoch is not read, and never trusted.
//! - A topic id is used once. A topic being deleted stays in `deleting` until its files are gone.
//! - A file that cannot be read stops the start. Nothing is guessed, nothing is overwritten.
//!
//! Layout: one line `ringlog-metadata <format> crc32c=<8 hex digits>`, then JSON, which the checksum covers.

use std::path::Path;

use ringlog_reactor::fs;
use ringlog_storage::Reserve;
use serde::{Deserialize, Serialize};

use crate::topic::{Topic, partition_config};

/// The format this broker writes, and the newest it reads.
pub const FORMAT: u32 = 1;
/// Its name in the data folder.
pub const FILE_NAME: &str = "metadata";

/// What a node must remember about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
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
        Metadata { epoch: 0, shards: 0, next_topic_id: 1, topics: Vec::new(), deleting: Vec::new() }
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
    /// Damaged.
    #[error(
        "the metadata file is damaged ({0}); nothing was changed: put back a copy of it, or keep the folder and ask for help"
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
    pub async fn load(data_dir: &Path) -> Result<Metadata, MetadataError> {
        let path = data_dir.join(FILE_NAME);
        if fs::exists(&path).await? {
            return Metadata::decode(&fs::read(&path).await?);
        }
        for leftover in ["journal", "topics"] {
            if fs::exists(data_dir.join(leftover)).await? {
                return Err(MetadataError::Missing(leftover));
            }
        }
        Ok(Metadata::default())
    }

    /// Makes this the file of the data folder, durably: on a disk that is full to the last block too, so that topics can be deleted
    /// there.
    ///
    /// # Errors
    /// When it cannot be written; the old one is then still there.
    pub async fn store(&self, data_dir: &Path) -> Result<(), MetadataError> {
        let (reserve, bytes) = (Reserve::of(data_dir), self.encode());
        reserve.replace(&data_dir.join(FILE_NAME), &bytes).await?;
        if let Err(error) = reserve.fill(bytes.len()).await {
            tracing::debug!(path = %reserve.path().display(), %error, "no space could be reserved");
        }
        Ok(())
    }
}

fn check_settings(topic: &Topic) -> Result<(), MetadataError> {
    let unreadable = |why| MetadataError::Settings { topic: topic.name.clone(), why };
    partition_config(&topic.config).map(drop).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Metadata {
        let topic = Topic { id: 1, name: "orders".into(), partitions: 3, config: Default::default() };
        Metadata { epoch: 7, shards: 2, next_topic_id: 2, topics: vec![topic], deleting: vec![] }
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
        let file = b"ringlog-metadata 2 crc32c=00000000\n{}";
        assert!(matches!(Metadata::decode(file), Err(MetadataError::NewerFormat { found: 2 })));
    }
}
