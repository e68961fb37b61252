//! Files of a dataset.

use tidemark_batch::report::{Counts, FileRow};

use super::{clean, table};
use crate::units::{format_bytes, format_count};

/// A line a file; nothing without one.
#[must_use]
pub fn files(rows: &[FileRow]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let header = [
        ("number", true),
        ("standing", false),
        ("bytes", true),
        ("records", true),
        ("accepted", true),
        ("filtered", true),
        ("rejected", true),
        ("name", false),
    ];
    let lines: Vec<Vec<String>> = rows.iter().map(line).collect();
    table(&header, &lines)
}

fn line(row: &FileRow) -> Vec<String> {
    let count =
        |of: fn(&Counts) -> u64| row.counts.as_ref().map_or_else(|| "-".to_owned(), |counts| format_count(of(counts)));
    vec![
        row.number.to_string(),
        row.standing.as_str().to_owned(),
        format_bytes(row.bytes),
        count(|counts| counts.records),
        count(|counts| counts.accepted),
        count(|counts| counts.filtered),
        count(Counts::rejected_total),
        clean(&row.name),
    ]
}
