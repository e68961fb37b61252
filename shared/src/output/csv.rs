//! Comma-separated values with a header; null is the empty field.

use std::io::Write;

use crate::sql::{AsOf, Stats};
use arrow::array::ArrayRef;
use arrow::compute::cast;
use arrow::csv::WriterBuilder;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;

use super::text::texts;
use super::{OutputError, RowWriter};

pub(super) struct CsvWriter<W> {
    out: W,
    /// Text of one batch. Arrow's writer would make a text of an error of `out`, and a closed pipe could not be told.
    buffer: Vec<u8>,
}

impl<W: Write> CsvWriter<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, buffer: Vec::new() }
    }

    fn write(&mut self, batch: &RecordBatch, header: bool) -> Result<(), OutputError> {
        self.buffer.clear();
        WriterBuilder::new().with_header(header).build(&mut self.buffer).write(batch)?;
        Ok(self.out.write_all(&self.buffer)?)
    }
}

impl<W: Write + Send> RowWriter for CsvWriter<W> {
    fn begin(&mut self, schema: &SchemaRef, _: &AsOf) -> Result<(), OutputError> {
        // The header is written with the first batch, be it empty.
        let names: Vec<_> = schema.fields().iter().map(|f| Field::new(f.name(), DataType::Utf8, true)).collect();
        self.write(&RecordBatch::new_empty(Schema::new(names).into()), true)
    }

    fn rows(&mut self, batch: &RecordBatch) -> Result<(), OutputError> {
        let columns = batch.columns().iter().map(flat).collect::<Result<Vec<_>, _>>()?;
        let fields = batch
            .schema()
            .fields()
            .iter()
            .zip(&columns)
            .map(|(field, column)| Field::new(field.name(), column.data_type().clone(), true))
            .collect::<Vec<_>>();
        self.write(&RecordBatch::try_new(Schema::new(fields).into(), columns)?, false)
    }

    fn end(&mut self, _: &Stats) -> Result<(), OutputError> {
        Ok(self.out.flush()?)
    }
}

/// A list or struct as its JSON text, for a field of a CSV record holds no other nesting; a date or time as the text that
/// every one of them has.
fn flat(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match column.data_type() {
        DataType::Dictionary(_, value) => flat(&cast(column, value)?),
        DataType::RunEndEncoded(_, value) => flat(&cast(column, value.data_type())?),
        kind if kind.is_nested() || kind.is_temporal() => texts(column),
        _ => Ok(std::sync::Arc::clone(column)),
    }
}
