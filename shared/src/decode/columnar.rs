//! Columnar inputs: batches with the file's own schema → the input schema, value by value.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatchOptions, new_null_array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::WriterBuilder;
use arrow::json::writer::LineDelimited;
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::Bytes;

use super::convert::{convert, lost_rows};
use super::header::Matching;
use super::rows::{Fault, kept_bytes, shown};
use super::{Decoded, Notes, RawRecords};
use crate::dataset::InputColumn;
use crate::reject::{Reason, Reject};

/// How a file's columns become input columns.
#[derive(Debug)]
pub(crate) struct ColumnarPlan {
    columns: Vec<InputColumn>,
    schema: SchemaRef,
    /// For each input column, which of the columns that are read feeds it.
    sources: Vec<Option<usize>>,
    /// Indices in the file's schema of the columns that are read, ascending.
    pub(crate) roots: Vec<usize>,
}

impl ColumnarPlan {
    /// Matches by name. Fails with [`Reason::BadFile`] where a required column is missing or none is known.
    pub(crate) fn new(
        file: &Schema,
        columns: &[InputColumn],
        schema: &SchemaRef,
        notes: &mut Notes,
    ) -> Result<Self, Fault> {
        let names: Vec<String> = file.fields().iter().map(|field| field.name().clone()).collect();
        let matching = Matching::by_name(&names, columns, notes)?;
        let mut sources = vec![None; columns.len()];
        let mut roots = Vec::new();
        for (root, target) in matching.targets.iter().enumerate() {
            if let Some(column) = target {
                sources[*column] = Some(roots.len());
                roots.push(root);
            }
        }
        Ok(Self { columns: columns.to_vec(), schema: Arc::clone(schema), sources, roots })
    }

    /// Converts rows that were read with the columns `roots` of the file. The first of them is row `first_row`.
    pub(crate) fn decode(&self, read: &RecordBatch, first_row: u64) -> Result<Decoded, ArrowError> {
        let mut arrays = Vec::with_capacity(self.columns.len());
        let mut faults: BTreeMap<usize, Fault> = BTreeMap::new();
        for (index, column) in self.columns.iter().enumerate() {
            let Some(source) = self.sources[index] else {
                arrays.push(new_null_array(&column.data_type, read.num_rows()));
                continue;
            };
            let source = read.column(source);
            let array = convert(source, &column.data_type)?;
            for row in lost_rows(source, &array) {
                faults.entry(row).or_insert_with(|| bad_value(index, column, source, row));
            }
            if column.required && source.logical_null_count() > 0 {
                for row in (0..source.len()).filter(|row| is_null(source, *row)) {
                    let fault = || Fault { reason: Reason::Missing, column: Some(index), message: "no value".into() };
                    faults.entry(row).or_insert_with(fault);
                }
            }
            arrays.push(array);
        }
        self.without_faults(read, arrays, first_row, &faults)
    }

    fn without_faults(
        &self,
        read: &RecordBatch,
        arrays: Vec<ArrayRef>,
        first_row: u64,
        faults: &BTreeMap<usize, Fault>,
    ) -> Result<Decoded, ArrowError> {
        let rows = read.num_rows();
        let offsets = (0..rows).filter(|row| !faults.contains_key(row)).map(|row| first_row + row as u64).collect();
        let reject = |(row, fault): (&usize, &Fault)| Reject {
            offset: first_row + *row as u64,
            reason: fault.reason.clone(),
            column: fault.column.map(|index| self.columns[index].name.clone()),
            message: fault.message.clone(),
            bytes: kept_bytes(&row_json(read, *row)),
        };
        let rejects = faults.iter().map(reject).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        // Rows that are about to go may hold nulls where the schema has none, so the check comes after them.
        let fields = self.schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        let loose = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let mut batch = RecordBatch::try_new_with_options(loose, arrays, &options)?;
        if !faults.is_empty() {
            let kept: BooleanArray = (0..rows).map(|row| Some(!faults.contains_key(&row))).collect();
            batch = filter_record_batch(&batch, &kept)?;
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), batch.columns().to_vec(), &options)?;
        Ok(Decoded { batch, offsets, raw: RawRecords::Columnar, rejects })
    }

    /// No rows and one reject: the part of the file from row `row` on can't be read.
    pub(crate) fn unreadable(&self, row: u64, message: String) -> Decoded {
        let reject = Reject { offset: row, reason: Reason::BrokenStream, column: None, message, bytes: Bytes::new() };
        Decoded {
            batch: RecordBatch::new_empty(Arc::clone(&self.schema)),
            offsets: Vec::new(),
            raw: RawRecords::Columnar,
            rejects: vec![reject],
        }
    }
}

/// A row as a JSON object on one line, nulls left out: what stands for a columnar record's original bytes.
#[must_use]
pub fn row_json(batch: &RecordBatch, row: usize) -> Bytes {
    let mut json = Vec::new();
    let mut writer = WriterBuilder::new().build::<_, LineDelimited>(&mut json);
    let written = writer.write(&batch.slice(row, 1)).and_then(|()| writer.finish());
    drop(writer);
    if written.is_err() {
        // A type that JSON has no form for: show the values as text.
        json.clear();
        for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
            let line = format!("{}={} ", field.name(), value_text(column, row));
            json.write_all(line.as_bytes()).expect("a vector takes all bytes");
        }
    }
    while json.last().is_some_and(u8::is_ascii_whitespace) {
        json.pop();
    }
    Bytes::from(json)
}

fn is_null(array: &ArrayRef, row: usize) -> bool {
    array.logical_nulls().is_some_and(|nulls| nulls.is_null(row))
}

fn value_text(array: &ArrayRef, row: usize) -> String {
    let options = FormatOptions::default().with_display_error(true);
    ArrayFormatter::try_new(array.as_ref(), &options).map_or_else(|_| "?".to_owned(), |f| f.value(row).to_string())
}

fn bad_value(index: usize, column: &InputColumn, source: &ArrayRef, row: usize) -> Fault {
    let text = value_text(source, row);
    let message =
        format!("not a value of type {}: {} ({})", column.data_type, shown(text.as_bytes()), source.data_type());
    Fault { reason: Reason::BadValue, column: Some(index), message }
}
