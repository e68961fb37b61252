//! What the batch layer tells of its work: reports for people and scripts, and progress while it runs.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use tidemark_shared::ledger::Breach;

pub use tidemark_shared::counts::{Counts, Totals};

/// What became of one file given to ingest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FileOutcome {
    /// Entered; its rows count. `bad_file` says that the whole file is one reject.
    Added {
        /// The whole file could not be opened as its format.
        bad_file: bool,
        /// File that it replaced, if one.
        replaced: Option<u64>,
    },
    /// Entered, but the gate holds its rows back.
    Held {
        /// The rules it breaks.
        breaches: Vec<Breach>,
    },
    /// Known already; nothing was done.
    AlreadyThere {
        /// True if the gate held it.
        held: bool,
    },
    /// A held file whose rows count from now on.
    Accepted,
    /// Its rows were taken out.
    Withdrawn,
    /// Its rows had been taken out before; nothing was done.
    AlreadyWithdrawn,
    /// Refused; nothing was done.
    Refused {
        /// `content_changed`, `duplicate_content` or `duplicate_name`.
        code: String,
        /// What is wrong and how to go on.
        message: String,
    },
}

/// One file of an ingest report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileReport {
    /// Name in the ledger.
    pub name: String,
    /// Number in the ledger, where it has one.
    pub number: Option<u64>,
    /// Length in bytes.
    pub bytes: u64,
    /// What became of it.
    pub outcome: FileOutcome,
    /// What its records became; of a held file, what they would become.
    pub counts: Counts,
    /// Remarks of the decoder: unknown columns, missing optional ones, surplus empty fields.
    pub notes: Vec<String>,
}

/// What a batch run took in of a log partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct StreamReport {
    /// The partition: `trips/3`.
    pub partition: String,
    /// First offset.
    pub start: u64,
    /// Exclusive end.
    pub end: u64,
    /// Offsets in between that left the log before they were archived.
    pub lost: u64,
    /// What the records in between became.
    pub counts: Counts,
}

/// What an ingest or a batch run did.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct IngestReport {
    /// Dataset.
    pub dataset: String,
    /// Files given, in order.
    pub files: Vec<FileReport>,
    /// What came in of streams, by partition.
    pub streams: Vec<StreamReport>,
    /// Records that this run curated, over all files whose rows came in, given now or waiting in the ledger, and all
    /// streams.
    pub counts: Counts,
    /// The part of `counts` that is not of the files given: ledger entries that an earlier run left above the coverage.
    pub other_counts: Counts,
    /// Records of the files given that the gate holds: read and kept, but neither curated nor rejected. No part of
    /// `counts`.
    pub held_records: u64,
    /// Rows that this run took out (withdrawn or replaced files).
    pub rows_removed: u64,
    /// Bytes of the raw files and segments that this run curated.
    pub raw_bytes: u64,
    /// Bytes of Parquet that this run wrote into the curated table.
    pub curated_bytes: u64,
    /// Whether this run committed to the Delta table.
    pub committed: bool,
    /// Version of the Delta table after the run; `None` where there is no table yet.
    pub table_version: Option<u64>,
    /// Generation of the curated table.
    pub generation: Option<String>,
    /// Why the catalog could not be told of the table, if it could not: everything else is done, and the next run tells it.
    pub catalog_error: Option<String>,
    /// Wall time in milliseconds.
    pub elapsed_ms: u64,
}

/// What a recompute did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RecomputeReport {
    /// Dataset.
    pub dataset: String,
    /// The generation that answers now.
    pub generation: String,
    /// The one that answered before.
    pub previous_generation: Option<String>,
    /// Version of the definition that made it.
    pub definition: String,
    /// All records of the new generation.
    pub counts: Counts,
    /// All records of the previous one.
    pub previous_counts: Counts,
    /// Records that were rejects before and are none now.
    pub rejects_taken_up: u64,
    /// Bytes of Parquet written.
    pub curated_bytes: u64,
    /// Why the catalog could not be told of the table, if it could not: everything else is done, and the next run tells it.
    pub catalog_error: Option<String>,
    /// Wall time in milliseconds.
    pub elapsed_ms: u64,
}

/// What a compaction did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CompactReport {
    /// Dataset.
    pub dataset: String,
    /// Generation of the curated table; `None` where there is none.
    pub generation: Option<String>,
    /// Version of the Delta table afterwards.
    pub table_version: Option<u64>,
    /// Small files that were merged.
    pub files_merged: u64,
    /// Files that have their rows now.
    pub files_written: u64,
    /// Bytes of the small files.
    pub bytes_merged: u64,
    /// Bytes of the files that have their rows now.
    pub bytes_written: u64,
    /// True if others were at work on the table, so that some small files are left for the next compaction.
    pub gave_way: bool,
    /// Wall time in milliseconds.
    pub elapsed_ms: u64,
}

