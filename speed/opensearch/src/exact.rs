//! Rows as bytes from which every value comes back as it was: NaN with its bits, 64-bit integers, decimals, times before
//! 1970, lists in lists. Arrow's row format, which is decoded straight into columns. Views are made anew from log and
//! archive, so the form needs to be read only by builds that name it alike ([`FORMAT`]).

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, StringViewArray};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows, SortField};
use tidemark_shared::curated::with_string_views;
use tidemark_shared::live::as_schema;
use tidemark_shared::position::LogPartition;

/// Form of the indices and of the rows in them. Another number where either changes.
pub(crate) const FORMAT: &str = "2-arrow59";

/// Columns at the end of every row that its document says in other ways: source, partition, offset.
pub(crate) const POSITION_COLUMNS: usize = 3;

/// Rows to bytes, and back.
#[derive(Debug)]
pub(crate) struct ExactRows {
    held: SchemaRef,
    read: SchemaRef,
    encoder: RowConverter,
    decoder: RowConverter,
}

impl ExactRows {
    /// For rows of `schema`, that of a curated table.
    pub(crate) fn new(schema: &SchemaRef) -> Result<Self, ArrowError> {
        let read = with_string_views(schema);
        let converter = |schema: &Schema| {
            let columns = schema.fields().len().saturating_sub(POSITION_COLUMNS);
            let fields = schema.fields().iter().take(columns);
            RowConverter::new(fields.map(|field| SortField::new(field.data_type().clone())).collect())
        };
        Ok(Self { encoder: converter(schema)?, decoder: converter(&read)?, held: Arc::clone(schema), read })
    }

    /// Schema of rows as they are held.
    pub(crate) fn held(&self) -> &SchemaRef {
        &self.held
    }

    /// Schema of rows as they are read.
    pub(crate) fn read(&self) -> &SchemaRef {
        &self.read
    }

    /// The rows with the types that the view holds.
    pub(crate) fn as_held(&self, rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        as_schema(rows, &self.held)
    }

    /// Each row's bytes, of rows as they are held.
    pub(crate) fn encode(&self, rows: &RecordBatch) -> Result<Rows, ArrowError> {
        let columns = rows.num_columns().saturating_sub(POSITION_COLUMNS);
        self.encoder.convert_columns(&rows.columns()[..columns])
    }

    /// Rows of a partition from their offsets and bytes, which must be those of [`ExactRows::encode`].
    pub(crate) fn decode(
        &self,
        partition: &LogPartition,
        offsets: Vec<i64>,
        rows: &[Vec<u8>],
    ) -> Result<RecordBatch, ArrowError> {
        let count = offsets.len();
        let parser = self.decoder.parser();
        let mut columns = self.decoder.convert_rows(rows.iter().map(|row| parser.parse(row)))?;
        let source = std::iter::repeat_n(partition.source.as_str(), count);
        columns.push(Arc::new(StringViewArray::from_iter_values(source)) as ArrayRef);
        columns.push(Arc::new(Int64Array::from_value(i64::from(partition.partition), count)));
        columns.push(Arc::new(Int64Array::from(offsets)));
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        RecordBatch::try_new_with_options(Arc::clone(&self.read), columns, &options)
    }
}
