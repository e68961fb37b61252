//! Answers as multisets of texts, and whether two are the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringViewArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use serde_json::Value;
use tidemark_shared::hex;
use tidemark_shared::output::texts;

use super::AuditError;

/// What a value is compared as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// As a number, exactly.
    Exact,
    /// As a double.
    Float,
    /// As its text.
    Text,
}

impl Kind {
    pub(super) fn of(data_type: &DataType) -> Self {
        match data_type {
            DataType::Decimal32(..) | DataType::Decimal64(..) => Self::Exact,
            DataType::Decimal128(..) | DataType::Decimal256(..) => Self::Exact,
            other if other.is_integer() => Self::Exact,
            other if other.is_floating() => Self::Float,
            _ => Self::Text,
        }
    }
}

/// A row: `None` is null.
pub(super) type Row = Vec<Option<String>>;

/// The rows of batches, in the texts that [`same`] compares.
pub(super) fn rows_of(batches: &[RecordBatch]) -> Result<(Vec<Kind>, Vec<Row>), AuditError> {
    let Some(first) = batches.first() else { return Ok((Vec::new(), Vec::new())) };
    let kinds: Vec<Kind> = first.schema().fields().iter().map(|field| Kind::of(field.data_type())).collect();
    let mut rows = Vec::new();
    for batch in batches {
        let texts = batch.columns().iter().map(as_answered).collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            let cell = |column: &ArrayRef| column.is_valid(row).then(|| column.as_string_view().value(row).to_owned());
            rows.push(texts.iter().map(cell).collect());
        }
    }
    Ok((kinds, rows))
}

/// The texts of a column as the HTTP API has them: also of days that no calendar holds, and of bytes that are no text.
fn as_answered(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match column.data_type() {
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            let values = cast(column, &DataType::BinaryView)?;
            let texts = values.as_binary_view().iter().map(|value| value.map(hex));
            Ok(Arc::new(texts.collect::<StringViewArray>()))
        }
        _ => texts(column),
    }
}

/// The rows of an answer as the HTTP API gave them.
pub(super) fn rows_of_json(rows: &[Vec<Value>]) -> Vec<Row> {
    let cell = |value: &Value| match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    rows.iter().map(|row| row.iter().map(cell).collect()).collect()
}

/// Rows that only one side has, at most a few of each: (only in the answer, only derived). `None`: the same. Behind its
/// columns, a derived row may have for each of its doubles how far it may be off; without that, they are compared exactly.
pub(super) fn difference(kinds: &[Kind], answered: Vec<Row>, derived: Vec<Row>) -> Option<(Vec<Row>, Vec<Row>)> {
    const SHOWN_MAX: usize = 5;
    let mut left: BTreeMap<Row, i64> = BTreeMap::new();
    let (mut floats_answered, mut floats_derived) = (Vec::new(), Vec::new());
    let has_floats = kinds.contains(&Kind::Float);
    for (rows, sign, floats) in [(answered, 1, &mut floats_answered), (derived, -1, &mut floats_derived)] {
        for row in rows {
            let row = canonical(kinds, row);
            if has_floats {
                floats.push(row);
            } else {
                *left.entry(row).or_default() += sign;
            }
        }
    }
    if has_floats {
        return float_difference(kinds, floats_answered, floats_derived);
    }
    let side = |sign: i64| -> Vec<Row> {
        left.iter().filter(|(_, count)| **count * sign > 0).map(|(row, _)| row.clone()).take(SHOWN_MAX).collect()
    };
    let (only_answered, only_derived) = (side(1), side(-1));
    (!only_answered.is_empty() || !only_derived.is_empty()).then_some((only_answered, only_derived))
}

/// With doubles: rows in the order of their exact columns, then of their doubles, are compared one by one.
fn float_difference(kinds: &[Kind], mut answered: Vec<Row>, mut derived: Vec<Row>) -> Option<(Vec<Row>, Vec<Row>)> {
    let order = |row: &Row| -> (Vec<Option<String>>, Vec<u64>) {
        let exact = row.iter().zip(kinds).filter(|(_, kind)| **kind != Kind::Float).map(|(cell, _)| cell.clone());
        let floats = row.iter().zip(kinds).filter(|(_, kind)| **kind == Kind::Float);
        (exact.collect(), floats.map(|(cell, _)| sortable(cell.as_deref())).collect())
    };
    answered.sort_by_cached_key(order);
    derived.sort_by_cached_key(order);
    let alike = |a: &Row, b: &Row| {
        let mut tolerances = b.iter().skip(kinds.len());
        let mut cells = a.iter().zip(b).zip(kinds);
        a.len() == kinds.len()
            && b.len() >= kinds.len()
            && cells.all(|((a, b), kind)| same(*kind, a, b, &mut tolerances))
    };
    let differing = answered.iter().zip(&derived).find(|(a, b)| !alike(a, b));
    match differing {
        Some((a, b)) => Some((vec![a.clone()], vec![b.iter().take(kinds.len()).cloned().collect()])),
        None if answered.len() == derived.len() => None,
        None => {
            let common = answered.len().min(derived.len());
            let rest = |rows: &[Row]| {
                let row = rows.get(common).map(|row| row.iter().take(kinds.len()).cloned().collect());
                row.into_iter().collect()
            };
            Some((rest(&answered), rest(&derived)))
        }
    }
}

