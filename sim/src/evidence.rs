//! What a start must leave where it is: files that hold damage, and those beside them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ringlog_broker::node::StartSummary;

/// The folders in which a start has found damage.
#[derive(Debug, Default)]
pub struct Evidence {
    /// Of quarantined partitions.
    partitions: BTreeSet<PathBuf>,
    /// Of journals' epochs.
    epochs: BTreeSet<PathBuf>,
}

impl Evidence {
    /// What a start has named.
    pub fn of(summary: &StartSummary, data_dir: &Path) -> Evidence {
        let mut evidence = Evidence::default();
        let (topics, journals) = (data_dir.join("topics"), data_dir.join("journal"));
        for shard in &summary.recovery {
            for damage in &shard.damage {
                if let Ok(below) = damage.path.strip_prefix(&journals) {
                    evidence.epochs.extend(below.iter().next().map(|epoch| journals.join(epoch)));
                } else if damage.partition.is_some_and(|id| shard.quarantined.contains(&id)) {
                    let below = damage.path.strip_prefix(&topics).ok().map(|below| below.iter().take(2));
                    evidence.partitions.extend(below.map(|names| topics.join(names.collect::<PathBuf>())));
                }
            }
        }
        evidence
    }

    /// Those of the files that were there `before` the start and are not any more.
    pub fn removed(&self, before: &[PathBuf], after: &[PathBuf]) -> Vec<String> {
        let after: BTreeSet<&PathBuf> = after.iter().collect();
        let is_gone = |path: &&PathBuf| self.must_stay(path) && !after.contains(path);
        let gone = before.iter().filter(is_gone);
        gone.filter(|path| !self.set_aside(path).is_some_and(|path| after.contains(&path)))
            .map(|path| path.display().to_string())
            .collect()
    }

    fn must_stay(&self, path: &Path) -> bool {
        let is_segment = path.extension().is_some_and(|extension| extension == "log");
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_of_journal =
            (name.starts_with("checkpoint") || name.starts_with("journal-")) && !name.ends_with(".tmp");
        (is_segment && self.partitions.iter().any(|folder| path.starts_with(folder)))
            || (is_of_journal && self.epochs.iter().any(|folder| path.starts_with(folder)))
    }

    /// Where a journal is kept in which there was damage.
    fn set_aside(&self, path: &Path) -> Option<PathBuf> {
        let epoch = self.epochs.iter().find(|folder| path.starts_with(folder))?;
        let below = path.strip_prefix(epoch).ok()?;
        Some(epoch.with_extension("damaged").join(below))
    }
}
