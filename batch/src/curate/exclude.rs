//! Takes the rows of withdrawn and replaced files out of a curated table: data files that may hold some are written
//! again without them.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray};
use arrow::compute::{CastOptions, cast_with_options, filter_record_batch};
use arrow::datatypes::{Int64Type, SchemaRef};
use arrow::error::ArrowError;
use arrow::util::display::FormatOptions;
use deltalake::kernel::{LogicalFileView, Remove};
use futures::StreamExt as _;
use object_store::path::Path;
use parquet::arrow::ProjectionMask;
use parquet::arrow::async_reader::ParquetRecordBatchStream;
use tidemark_shared::position::{FILES_SOURCE, PARTITION_COLUMN, SOURCE_COLUMN};

use crate::curated::read::{ObjectReader, open_parquet};
use crate::curated::table::TableHead;
use crate::curated::writer::TableWriter;
use crate::error::BatchError;

/// A value that does not fit is an error, never null.
const STRICT: CastOptions<'static> = CastOptions { safe: false, format_options: FormatOptions::new() };

/// What went.
#[derive(Default)]
pub(crate) struct Gone {
    pub(crate) rows: u64,
    pub(crate) removes: Vec<Remove>,
}

/// Writes every data file that holds rows of `numbers` again without them, and names the old ones. `schema` is the
/// table's, partition columns included.
///
/// A file is read twice: once for its position columns alone, to see whether it changes at all, and then in full,
/// batch by batch, so that memory does not grow with its size.
pub(crate) async fn rewrite_without(
    table: &TableHead,
    schema: &SchemaRef,
    numbers: &[u64],
    writer: &mut TableWriter,
) -> Result<Gone, BatchError> {
    let numbers: BTreeSet<i64> = numbers.iter().filter_map(|n| i64::try_from(*n).ok()).collect();
    let mut gone = Gone::default();
    for view in table.snapshot.log_data().iter().filter(|view| may_hold(view, &numbers)) {
        let mut removed = 0;
        let mut positions = open(table, &view, &[SOURCE_COLUMN, PARTITION_COLUMN]).await?;
        while let Some(batch) = positions.next().await {
            let batch = batch.map_err(|error| BatchError::object(&key(table, &view), error))?;
            removed += keep_mask(table, &view, &batch, &numbers)?.false_count();
        }
        if removed == 0 {
            continue;
        }
        let mut rows = open(table, &view, &[]).await?;
        while let Some(batch) = rows.next().await {
            let batch = batch.map_err(|error| BatchError::object(&key(table, &view), error))?;
            let kept = filter_record_batch(&batch, &keep_mask(table, &view, &batch, &numbers)?)?;
            let rows = with_partition_values(schema, &kept, &view);
            let rows = rows.map_err(|error| damaged(table, &view, &error.to_string()))?;
            writer.write(&rows).await?;
        }
        gone.rows += removed as u64;
        gone.removes.push(view.remove_action(true));
    }
    Ok(gone)
}

/// Reads a data file: these columns, or all if none is named.
pub(crate) async fn open(
    table: &TableHead,
    view: &LogicalFileView,
    columns: &[&str],
) -> Result<ParquetRecordBatchStream<ObjectReader>, BatchError> {
    let path = key(table, view);
    let builder = open_parquet(&table.objects, path.clone(), u64::try_from(view.size()).unwrap_or(0)).await?;
    let mask = match columns {
        [] => ProjectionMask::all(),
        _ => ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied()),
    };
    builder.with_projection(mask).build().map_err(|error| BatchError::object(&path, error))
}

pub(crate) fn key(table: &TableHead, view: &LogicalFileView) -> Path {
    table.root.parts().chain(view.object_store_path().parts()).collect()
}

pub(crate) fn damaged(table: &TableHead, view: &LogicalFileView, what: &str) -> BatchError {
    BatchError::Damaged { dataset: table.dataset.clone(), what: format!("{}: {what}", key(table, view)) }
}

/// By the file's bounds of `_partition`; a file without bounds may hold anything.
fn may_hold(view: &LogicalFileView, numbers: &BTreeSet<i64>) -> bool {
    let Some(stats) = view.stats().and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok()) else {
        return true;
    };
    let bound = |side: &str| stats.get(side)?.get(PARTITION_COLUMN)?.as_i64();
    match (bound("minValues"), bound("maxValues")) {
        (Some(min), Some(max)) => numbers.range(min..=max).next().is_some(),
        _ => true,
    }
}

fn keep_mask(
    table: &TableHead,
    view: &LogicalFileView,
    batch: &RecordBatch,
    numbers: &BTreeSet<i64>,
) -> Result<BooleanArray, BatchError> {
    mask(batch, numbers).ok_or_else(|| damaged(table, view, "it lacks its position columns"))
}

fn mask(batch: &RecordBatch, numbers: &BTreeSet<i64>) -> Option<BooleanArray> {
    let partitions = batch.column_by_name(PARTITION_COLUMN)?.as_primitive_opt::<Int64Type>()?;
    let sources = arrow::compute::cast(batch.column_by_name(SOURCE_COLUMN)?, &arrow::datatypes::DataType::Utf8).ok()?;
    let sources = sources.as_string_opt::<i32>()?;
    let keep = |row: usize| sources.value(row) != FILES_SOURCE || !numbers.contains(&partitions.value(row));
    Some((0..batch.num_rows()).map(|row| Some(keep(row))).collect())
}

/// Adds the partition columns, which a data file does not have, from its entry in the Delta log.
pub(crate) fn with_partition_values(
    schema: &SchemaRef,
    batch: &RecordBatch,
    view: &LogicalFileView,
) -> Result<RecordBatch, ArrowError> {
    let values = view.partition_values_map();
    let columns = schema.fields().iter().map(|field| -> Result<ArrayRef, ArrowError> {
        if let Some(column) = batch.column_by_name(field.name()) {
            return cast_with_options(column, field.data_type(), &STRICT);
        }
        let value = values.get(field.name()).cloned().flatten();
        Ok(Arc::new(StringArray::from_iter(std::iter::repeat_n(value, batch.num_rows()))))
    });
    let columns: Vec<ArrayRef> = columns.collect::<Result<_, _>>()?;
    debug_assert!(columns.iter().all(|c| c.len() == batch.num_rows()));
    RecordBatch::try_new(Arc::clone(schema), columns)
}
