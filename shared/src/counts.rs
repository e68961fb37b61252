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

/// [`Counts`] without reasons: what the records of a log partition became, from where its archive begins. Kept in the
/// curated table itself, in the commit that moves the coverage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Records read.
    pub records: u64,
    /// Rows.
    pub accepted: u64,
    /// Records for which the transform's `WHERE` yields no row.
    pub filtered: u64,
    /// Rejects, whatever their reason.
    pub rejected: u64,
}

impl Totals {
    /// These and `more`.
    #[must_use]
    pub fn with(self, more: &Counts) -> Self {
        Self {
            records: self.records + more.records,
            accepted: self.accepted + more.accepted,
            filtered: self.filtered + more.filtered,
            rejected: self.rejected + more.rejected_total(),
        }
    }

    /// True if every record is accounted for.
    #[must_use]
    pub fn adds_up(&self) -> bool {
        self.records == self.accepted + self.filtered + self.rejected
    }
}
