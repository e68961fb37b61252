//! `dataset.toml` → the parts of a definition, each with its place for the checks that follow.

use std::collections::BTreeMap;

use arrow::datatypes::DataType;

use super::types::parse_type;
use super::{CsvOptions, Format, InputColumn, is_name, nearest};
use crate::decode::normalized;
use crate::document::{Document, Section, Text};
use crate::transform::parse_zone;

/// Most input columns.
const COLUMNS_MAX: usize = 2_000;
/// Most partitions of a stream: the log's own limit.
const PARTITIONS_MAX: u64 = crate::log::PARTITIONS_MAX as u64;
/// Partitions of a stream unless it says otherwise.
const PARTITIONS_DEFAULT: u64 = 4;

/// What `dataset.toml` says, value by value right, but not checked against the transform yet.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) name: Option<Text>,
    pub(super) description: Option<String>,
    pub(super) columns: Vec<InputColumn>,
    /// Every column could be read, so that the transform can be checked against them.
    pub(super) columns_whole: bool,
    pub(super) partition_columns: Vec<Text>,
    pub(super) files: Option<Format>,
    pub(super) stream: Option<StreamPart>,
    pub(super) event_time: Option<EventTimePart>,
    pub(super) key: Option<KeyPart>,
    pub(super) rules: Vec<NamedPart>,
    pub(super) max_reject_ratio: Option<f64>,
    pub(super) min_rows: Option<u64>,
    pub(super) expectations: Vec<NamedPart>,
}

#[derive(Debug)]
pub(super) struct StreamPart {
    pub(super) topic: String,
    pub(super) format: Format,
    pub(super) partition_by: Option<Text>,
    pub(super) partitions: u32,
}

#[derive(Debug)]
pub(super) struct EventTimePart {
    pub(super) column: Text,
    pub(super) zone: chrono_tz::Tz,
}

#[derive(Debug)]
pub(super) struct KeyPart {
    pub(super) columns: Vec<Text>,
    pub(super) version_by: Option<Text>,
    pub(super) delete_when: Option<Text>,
    pub(super) at: usize,
}

/// A named SQL condition.
#[derive(Debug)]
pub(super) struct NamedPart {
    pub(super) name: String,
    pub(super) sql: Text,
}

const TOP: [&str; 10] =
    ["name", "description", "columns", "partition_columns", "files", "stream", "event_time", "key", "reject", "gate"];
const CSV: [&str; 5] = ["delimiter", "quote", "header", "multiline", "null_values"];
const COLUMN: [&str; 4] = ["name", "type", "aliases", "required"];
const FILES: [&str; 1] = ["format"];
const STREAM: [&str; 4] = ["topic", "format", "partition_by", "partitions"];
const EVENT_TIME: [&str; 2] = ["column", "zone"];
const KEY: [&str; 3] = ["columns", "version_by", "delete_when"];
const REJECT: [&str; 2] = ["name", "when"];
const GATE: [&str; 3] = ["max_reject_ratio", "min_rows", "expect"];
const EXPECT: [&str; 2] = ["name", "that"];

/// Every key, under its heading in `docs/dataset.md`.
#[cfg(test)]
pub(super) const KEYS: [(&str, &[&[&str]]); 9] = [
    ("## Top", &[&TOP]),
    ("## `columns`", &[&COLUMN]),
    ("## `[files]`", &[&FILES, &CSV]),
    ("## `[stream]`", &[&STREAM, &CSV]),
    ("## `[event_time]`", &[&EVENT_TIME]),
    ("## `[key]`", &[&KEY]),
    ("## `[[reject]]`", &[&REJECT]),
    ("## `[gate]`", &[&GATE]),
    ("## `[[gate.expect]]`", &[&EXPECT]),
];

