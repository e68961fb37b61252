//! Column types as they are written in `dataset.toml`.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields};

use super::{TIMESTAMP_UNIT, nearest};

/// Deepest nesting of lists and structs.
const DEPTH_MAX: usize = 8;
/// Most digits of a decimal.
const DIGITS_MAX: u8 = 38;

pub(super) const NAMES: [&str; 14] = [
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "float32",
    "float64",
    "decimal",
    "string",
    "date",
    "timestamp",
    "timestamptz",
    "binary",
    "list",
];

/// Names of other systems, and ours for them.
const FOREIGN: [(&str, &str); 16] = [
    ("boolean", "bool"),
    ("int", "int64"),
    ("integer", "int64"),
    ("bigint", "int64"),
    ("long", "int64"),
    ("smallint", "int16"),
    ("float", "float64"),
    ("double", "float64"),
    ("real", "float32"),
    ("numeric", "decimal(18,2)"),
    ("text", "string"),
    ("varchar", "string"),
    ("str", "string"),
    ("datetime", "timestamp"),
    ("bytes", "binary"),
    ("array", "list<…>"),
];

/// Why a type is not one, and what might have been meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TypeProblem {
    pub(crate) message: String,
    pub(crate) suggestion: Option<String>,
}

/// The Arrow type that `text` names.
pub(crate) fn parse_type(text: &str) -> Result<DataType, TypeProblem> {
    let mut rest = text.trim();
    let data_type = one_type(&mut rest, 0)?;
    if rest.trim().is_empty() { Ok(data_type) } else { Err(problem(format!("unexpected `{}`", rest.trim()))) }
}

/// How `data_type` is written; the inverse of [`parse_type`].
pub(crate) fn type_text(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "bool".to_owned(),
        DataType::Float32 => "float32".to_owned(),
        DataType::Float64 => "float64".to_owned(),
        DataType::Utf8 => "string".to_owned(),
        DataType::Binary => "binary".to_owned(),
        DataType::Date32 => "date".to_owned(),
        DataType::Timestamp(_, None) => "timestamp".to_owned(),
        DataType::Timestamp(_, Some(_)) => "timestamptz".to_owned(),
        DataType::Decimal128(precision, scale) => format!("decimal({precision},{scale})"),
        DataType::List(item) => format!("list<{}>", type_text(item.data_type())),
        DataType::Struct(fields) => {
            let mut text = "struct<".to_owned();
            for (index, field) in fields.iter().enumerate() {
                let comma = if index == 0 { "" } else { ", " };
                write!(text, "{comma}{}: {}", field.name(), type_text(field.data_type()))
                    .expect("writing to a string can't fail");
            }
            text + ">"
        }
        other => other.to_string().to_lowercase(),
    }
}

fn problem(message: String) -> TypeProblem {
    TypeProblem { message, suggestion: None }
}

fn one_type(rest: &mut &str, depth: usize) -> Result<DataType, TypeProblem> {
    if depth > DEPTH_MAX {
        return Err(problem(format!("nested deeper than {DEPTH_MAX}")));
    }
    let name = word(rest);
    Ok(match name {
        "bool" => DataType::Boolean,
        "int8" => DataType::Int8,
        "int16" => DataType::Int16,
        "int32" => DataType::Int32,
        "int64" => DataType::Int64,
        "float32" => DataType::Float32,
        "float64" => DataType::Float64,
        "string" => DataType::Utf8,
        "binary" => DataType::Binary,
        "date" => DataType::Date32,
        "timestamp" => DataType::Timestamp(TIMESTAMP_UNIT, None),
        "timestamptz" => DataType::Timestamp(TIMESTAMP_UNIT, Some("UTC".into())),
        "decimal" => decimal(rest)?,
        "list" => {
            expect(rest, '<')?;
            let item = one_type(rest, depth + 1)?;
            expect(rest, '>')?;
            DataType::List(Arc::new(Field::new("element", item, true)))
        }
        "struct" => structure(rest, depth)?,
        other => return Err(unknown(other)),
    })
}

