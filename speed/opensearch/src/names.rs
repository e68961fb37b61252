//! Names of indices, and ids of the documents of state indices; those of records are in [`crate::document`]. All follow from what
//! they stand for, so that whoever repeats a piece of work finds what was there (H3).

use sha2::{Digest as _, Sha256};
use tidemark_shared::hex;
use tidemark_shared::live::ViewId;
use tidemark_shared::position::LogPartition;

/// Between the parts of a name. No part holds it: `_` is escaped in them.
const BETWEEN: &str = "__";
/// Bytes of a part above which its end is replaced by a digest: index names have at most 255 bytes.
const PART_MAX: usize = 60;
/// Digits of an offset in a name, so that names are in the order of offsets.
const START_DIGITS: usize = 20;

/// What the names of all indices of a view begin with.
pub(crate) fn view_prefix(prefix: &str, view: &ViewId) -> String {
    [prefix, &escaped(&view.dataset), &escaped(&view.generation)].join(BETWEEN)
}

/// Matches all indices of all views of a dataset.
pub(crate) fn dataset_indices(prefix: &str, dataset: &str) -> String {
    [prefix, &escaped(dataset), "*"].join(BETWEEN)
}

/// A view's state index.
pub(crate) fn state_index(prefix: &str, view: &ViewId) -> String {
    format!("{}{BETWEEN}state", view_prefix(prefix, view))
}

/// Matches the state indices of all views.
pub(crate) fn state_indices(prefix: &str) -> String {
    format!("{prefix}{BETWEEN}*{BETWEEN}state")
}

/// Matches all row indices of a view, and nothing else.
pub(crate) fn row_indices(prefix: &str, view: &ViewId) -> String {
    format!("{}{BETWEEN}rows{BETWEEN}*", view_prefix(prefix, view))
}

/// What the names of all row indices of a partition begin with; where their rows begin stands after it.
pub(crate) fn partition_prefix(prefix: &str, view: &ViewId, partition: &LogPartition) -> String {
    let begin = [&view_prefix(prefix, view), "rows", &escaped(partition.source.as_str())].join(BETWEEN);
    format!("{begin}{BETWEEN}{}{BETWEEN}", partition.partition)
}

/// The index of a partition's rows from offset `start` on.
pub(crate) fn row_index(prefix: &str, view: &ViewId, partition: &LogPartition, start: u64) -> String {
    format!("{}{start:0width$}", partition_prefix(prefix, view, partition), width = START_DIGITS)
}

/// From which offset on an index holds rows of the partition whose names begin so ([`partition_prefix`]); `None` if it is none of
/// them.
pub(crate) fn start_of(of_partition: &str, index: &str) -> Option<u64> {
    let digits = index.strip_prefix(of_partition)?;
    let is_start = digits.len() == START_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_start.then(|| digits.parse().ok()).flatten()
}

/// An alias that nobody had before. `unique` is an id of letters, digits and `-`.
pub(crate) fn alias(index: &str, unique: &str) -> String {
    // Ids that begin with the time differ in their ends.
    let digest = hex(&Sha256::digest(unique.as_bytes()));
    format!("{index}.{}", &digest[..16])
}

/// Document of a partition's visible position.
pub(crate) fn position_id(partition: &LogPartition) -> String {
    format!("position.{}.{}", escaped(partition.source.as_str()), partition.partition)
}

/// Document of a partition's floor.
pub(crate) fn floor_id(partition: &LogPartition) -> String {
    format!("floor.{}.{}", escaped(partition.source.as_str()), partition.partition)
}

/// A text as a part of a name, letters, digits, `-` and `.` as they are. No two texts have the same, unless a digest says so.
fn escaped(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' => name.push(char::from(byte)),
            _ => {
                name.push('_');
                name.push_str(&hex(&[byte]));
            }
        }
    }
    if name.len() > PART_MAX {
        let digest = hex(&Sha256::digest(text.as_bytes()));
        // `_h` begins no escape.
        name = format!("{}_h{}", &name[..PART_MAX - 20], &digest[..16]);
    }
    name
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_legal_short_and_each_its_own() {
        let long = "x".repeat(249);
        let mut seen = BTreeSet::new();
        for dataset in ["trips", "trips_2", "trips_", "trips__2", &long] {
            for source in ["trips", "Trips", "trips~2", "a.b_c", "_", &long, &format!("{long}y")] {
                let view = ViewId { dataset: dataset.to_owned(), generation: "0007-Abc".to_owned() };
                let partition: LogPartition = format!("{source}/4294967295").parse().unwrap();
                let name = row_index(&"p".repeat(32), &view, &partition, u64::MAX);
                assert!(alias(&name, "0199-1").len() <= 255, "{name}");
                assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b)));
                assert!(seen.insert(name.clone()), "{name} twice");
                let pattern = row_indices(&"p".repeat(32), &view);
                assert!(name.starts_with(pattern.trim_end_matches('*')));
            }
        }
    }

    #[test]
    fn a_name_says_where_its_rows_begin_and_is_of_one_partition() {
        let view = ViewId { dataset: "trips".to_owned(), generation: "g".to_owned() };
        let partitions: [LogPartition; 4] = ["t/1", "t/11", "t__1/1", "u/1"].map(|name| name.parse().unwrap());
        for start in [0, 1, 262_144, u64::MAX] {
            for of in &partitions {
                let name = row_index("tidemark", &view, of, start);
                for other in &partitions {
                    let found = start_of(&partition_prefix("tidemark", &view, other), &name);
                    assert_eq!(found, (of == other).then_some(start), "{name} as one of {other}");
                }
            }
        }
        let of_partition = partition_prefix("tidemark", &view, &partitions[0]);
        for rest in ["", "7", "00000000000000000000.0123456789abcdef", "+0000000000000000001", "99999999999999999999"] {
            assert_eq!(start_of(&of_partition, &format!("{of_partition}{rest}")), None, "{rest}");
        }
    }

    #[test]
    fn no_view_matches_anothers_rows() {
        let view = |dataset: &str| ViewId { dataset: dataset.to_owned(), generation: "g".to_owned() };
        let partition: LogPartition = "rows__x/0".parse().unwrap();
        let other = row_index("tidemark", &view("a__g__rows"), &partition, 0);
        assert!(!other.starts_with(row_indices("tidemark", &view("a")).trim_end_matches('*')), "{other}");
    }
}