/// Reads the document; what is wrong with it becomes its problems.
pub(super) fn read(document: &Document<'_>) -> Parts {
    let tree = document.tree();
    if document.has_problems() {
        // In what is no TOML, half the keys may be missing.
        return Parts::default();
    }
    let top = Section::new(document, "", &tree, 0, &TOP);
    let mut parts = Parts { name: top.required_string("name"), ..Parts::default() };
    if let Some(name) = parts.name.take_if(|name| !is_name(&name.value)) {
        let message = format!("`{}` can't name a dataset", name.value);
        top.problem("name", message, Some("use lower-case letters, digits and `_`, starting with a letter"));
    }
    parts.description = top.string("description").map(|text| text.value);
    (parts.columns, parts.columns_whole) = columns(document, &top);
    parts.partition_columns = top.strings("partition_columns");
    repeated(document, &parts.partition_columns, "partition column");
    parts.files = files(&top, &parts.columns);
    parts.stream = stream(&top, parts.name.as_ref(), &parts.columns);
    if !top.has("files") && !top.has("stream") {
        let suggestion = "add [files] with format = \"csv\", or [stream] with a topic";
        document.problem(0, "the dataset has neither files nor a stream", Some(suggestion.to_owned()));
    }
    parts.event_time = event_time(document, &top);
    parts.key = key(document, &top);
    parts.rules = named(document, &top.sections("reject", &REJECT), "when", "reject rule");
    if let Some(gate) = top.section("gate", &GATE) {
        parts.max_reject_ratio = gate.ratio("max_reject_ratio");
        parts.min_rows = gate.integer("min_rows", 0..=u64::from(u32::MAX));
        parts.expectations = named(document, &gate.sections("expect", &EXPECT), "that", "expectation");
    }
    parts
}

fn columns(document: &Document<'_>, top: &Section<'_>) -> (Vec<InputColumn>, bool) {
    let sections = top.sections("columns", &COLUMN);
    if sections.is_empty() {
        document.problem(
            top.place("columns"),
            "the dataset has no columns",
            Some("add columns = [ { name = \"id\", type = \"int64\" } ]".to_owned()),
        );
    }
    if sections.len() > COLUMNS_MAX {
        top.problem("columns", format!("more than {COLUMNS_MAX} columns"), None);
        return (Vec::new(), false);
    }
    let mut columns: Vec<InputColumn> = Vec::new();
    let mut owners: BTreeMap<String, String> = BTreeMap::new();
    for section in &sections {
        let (name, data_type) = (section.required_string("name"), section.required_string("type"));
        let aliases: Vec<String> = section.strings("aliases").into_iter().map(|alias| alias.value).collect();
        let required = section.flag("required").unwrap_or(false);
        let data_type = data_type.and_then(|text| column_type(document, &text));
        let (Some(name), Some(data_type)) = (name, data_type) else { continue };
        if !is_name(&name.value) {
            let hint = "use lower-case letters, digits and `_`, and put the header's spelling into aliases";
            let message = format!("`{}` can't name a column", name.value);
            document.problem(name.at, message, Some(hint.to_owned()));
            continue;
        }
        let mut clear = true;
        for spelling in std::iter::once(&name.value).chain(&aliases) {
            let owner = owners.entry(normalized(spelling)).or_insert_with(|| name.value.clone());
            if *owner != name.value || columns.iter().any(|column| column.name == name.value) {
                let message = format!("`{spelling}` names two columns, `{owner}` and `{}`", name.value);
                document.problem(name.at, message, Some("case and white space do not count".to_owned()));
                clear = false;
                break;
            }
        }
        if clear {
            columns.push(InputColumn { name: name.value, data_type, required, aliases });
        }
    }
    let whole = !columns.is_empty() && columns.len() == sections.len();
    (columns, whole)
}

fn column_type(document: &Document<'_>, text: &Text) -> Option<DataType> {
    match parse_type(&text.value) {
        Ok(data_type) => Some(data_type),
        Err(problem) => {
            document.problem(text.at, problem.message, problem.suggestion);
            None
        }
    }
}

fn repeated(document: &Document<'_>, texts: &[Text], what: &str) {
    for (index, text) in texts.iter().enumerate() {
        if texts[..index].iter().any(|earlier| earlier.value == text.value) {
            document.problem(text.at, format!("{what} `{}` appears twice", text.value), None);
        }
    }
}

fn files(top: &Section<'_>, columns: &[InputColumn]) -> Option<Format> {
    let known: Vec<&str> = FILES.into_iter().chain(CSV).collect();
    let section = top.section("files", &known)?;
    format(&section, columns, &["csv", "json", "parquet", "avro", "orc"], true)
}

fn stream(top: &Section<'_>, name: Option<&Text>, columns: &[InputColumn]) -> Option<StreamPart> {
    let known: Vec<&str> = STREAM.into_iter().chain(CSV).collect();
    let section = top.section("stream", &known)?;
    let topic = section.string("topic").or_else(|| name.cloned());
    if let Some(topic) = topic.as_ref().filter(|topic| crate::position::Source::topic(&topic.value).is_err()) {
        section.problem("topic", format!("`{}` can't name a topic", topic.value), None);
    }
    let partition_by = section.string("partition_by");
    if let Some(column) = &partition_by
        && !columns.iter().any(|known| known.name == column.value)
    {
        let near = nearest(&column.value, columns.iter().map(|column| column.name.as_str()));
        let suggestion = near.map(|near| format!("did you mean `{near}`?"));
        section.problem("partition_by", format!("unknown input column `{}`", column.value), suggestion.as_deref());
    }
    let partitions = section.integer("partitions", 1..=PARTITIONS_MAX).unwrap_or(PARTITIONS_DEFAULT);
    let format = format(&section, columns, &["json", "csv", "avro"], false);
    Some(StreamPart {
        topic: topic?.value,
        format: format?,
        partition_by,
        partitions: u32::try_from(partitions).expect("bounded above"),
    })
}

