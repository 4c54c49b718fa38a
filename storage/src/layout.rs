//! The names of files and folders, each written once.

use std::path::{Path, PathBuf};

use crate::PartitionSpec;

const LOG: &str = ".log";
const INDEX: &str = ".index";
const UNSYNCED_DIR: &str = ".unsynced-";
const EPOCH_DIGITS: usize = 10;
const OFFSET_DIGITS: usize = 20;
/// What a topic's folder has of its name: a file's name has at most 255 bytes, `@` and the longest id take 21.
const NAME_BYTES: usize = 255 - 21;

/// The folder of all journals.
pub(crate) fn journals_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("journal")
}

/// The folder of an epoch's journals.
pub(crate) fn epoch_dir(data_dir: &Path, epoch: u64) -> PathBuf {
    journals_dir(data_dir).join(format!("{epoch:0EPOCH_DIGITS$}"))
}

/// The epoch that a folder's name says, if it is the name of one's journals.
pub(crate) fn epoch_number(name: &str) -> Option<u64> {
    if name.len() >= EPOCH_DIGITS && name.bytes().all(|digit| digit.is_ascii_digit()) {
        name.parse().ok()
    } else {
        None
    }
}

/// Where an epoch's journals are kept when there was damage in them.
pub(crate) fn damaged_epoch_dir(data_dir: &Path, epoch: u64) -> PathBuf {
    journals_dir(data_dir).join(format!("{epoch:0EPOCH_DIGITS$}.damaged"))
}

/// The folder of one shard's journal.
pub(crate) fn shard_dir(data_dir: &Path, epoch: u64, shard: u32) -> PathBuf {
    epoch_dir(data_dir, epoch).join(format!("shard-{shard}"))
}

/// The two copies of a shard's checkpoint, in the order in which they are written.
pub(crate) fn checkpoint_files(shard_dir: &Path) -> [PathBuf; 2] {
    [shard_dir.join("checkpoint"), shard_dir.join("checkpoint.copy")]
}

pub(crate) fn journal_file(shard_dir: &Path, number: u32) -> PathBuf {
    shard_dir.join(format!("journal-{number}"))
}

/// The number that a finished journal file's name says, if it is one's name.
pub(crate) fn journal_file_number(name: &str) -> Option<u32> {
    name.strip_prefix("journal-")?.parse().ok()
}

/// The folder of all topics.
pub(crate) fn topics_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("topics")
}

/// The folder of a topic. Its id makes it the only one; the name is there for people, and is cut where the two would
/// be longer than a file's name may be.
pub(crate) fn topic_dir(data_dir: &Path, name: &str, id: u64) -> PathBuf {
    let cut = name.len().min(NAME_BYTES);
    // A topic's name is ASCII: it can be cut anywhere.
    topics_dir(data_dir).join(format!("{}@{id}", &name[..cut]))
}

/// The id that a topic's folder's name says, if it is one's name.
pub(crate) fn topic_id(name: &str) -> Option<u64> {
    let digits = name.rsplit_once('@')?.1;
    digits.parse().ok().filter(|id: &u64| id.to_string() == digits)
}

pub(crate) fn partition_dir(data_dir: &Path, spec: &PartitionSpec) -> PathBuf {
    topic_dir(data_dir, &spec.topic_name, spec.id.topic).join(spec.id.partition.to_string())
}

pub(crate) fn segment_file(partition_dir: &Path, base_offset: i64) -> PathBuf {
    partition_dir.join(format!("{base_offset:0OFFSET_DIGITS$}{LOG}"))
}

pub(crate) fn index_file(partition_dir: &Path, base_offset: i64) -> PathBuf {
    partition_dir.join(format!("{base_offset:0OFFSET_DIGITS$}{INDEX}"))
}

/// Where a segment goes that no checkpoint knows, the `attempt`th of its name.
pub(crate) fn unsynced_file(partition_dir: &Path, base_offset: i64, attempt: u32) -> PathBuf {
    partition_dir.join(format!("{base_offset:0OFFSET_DIGITS$}{LOG}.unsynced-{attempt}"))
}

/// Where the folder of a partition goes that has no known segment, the `attempt`th of its name.
pub(crate) fn unsynced_dir(partition_dir: &Path, attempt: u32) -> PathBuf {
    let mut name = partition_dir.as_os_str().to_owned();
    name.push(format!("{UNSYNCED_DIR}{attempt}"));
    name.into()
}

/// The partition whose folder was put aside by [`unsynced_dir`], if that is its name.
pub(crate) fn unsynced_dir_of(name: &str) -> Option<u32> {
    let (partition, attempt) = name.split_once(UNSYNCED_DIR)?;
    attempt.parse::<u32>().ok()?;
    partition.parse().ok()
}

/// Whether a file was put aside by [`unsynced_file`].
pub(crate) fn is_unsynced_file(name: &str) -> bool {
    name.contains(".log.unsynced-")
}

/// The base offset that a segment's name says, if it is a segment's name.
pub(crate) fn segment_base(name: &str) -> Option<i64> {
    base_before(name, LOG)
}

/// The same of an index's name.
pub(crate) fn index_base(name: &str) -> Option<i64> {
    base_before(name, INDEX)
}

fn base_before(name: &str, suffix: &str) -> Option<i64> {
    let digits = name.strip_suffix(suffix)?;
    let well_formed = digits.len() == OFFSET_DIGITS && digits.bytes().all(|digit| digit.is_ascii_digit());
    if well_formed { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_named_by_its_base_offset() {
        let path = segment_file(Path::new("p"), 42);
        assert_eq!(path, Path::new("p/00000000000000000042.log"));
        assert_eq!(segment_base("00000000000000000042.log"), Some(42));
    }

    #[test]
    fn the_folder_of_the_longest_topic_can_be_made() {
        let longest = "n".repeat(ringlog_protocol::limits::MAX_TOPIC_NAME);
        let name = topic_dir(Path::new(""), &longest, u64::MAX);
        assert_eq!(name.file_name().map(|name| name.len()), Some(255));
        assert_ne!(name, topic_dir(Path::new(""), &longest, 1));
    }

    #[test]
    fn other_names_are_no_segments() {
        for name in
            ["42.log", "00000000000000000042.index", "0000000000000000004x.log", "+0000000000000000042.log"]
        {
            assert_eq!(segment_base(name), None, "{name}");
        }
        assert_eq!(segment_base("00000000000000000042.log.unsynced-0"), None);
        assert!(is_unsynced_file("00000000000000000042.log.unsynced-0"));
    }
}
