//! What an answer covers: every dataset and every other table that it read, and as of what.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::curated::CuratedVersion;
use crate::position::{Coverage, LogPartition};
use chrono::{DateTime, Utc};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// A dataset that was read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DatasetAsOf {
    /// Version of the definition that made the rows.
    pub definition: String,
    /// The generation.
    pub generation: String,
    /// Version of the generation's Delta table.
    pub table_version: u64,
    /// When the moment was taken; only a server's answers have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<DateTime<Utc>>,
    /// For how long the oldest record that the answer lacks had been in the log then; 0 if it lacks none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
    /// Exclusive end, per partition, of what the answer covers. Without a real-time part this is the coverage.
    pub positions: Coverage,
    /// Exclusive end, per partition, of what the curated table covers.
    pub coverage: Coverage,
    /// Exclusive end of each partition of the log then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_end: Option<Coverage>,
    /// Offsets below the positions that were lost before anybody kept them, by partition.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", serialize_with = "ranges")]
    pub lost: BTreeMap<LogPartition, Vec<Range<u64>>>,
}

/// `{"trips/0": [[3, 9]]}`.
fn ranges<S: Serializer>(lost: &BTreeMap<LogPartition, Vec<Range<u64>>>, serializer: S) -> Result<S::Ok, S::Error> {
    let pairs = |ranges: &Vec<Range<u64>>| ranges.iter().map(|range| [range.start, range.end]).collect::<Vec<_>>();
    serializer.collect_map(lost.iter().map(|(partition, ranges)| (partition.to_string(), pairs(ranges))))
}

impl From<&CuratedVersion> for DatasetAsOf {
    fn from(version: &CuratedVersion) -> Self {
        Self {
            definition: version.generation.definition.clone(),
            generation: version.generation.generation.clone(),
            table_version: version.table_version,
            positions: version.coverage.clone(),
            coverage: version.coverage.clone(),
            lost: version.lost.clone(),
            ..Self::default()
        }
    }
}

/// Another table that was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableAsOf {
    /// Where its files are.
    pub location: String,
    /// Its version in the catalog; files that a statement names have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// What an answer covers, per dataset and other table. In JSON one object, datasets first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AsOf {
    /// Datasets, by name.
    pub datasets: BTreeMap<String, DatasetAsOf>,
    /// Other tables, by name with schema.
    pub tables: BTreeMap<String, TableAsOf>,
}

impl Serialize for AsOf {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.datasets.len() + self.tables.len()))?;
        for (name, dataset) in &self.datasets {
            map.serialize_entry(name, dataset)?;
        }
        for (name, table) in &self.tables {
            map.serialize_entry(name, table)?;
        }
        map.end()
    }
}
