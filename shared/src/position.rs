//! Positions in a log and the coverage of a curated version: the tide mark.
//!
//! A position is `(source, partition, offset)`. Ranges are half open. The file ledger is a log of one partition whose
//! offsets are ledger sequence numbers; a *row* of file `n` has the position `(files, n, offset in the file)`.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Name of the source that the file ledger is.
pub const FILES_SOURCE: &str = "files";

/// Column of every curated and real-time row: the source's name.
pub const SOURCE_COLUMN: &str = "_source";
/// Column of every curated and real-time row: the file's ledger number, or the topic's partition; `Int64`.
pub const PARTITION_COLUMN: &str = "_partition";
/// Column of every curated and real-time row: the offset; `Int64`.
pub const OFFSET_COLUMN: &str = "_offset";

/// Where a row came from, part one: the file ledger (`files`) or a topic's incarnation (`trips`, `trips~2`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Source(Arc<str>);

impl Source {
    /// The file ledger.
    #[must_use]
    pub fn files() -> Self {
        Self(Arc::from(FILES_SOURCE))
    }

    /// A topic's incarnation. `files` and names with `/` are refused: they would be ambiguous in a coverage.
    ///
    /// # Errors
    /// [`PositionError::BadSource`] for an empty name, `files`, or a name with `/`.
    pub fn topic(name: &str) -> Result<Self, PositionError> {
        if name.is_empty() || name == FILES_SOURCE || name.contains('/') {
            return Err(PositionError::BadSource { name: name.to_owned() });
        }
        Ok(Self(Arc::from(name)))
    }

    /// The name as it stands in the `_source` column.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A partition of a log whose offsets a coverage compares: the whole file ledger, or one partition of a topic.
///
/// Written `files` and `trips/3`; this is the key of every `positions` and `coverage` map that programs see.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogPartition {
    /// The log.
    pub source: Source,
    /// Partition number; 0 for the file ledger.
    pub partition: u32,
}

impl LogPartition {
    /// The file ledger: a log of one partition.
    #[must_use]
    pub fn files() -> Self {
        Self { source: Source::files(), partition: 0 }
    }
}

impl fmt::Display for LogPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.source.as_str() == FILES_SOURCE {
            return f.write_str(FILES_SOURCE);
        }
        write!(f, "{}/{}", self.source, self.partition)
    }
}

impl FromStr for LogPartition {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == FILES_SOURCE {
            return Ok(Self::files());
        }
        let bad = || PositionError::BadLogPartition { text: text.to_owned() };
        let (name, number) = text.rsplit_once('/').ok_or_else(bad)?;
        let partition: u32 = number.parse().map_err(|_| bad())?;
        // One partition has one name: under `t/00` an end would be lost beside that of `t/0`.
        if partition.to_string() != number {
            return Err(bad());
        }
        Ok(Self { source: Source::topic(name)?, partition })
    }
}

/// For each partition, the offset up to which (exclusive) a curated version includes the log.
///
/// A partition that is absent is covered up to 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage(BTreeMap<LogPartition, u64>);

impl Coverage {
    /// Covers nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The exclusive end of what is covered in `partition`; 0 where nothing is.
    #[must_use]
    pub fn end(&self, partition: &LogPartition) -> u64 {
        self.0.get(partition).copied().unwrap_or(0)
    }

    /// The covered prefix of the file ledger, as a sequence number.
    #[must_use]
    pub fn files_end(&self) -> u64 {
        self.end(&LogPartition::files())
    }

    /// Sets the exclusive end of `partition`.
    pub fn set(&mut self, partition: LogPartition, end: u64) {
        self.0.insert(partition, end);
    }

    /// Partitions and ends, in order of name.
    pub fn iter(&self) -> impl Iterator<Item = (&LogPartition, u64)> {
        self.0.iter().map(|(partition, end)| (partition, *end))
    }

    /// True if every partition is covered at least as far as in `other`.
    #[must_use]
    pub fn includes(&self, other: &Self) -> bool {
        other.iter().all(|(partition, end)| self.end(partition) >= end)
    }
}