fn unknown(name: &str) -> TypeProblem {
    let known = |suggestion: &str| Some(format!("did you mean `{suggestion}`?"));
    let lower = name.to_lowercase();
    let foreign = FOREIGN.iter().find(|(theirs, _)| *theirs == lower).map(|(_, ours)| *ours);
    let near = foreign.or_else(|| nearest(name, NAMES.into_iter().chain(["struct"])));
    TypeProblem { message: format!("unknown type `{name}`"), suggestion: near.and_then(known) }
}

fn decimal(rest: &mut &str) -> Result<DataType, TypeProblem> {
    let hint = || TypeProblem {
        message: format!("a decimal has 1 to {DIGITS_MAX} digits, of which at most all are after the point"),
        suggestion: Some("write it like decimal(10,2)".to_owned()),
    };
    expect(rest, '(').map_err(|_| hint())?;
    let precision: u8 = word(rest).parse().map_err(|_| hint())?;
    expect(rest, ',').map_err(|_| hint())?;
    let scale: i8 = word(rest).parse().map_err(|_| hint())?;
    expect(rest, ')').map_err(|_| hint())?;
    let fits = (1..=DIGITS_MAX).contains(&precision) && u8::try_from(scale).is_ok_and(|scale| scale <= precision);
    if fits { Ok(DataType::Decimal128(precision, scale)) } else { Err(hint()) }
}

fn structure(rest: &mut &str, depth: usize) -> Result<DataType, TypeProblem> {
    expect(rest, '<')?;
    let mut fields: Vec<Field> = Vec::new();
    loop {
        let name = word(rest);
        if name.is_empty() || fields.iter().any(|field| field.name() == name) {
            return Err(problem("a struct's fields need names that differ: struct<a: int64, b: string>".to_owned()));
        }
        expect(rest, ':')?;
        fields.push(Field::new(name, one_type(rest, depth + 1)?, true));
        if expect(rest, ',').is_err() {
            expect(rest, '>')?;
            return Ok(DataType::Struct(Fields::from(fields)));
        }
    }
}

fn word<'a>(rest: &mut &'a str) -> &'a str {
    let text = rest.trim_start();
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    let (word, after) = text.split_at(end);
    *rest = after;
    word
}

fn expect(rest: &mut &str, sign: char) -> Result<(), TypeProblem> {
    match rest.trim_start().strip_prefix(sign) {
        Some(after) => {
            *rest = after;
            Ok(())
        }
        None => Err(problem(format!("`{sign}` is missing in the type"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_round_trip_through_their_text() {
        for text in [
            "bool",
            "int8",
            "int64",
            "float32",
            "decimal(10,2)",
            "string",
            "date",
            "timestamp",
            "timestamptz",
            "binary",
            "list<int32>",
            "struct<a: int64, b: list<struct<c: string>>>",
        ] {
            assert_eq!(type_text(&parse_type(text).expect(text)), text);
        }
    }

    #[test]
    fn a_wrong_type_is_refused_with_what_was_meant() {
        for (text, message, suggestion) in [
            ("int", "unknown type `int`", Some("did you mean `int64`?")),
            ("timstamp", "unknown type `timstamp`", Some("did you mean `timestamp`?")),
            (
                "decimal",
                "a decimal has 1 to 38 digits, of which at most all are after the point",
                Some("write it like decimal(10,2)"),
            ),
            (
                "decimal(3,4)",
                "a decimal has 1 to 38 digits, of which at most all are after the point",
                Some("write it like decimal(10,2)"),
            ),
            ("list<int32", "`>` is missing in the type", None),
            ("string x", "unexpected `x`", None),
            ("struct<a: int8, a: int8>", "a struct's fields need names that differ: struct<a: int64, b: string>", None),
            ("", "unknown type ``", None),
        ] {
            let found = parse_type(text).expect_err(text);
            assert_eq!((found.message.as_str(), found.suggestion.as_deref()), (message, suggestion), "{text}");
        }
        assert!(parse_type(&"list<".repeat(10_000)).is_err());
    }
}
