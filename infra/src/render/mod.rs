//! Reports as text for people. Pure: reports in, text out.

use std::time::Duration;

use tidemark_batch::report::{Counts, RecomputeReport, RejectRow, VacuumReport, render_bytes};

use crate::units::{counted, format_bytes, format_count, format_duration, format_elapsed};

mod audit;
mod files;
mod ingest;
mod server;
mod status;
mod table;
#[cfg(test)]
mod tests;
mod upkeep;

pub use audit::audit;
pub use files::files;
pub use ingest::ingest;
pub use server::server;
pub use status::status;
pub use table::table;
pub use upkeep::{compact, pack};

/// Most characters of a reject's bytes that are shown.
const RECORD_CHARS_MAX: usize = 300;
/// Most keys that a vacuum report shows.
const KEYS_SHOWN_MAX: usize = 50;

/// `text` with control characters escaped: names and records come from files and must not steer a terminal.
#[must_use]
pub fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// `300,000 records = 299,990 accepted + 0 filtered + 10 rejected: adds up`. Records that are `held` are none of `counts`.
fn account(counts: &Counts, held: u64) -> String {
    let [accepted, filtered, rejected] = [counts.accepted, counts.filtered, counts.rejected_total()].map(format_count);
    let records = counted(counts.records + held, "record");
    let held = if held > 0 { format!(" + {} held", format_count(held)) } else { String::new() };
    let verdict = if counts.adds_up() { "adds up" } else { "DOES NOT ADD UP; this is a defect of Tidemark" };
    format!("{records} = {accepted} accepted + {filtered} filtered + {rejected} rejected{held}: {verdict}\n")
}

/// `rejected by reason: bad_value 8, width 2`, or nothing.
fn reasons(counts: &Counts) -> String {
    if counts.rejected_total() == 0 {
        return String::new();
    }
    let mut reasons: Vec<(&String, &u64)> = counts.rejected.iter().filter(|(_, count)| **count > 0).collect();
    reasons.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let reasons: Vec<String> =
        reasons.iter().map(|(reason, count)| format!("{} {}", clean(reason), format_count(**count))).collect();
    format!("rejected by reason: {}\n", reasons.join(", "))
}

/// When those answer by a new generation who have answered by another.
const SWITCHES: &str =
    "a running `tidemark up` takes it up within a second; with a stream, once its real-time view is as far\n";

/// A recompute's report.
#[must_use]
pub fn recompute(report: &RecomputeReport) -> String {
    let mut text = format!("{}: generation {} answers now", clean(&report.dataset), report.generation);
    if let Some(previous) = &report.previous_generation {
        text.push_str(&format!(", {previous} before"));
    }
    text.push_str(&format!("; definition {}\n\n", report.definition));
    text.push_str(&reasons(&report.counts));
    text.push_str(&account(&report.counts, 0));
    if report.previous_generation.is_some() {
        text.push_str(&format!("before: {}", account(&report.previous_counts, 0)));
    }
    let bytes = format_bytes(report.curated_bytes);
    text.push_str(&match report.rejects_taken_up {
        1 => "1 record that was a reject is none now\n".to_owned(),
        taken => format!("{} records that were rejects are none now\n", format_count(taken)),
    });
    text.push_str(&format!("{bytes} of Parquet written, in {}\n", format_elapsed(report.elapsed_ms)));
    if report.previous_generation.is_some() {
        text.push_str(SWITCHES);
    }
    text.push_str(&untold(report.catalog_error.as_deref()));
    text
}

/// That the catalog does not know of a run's table.
fn untold(reason: Option<&str>) -> String {
    reason.map(|reason| format!("all of this is done, but the catalog was not told: {reason}\n")).unwrap_or_default()
}

/// A vacuum's report.
#[must_use]
pub fn vacuum(report: &VacuumReport) -> String {
    let mut text = keys(&report.removed, "");
    let verb = if report.dry_run { "would be removed" } else { "removed" };
    let (age, kept) = (age(report.older_than_ms), age(report.kept_ms));
    let (count, bytes) = (counted(report.removed.len() as u64, "orphaned object"), format_bytes(report.removed_bytes));
    let dataset = clean(&report.dataset);
    text.push_str(&format!("{dataset}: {count} {verb} ({bytes}); old enough is {age} (--older-than)"));
    if report.kept_ms > report.older_than_ms {
        text.push_str(&format!(", and {kept} for what queries may still read (--grace)"));
    }
    text.push('\n');
    if report.too_young > 0 {
        let (count, bytes) = (counted(report.too_young, "orphaned object"), format_bytes(report.spared_bytes));
        text.push_str(&format!("{dataset}: {count} spared as too young, or as part of a switch ({bytes}):\n"));
        text.push_str(&keys(&report.spared, "  "));
    }
    if !report.leftovers.is_empty() {
        let (count, bytes) =
            (counted(report.leftovers.len() as u64, "unfinished write"), format_bytes(report.leftover_bytes));
        text.push_str(&format!("{dataset}: {count} {verb} ({bytes})\n"));
    }
    text
}

fn age(millis: u64) -> String {
    format_duration(Duration::from_millis(millis))
}

/// Keys, a line each behind `indent`, but no more than people read.
fn keys(keys: &[String], indent: &str) -> String {
    let shown = keys.iter().take(KEYS_SHOWN_MAX).map(|key| format!("{indent}{}\n", clean(key)));
    let mut text: String = shown.collect();
    if keys.len() > KEYS_SHOWN_MAX {
        text.push_str(&format!("{indent}... and {} more; --json lists all\n", keys.len() - KEYS_SHOWN_MAX));
    }
    text
}

/// Rejects, two lines each: what is wrong where, and the record.
#[must_use]
pub fn rejects(rows: &[RejectRow]) -> String {
    let mut text = String::new();
    for row in rows {
        let place = match &row.file {
            Some(file) => clean(file),
            None => format!("{}/{}", clean(&row.source), row.partition),
        };
        let column = row.column.as_ref().map_or(String::new(), |column| format!(" in {}", clean(column)));
        let held = if row.held { " (held)" } else { "" };
        let (reason, message) = (clean(&row.reason), clean(&row.message));
        text.push_str(&format!("{place}:{}{held}  {reason}{column}: {message}\n", row.offset));
        let record = clean(&render_bytes(&row.bytes));
        let shown: String = record.chars().take(RECORD_CHARS_MAX).collect();
        let cut = if shown.len() < record.len() { "..." } else { "" };
        text.push_str(&format!("    {shown}{cut}\n"));
    }
    text
}
