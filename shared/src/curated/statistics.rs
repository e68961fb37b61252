//! A file's statistics as the Delta log has them (JSON) → DataFusion's.

use std::sync::{Arc, OnceLock};

use arrow::datatypes::{DataType, Schema, SchemaRef, TimeUnit};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};
use serde::Deserialize;
use serde_json::{Map, Value};

/// Most decimal digits that a double, as which JSON numbers are read, carries exactly.
const EXACT_DIGITS: u8 = 15;

/// The form of `add.stats`; fields that the log may hold besides are of no use here.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Stats {
    #[serde(rename = "numRecords")]
    rows: Option<usize>,
    #[serde(rename = "minValues")]
    min: Map<String, Value>,
    #[serde(rename = "maxValues")]
    max: Map<String, Value>,
    #[serde(rename = "nullCount")]
    nulls: Map<String, Value>,
}

/// The only one of [`Stats`] that every file is asked for.
#[derive(Default, Deserialize)]
#[serde(default)]
struct RowCount {
    #[serde(rename = "numRecords")]
    rows: Option<u64>,
}

/// A file's statistics, read from the log's text when somebody first asks: most files are decided by their partition
/// values, and reading the bounds of all columns of all files takes longer than planning.
#[derive(Debug, Clone)]
pub struct LogStatistics {
    json: Option<String>,
    schema: SchemaRef,
    read: OnceLock<Arc<Statistics>>,
}

impl LogStatistics {
    pub(super) fn new(json: Option<String>, schema: SchemaRef) -> Self {
        Self { json, schema, read: OnceLock::new() }
    }

    /// Row count, and per column of the table's schema null count and bounds, where the log has them. A bound need not
    /// occur in the file, but no value is outside.
    #[must_use]
    pub fn get(&self) -> &Arc<Statistics> {
        self.read.get_or_init(|| Arc::new(file_statistics(self.json.as_deref(), &self.schema)))
    }

    /// Rows in the file, where the log says so.
    pub(super) fn rows(&self) -> Option<u64> {
        let count: RowCount = serde_json::from_str(self.json.as_deref()?).unwrap_or_default();
        count.rows
    }
}

/// Statistics over `schema`. What is missing or unreadable is absent, never an error: statistics only save work.
fn file_statistics(json: Option<&str>, schema: &Schema) -> Statistics {
    let stats: Stats = json.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
    let mut statistics = Statistics::new_unknown(schema);
    statistics.num_rows = stats.rows.map_or(Precision::Absent, Precision::Exact);
    for (column, field) in statistics.column_statistics.iter_mut().zip(schema.fields()) {
        let name = field.name().as_str();
        let nulls = stats.nulls.get(name).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
        let bound = |value: Option<ScalarValue>| value.map_or(Precision::Absent, Precision::Exact);
        *column = ColumnStatistics {
            null_count: nulls.map_or(Precision::Absent, Precision::Exact),
            min_value: bound(stats.min.get(name).and_then(|value| scalar(value, field.data_type()))),
            max_value: bound(stats.max.get(name).and_then(|value| widened(value, field.data_type()))),
            ..ColumnStatistics::new_unknown()
        };
    }
    statistics
}

/// A value of the log's JSON as a scalar of type `to`; `None` where that could lose something.
fn scalar(value: &Value, to: &DataType) -> Option<ScalarValue> {
    let text = match (value, to) {
        (Value::Bool(flag), DataType::Boolean) => return Some(ScalarValue::Boolean(Some(*flag))),
        (Value::Number(number), DataType::Float32 | DataType::Float64) => {
            return ScalarValue::Float64(number.as_f64()).cast_to(to).ok();
        }
        (Value::Number(number), DataType::Decimal128(precision, _)) if *precision <= EXACT_DIGITS => number.to_string(),
        (Value::Number(number), _) if to.is_integer() => number.to_string(),
        (Value::String(text), DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8) => text.clone(),
        (Value::String(text), DataType::Date32 | DataType::Timestamp(..)) => text.clone(),
        _ => return None,
    };
    ScalarValue::Utf8(Some(text)).cast_to(to).ok().filter(|scalar| !scalar.is_null())
}

/// [`scalar`] for an upper bound: the log's times are cut to milliseconds, so the bound is the end of that millisecond.
fn widened(value: &Value, to: &DataType) -> Option<ScalarValue> {
    let scalar = scalar(value, to)?;
    match (scalar, to) {
        (ScalarValue::TimestampMicrosecond(Some(micros), zone), DataType::Timestamp(TimeUnit::Microsecond, _)) => {
            Some(ScalarValue::TimestampMicrosecond(Some(micros.saturating_add(999)), zone))
        }
        (scalar, _) => Some(scalar),
    }
}
