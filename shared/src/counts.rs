//! How many records became what: the sum that every layer must make, whatever it reads (H8).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How many records became what. `records = accepted + filtered + rejected`, always (H8).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Records read.
    pub records: u64,
    /// Rows.
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