/// The order of a double as an integer.
fn sortable(cell: Option<&str>) -> u64 {
    let Some(value) = cell.and_then(|text| text.parse::<f64>().ok()) else { return 0 };
    let bits = value.to_bits();
    if value.is_sign_negative() { !bits } else { bits | (1 << 63) }
}

/// Takes the next of `tolerances` for a double.
fn same<'a>(
    kind: Kind,
    a: &Option<String>,
    b: &Option<String>,
    tolerances: &mut impl Iterator<Item = &'a Option<String>>,
) -> bool {
    if kind != Kind::Float {
        return a == b;
    }
    let number = |cell: &Option<String>| cell.as_ref().and_then(|text| text.parse::<f64>().ok());
    let tolerance = tolerances.next().and_then(number).unwrap_or(0.0);
    match (number(a), number(b)) {
        // Reading an answer's JSON may be off by one unit in the last place.
        (Some(a), Some(b)) if a.is_finite() && b.is_finite() => (a - b).abs() <= tolerance.max(a.abs() * f64::EPSILON),
        // Infinity and not-a-number have several texts.
        (Some(a), Some(b)) => a == b || (a.is_nan() && b.is_nan()),
        _ => a == b,
    }
}

/// Exact numbers lose the zeros that do not count: `12.30` is `12.3`.
fn canonical(kinds: &[Kind], row: Row) -> Row {
    let cell = |(index, cell): (usize, Option<String>)| match kinds.get(index) {
        Some(Kind::Exact) => cell.map(|text| exact(&text)),
        _ => cell,
    };
    row.into_iter().enumerate().map(cell).collect()
}

/// A decimal text in its shortest form.
pub(super) fn exact(text: &str) -> String {
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let whole = whole.trim_start_matches('0');
    let fraction = fraction.trim_end_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    match (whole, fraction) {
        ("0", "") => "0".to_owned(),
        (whole, "") => format!("{sign}{whole}"),
        (whole, fraction) => format!("{sign}{whole}.{fraction}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(texts: &[&[&str]]) -> Vec<Row> {
        texts.iter().map(|row| row.iter().map(|cell| Some((*cell).to_owned())).collect()).collect()
    }

    #[test]
    fn rows_are_a_multiset() {
        let kinds = [Kind::Text, Kind::Exact];
        let a = rows(&[&["x", "1.50"], &["y", "2"], &["x", "1.5"]]);
        let b = rows(&[&["y", "2.0"], &["x", "1.5"], &["x", "01.5"]]);
        assert_eq!(difference(&kinds, a.clone(), b.clone()), None);
        let (only_a, only_b) = difference(&kinds, a, b[..2].to_vec()).expect("one row more");
        assert_eq!((only_a, only_b), (rows(&[&["x", "1.5"]]), Vec::new()));
    }

    #[test]
    fn texts_keep_their_zeros_and_doubles_their_tolerance() {
        assert!(difference(&[Kind::Text], rows(&[&["07"]]), rows(&[&["7"]])).is_some());
        let float =
            |answered: &str, derived: &[&str]| difference(&[Kind::Float], rows(&[&[answered]]), rows(&[derived]));
        assert_eq!(float("0.5", &["0.50"]), None);
        assert_eq!(float("0.30000000000000004", &["0.3"]), None, "one unit in the last place");
        assert!(float("0.3000000000000002", &["0.3"]).is_some(), "as it is, it is exact");
        assert_eq!(float("0.3000000000000002", &["0.3", "1e-15"]), None);
        // What cancels out leaves little, and what it was made of decides.
        assert_eq!(float("1e-7", &["0.0", "1e-6"]), None);
        assert!(float("1000000000.5", &["1000000000.4", "1e-6"]).is_some());
        let (_, derived) = float("0.4", &["0.3", "1e-15"]).expect("too far");
        assert_eq!(derived, rows(&[&["0.3"]]), "the tolerance is no part of the row");
        let kinds = [Kind::Text, Kind::Float, Kind::Float];
        let answered = rows(&[&["b", "2", "0.1"], &["a", "1", "0.1"]]);
        assert_eq!(
            difference(&kinds, answered, rows(&[&["a", "1.1", "0.1", "0.2", "0"], &["b", "2", "0.1", "0", "0"]])),
            None
        );
    }

    #[test]
    fn exact_numbers_have_one_form() {
        for (text, wanted) in [("0", "0"), ("-0.00", "0"), ("007", "7"), ("-12.340", "-12.34"), (".5", "0.5")] {
            assert_eq!(exact(text), wanted, "{text}");
        }
    }
}
