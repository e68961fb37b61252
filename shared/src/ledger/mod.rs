//! The file ledger: a dataset's log of raw files.
//!
//! Entries are numbered objects made by conditional put; the rows that count are a pure function of a prefix of them.
//! Ingest, recompute and audit replay the recorded decisions and never judge a file anew (DESIGN section 3).
//!
//! An entry that withdraws its own number names no file, so it changes nothing that counts. It is a *fence*: a vacuum
//! puts it before it removes raw bytes that no entry names. Whoever copied bytes before the fence and has not named them
//! yet finds it in his way, for his own entry must go in behind it, and copies them again.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

mod io;
mod plan;
#[cfg(test)]
mod tests;

pub use io::{Ledger, LedgerError, entries_above};
pub use plan::{Candidate, Decision, PlanOptions, decide};

/// Version of the entries' JSON. A reader refuses a higher one.
pub const LEDGER_FORMAT: u32 = 1;

/// A file that entered the master dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddedFile {
    /// Path relative to the PATH given to ingest, or `--as`; unique among the files that count.
    pub name: String,
    /// SHA-256 of the bytes, in lower-case hex.
    pub sha256: String,
    /// Length in bytes.
    pub bytes: u64,
    /// Format name as in the definition: `csv`, `json`, `parquet`, `avro`, `orc`.
    pub file_format: String,
    /// Where the bytes are.
    pub location: Location,
    /// What the gate said.
    pub verdict: Verdict,
}

/// Where a raw file's bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Location {
    /// In the raw zone, under this key of the store.
    RawZone {
        /// Key in the store.
        key: String,
    },
    /// Where it lay, in a versioned bucket; every read names the version.
    InPlace {
        /// `s3://bucket/key`.
        url: String,
        /// The object's version id.
        version: String,
    },
}

/// What the gate said of a file when it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Verdict {
    /// Its rows count.
    Passed,
    /// Its rows do not count until an `accept` entry.
    Held {
        /// The rules it breaks, with figures.
        breaches: Vec<Breach>,
    },
}

/// One gate rule that a file breaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Breach {
    /// `max_reject_ratio`, `min_rows`, or an expectation's name.
    pub rule: String,
    /// What the rule asks for.
    pub wanted: String,
    /// What the file has.
    pub found: String,
}

/// What a ledger entry says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Entry {
    /// A new file; its number is this entry's sequence number.
    Add {
        /// The file.
        file: AddedFile,
    },
    /// Takes file `file`'s rows out.
    Withdraw {
        /// Sequence number of the file's entry.
        file: u64,
    },
    /// Takes file `replaced`'s rows out and puts `file` in its place, under this entry's sequence number.
    Replace {
        /// Sequence number of the file that goes.
        replaced: u64,
        /// The file that comes.
        file: AddedFile,
    },
    /// Lets a held file's rows count.
    Accept {
        /// Sequence number of the file's entry.
        file: u64,
    },
}

impl Entry {
    /// An entry for number `number` that changes nothing that counts; see the module's text.
    #[must_use]
    pub fn fence(number: u64) -> Self {
        Self::Withdraw { file: number }
    }

    /// True if this is a fence, being the entry of number `number`.
    #[must_use]
    pub fn is_fence(&self, number: u64) -> bool {
        matches!(self, Self::Withdraw { file } if *file == number)
    }

    /// The file that this entry brings, if it brings one.
    #[must_use]
    pub fn added(&self) -> Option<&AddedFile> {
        match self {
            Self::Add { file } | Self::Replace { file, .. } => Some(file),
            Self::Withdraw { .. } | Self::Accept { .. } => None,
        }
    }
}

/// An entry as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredEntry {
    /// [`LEDGER_FORMAT`].
    pub format: u32,
    /// Unique id of the writing attempt, so that a lost acknowledgement can be told from a lost race.
    pub id: String,
    /// When it was written; for people only.
    pub at: DateTime<Utc>,
    /// What it says.
    pub entry: Entry,
}

/// Whether a file's rows count in some prefix of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Its rows count.
    Included,
    /// The gate held it, and nobody accepted it yet.
    Held,
    /// Withdrawn by the entry of this number.
    Withdrawn(u64),
    /// Replaced by the entry of this number.
    Replaced(u64),
}

/// A file of the ledger and how it stands at the end of the replayed prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerFile {
    /// Sequence number of its entry.
    pub number: u64,
    /// The file.
    pub file: AddedFile,
    /// How it stands.
    pub standing: Standing,
    /// The entry from which on its rows count, or did: its own, or the one that accepted it. `None`: they never did.
    pub counts_from: Option<u64>,
}

impl LedgerFile {
    /// The entry after which the file is neither included nor held any more.
    #[must_use]
    pub fn gone_at(&self) -> Option<u64> {
        match self.standing {
            Standing::Withdrawn(entry) | Standing::Replaced(entry) => Some(entry),
            Standing::Included | Standing::Held => None,
        }
    }

    /// True if its rows count in the prefix of the first `end` entries.
    #[must_use]
    pub fn counts_at(&self, end: u64) -> bool {
        self.counts_from.is_some_and(|from| from < end) && self.stands_at(end)
    }

    /// True if the gate holds it in the prefix of the first `end` entries.
    #[must_use]
    pub fn held_at(&self, end: u64) -> bool {
        self.number < end && self.counts_from.is_none_or(|from| from >= end) && self.stands_at(end)
    }

