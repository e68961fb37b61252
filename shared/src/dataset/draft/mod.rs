//! A first definition from a file: what `dataset init NAME FILE` writes, for people to go on from.

mod columns;
mod sniff;
mod text;

use std::fmt::Write as _;

use bytes::Bytes;

use super::{CsvOptions, DATASET_FILE, DefinitionError, Format, Sources, TRANSFORM_FILE, is_name, parse};
use crate::decode::file_schema;
use crate::error::{ErrorKind, Kind};
use columns::{DraftColumn, from_schema, select_item};

/// Why no definition could be drafted.
#[derive(Debug, thiserror::Error)]
pub enum DraftError {
    /// The name can't name a dataset.
    #[error("`{name}` can't name a dataset: use lower-case letters, digits and `_`, starting with a letter")]
    Name {
        /// The name given.
        name: String,
    },
    /// There is nothing in the file to draft from.
    #[error("`{file}` holds no record to draft a definition from")]
    Empty {
        /// The file.
        file: String,
    },
    /// The file can't be read as the format it seems to be.
    #[error("`{file}` can't be read as {format}: {problem}")]
    Unreadable {
        /// The file.
        file: String,
        /// The format it seems to have.
        format: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The draft itself is not valid.
    #[error("the drafted definition is not valid:\n{0}")]
    Invalid(DefinitionError),
}

impl ErrorKind for DraftError {
    fn kind(&self) -> Kind {
        match self {
            Self::Name { .. } | Self::Empty { .. } | Self::Unreadable { .. } => Kind::Invalid,
            Self::Invalid(_) => Kind::Internal,
        }
    }
}

/// Drafts a definition of dataset `name` from a file: its name and its bytes, of which a text format may have just the
/// first (a megabyte is plenty), a columnar one must have all. gzip and zstd are looked into.
///
/// # Errors
/// [`DraftError`]; the draft that is returned is valid.
pub fn draft(name: &str, file_name: &str, bytes: &[u8]) -> Result<Sources, DraftError> {
    if !is_name(name) {
        return Err(DraftError::Name { name: name.to_owned() });
    }
    let seen = look(file_name, bytes)?;
    if seen.columns.is_empty() {
        return Err(DraftError::Empty { file: file_name.to_owned() });
    }
    let sources = Sources::from([
        (DATASET_FILE.to_owned(), dataset_toml(name, file_name, &seen)),
        (TRANSFORM_FILE.to_owned(), transform_sql(&seen.columns)),
    ]);
    parse(&sources).map_err(DraftError::Invalid)?;
    Ok(sources)
}

/// What a file was found to be.
struct Seen {
    format: Format,
    columns: Vec<DraftColumn>,
}

fn look(file: &str, bytes: &[u8]) -> Result<Seen, DraftError> {
    let unreadable =
        |format: &'static str, problem: String| DraftError::Unreadable { file: file.to_owned(), format, problem };
    let Some(format) = sniff::container(bytes) else {
        let sample = sniff::sample(bytes).map_err(|problem| unreadable("text", problem))?;
        if sample.trim_start().strip_prefix('[').is_some_and(|rest| rest.trim_start().starts_with(['{', ']'])) {
            let problem =
                "it is one JSON array, and JSON lines are wanted: one object a line (`jq -c '.[]'` makes them)";
            return Err(unreadable("JSON lines", problem.to_owned()));
        }
        return Ok(look_at_text(&sample));
    };
    let schema = file_schema(&format, Bytes::copy_from_slice(bytes));
    let schema = schema.map_err(|problem| unreadable(format.name(), problem))?;
    Ok(Seen { format, columns: from_schema(&schema) })
}

fn look_at_text(sample: &str) -> Seen {
    if sample.trim_start().starts_with('{') {
        return Seen { format: Format::Json, columns: text::json_columns(sample) };
    }
    let (options, columns) = text::csv_columns(sample);
    Seen { format: Format::Csv(options), columns }
}

fn toml_string(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn dataset_toml(name: &str, file: &str, seen: &Seen) -> String {
    let mut text = String::new();
    let mut line = |content: &str| {
        text.push_str(content);
        text.push('\n');
    };
    let file = file.rsplit('/').next().unwrap_or(file);
    line(&format!("# Drafted from {}. Check types and names, then: tidemark dataset check", file.escape_debug()));
    line(&format!("name = {}", toml_string(name)));
    line("description = \"\"");
    line("");
    line("# Output columns of transform.sql, of type string, by which the curated table is split into folders.");
    line("partition_columns = []");
    line("");
    line(
        "# Types: bool, int8 to int64, float32, float64, decimal(p,s), string, date, timestamp (local time), timestamptz",
    );
    line("# (an instant), binary, list<T>, struct<a: T, …>. required = true makes a record without a value a reject.");
    line("columns = [");
    for column in &seen.columns {
        line(&format!("    {},", column.toml()));
    }
    line("]");
    line("");
    line("[files]");
    line(&format!("format = \"{}\"", seen.format.name()));
    if let Format::Csv(options) = &seen.format {
        let CsvOptions { delimiter, header, .. } = options;
        line(&format!("delimiter = {}", toml_string(&char::from(*delimiter).to_string())));
        line(&format!("header = {header}"));
    }
    if let Some(column) = event_time(&seen.columns) {
        line("");
        line("# When a record happened. The zone says what a local time means.");
        line("[event_time]");
        line(&format!("column = {}", toml_string(&column.name)));
        line("zone = \"UTC\"");
    }
    line("");
    line("# A file with a higher share of rejects is held back until someone accepts it.");
    line("[gate]");
    line("max_reject_ratio = 0.05");
    text
}

/// The column that most likely says when a record happened.
fn event_time(columns: &[DraftColumn]) -> Option<&DraftColumn> {
    let likely = |column: &&DraftColumn| {
        ["event", "pickup", "created", "occurred", "start", "order", "time", "ts"]
            .iter()
            .any(|word| column.name.contains(word))
    };
    let times: Vec<&DraftColumn> = columns.iter().filter(|column| column.type_text.starts_with("timestamp")).collect();
    times.iter().copied().find(likely).or_else(|| times.first().copied())
}

fn transform_sql(columns: &[DraftColumn]) -> String {
    let mut sql =
        "-- One record in, at most one row out. Rename, CAST and CASE here; WHERE leaves records out.\nSELECT\n"
            .to_owned();
    for (index, column) in columns.iter().enumerate() {
        let comma = if index + 1 == columns.len() { "" } else { "," };
        writeln!(sql, "    {}{comma}", select_item(&column.name)).expect("writing to a string can't fail");
    }
    sql.push_str("FROM input\n");
    sql
}

#[cfg(test)]
mod tests;
