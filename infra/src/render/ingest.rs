//! The report of an ingest or a batch run.

use std::collections::BTreeMap;

use tidemark_batch::report::{FileOutcome, FileReport, IngestReport};

use super::{account, clean, reasons, table, untold};
use crate::units::{counted, format_bytes, format_count, format_elapsed};

/// Most files that the table shows; what needs attention is told below it in any case.
const FILES_SHOWN_MAX: usize = 60;
/// Longest name that the table shows whole.
const NAME_CHARS_MAX: usize = 60;
/// Most remarks that are shown.
const NOTES_SHOWN_MAX: usize = 30;

/// What an ingest or a batch run did, for people.
#[must_use]
pub fn ingest(report: &IngestReport) -> String {
    let mut text = String::new();
    if !report.files.is_empty() {
        text.push_str(&files(report));
        text.push('\n');
    }
    for file in &report.files {
        text.push_str(&attention(&report.dataset, file));
    }
    text.push_str(&notes(&report.files));
    for stream in &report.streams {
        let (partition, start, end) = (&stream.partition, stream.start, stream.end);
        text.push_str(&format!(
            "{partition}: offsets {start} to {end}, {}\n",
            counted(stream.counts.records, "record")
        ));
    }
    text.push_str(&reasons(&report.counts));
    text.push_str(&account(&report.counts, report.held_records));
    if report.other_counts.records > 0 {
        let waited = format_count(report.other_counts.records);
        text.push_str(&format!("of them, {waited} of files that an earlier run left in the ledger\n"));
    }
    if report.rows_removed > 0 {
        text.push_str(&format!("{} taken out\n", counted(report.rows_removed, "row")));
    }
    text.push_str(&sizes(report));
    text.push_str(&untold(report.catalog_error.as_deref()));
    text
}

fn files(report: &IngestReport) -> String {
    let header = [
        ("file", false),
        ("size", true),
        ("records", true),
        ("accepted", true),
        ("filtered", true),
        ("rejected", true),
        ("outcome", false),
    ];
    let row = |file: &FileReport| {
        let counts = &file.counts;
        let numbers = [counts.records, counts.accepted, counts.filtered, counts.rejected_total()].map(format_count);
        let mut cells = vec![shortened(&clean(&file.name)), format_bytes(file.bytes)];
        cells.extend(numbers);
        cells.push(outcome(file));
        cells
    };
    let rows: Vec<Vec<String>> = report.files.iter().take(FILES_SHOWN_MAX).map(row).collect();
    let mut text = table(&header, &rows);
    if report.files.len() > FILES_SHOWN_MAX {
        let more = counted((report.files.len() - FILES_SHOWN_MAX) as u64, "more file");
        text.push_str(&format!("... and {more}; --json lists all\n"));
    }
    text
}

/// A long name without its middle: folders at its beginning and the file's kind at its end tell most.
fn shortened(name: &str) -> String {
    let length = name.chars().count();
    if length <= NAME_CHARS_MAX {
        return name.to_owned();
    }
    let (head, tail) = (NAME_CHARS_MAX / 3, NAME_CHARS_MAX - NAME_CHARS_MAX / 3 - 3);
    let chars = |from: usize, count: usize| name.chars().skip(from).take(count).collect::<String>();
    format!("{}...{}", chars(0, head), chars(length - tail, tail))
}

fn outcome(file: &FileReport) -> String {
    match &file.outcome {
        FileOutcome::Added { bad_file: true, .. } => "rejected as a whole".to_owned(),
        FileOutcome::Added { replaced: Some(number), .. } => format!("added, replaces file {number}"),
        FileOutcome::Added { .. } if file.counts.records == 0 => "added, holds no record".to_owned(),
        FileOutcome::Added { .. } => "added".to_owned(),
        FileOutcome::Held { .. } => "held".to_owned(),
        FileOutcome::AlreadyThere { held: true } => "already there, still held".to_owned(),
        FileOutcome::AlreadyThere { held: false } => "already there, nothing done".to_owned(),
        FileOutcome::Accepted => "accepted".to_owned(),
        FileOutcome::Withdrawn => "withdrawn".to_owned(),
        FileOutcome::AlreadyWithdrawn => "already withdrawn".to_owned(),
        FileOutcome::Refused { .. } => "refused".to_owned(),
    }
}