    fn stands_at(&self, end: u64) -> bool {
        self.gone_at().is_none_or(|gone| gone >= end)
    }
}

/// The state of the ledger after a prefix of its entries. It knows its own history: what counted in any shorter prefix
/// is asked of it, and not replayed again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LedgerState {
    files: BTreeMap<u64, LedgerFile>,
    /// Numbers of all files that ever had a name, ascending.
    by_name: BTreeMap<String, Vec<u64>>,
    /// Numbers of all files that ever had a content, ascending.
    by_sha256: BTreeMap<String, Vec<u64>>,
    end: u64,
    last_fence: Option<u64>,
}

impl LedgerState {
    /// Replays `entries`, the first of which has number 0. Entries that name no file, or one that is gone already,
    /// change nothing: two racing `withdraw` are one.
    #[must_use]
    pub fn replay<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Self {
        let mut state = Self::default();
        for entry in entries {
            state.apply(entry);
        }
        state
    }

    /// Applies the next entry.
    pub fn apply(&mut self, entry: &Entry) {
        let number = self.end;
        self.end += 1;
        if entry.is_fence(number) {
            self.last_fence = Some(number);
        }
        match entry {
            Entry::Add { file } => self.insert(number, file),
            Entry::Withdraw { file } => self.mark(*file, Standing::Withdrawn(number)),
            Entry::Replace { replaced, file } => {
                self.mark(*replaced, Standing::Replaced(number));
                self.insert(number, file);
            }
            Entry::Accept { file } => self.mark(*file, Standing::Included),
        }
    }

    fn insert(&mut self, number: u64, file: &AddedFile) {
        let (standing, counts_from) = match file.verdict {
            Verdict::Passed => (Standing::Included, Some(number)),
            Verdict::Held { .. } => (Standing::Held, None),
        };
        self.by_name.entry(file.name.clone()).or_default().push(number);
        self.by_sha256.entry(file.sha256.clone()).or_default().push(number);
        self.files.insert(number, LedgerFile { number, file: file.clone(), standing, counts_from });
    }

    fn mark(&mut self, number: u64, standing: Standing) {
        let entry = self.end - 1;
        if let Some(file) = self.files.get_mut(&number)
            && matches!(file.standing, Standing::Included | Standing::Held)
        {
            file.standing = standing;
            if standing == Standing::Included {
                file.counts_from.get_or_insert(entry);
            }
        }
    }

    /// Number of entries replayed: the exclusive end of the prefix.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// True if a vacuum put a fence at or after entry `number`: what was copied before may be gone.
    #[must_use]
    pub fn fenced_since(&self, number: u64) -> bool {
        self.last_fence.is_some_and(|fence| fence >= number)
    }

    /// The first entry after which the rows of file `number` count no more.
    #[must_use]
    pub fn gone_at(&self, number: u64) -> Option<u64> {
        self.files.get(&number)?.gone_at()
    }

    /// All files, in order of number.
    pub fn files(&self) -> impl Iterator<Item = &LedgerFile> {
        self.files.values()
    }

    /// The file with entry number `number`.
    #[must_use]
    pub fn file(&self, number: u64) -> Option<&LedgerFile> {
        self.files.get(&number)
    }

    /// True if the rows of file `number` count.
    #[must_use]
    pub fn includes(&self, number: u64) -> bool {
        self.files.get(&number).is_some_and(|file| file.standing == Standing::Included)
    }

    /// The file that goes by `name` now: included or held, not withdrawn or replaced.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&LedgerFile> {
        self.all_by_name(name).find(|file| file.gone_at().is_none())
    }

    /// All files that ever went by `name`, in order of number, whatever became of them.
    pub fn all_by_name(&self, name: &str) -> impl DoubleEndedIterator<Item = &LedgerFile> {
        self.by_name.get(name).into_iter().flatten().filter_map(|number| self.files.get(number))
    }

    /// The first file with this content that is included or held.
    #[must_use]
    pub fn by_sha256(&self, sha256: &str) -> Option<&LedgerFile> {
        self.all_by_sha256(sha256).find(|file| file.gone_at().is_none())
    }

    /// All files that ever had this content, in order of number, whatever became of them.
    pub fn all_by_sha256(&self, sha256: &str) -> impl DoubleEndedIterator<Item = &LedgerFile> {
        self.by_sha256.get(sha256).into_iter().flatten().filter_map(|number| self.files.get(number))
    }

    /// What a table that covers the first `from` entries must do to cover the first `to`, neither of them behind the end.
    #[must_use]
    pub fn step(&self, from: u64, to: u64) -> Step {
        let numbers = |wanted: fn(bool, bool) -> bool| -> Vec<u64> {
            let files = self.files().filter(|file| wanted(file.counts_at(from), file.counts_at(to)));
            files.map(|file| file.number).collect()
        };
        Step { include: numbers(|before, after| !before && after), exclude: numbers(|before, after| before && !after) }
    }
}

/// What a curated table at coverage `from` must do to be at the end of `to`: pure replay, no judgement.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Step {
    /// Files whose rows come in, in order of number.
    pub include: Vec<u64>,
    /// Files whose rows go, in order of number.
    pub exclude: Vec<u64>,
}