fn format(section: &Section<'_>, columns: &[InputColumn], known: &[&str], header: bool) -> Option<Format> {
    let name = section.required_string("format")?;
    let format = match name.value.as_str() {
        found if !known.contains(&found) => {
            let near = nearest(found, known.iter().copied()).map(|near| format!("did you mean `{near}`?"));
            let suggestion = near.unwrap_or_else(|| format!("one of {}", known.join(", ")));
            section.problem("format", format!("unknown format `{found}`"), Some(&suggestion));
            return None;
        }
        "csv" => Format::Csv(csv(section, header)),
        "json" => Format::Json,
        "parquet" => Format::Parquet,
        "avro" => Format::Avro,
        _ => Format::Orc,
    };
    if !matches!(format, Format::Csv(_)) {
        for key in CSV.into_iter().filter(|key| section.has(key)) {
            section.problem(key, format!("`{key}` has a meaning for csv only"), None);
        }
        return Some(format);
    }
    for column in columns.iter().filter(|column| column.data_type.is_nested()) {
        let message = format!("csv can't hold column `{}`: it is a list or a struct", column.name);
        section.problem("format", message, Some("read it as a string, or use json"));
    }
    Some(format)
}

fn csv(section: &Section<'_>, header: bool) -> CsvOptions {
    let byte = |key: &str| -> Option<u8> {
        let text = section.string(key)?;
        match text.value.as_bytes() {
            [byte] if byte.is_ascii() && !matches!(byte, b'\n' | b'\r') => Some(*byte),
            _ => {
                section.problem(key, format!("`{key}` must be one ASCII character"), None);
                None
            }
        }
    };
    let defaults = CsvOptions::default();
    let no_quote = section.string("quote").is_some_and(|quote| quote.value.is_empty());
    let options = CsvOptions {
        delimiter: byte("delimiter").unwrap_or(defaults.delimiter),
        quote: if no_quote { None } else { byte("quote").or(defaults.quote) },
        header: section.flag("header").unwrap_or(header),
        multiline: section.flag("multiline").unwrap_or(false),
        null_values: section.strings("null_values").into_iter().map(|text| text.value).collect(),
    };
    if options.quote == Some(options.delimiter) {
        section.problem("delimiter", "the delimiter is also the quote", None);
    }
    options
}

fn event_time(document: &Document<'_>, top: &Section<'_>) -> Option<EventTimePart> {
    let section = top.section("event_time", &EVENT_TIME)?;
    let column = section.required_string("column");
    let Some(zone) = section.string("zone") else {
        return Some(EventTimePart { column: column?, zone: chrono_tz::Tz::UTC });
    };
    match parse_zone(&zone.value) {
        Ok(zone) => Some(EventTimePart { column: column?, zone }),
        Err((message, suggestion)) => {
            document.problem(zone.at, message, Some(suggestion));
            None
        }
    }
}

fn key(document: &Document<'_>, top: &Section<'_>) -> Option<KeyPart> {
    let section = top.section("key", &KEY)?;
    let columns = section.strings("columns");
    if columns.is_empty() {
        section.problem("columns", "a key needs at least one column", None);
    }
    repeated(document, &columns, "key column");
    let (version_by, delete_when) = (section.string("version_by"), section.string("delete_when"));
    Some(KeyPart { columns, version_by, delete_when, at: section.at })
}

fn named(document: &Document<'_>, sections: &[Section<'_>], condition: &str, what: &str) -> Vec<NamedPart> {
    let mut parts: Vec<NamedPart> = Vec::new();
    for section in sections {
        let (name, sql) = (section.required_string("name"), section.required_string(condition));
        let (Some(name), Some(sql)) = (name, sql) else { continue };
        if !is_name(&name.value) {
            let message = format!("`{}` can't name a {what}", name.value);
            document.problem(name.at, message, Some("use lower-case letters, digits and `_`".to_owned()));
        }
        if parts.iter().any(|part| part.name == name.value) {
            document.problem(name.at, format!("{what} `{}` appears twice", name.value), None);
        }
        parts.push(NamedPart { name: name.value, sql });
    }
    parts
}
