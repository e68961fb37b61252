//! Which columns are searched, and as what. A searched field narrows down what is read and never decides: what it can't hold
//! is named in the document's `unindexed`, and every query lets such documents through (H8).

use std::io::Write as _;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use serde_json::{Map, Value, json};

use crate::document::push_number;
use crate::exact::POSITION_COLUMNS;
use crate::whole;

/// Most columns that are searched: every one costs memory in the cluster's state.
const COLUMNS_MAX: usize = 500;
/// Longest text that is searched, in bytes. Lucene takes up to 32,766.
pub(crate) const TEXT_MAX: usize = 1_024;
/// Times further from 1970 than this, in milliseconds, are not searched.
const MILLIS_MAX: i64 = 8_640_000_000_000_000;

/// How a column's values are searched. Each but texts keeps their order, so that a comparison loses none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Searched {
    /// Whole numbers.
    Long,
    /// Finite numbers, the nearest of a decimal.
    Double,
    /// Milliseconds since 1970, rounded down.
    Date,
    /// Texts, in order of their bytes.
    Keyword,
    /// Booleans.
    Boolean,
}

impl Searched {
    fn of(data_type: &DataType) -> Option<Self> {
        Some(match data_type {
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => Self::Long,
            DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => Self::Long,
            DataType::Float32 | DataType::Float64 => Self::Double,
            DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) => Self::Double,
            DataType::Timestamp(..) | DataType::Date32 => Self::Date,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Self::Keyword,
            DataType::Boolean => Self::Boolean,
            _ => return None,
        })
    }

    fn type_name(self) -> &'static str {
        match self {
            Self::Long => "long",
            Self::Double => "double",
            Self::Date => "date",
            Self::Keyword => "keyword",
            Self::Boolean => "boolean",
        }
    }

    /// The values in the one type in which they are written. What it can't hold is null.
    pub(crate) fn values(self, column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
        match self {
            Self::Long => cast(column, &DataType::Int64),
            Self::Double => cast(column, &DataType::Float64),
            Self::Date => Ok(Arc::new(millis(column)?)),
            Self::Keyword => cast(column, &DataType::Utf8),
            Self::Boolean => Ok(Arc::clone(column)),
        }
    }

    /// Writes the value at `row` as JSON; false if it can't be searched.
    pub(crate) fn write(self, values: &ArrayRef, row: usize, to: &mut Vec<u8>) -> bool {
        if values.is_null(row) {
            return false;
        }
        match self {
            Self::Long => push_number(values.as_primitive::<Int64Type>().value(row), to),
            Self::Date => match values.as_primitive::<Int64Type>().value(row) {
                millis if millis.unsigned_abs() > MILLIS_MAX.unsigned_abs() => return false,
                millis => push_number(millis, to),
            },
            Self::Double => match values.as_primitive::<Float64Type>().value(row) {
                // the shortest text that is read as the same number
                value if value.is_finite() => write!(to, "{value:?}").expect("memory takes all bytes"),
                _ => return false,
            },
            Self::Boolean => {
                let text = if values.as_boolean().value(row) { "true" } else { "false" };
                to.extend_from_slice(text.as_bytes());
            }
            Self::Keyword => {
                let text = values.as_string::<i32>().value(row);
                if text.len() > TEXT_MAX {
                    return false;
                }
                serde_json::to_writer(to, text).expect("a text is JSON, and memory takes all bytes");
            }
        }
        true
    }
}

/// Milliseconds since 1970, rounded down.
fn millis(column: &ArrayRef) -> Result<Int64Array, ArrowError> {
    let (multiply, divide) = match column.data_type() {
        DataType::Date32 => (86_400_000, 1),
        DataType::Timestamp(TimeUnit::Second, _) => (1_000, 1),
        DataType::Timestamp(TimeUnit::Microsecond, _) => (1, 1_000),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => (1, 1_000_000),
        _ => (1, 1),
    };
    let column = match column.data_type() {
        DataType::Date32 => cast(column, &DataType::Int32)?,
        _ => Arc::clone(column),
    };
    let numbers = cast(&column, &DataType::Int64)?;
    let numbers = numbers.as_primitive::<Int64Type>();
    Ok(numbers.iter().map(|number| number?.checked_mul(multiply).map(|number| number.div_euclid(divide))).collect())
}