impl FromIterator<(LogPartition, u64)> for Coverage {
    fn from_iter<I: IntoIterator<Item = (LogPartition, u64)>>(entries: I) -> Self {
        Self(entries.into_iter().collect())
    }
}

impl Serialize for Coverage {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(partition, end)| (partition.to_string(), end)))
    }
}

impl<'de> Deserialize<'de> for Coverage {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let entries = BTreeMap::<String, u64>::deserialize(deserializer)?;
        entries.into_iter().map(|(text, end)| Ok((text.parse().map_err(serde::de::Error::custom)?, end))).collect()
    }
}

/// A malformed source or partition name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PositionError {
    /// Not usable as the name of a log.
    #[error("`{name}` can't name a log: it must not be empty, `files`, or contain `/`")]
    BadSource {
        /// The refused name.
        name: String,
    },
    /// Neither `files` nor `<topic>/<partition>`.
    #[error("`{text}` is neither `files` nor `<topic>/<partition>`")]
    BadLogPartition {
        /// The refused text.
        text: String,
    },
}

/// The same offsets in as few ranges as can be: in order, none empty, those that touch or overlap as one.
#[must_use]
pub fn united(ranges: impl IntoIterator<Item = Range<u64>>) -> Vec<Range<u64>> {
    let mut all: Vec<Range<u64>> = ranges.into_iter().filter(|range| !range.is_empty()).collect();
    all.sort_unstable_by_key(|range| (range.start, range.end));
    let mut united: Vec<Range<u64>> = Vec::new();
    for range in all {
        match united.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => united.push(range),
        }
    }
    united
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_partition_round_trips_through_its_text() {
        for text in ["files", "trips/0", "trips~2/17"] {
            assert_eq!(text.parse::<LogPartition>().expect(text).to_string(), text);
        }
    }

    #[test]
    fn ranges_are_united_to_the_fewest() {
        let of = |ranges: &[(u64, u64)]| {
            let united = united(ranges.iter().map(|(start, end)| *start..*end));
            united.into_iter().map(|range| (range.start, range.end)).collect::<Vec<_>>()
        };
        assert_eq!(of(&[]), []);
        assert_eq!(of(&[(7, 7), (5, 3)]), []);
        assert_eq!(of(&[(9, 12), (4, 6), (6, 9), (20, 21)]), [(4, 12), (20, 21)]);
        assert_eq!(of(&[(1, 9), (2, 3), (9, 9)]), [(1, 9)]);
    }

    #[test]
    fn an_ambiguous_name_is_refused() {
        for text in [
            "", "trips", "files/0", "a/b/0", "trips/x", "/1", "trips/00", "trips/+0", "trips/ 0", "trips/01",
            "trips/0 ", "trips/-0",
        ] {
            assert!(text.parse::<LogPartition>().is_err(), "{text} was accepted");
        }
    }

    #[test]
    fn inclusion_compares_partition_by_partition() {
        let cover = |entries: &[(&str, u64)]| -> Coverage {
            entries.iter().map(|(name, end)| (name.parse().expect("valid name"), *end)).collect()
        };
        let old = cover(&[("files", 3), ("trips/0", 5)]);
        assert!(cover(&[("files", 3), ("trips/0", 5), ("trips/1", 1)]).includes(&old));
        assert!(!cover(&[("files", 9), ("trips/0", 4)]).includes(&old));
        assert!(old.includes(&Coverage::new()));
    }

    #[test]
    fn coverage_is_a_plain_map_in_json() {
        let coverage: Coverage = [(LogPartition::files(), 3)].into_iter().collect();
        let text = serde_json::to_string(&coverage).expect("serialises");
        assert_eq!(text, r#"{"files":3}"#);
        assert_eq!(serde_json::from_str::<Coverage>(&text).expect("parses"), coverage);
        for wrong in [r#"{"t/00":3}"#, r#"{"t/+0":3}"#, r#"{"t/0":"3"}"#, r#"{"t/0":3.0}"#, r#"{"t/0":-1}"#] {
            assert!(serde_json::from_str::<Coverage>(wrong).is_err(), "{wrong} was accepted");
        }
    }
}
