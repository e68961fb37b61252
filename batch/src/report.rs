//! What the batch layer tells of its work: reports for people and scripts, and progress while it runs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidemark_shared::ledger::Breach;

/// How many records became what. `records = accepted + filtered + rejected`, always (H8).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Records read.
    pub records: u64,
    /// Rows in the curated table.
    pub accepted: u64,
    /// Records for which the transform's `WHERE` yields no row.
    pub filtered: u64,
    /// Rejects, by reason code.
    pub rejected: BTreeMap<String, u64>,
}

impl Counts {
    /// All rejects, whatever their reason.
    #[must_use]
    pub fn rejected_total(&self) -> u64 {
        self.rejected.values().sum()
    }

    /// Adds `other` to these.
    pub fn add(&mut self, other: &Self) {
        self.records += other.records;
        self.accepted += other.accepted;
        self.filtered += other.filtered;
        for (reason, count) in &other.rejected {
            *self.rejected.entry(reason.clone()).or_default() += count;
        }
    }

    /// True if every record is accounted for.
    #[must_use]
    pub fn adds_up(&self) -> bool {
        self.records == self.accepted + self.filtered + self.rejected_total()
    }
}

/// What became of one file given to ingest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
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
    #[serde(flatten)]
    pub outcome: FileOutcome,
    /// What its records became; of a held file, what they would become.
    pub counts: Counts,
    /// Remarks of the decoder: unknown columns, missing optional ones, surplus empty fields.
    pub notes: Vec<String>,
}

/// What an ingest or a batch run did.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct IngestReport {
    /// Dataset.
    pub dataset: String,
    /// Files given, in order.
    pub files: Vec<FileReport>,
    /// Records that this run curated, over all files whose rows came in, given now or waiting in the ledger.
    pub counts: Counts,
    /// Rows that this run took out (withdrawn or replaced files).
    pub rows_removed: u64,
    /// Bytes of the raw files that this run curated.
    pub raw_bytes: u64,
    /// Bytes of Parquet that this run wrote into the curated table.
    pub curated_bytes: u64,
    /// Version of the Delta table after the run; `None` where there is no table yet.
    pub table_version: Option<u64>,
    /// Generation of the curated table.
    pub generation: Option<String>,
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
    /// Orphans younger than the safe age, left alone.
    pub too_young: u64,
    /// True if nothing was removed because the caller only asked.
    pub dry_run: bool,
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

/// Ignores progress.
pub struct Quiet;

impl Progress for Quiet {
    fn phase(&self, _name: &'static str, _total_bytes: Option<u64>) {}
    fn advance(&self, _bytes: u64) {}
    fn remark(&self, _line: &str) {}
}
