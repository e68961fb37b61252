//! Records of a partition as documents: a row, a reject, or one that the transform's `WHERE` dropped.

use std::io::Write as _;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use arrow::error::ArrowError;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::{Value, json};
use tidemark_shared::live::LiveBatch;
use tidemark_shared::position::{LogPartition, OFFSET_COLUMN};
use tidemark_shared::reject::Reject;

use crate::exact::ExactRows;
use crate::mapping::{Mapping, SearchedColumn};
use crate::whole;

/// In `unindexed`: no column is searched.
pub(crate) const ALL_COLUMNS: &str = "*";

/// A document, and where it belongs.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    /// The record.
    pub(crate) offset: u64,
    /// Its JSON, in one line.
    pub(crate) text: Vec<u8>,
    /// Where in it begins what is searched only; `None` if there is nothing of the kind.
    searched_at: Option<usize>,
}

impl Document {
    /// Of a record that the transform's `WHERE` dropped.
    pub(crate) fn filtered(offset: u64) -> Self {
        Self { offset, text: format!("{{\"offset\":{offset},\"kind\":\"filtered\"}}").into_bytes(), searched_at: None }
    }

    /// Bytes of its text, if it is one of a row.
    pub(crate) fn row_bytes(&self) -> Option<u64> {
        self.searched_at.map(|_| self.text.len() as u64)
    }

    /// The document without searched columns: no value of a row can be a reason to refuse it. `None` if it has none.
    pub(crate) fn bare(&self) -> Option<Self> {
        let mut text = self.text[..self.searched_at?].to_vec();
        write!(text, ",\"unindexed\":[\"{ALL_COLUMNS}\"]}}").expect("memory takes all bytes");
        Some(Self { offset: self.offset, text, searched_at: None })
    }
}

/// A document's id: the record's position, so that writing it twice is writing it once (H3).
pub(crate) fn document_id(partition: &LogPartition, offset: u64) -> String {
    format!("{partition}/{offset}")
}

/// What the records of `batch` from offset `from` on became, in order of offset.
pub(crate) fn documents(
    batch: &LiveBatch,
    from: u64,
    rows: &ExactRows,
    mapping: &Mapping,
) -> Result<Vec<Document>, ArrowError> {
    let mut documents = Vec::new();
    for part in &batch.rows {
        row_documents(&rows.as_held(part)?, from, rows, mapping, &mut documents)?;
    }
    let rejects = batch.rejects.iter().filter(|reject| reject.offset >= from);
    documents.extend(rejects.map(reject_document));
    let filtered = batch.filtered.iter().copied().filter(|offset| *offset >= from);
    documents.extend(filtered.map(Document::filtered));
    documents.sort_by_key(|document| document.offset);
    Ok(documents)
}

fn row_documents(
    rows: &RecordBatch,
    from: u64,
    exact: &ExactRows,
    mapping: &Mapping,
    documents: &mut Vec<Document>,
) -> Result<(), ArrowError> {
    let offsets = rows.column_by_name(OFFSET_COLUMN).expect("every view's rows have their position");
    let offsets = offsets.as_primitive::<Int64Type>().clone();
    let columns = mapping.columns.iter().map(|column| column.searched.values(rows.column(column.index)));
    let columns: Vec<ArrayRef> = columns.collect::<Result<_, _>>()?;
    let whole = mapping.columns.iter().filter(|column| column.whole).map(|column| Whole::of(column, rows));
    let whole: Vec<Whole<'_>> = whole.collect::<Result<_, _>>()?;
    let keys: Vec<String> = mapping.columns.iter().map(|column| json_key(&column.name)).collect();
    let encoded = exact.encode(rows)?;
    // rows of a dataset are about as long as one another
    let mut bytes_guess = 256;
    for row in 0..rows.num_rows() {
        let offset = u64::try_from(offsets.value(row)).expect("offsets are not negative");
        if offset < from {
            continue;
        }
        let mut text = Vec::with_capacity(bytes_guess);
        text.extend_from_slice(b"{\"offset\":");
        push_number(offset, &mut text);
        text.extend_from_slice(b",\"kind\":\"row\",\"exact\":\"");
        push_base64(encoded.row(row).as_ref(), &mut text);
        text.push(b'"');
        let searched_at = Some(text.len());
        let unindexed = write_searched(rows, row, mapping, &keys, &columns, &mut text);
        write_whole(rows, row, &whole, unindexed, &mut text);
        text.push(b'}');
        bytes_guess = text.len().next_multiple_of(64);
        documents.push(Document { offset, text, searched_at });
    }
    Ok(())
}