/// What a packing of segments did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PackReport {
    /// Dataset.
    pub dataset: String,
    /// Packed segments that were put.
    pub packed: u64,
    /// Small segments that they stand for.
    pub segments: u64,
    /// Bytes of the small segments.
    pub segment_bytes: u64,
    /// Small segments that were removed, because packed ones have stood for them for the grace.
    pub removed: u64,
    /// Their bytes.
    pub removed_bytes: u64,
    /// Packed objects with rejects that were put.
    pub packed_rejects: u64,
    /// Small ones that were removed, because packed ones have stood for them for the grace.
    pub removed_rejects: u64,
    /// Wall time in milliseconds.
    pub elapsed_ms: u64,
}

/// What a vacuum found and removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct VacuumReport {
    /// Dataset.
    pub dataset: String,
    /// Keys removed (or, in a dry run, that would be).
    pub removed: Vec<String>,
    /// Their bytes.
    pub removed_bytes: u64,
    /// Keys for which killed processes left unfinished writes behind, removed too (or, in a dry run, that would be). No
    /// object is at these keys by them: they only took room.
    pub leftovers: Vec<String>,
    /// Their bytes, as far as the store tells.
    pub leftover_bytes: u64,
    /// Orphans younger than the safe age, left alone.
    pub too_young: u64,
    /// Their keys.
    pub spared: Vec<String>,
    /// Their bytes.
    pub spared_bytes: u64,
    /// The safe age in milliseconds: what nothing names is old enough from this age on.
    pub older_than_ms: u64,
    /// The same for what queries may still read: generations that answered, and removed data files.
    pub kept_ms: u64,
    /// True if nothing was removed because the caller only asked.
    pub dry_run: bool,
}

/// How a file of the ledger stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FileStanding {
    /// Its rows count.
    Included,
    /// Its rows will count once the batch layer has run.
    Waiting,
    /// The gate holds it.
    Held,
    /// It was withdrawn.
    Withdrawn,
    /// Another file of its name took its place.
    Replaced,
}

impl FileStanding {
    /// All that there are.
    pub const ALL: [Self; 5] = [Self::Included, Self::Waiting, Self::Held, Self::Withdrawn, Self::Replaced];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.told().0
    }

    /// The word for it, and what that means for the file's rows.
    #[must_use]
    pub fn told(self) -> (&'static str, &'static str) {
        match self {
            Self::Included => ("included", "Their rows count"),
            Self::Waiting => ("waiting", "Their rows will count once the batch layer has run"),
            Self::Held => ("held", "The gate holds them"),
            Self::Withdrawn => ("withdrawn", "They were withdrawn"),
            Self::Replaced => ("replaced", "Other files of their names took their places"),
        }
    }
}

/// A file of the ledger, as people and scripts see it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FileRow {
    /// Its number in the ledger, which is the partition of its rows' positions.
    pub number: u64,
    /// Its name in the ledger.
    pub name: String,
    /// How it stands.
    pub standing: FileStanding,
    /// The ledger's entry that withdrew or replaced it.
    pub gone_at: Option<u64>,
    /// Its bytes.
    pub bytes: u64,
    /// SHA-256 of its bytes, in lower-case hex.
    pub sha256: String,
    /// Its format.
    pub format: String,
    /// Where its bytes are: a key of the store, or the URL of a version of an object.
    pub location: String,
    /// What became of its records, where it is included or held.
    pub counts: Option<Counts>,
}

/// A published reject, as people and scripts see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RejectRow {
    /// Source: `files`, or a topic.
    pub source: String,
    /// Partition: the file's number in the ledger, or the topic's partition.
    pub partition: u64,
    /// Name of the file, where the source is `files`.
    pub file: Option<String>,
    /// Offset: byte offset in a text file, row number in a columnar one.
    pub offset: u64,
    /// Reason code.
    pub reason: String,
    /// Input column at fault, where one is.
    pub column: Option<String>,
    /// What exactly was wrong.
    pub message: String,
    /// The record's bytes.
    #[serde(serialize_with = "bytes_for_people")]
    pub bytes: Vec<u8>,
    /// True if the gate holds the file, so that its rows and rejects do not count yet.
    pub held: bool,
}

/// UTF-8 as it is; other bytes as `\xNN`, and a backslash as `\\`, so that nothing is lost.
fn bytes_for_people<S: serde::Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&render_bytes(bytes))
}

