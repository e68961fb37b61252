//! The one row sink of text formats: a record is appended whole or becomes a reject.

use std::sync::Arc;

use arrow::array::{ArrayRef, new_null_array};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use bytes::Bytes;

use super::columns::{ColumnBuilder, Refused};
use super::{Decoded, RawRecords};
use crate::dataset::InputColumn;
use crate::reject::{REJECT_BYTES_MAX, Reason, Reject};

/// Longest value shown in a reject's message, in bytes. The record itself is kept beside it.
const SHOWN_BYTES_MAX: usize = 80;

/// Why a record was refused, before its position and bytes are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) reason: Reason,
    /// Index of the input column at fault.
    pub(crate) column: Option<usize>,
    pub(crate) message: String,
}

impl Fault {
    pub(crate) fn record(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, column: None, message: message.into() }
    }
}

/// `bytes` as a reject keeps them.
pub(crate) fn kept_bytes(bytes: &Bytes) -> Bytes {
    // A slice would keep the whole chunk alive for as long as the reject lives.
    Bytes::copy_from_slice(&bytes[..bytes.len().min(REJECT_BYTES_MAX)])
}

/// A field's text for a message: shortened, and with what is not text made visible.
pub(crate) fn shown(text: &[u8]) -> String {
    let mut cut = String::new();
    for c in String::from_utf8_lossy(&text[..text.len().min(SHOWN_BYTES_MAX)]).chars() {
        if c.is_control() { cut.extend(c.escape_default()) } else { cut.push(c) }
    }
    if text.len() > SHOWN_BYTES_MAX { format!("{cut}…") } else { cut }
}

/// The columns of a batch under construction.
#[derive(Debug)]
pub(crate) struct Sink {
    schema: SchemaRef,
    required: Vec<bool>,
    columns: Vec<ColumnBuilder>,
    /// Columns that the input does not have at all: they are all null and cost nothing a row.
    absent: Vec<bool>,
    rows: usize,
}

impl Sink {
    /// A sink with room for `rows` rows. The columns' types are known to be supported.
    pub(crate) fn new(columns: &[InputColumn], schema: &SchemaRef, absent: &[bool], rows: usize) -> Self {
        let builder = |(column, absent): (&InputColumn, &bool)| {
            let room = if *absent { 0 } else { rows };
            ColumnBuilder::new(&column.data_type, room).expect("open refuses types that text can't decode to")
        };
        Self {
            schema: Arc::clone(schema),
            required: columns.iter().map(|column| column.required).collect(),
            columns: columns.iter().zip(absent).map(builder).collect(),
            absent: absent.to_vec(),
            rows: 0,
        }
    }

    pub(crate) fn column_mut(&mut self, index: usize) -> &mut ColumnBuilder {
        &mut self.columns[index]
    }

    /// Appends the value of an unquoted or quoted field, after null values were told apart.
    #[inline]
    pub(crate) fn push_field(&mut self, index: usize, field: &[u8], quoted: bool) -> Result<(), Fault> {
        let column = &mut self.columns[index];
        let mut text = field;
        if !column.is_text() {
            text = trimmed(field);
            if text.is_empty() {
                return self.push_null(index);
            }
        } else if text.is_empty() && !quoted {
            return self.push_null(index);
        }
        column.push_text(text).map_err(|Refused| self.bad_value(index, field))
    }

    /// Appends a null, unless the column is required.
    pub(crate) fn push_null(&mut self, index: usize) -> Result<(), Fault> {
        if self.required[index] {
            return Err(Fault { reason: Reason::Missing, column: Some(index), message: "no value".to_owned() });
        }
        self.columns[index].push_null();
        Ok(())
    }

    #[cold]
    pub(crate) fn bad_value(&self, index: usize, text: &[u8]) -> Fault {
        let message = format!("not a value of type {}: {}", self.schema.field(index).data_type(), shown(text));
        Fault { reason: Reason::BadValue, column: Some(index), message }
    }

    /// Ends the record: every present column got one value.
    #[inline]
    pub(crate) fn commit(&mut self) {
        self.rows += 1;
    }

    /// Takes back what the record left in the columns.
    pub(crate) fn roll_back(&mut self) {
        let rows = self.rows;
        self.columns.iter_mut().for_each(|column| column.truncate(rows));
    }

    fn finish(self) -> Result<RecordBatch, ArrowError> {
        let rows = self.rows;
        let arrays = self.columns.into_iter().zip(&self.absent).zip(self.schema.fields());
        let array = |((column, absent), field): ((ColumnBuilder, &bool), &Arc<arrow::datatypes::Field>)| {
            if *absent { Ok(new_null_array(field.data_type(), rows)) } else { column.finish() }
        };
        let arrays = arrays.map(array).collect::<Result<Vec<ArrayRef>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(self.schema, arrays, &options)
    }
}

fn trimmed(text: &[u8]) -> &[u8] {
    // Most fields have no space at either end.
    match text {
        [b' ' | b'\t', ..] | [.., b' ' | b'\t'] => text.trim_ascii(),
        _ => text,
    }
}

/// The original bytes of the rows of a batch under construction.
#[derive(Debug)]
pub(crate) enum RawBuilder {
    /// Runs of one text.
    Text { base_offset: u64, bytes: Bytes, lengths: Vec<u32> },
    /// Records of their own.
    Records(Vec<Bytes>),
}

/// A batch under construction: rows, their positions and bytes, and the rejects between them.
#[derive(Debug)]
pub(crate) struct BatchBuilder {
    pub(crate) sink: Sink,
    offsets: Vec<u64>,
    raw: RawBuilder,
    rejects: Vec<Reject>,
}

impl BatchBuilder {
    pub(crate) fn new(sink: Sink, raw: RawBuilder, rows: usize) -> Self {
        Self { sink, offsets: Vec::with_capacity(rows), raw, rejects: Vec::new() }
    }

    /// Rows and rejects so far.
    pub(crate) fn records(&self) -> usize {
        self.offsets.len() + self.rejects.len()
    }

    /// Ends the record that was just parsed into the sink.
    #[inline]
    pub(crate) fn end_record(
        &mut self,
        offset: u64,
        record: &Bytes,
        range: std::ops::Range<usize>,
        parsed: Result<(), Fault>,
    ) {
        match parsed {
            Ok(()) => {
                self.sink.commit();
                self.offsets.push(offset);
                match &mut self.raw {
                    RawBuilder::Text { lengths, .. } => {
                        lengths.push(u32::try_from(range.len()).expect("records are below the limit of decode"));
                    }
                    RawBuilder::Records(records) => records.push(record.slice(range)),
                }
            }
            Err(fault) => self.reject(offset, &record.slice(range), fault),
        }
    }

    /// Turns the record into a reject.
    #[cold]
    pub(crate) fn reject(&mut self, offset: u64, record: &Bytes, fault: Fault) {
        self.sink.roll_back();
        let column = fault.column.map(|index| self.sink.schema.field(index).name().clone());
        let bytes = kept_bytes(record);
        self.rejects.push(Reject { offset, reason: fault.reason, column, message: fault.message, bytes });
    }

    /// The finished batch.
    pub(crate) fn finish(self) -> Result<Decoded, ArrowError> {
        let raw = match self.raw {
            RawBuilder::Text { base_offset, bytes, lengths } => RawRecords::Text { base_offset, bytes, lengths },
            RawBuilder::Records(records) => RawRecords::Records(records),
        };
        Ok(Decoded { batch: self.sink.finish()?, offsets: self.offsets, raw, rejects: self.rejects })
    }
}