/// What a person has to decide on, with the commands that do it.
fn attention(dataset: &str, file: &FileReport) -> String {
    let name = clean(&file.name);
    match &file.outcome {
        FileOutcome::Held { breaches } => {
            let mut text = format!("{name} is held, its rows do not count:\n");
            for breach in breaches {
                let [rule, wanted, found] = [&breach.rule, &breach.wanted, &breach.found].map(|part| clean(part));
                text.push_str(&format!("  {rule}: wanted {wanted}, found {found}\n"));
            }
            text.push_str(&format!("  what it refused:     tidemark rejects {} --held\n", quoted(dataset)));
            text + &ways_on(dataset, &file.name)
        }
        FileOutcome::AlreadyThere { held: true } => {
            format!("{name} is still held, its rows do not count:\n{}", ways_on(dataset, &file.name))
        }
        FileOutcome::Refused { message, .. } => format!("{name} is refused: {}\n\n", clean(message)),
        FileOutcome::Added { bad_file: true, .. } => {
            format!("{name} is rejected as a whole; why:  tidemark rejects {}\n\n", quoted(dataset))
        }
        FileOutcome::Added { .. }
        | FileOutcome::AlreadyThere { held: false }
        | FileOutcome::Accepted
        | FileOutcome::Withdrawn
        | FileOutcome::AlreadyWithdrawn => String::new(),
    }
}

fn ways_on(dataset: &str, name: &str) -> String {
    let (dataset, name) = (quoted(dataset), quoted(name));
    format!(
        "  let its rows count:  tidemark ingest {dataset} --accept {name}\n  \
           or take it out:      tidemark ingest {dataset} --withdraw {name}\n\n"
    )
}

/// `text` as one word of a POSIX shell.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./=:@%+,".contains(c);
    if !text.is_empty() && !text.starts_with('-') && text.chars().all(plain) {
        return text.to_owned();
    }
    // A leading hyphen would be taken for an option.
    let separator = if text.starts_with('-') { "-- " } else { "" };
    format!("{separator}'{}'", clean(text).replace('\'', r"'\''"))
}

/// The decoder's remarks, equal ones of several files as one.
fn notes(files: &[FileReport]) -> String {
    let mut by_note: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for file in files {
        for note in &file.notes {
            by_note.entry(note).or_default().push(&file.name);
        }
    }
    let mut text = String::new();
    for (note, names) in by_note.iter().take(NOTES_SHOWN_MAX) {
        let place = match names.as_slice() {
            [name] => clean(name),
            names => format!("{} files", names.len()),
        };
        text.push_str(&format!("note: {place}: {}\n", clean(note)));
    }
    if by_note.len() > NOTES_SHOWN_MAX {
        let more = counted((by_note.len() - NOTES_SHOWN_MAX) as u64, "more note");
        text.push_str(&format!("... and {more}; --json lists all\n"));
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

fn sizes(report: &IngestReport) -> String {
    let mut parts = Vec::new();
    if report.raw_bytes > 0 {
        let share = report.curated_bytes as f64 * 100.0 / report.raw_bytes as f64;
        let (raw, curated) = (format_bytes(report.raw_bytes), format_bytes(report.curated_bytes));
        parts.push(format!("{raw} raw -> {curated} Parquet ({share:.1} %)"));
    } else {
        parts.push("nothing new to curate".to_owned());
    }
    match (&report.generation, report.table_version) {
        (Some(generation), Some(version)) => parts.push(format!("table version {version} of generation {generation}")),
        _ => parts.push("no curated table yet".to_owned()),
    }
    parts.push(format!("in {}", format_elapsed(report.elapsed_ms)));
    format!("{}\n", parts.join(", "))
}
