//! Column names and types from a sample of delimited text or JSON lines.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::CsvOptions;
use super::columns::{DraftColumn, named};
use crate::decode::values;

/// Most records that types are inferred from.
const RECORDS_MAX: usize = 5_000;
const DELIMITERS: [u8; 4] = [b',', b'\t', b';', b'|'];

/// What one value can be; a column's kind is the join of its values'.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Nothing,
    Bool,
    Int,
    Float,
    Date,
    Timestamp,
    Instant,
    Text,
    List(Box<Kind>),
    Struct(BTreeMap<String, Kind>),
}

impl Kind {
    fn join(self, other: Self) -> Self {
        match (self, other) {
            (one, two) if one == two => one,
            (Self::Nothing, kind) | (kind, Self::Nothing) => kind,
            (Self::Int, Self::Float) | (Self::Float, Self::Int) => Self::Float,
            (Self::Date, Self::Timestamp) | (Self::Timestamp, Self::Date) => Self::Timestamp,
            (Self::List(one), Self::List(two)) => Self::List(Box::new(one.join(*two))),
            (Self::Struct(mut one), Self::Struct(two)) => {
                for (name, kind) in two {
                    let known = one.remove(&name).unwrap_or(Self::Nothing);
                    one.insert(name, known.join(kind));
                }
                Self::Struct(one)
            }
            _ => Self::Text,
        }
    }

    fn type_text(&self) -> String {
        let word = |name: &String| name.chars().all(|c| c.is_alphanumeric() || c == '_') && !name.is_empty();
        match self {
            Self::Bool => "bool".to_owned(),
            Self::Int => "int64".to_owned(),
            Self::Float => "float64".to_owned(),
            Self::Date => "date".to_owned(),
            Self::Timestamp => "timestamp".to_owned(),
            Self::Instant => "timestamptz".to_owned(),
            Self::List(item) => format!("list<{}>", item.type_text()),
            Self::Struct(fields) if !fields.is_empty() && fields.keys().all(word) => {
                let fields: Vec<String> =
                    fields.iter().map(|(name, kind)| format!("{name}: {}", kind.type_text())).collect();
                format!("struct<{}>", fields.join(", "))
            }
            Self::Nothing | Self::Text | Self::Struct(_) => "string".to_owned(),
        }
    }
}

fn kind_of_text(text: &str) -> Kind {
    if text.is_empty() {
        return Kind::Nothing;
    }
    if matches!(text, "true" | "false" | "True" | "False" | "TRUE" | "FALSE") {
        return Kind::Bool;
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    let padded = digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0.");
    let numeric = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') && !padded;
    if numeric && text.parse::<i64>().is_ok() {
        return Kind::Int;
    }
    if numeric && text.parse::<f64>().is_ok_and(f64::is_finite) {
        return Kind::Float;
    }
    // Decode itself says what it takes for a time, or a draft would promise what ingest then refuses.
    let text = text.as_bytes();
    if values::date(text).is_some() {
        return Kind::Date;
    }
    if values::timestamp(text, false).is_some() {
        return Kind::Timestamp;
    }
    if values::timestamp(text, true).is_some() { Kind::Instant } else { Kind::Text }
}

fn kind_of_json(value: &Value) -> Kind {
    match value {
        Value::Null => Kind::Nothing,
        Value::Bool(_) => Kind::Bool,
        Value::Number(number) if number.is_i64() => Kind::Int,
        Value::Number(_) => Kind::Float,
        // Digits in quotes are meant as text.
        Value::String(text) => match kind_of_text(text) {
            kind @ (Kind::Date | Kind::Timestamp | Kind::Instant) => kind,
            _ => Kind::Text,
        },
        Value::Array(items) => {
            let joined = items.iter().map(kind_of_json).fold(Kind::Nothing, Kind::join);
            Kind::List(Box::new(joined))
        }
        Value::Object(fields) => {
            Kind::Struct(fields.iter().map(|(name, value)| (name.clone(), kind_of_json(value))).collect())
        }
    }
}

/// The columns of JSON lines, in order of first appearance.
pub(super) fn json_columns(sample: &str) -> Vec<DraftColumn> {
    let mut columns: Vec<(String, Kind)> = Vec::new();
    let objects = sample.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    for object in objects.take(RECORDS_MAX) {
        let Value::Object(fields) = object else { continue };
        for (name, value) in fields {
            let kind = kind_of_json(&value);
            match columns.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) => *known = std::mem::replace(known, Kind::Nothing).join(kind),
                None => columns.push((name, kind)),
            }
        }
    }
    named(columns.into_iter().map(|(name, kind)| (name, kind.type_text())))
}

/// How delimited text is written, and its columns.
pub(super) fn csv_columns(sample: &str) -> (CsvOptions, Vec<DraftColumn>) {
    let mut lines = sample.lines().filter(|line| !line.trim().is_empty());
    let Some(first) = lines.next() else { return (CsvOptions::default(), Vec::new()) };
    let count = |delimiter: &u8| fields(first, *delimiter).len();
    let delimiter = DELIMITERS.into_iter().rev().max_by_key(count).expect("there are some");
    let first = fields(first, delimiter);
    let is_title = |field: &String| matches!(kind_of_text(field.trim()), Kind::Text);
    let header = first.iter().all(is_title);
    let mut options = CsvOptions { delimiter, header, ..CsvOptions::default() };
    options.quote = Some(b'"');
    let mut kinds = vec![Kind::Nothing; first.len()];
    let headless = (!header).then(|| first.clone());
    let records = headless.into_iter().chain(lines.map(|line| fields(line, delimiter)));
    let width = kinds.len();
    for record in records.take(RECORDS_MAX).filter(|record| record.len() == width) {
        for (kind, field) in kinds.iter_mut().zip(&record) {
            *kind = std::mem::replace(kind, Kind::Nothing).join(kind_of_text(field));
        }
    }
    let title = |(index, field): (usize, String)| if header { field } else { format!("column_{}", index + 1) };
    let titles = first.into_iter().enumerate().map(title);
    let columns = named(titles.zip(kinds.iter().map(Kind::type_text)));
    (options, columns)
}

/// The fields of one line.
fn fields(line: &str, delimiter: u8) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        let field = fields.last_mut().expect("never empty");
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                field.push('"');
                chars.next();
            }
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            c if !quoted && c == char::from(delimiter) => fields.push(String::new()),
            c => field.push(c),
        }
    }
    fields
}