/// Renders bytes as text without loss: UTF-8 as it is; other bytes as `\xNN`, and a backslash as `\\`.
#[must_use]
pub fn render_bytes(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '\\' {
                text.push_str("\\\\");
            } else {
                text.push(c);
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// Which rejects to show.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RejectQuery {
    /// Only this reason code.
    pub reason: Option<String>,
    /// Only this file (name in the ledger).
    pub file: Option<String>,
    /// At most so many.
    pub limit: Option<usize>,
    /// Also those of held files.
    pub held: bool,
}

/// How a dataset stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DatasetStatus {
    /// Dataset.
    pub dataset: String,
    /// Version of the definition that the current generation was made by; `None` before the first ingest.
    pub active_definition: Option<String>,
    /// Version of the newest applied definition, where it is another one: `recompute` activates it.
    pub pending_definition: Option<String>,
    /// Current generation.
    pub generation: Option<String>,
    /// Where its Delta table is: what other programs open.
    pub table_location: Option<String>,
    /// Version of the Delta table.
    pub table_version: Option<u64>,
    /// Coverage of the curated table.
    pub coverage: tidemark_shared::position::Coverage,
    /// Number of entries in the file ledger.
    pub ledger_end: u64,
    /// Ledger entries above the coverage: `batch run` curates them.
    pub behind: u64,
    /// Files whose rows count.
    pub files_included: u64,
    /// Files that the gate holds, with the rules they break.
    pub files_held: Vec<HeldFile>,
    /// The partitions of its streams.
    pub streams: Vec<StreamStatus>,
    /// Rows of the curated table.
    pub rows: u64,
    /// Data files of the curated table.
    pub data_files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// How a partition of a dataset's stream stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StreamStatus {
    /// The partition: `trips/3`.
    pub partition: String,
    /// Exclusive end of what is archived.
    pub archived: u64,
    /// Exclusive end of what the curated table covers.
    pub covered: u64,
    /// Offsets below it that left the log before they were archived.
    pub lost: u64,
    /// What the records below it became.
    pub counts: Totals,
}

/// A file that the gate holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HeldFile {
    /// Name in the ledger.
    pub name: String,
    /// Number in the ledger.
    pub number: u64,
    /// The rules it breaks.
    pub breaches: Vec<Breach>,
}

/// Receives progress; called often, from any thread, and must be cheap.
pub trait Progress: Send + Sync {
    /// A phase begins: `hash`, `copy`, `curate`, `commit`; `total_bytes` where it is known.
    fn phase(&self, name: &'static str, total_bytes: Option<u64>);
    /// `bytes` more of the phase are done.
    fn advance(&self, bytes: u64);
    /// A line for people, e.g. that a race was lost and the run plans again.
    fn remark(&self, line: &str);
}

/// Progress of bytes that pass twice, such as into the raw zone and then through the decoder: each pass is half of it, so
/// that what is shown is bytes of the files.
pub(crate) struct Halves {
    whole: std::sync::Arc<dyn Progress>,
    passed: AtomicU64,
}

impl Halves {
    pub(crate) fn of(whole: &std::sync::Arc<dyn Progress>) -> std::sync::Arc<dyn Progress> {
        std::sync::Arc::new(Self { whole: std::sync::Arc::clone(whole), passed: AtomicU64::new(0) })
    }
}

impl Progress for Halves {
    fn phase(&self, name: &'static str, total_bytes: Option<u64>) {
        self.passed.store(0, Ordering::Relaxed);
        self.whole.phase(name, total_bytes);
    }

    fn advance(&self, bytes: u64) {
        let before = self.passed.fetch_add(bytes, Ordering::Relaxed);
        self.whole.advance((before + bytes) / 2 - before / 2);
    }

    fn remark(&self, line: &str) {
        self.whole.remark(line);
    }
}

/// Progress that nobody sees.
#[must_use]
pub fn quiet() -> std::sync::Arc<dyn Progress> {
    std::sync::Arc::new(Quiet)
}

/// Ignores progress.
pub struct Quiet;

impl Progress for Quiet {
    fn phase(&self, _name: &'static str, _total_bytes: Option<u64>) {}
    fn advance(&self, _bytes: u64) {}
    fn remark(&self, _line: &str) {}
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Default)]
    struct Seen(Mutex<(Option<u64>, u64)>);

    impl Progress for Seen {
        fn phase(&self, _name: &'static str, total_bytes: Option<u64>) {
            *self.0.lock().expect("not poisoned") = (total_bytes, 0);
        }
        fn advance(&self, bytes: u64) {
            self.0.lock().expect("not poisoned").1 += bytes;
        }
        fn remark(&self, _line: &str) {}
    }

    #[test]
    fn bytes_that_pass_twice_count_once() {
        let seen = Arc::new(Seen::default());
        let whole: Arc<dyn Progress> = Arc::<Seen>::clone(&seen);
        let halves = Halves::of(&whole);
        halves.phase("ingest", Some(7));
        for bytes in [3, 1, 3, 7] {
            halves.advance(bytes);
        }
        assert_eq!(*seen.0.lock().expect("not poisoned"), (Some(7), 7));
    }
}