/// A column that is searched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SearchedColumn {
    /// Its place in the schema.
    pub(crate) index: usize,
    /// Its name.
    pub(crate) name: String,
    /// How.
    pub(crate) searched: Searched,
    /// Its type, strings as they are held.
    pub(crate) data_type: DataType,
    /// What is searched rounds its values, and they stand beside it as whole numbers ([`whole`]).
    pub(crate) whole: bool,
}

/// The searched columns of a view.
#[derive(Debug)]
pub(crate) struct Mapping {
    pub(crate) columns: Vec<SearchedColumn>,
}

impl Mapping {
    /// Of rows of `schema`, that of a curated table.
    pub(crate) fn of(schema: &Schema) -> Self {
        let count = schema.fields().len().saturating_sub(POSITION_COLUMNS);
        let fields = schema.fields().iter().take(count).enumerate();
        let searched = fields.filter(|(_, field)| is_plain(field.name())).filter_map(|(index, field)| {
            let (name, data_type) = (field.name().clone(), field.data_type().clone());
            let whole = whole::has_whole(&data_type);
            Searched::of(&data_type).map(|searched| SearchedColumn { index, name, searched, data_type, whole })
        });
        Self { columns: searched.take(COLUMNS_MAX).collect() }
    }

    /// The column of a name.
    pub(crate) fn column(&self, name: &str) -> Option<&SearchedColumn> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// `mappings` of a row index; `meta` says whose it is. Nothing is ever mapped because it was met. `_source` is kept as it
    /// came: to leave something out of it, the cluster makes each document anew and keeps the whole beside it for recovery,
    /// which takes a quarter more processor time and a tenth more bytes (measured).
    pub(crate) fn mappings(&self, meta: &Value) -> Value {
        let field = |column: &SearchedColumn| {
            let mut field = json!({"type": column.searched.type_name()});
            if column.searched == Searched::Date {
                field["format"] = json!("epoch_millis");
            }
            (column.name.clone(), field)
        };
        let row: Map<String, Value> = self.columns.iter().map(field).collect();
        let number = |column: &SearchedColumn| (column.name.clone(), json!({"type": "long", "index": false}));
        let whole: Map<String, Value> = self.columns.iter().filter(|column| column.whole).map(number).collect();
        json!({
            "dynamic": "strict",
            "_meta": {"tidemark": meta},
            "properties": {
                "offset": {"type": "long"},
                "kind": {"type": "keyword"},
                "reason": {"type": "keyword"},
                "unindexed": {"type": "keyword"},
                "exact": {"type": "binary", "doc_values": true},
                "reject": {"type": "object", "enabled": false},
                "row": {"dynamic": "strict", "properties": row},
                "whole": {"dynamic": "strict", "properties": whole},
            },
        })
    }
}

/// True for names that mean themselves as the name of a field.
fn is_plain(name: &str) -> bool {
    let legal = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | ' ');
    !name.is_empty() && name.len() <= 200 && name.trim() == name && name.chars().all(legal)
}

/// A schema as text, and back.
pub(crate) fn schema_text(schema: &Schema) -> Result<String, ArrowError> {
    use base64::Engine as _;
    let mut bytes = Vec::new();
    arrow::ipc::writer::StreamWriter::try_new(&mut bytes, schema)?.finish()?;
    Ok(base64::engine::general_purpose::STANDARD.encode(bytes))
}

/// The schema of a [`schema_text`].
pub(crate) fn schema_of_text(text: &str) -> Result<SchemaRef, ArrowError> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(text);
    let bytes = bytes.map_err(|error| ArrowError::ParseError(error.to_string()))?;
    Ok(arrow::ipc::reader::StreamReader::try_new(std::io::Cursor::new(bytes), None)?.schema())
}
