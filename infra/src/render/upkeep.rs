//! Reports of compaction and packing.

use tidemark_batch::report::{CompactReport, PackReport};

use crate::units::{counted, format_bytes, format_elapsed};

/// What a compaction did.
#[must_use]
pub fn compact(report: &CompactReport) -> String {
    let CompactReport { files_merged, files_written, bytes_merged, bytes_written, .. } = report;
    let mut text = match files_merged {
        0 => "nothing to merge\n".to_owned(),
        _ => format!(
            "{} ({}) merged into {} ({}), in {}\n",
            counted(*files_merged, "small file"),
            format_bytes(*bytes_merged),
            counted(*files_written, "file"),
            format_bytes(*bytes_written),
            format_elapsed(report.elapsed_ms),
        ),
    };
    if report.gave_way {
        text.push_str("other work on the table came first; some small files are left for the next compaction\n");
    }
    text
}

/// What a packing did.
#[must_use]
pub fn pack(report: &PackReport) -> String {
    let packed = match report.packed {
        0 => "nothing to pack".to_owned(),
        packed => format!(
            "{} ({}) packed into {}",
            counted(report.segments, "small segment"),
            format_bytes(report.segment_bytes),
            counted(packed, "segment"),
        ),
    };
    let removed = counted(report.removed, "small segment");
    let rejects = match (report.packed_rejects, report.removed_rejects) {
        (0, 0) => String::new(),
        (put, removed) => {
            format!("; rejects: {} put, {removed} small removed", counted(put, "packed object"))
        }
    };
    format!(
        "{packed}; {removed} ({}) removed{rejects}, in {}\n",
        format_bytes(report.removed_bytes),
        format_elapsed(report.elapsed_ms)
    )
}