/// A name as the key of a JSON object, with its colon.
fn json_key(name: &str) -> String {
    format!("{}:", Value::from(name))
}

/// Appends a whole number in digits, without the detour by `write!`: each record has several.
pub(crate) fn push_number(number: impl Serialize, to: &mut Vec<u8>) {
    serde_json::to_writer(to, &number).expect("a number is JSON, and memory takes all bytes");
}

/// Appends bytes in base64, without a text of their own in between.
fn push_base64(bytes: &[u8], to: &mut Vec<u8>) {
    let start = to.len();
    to.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let written = STANDARD.encode_slice(bytes, &mut to[start..]).expect("there is room for four bytes for every three");
    to.truncate(start + written);
}

/// A column's values as whole numbers.
struct Whole<'a> {
    column: &'a SearchedColumn,
    /// Its [`json_key`].
    key: String,
    values: Int64Array,
}

impl<'a> Whole<'a> {
    fn of(column: &'a SearchedColumn, rows: &RecordBatch) -> Result<Self, ArrowError> {
        Ok(Self { column, key: json_key(&column.name), values: whole::values(rows.column(column.index))? })
    }
}

/// Writes `row`; returns the columns whose value is there and can't be searched.
fn write_searched<'a>(
    rows: &RecordBatch,
    row: usize,
    mapping: &'a Mapping,
    keys: &[String],
    columns: &[ArrayRef],
    text: &mut Vec<u8>,
) -> Vec<&'a str> {
    let mut unindexed = Vec::new();
    text.extend_from_slice(b",\"row\":{");
    let mut first = true;
    for ((column, key), values) in mapping.columns.iter().zip(keys).zip(columns) {
        if rows.column(column.index).is_null(row) {
            continue;
        }
        let before = text.len();
        if !first {
            text.push(b',');
        }
        text.extend_from_slice(key.as_bytes());
        if column.searched.write(values, row, text) {
            first = false;
        } else {
            text.truncate(before);
            unindexed.push(column.name.as_str());
        }
    }
    text.push(b'}');
    unindexed
}

/// Writes `whole`, and `unindexed` with what it can't hold either.
fn write_whole<'a>(
    rows: &RecordBatch,
    row: usize,
    whole: &[Whole<'a>],
    mut unindexed: Vec<&'a str>,
    text: &mut Vec<u8>,
) {
    let mut before = ",\"whole\":{";
    for Whole { column, key, values } in whole {
        if rows.column(column.index).is_null(row) || unindexed.contains(&column.name.as_str()) {
            continue;
        }
        if values.is_null(row) {
            unindexed.push(&column.name);
            continue;
        }
        text.extend_from_slice(before.as_bytes());
        text.extend_from_slice(key.as_bytes());
        push_number(values.value(row), text);
        before = ",";
    }
    if before == "," {
        text.push(b'}');
    }
    if !unindexed.is_empty() {
        write!(text, ",\"unindexed\":{}", json!(unindexed)).expect("memory takes all bytes");
    }
}

fn reject_document(reject: &Reject) -> Document {
    let document = json!({
        "offset": reject.offset,
        "kind": "reject",
        "reason": reject.reason.code(),
        "reject": {"column": reject.column, "message": reject.message, "bytes": STANDARD.encode(&reject.bytes)},
    });
    Document { offset: reject.offset, text: document.to_string().into_bytes(), searched_at: None }
}
