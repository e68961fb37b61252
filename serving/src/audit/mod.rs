//! The audit: takes answers with what they say that they cover, derives them again from the master dataset alone, and
//! compares. Of the layers' code it shares decode and transform, and nothing else: no table, no real-time view, no
//! merge.
//!
//! All answers of one definition are derived in one pass over the positions: the rows are made once, each marked with the
//! interval between two cuts that it falls into. An answer of a [`template`] is then a sum over intervals
//! ([`prefix`]); any other statement is run over the rows below its cut ([`statement`]).
//!
//! What an audit asks by itself ([`questions()`]) finds every row that was taken out, doubled or changed in any column, however
//! deep in it, by the columns' [`fingerprint`]s, and shows rows as they are in some slices.

mod classify;
mod compare;
mod derived;
mod error;
mod files;
mod fingerprint;
mod keys;
mod master;
mod prefix;
mod questions;
mod run;
mod statement;
mod template;
mod tolerance;

#[cfg(test)]
mod tests;

pub use classify::{Auditable, classify};
pub use error::AuditError;
pub use fingerprint::Unfolded;
pub use master::Master;
pub use questions::{Asked, Extent, questions};
pub use run::{AuditReport, Difference, audit};
pub use template::{Aggregate, Template, templates};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidemark_shared::position::Coverage;

/// What an answer says of one dataset that it read; the part of its as-of that the audit needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Version of the definition that made its rows.
    pub definition: String,
    /// Per source and partition, the exclusive end of what it covers.
    pub positions: Coverage,
    /// Up to where the batch layer's rows go: what `batch.<dataset>` yields.
    #[serde(default)]
    pub coverage: Coverage,
}

/// An answer as it was given, a line of a file of answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answered {
    /// The statement.
    pub sql: String,
    /// Per dataset, what it covers.
    pub as_of: BTreeMap<String, Claim>,
    /// Its columns, as the HTTP API gives them.
    pub columns: Vec<AnsweredColumn>,
    /// Its rows, as the HTTP API gives them.
    pub rows: Vec<Vec<Value>>,
}

/// A column of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnsweredColumn {
    /// Its name.
    pub name: String,
    /// Its Arrow type, as text.
    #[serde(rename = "type")]
    pub data_type: String,
}

impl AnsweredColumn {
    /// True for values that hold others: what they look like as text is the format's, and no audit's to compare.
    fn is_nested(&self) -> bool {
        let nested = ["List", "LargeList", "FixedSizeList", "ListView", "LargeListView", "Struct", "Map", "Union"];
        let name = self.data_type.split(|letter: char| !letter.is_alphanumeric()).next().unwrap_or_default();
        nested.contains(&name)
    }
}
