//! What is worth telling about an input beside its rows and rejects.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Unknown columns or JSON keys that are named; an input may invent any number.
pub(crate) const UNKNOWN_MAX: usize = 100;

/// What decode noticed about an input: none of it makes a reject.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    /// The header line of delimited text, as it stands in the file.
    pub header: Option<String>,
    /// Columns of the input that feed no input column, in order, and how many more than 100 there are; at most 100 of
    /// the keys of JSON records, in order of their names, as far as records were decoded.
    pub unknown_columns: Vec<String>,
    /// Optional input columns that the input lacks; they are null.
    pub missing_columns: Vec<String>,
    /// Accepted records with surplus, empty fields at their end, as far as records were decoded.
    pub surplus_empty_records: u64,
}

/// Notes that threads add to while they decode.
#[derive(Debug, Default)]
pub(crate) struct NotesState {
    fixed: Notes,
    surplus: AtomicU64,
    /// Unknown keys by normalized name, so that spellings count once.
    keys: Mutex<BTreeMap<String, String>>,
}

impl NotesState {
    pub(crate) fn new(fixed: Notes) -> Self {
        Self { fixed, ..Self::default() }
    }

    pub(crate) fn add_surplus(&self, records: u64) {
        self.surplus.fetch_add(records, Ordering::Relaxed);
    }

    pub(crate) fn unknown_key(&self, normalized: &str, key: &str) {
        let mut keys = self.keys.lock().expect("no holder panics");
        if keys.len() < UNKNOWN_MAX && !keys.contains_key(normalized) {
            keys.insert(normalized.to_owned(), key.to_owned());
        }
    }

    pub(crate) fn snapshot(&self) -> Notes {
        let mut notes = self.fixed.clone();
        notes.surplus_empty_records = self.surplus.load(Ordering::Relaxed);
        notes.unknown_columns.extend(self.keys.lock().expect("no holder panics").values().cloned());
        notes
    }
}
