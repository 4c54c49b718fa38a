//! Known bugs, built in behind switches, and the proof that runs find them.

/// A bug that can be switched on.
#[derive(Clone, Copy, Debug)]
pub struct Mutant {
    /// Its switch.
    pub name: &'static str,
    /// What it does wrong.
    pub what: &'static str,
    /// What it breaks.
    pub breaks: &'static str,
    /// Who finds it within fifty seeds.
    pub finder: Finder,
}

/// Who finds a mutant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finder {
    /// Runs of whole nodes.
    Nodes,
    /// The lives of a storage alone, in `storage/tests/mutants.rs`. Whole nodes get there too seldom.
    Storage,
    /// The client's own tests, beside the code in `client/src/`: whole nodes seldom refuse a batch between two that they
    /// take, and no history shows what an application was not given.
    Client,
    /// The broker's own tests, in `broker/src/`.
    Broker,
}

const fn mutant(name: &'static str, what: &'static str, breaks: &'static str) -> Mutant {
    Mutant { name, what, breaks, finder: Finder::Nodes }
}

impl Mutant {
    const fn found_by(self, finder: Finder) -> Mutant {
        Mutant { finder, ..self }
    }
}

/// All of them, from the client down to the disk.
pub const MUTANTS: &[Mutant] = &[
    // The client.
    mutant("resend-unknown-outcome", "a batch whose answer was lost is sent again", "2 offset"),
    mutant(
        "refused-resent-backwards",
        "batches that were refused for now go again in reverse order",
        "5 order",
    ),
    mutant("overtaken-resent", "a refused batch goes again behind later ones that were taken", "5 order")
        .found_by(Finder::Client),
    mutant("refusal-settles-oldest", "a refusal settles the oldest batch in flight", "2 offset")
        .found_by(Finder::Client),
    mutant("failure-drops-queued", "a consumer's failure drops what was queued before it", "5 order")
        .found_by(Finder::Client),
    mutant(
        "resumed-at-end",
        "a subscription that lost its connection goes on at the end of the log",
        "5 order",
    ),
    mutant(
        "topic-id-unchecked",
        "a client that connects again goes on in another topic of the same name",
        "3 reads",
    ),
    // The broker.
    mutant("ack-before-commit", "a disk ack is given as soon as the batch is in memory", "1 acked"),
    mutant("bypass-acked-early", "a large batch is acknowledged before its mark is durable", "1 acked"),
    mutant("records-unchecked", "a batch is appended whatever its records are", "6 recovery"),
    mutant("credit-gap", "a subscription that used up its credit goes on at the end of the log", "5 order"),
    mutant("credit-underspent", "a push larger than the credit costs no more than the credit", "11 protocol"),
    mutant(
        "credit-counted-twice",
        "a subscription may spend twice the credit that it was given",
        "11 protocol",
    ),
    mutant("deleted-unanswered", "what waits for a deleted topic is not answered", "7 liveness"),
    mutant("forwarded-backwards", "requests from another core are served newest first", "5 order"),
    mutant("topic-answered-early", "a topic is made known before the metadata file names it", "1 acked"),
    mutant(
        "topic-id-reused",
        "a new topic gets the id of a deleted one, and its entries in the journal",
        "2 offset",
    ),
    mutant("failed-creation-frees-id", "the id of a topic that could not be made is given again", "2 offset")
        .found_by(Finder::Broker),
    mutant(
        "old-epoch-removed-early",
        "the old journals go before the metadata names the new epoch",
        "1 acked",
    ),
    mutant("damaged-journals-removed", "journals in which damage was found are removed", "6 recovery")
        .found_by(Finder::Broker),
    // The journal.
    mutant("ack-before-sync", "a commit does not wait for stable storage", "1 acked"),
    mutant("failed-write-acked", "a commit that failed counts as done", "1 acked").found_by(Finder::Storage),
    mutant("acked-out-of-order", "a frame is acknowledged before the frame before it is durable", "1 acked")
        .found_by(Finder::Storage),
    mutant(
        "watermark-before-frame-before",
        "a partition may be read up to a frame before the frame before that is durable",
        "4 no loss",
    )
    .found_by(Finder::Storage),
    mutant("rewrite-acked-block", "a frame begins in the last block of the one before it", "1 acked"),
    mutant(
        "drop-journal-before-checkpoint",
        "journal files are free before the checkpoint is durable",
        "1 acked",
    )
    .found_by(Finder::Storage),
    mutant("journal-freed-too-far", "a checkpoint frees what became durable while it was made", "1 acked"),
    mutant("checkpoint-skips-a-frame", "a checkpoint says that one frame more is in segments", "1 acked"),
    mutant(
        "flushed-taken-for-clean",
        "what came during a flush is left out of the next checkpoint",
        "1 acked",
    ),
    mutant("checkpoint-says-clean", "every checkpoint says that the journal need not be read", "1 acked"),
    mutant("checkpoint-copy-unwritten", "a checkpoint has one copy only", "6 recovery")
        .found_by(Finder::Storage),
    mutant("older-checkpoint-preferred", "of two copies of a checkpoint the older one is used", "6 recovery")
        .found_by(Finder::Storage),
    mutant(
        "lost-end-ignored",
        "what segments show of a lost end of the journal is not looked at",
        "6 recovery",
    )
    .found_by(Finder::Storage),
    mutant("retry-after-failed-sync", "a sync that failed is tried again, and then believed", "1 acked")
        .found_by(Finder::Storage),
    mutant(
        "journaled-batch-too-long",
        "the journal takes a batch one byte longer than a frame",
        "7 liveness",
    )
    .found_by(Finder::Storage),
    mutant("stopped-before-committed", "an orderly end does not wait for commits", "1 acked"),
    // Large batches past the journal.
    mutant("mark-before-sync", "a mark is put before what it tells of is synced", "1 acked"),
    mutant("bypass-before-flush-is-synced", "a bypass begins before what was flushed is synced", "1 acked")
        .found_by(Finder::Storage),
    mutant("advance-untold", "only the first advance of a partition is told", "7 liveness")
        .found_by(Finder::Storage),
    mutant(
        "put-back-loses-one",
        "of the batches that are put back into the journal one is left out",
        "1 acked",
    ),
    // Log memory and reads.
    mutant("read-past-high-watermark", "a reader sees what is not durable yet", "4 no loss")
        .found_by(Finder::Storage),
    mutant("cache-past-high-watermark", "a cold read hands out what a bypass has written ahead", "4 no loss")
        .found_by(Finder::Storage),
    mutant(
        "read-crc-unchecked",
        "what is read from a segment is not checked against its checksum",
        "6 recovery",
    )
    .found_by(Finder::Storage),
    mutant(
        "entry-identity-unchecked",
        "what is read need not be of the partition, nor in order",
        "6 recovery",
    )
    .found_by(Finder::Storage),
    mutant("index-times-not-raised", "a time is looked up as if nothing stood before the restart", "5 order")
        .found_by(Finder::Storage),
    mutant("trust-index", "an index is believed, however old it is", "4 no loss").found_by(Finder::Storage),
    // Segments.
    mutant("sync-races-write", "a segment is synced while a write into it is under way", "1 acked")
        .found_by(Finder::Storage),
    mutant("sealed-unsynced", "a full segment is sealed without a sync", "1 acked"),
    mutant("segment-entry-unsynced", "a new segment's folder is not synced", "1 acked"),
    mutant("partition-folder-unsynced", "a new partition's folders are not synced", "1 acked"),
    mutant(
        "start-offset-not-durable",
        "retention removes files before a checkpoint has the new start",
        "6 recovery",
    )
    .found_by(Finder::Storage),
    mutant(
        "out-of-descriptors-taken-for-synced",
        "a folder that could not be opened to be synced counts as synced",
        "1 acked",
    ),
    mutant("quiet-partitions-unflushed", "what is only in the journal is not flushed by time", "1 acked")
        .found_by(Finder::Storage),
    mutant("future-times-believed", "a record of the future keeps its segment until then", "1 acked")
        .found_by(Finder::Storage),
    mutant("age-unlearned", "a segment of an earlier start takes what comes much later", "10 retention")
        .found_by(Finder::Storage),
    mutant(
        "retention-flushes-first",
        "retention flushes before it removes files, which a full disk has no space for",
        "7 liveness",
    )
    .found_by(Finder::Storage),
    mutant("refusal-untold", "who waits for a large batch that is refused is not told", "7 liveness")
        .found_by(Finder::Storage),
    mutant("told-taken-back", "a batch acknowledged in memory is refused on a full disk", "1 acked")
        .found_by(Finder::Storage),
    mutant("retention-one-too-early", "retention removes one segment more than it may", "10 retention"),
    mutant(
        "start-offset-one-too-late",
        "retention takes a record of the segment that it keeps",
        "10 retention",
    ),
    mutant(
        "retention-keeps-half-the-time",
        "retention lets records go after half their time",
        "10 retention",
    ),
    // Recovery.
    mutant("window-ignored", "recovery takes every frame but the last for durable", "6 recovery")
        .found_by(Finder::Storage),
    mutant("other-journals-unread", "recovery reads a shard's own journal only", "1 acked"),
    mutant("old-frames-taken", "recovery takes frames of other epochs from recycled files", "6 recovery"),
    mutant("torn-tail-skipped", "recovery goes on behind a torn frame", "6 recovery")
        .found_by(Finder::Storage),
    mutant("cut-mid-log", "recovery cuts at a bad frame that durable ones follow", "1 acked")
        .found_by(Finder::Storage),
    mutant("replay-crc-unchecked", "recovery replays batches without a look at their checksum", "6 recovery")
        .found_by(Finder::Storage),
    mutant("marks-ignored", "recovery does not follow marks", "1 acked"),
    mutant("replayed-unsynced", "the new epoch begins before what was replayed is synced", "1 acked"),
    mutant("taken-over-unsynced", "journal files are taken over without a sync of their folders", "1 acked"),
    mutant(
        "quarantine-forgotten",
        "a start forgets which partitions an earlier one found damaged",
        "6 recovery",
    )
    .found_by(Finder::Storage),
    mutant("quarantined-cleaned", "a start moves segments of a damaged partition away", "6 recovery")
        .found_by(Finder::Storage),
    // Files.
    mutant("no-directory-sync", "no folder is ever synced", "1 acked"),
    mutant("replace-in-place", "metadata and checkpoints are written over the old ones", "1 acked"),
    mutant("replace-unsynced", "a file takes another's name before its bytes are synced", "1 acked"),
    mutant("short-write-taken-for-whole", "the rest of a short write is not written", "1 acked"),
];

/// The mutant of that name.
pub fn find(name: &str) -> Option<&'static Mutant> {
    MUTANTS.iter().find(|mutant| mutant.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn the_table_has_just_the_switches_of_the_code() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
        let mut switches = BTreeSet::new();
        for folder in ["reactor/src", "storage/src", "broker/src", "client/src"] {
            collect(&root.join(folder), &mut switches);
        }
        let table: BTreeSet<String> = MUTANTS.iter().map(|mutant| mutant.name.to_owned()).collect();
        assert_eq!(table.len(), MUTANTS.len(), "a name stands twice");
        assert_eq!(table, switches);
    }

    fn collect(folder: &Path, switches: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                collect(&path, switches);
            } else {
                let text = fs::read_to_string(&path).expect("a source file");
                let named = text.split("mutant(\"").skip(1).filter_map(|rest| rest.split_once('"'));
                switches.extend(named.map(|(name, _)| name.to_owned()));
            }
        }
    }
}
