//! How a dataset stands.

use tidemark_batch::report::DatasetStatus;

use super::clean;
use crate::units::{counted, format_bytes};

/// How a dataset stands, for people.
#[must_use]
pub fn status(status: &DatasetStatus) -> String {
    let mut text = format!("{}\n", clean(&status.dataset));
    let mut line = |name: &str, value: &str| text.push_str(&format!("  {name:<12}{value}\n"));
    match (&status.active_definition, &status.pending_definition) {
        (None, None) => line("definition", "applied, no file taken in yet"),
        (None, Some(pending)) => line("definition", &format!("{pending}, no file taken in yet")),
        (Some(active), None) => line("definition", active),
        (Some(active), Some(pending)) => {
            line("definition", active);
            let dataset = &status.dataset;
            line("pending", &format!("{pending}; to activate it: tidemark batch recompute {dataset}"));
        }
    }
    if let (Some(generation), Some(version)) = (&status.generation, status.table_version) {
        let (rows, files) = (counted(status.rows, "row"), counted(status.data_files, "file"));
        let bytes = format_bytes(status.bytes);
        line("table", &format!("{rows} in {files}, {bytes}; version {version} of generation {generation}"));
    }
    if let Some(location) = &status.table_location {
        line("location", &clean(location));
    }
    let entries = counted(status.ledger_end, "entry");
    line("ledger", &format!("{entries}; {} with rows that count", counted(status.files_included, "file")));
    for (partition, covered) in status.coverage.iter() {
        line("coverage", &format!("{partition} up to {covered}"));
    }
    for stream in &status.streams {
        let (partition, archived, covered) = (&stream.partition, stream.archived, stream.covered);
        let lost = if stream.lost > 0 { format!(", {} lost", counted(stream.lost, "offset")) } else { String::new() };
        line("stream", &format!("{partition} archived up to {archived}, curated up to {covered}{lost}"));
    }
    if status.behind > 0 {
        let (behind, dataset) = (counted(status.behind, "entry"), &status.dataset);
        line("behind", &format!("{behind}; to take in what waits: tidemark batch run {dataset}"));
    }
    for file in &status.files_held {
        let breaches: Vec<String> = file
            .breaches
            .iter()
            .map(|breach| format!("{}: wanted {}, found {}", breach.rule, breach.wanted, breach.found))
            .collect();
        line("held", &clean(&format!("{} (file {}); {}", file.name, file.number, breaches.join("; "))));
    }
    text
}
