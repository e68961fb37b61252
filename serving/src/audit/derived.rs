//! Derived rows, kept in temporary Parquet files so that memory does not grow with the dataset.

use std::fs::File;
use std::sync::Arc;

use arrow::array::{Array, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion::execution::SessionStateBuilder;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use tempfile::TempDir;
use tidemark_shared::position::{FILES_SOURCE, LogPartition, OFFSET_COLUMN, PARTITION_COLUMN, SOURCE_COLUMN, Source};
use tidemark_shared::sql::mended;

use super::AuditError;
use super::master::Cuts;

/// The interval of a row; see [`Cuts::interval`].
pub(super) const INTERVAL_COLUMN: &str = "_interval";
/// Name of the table of derived rows.
pub(super) const TABLE: &str = "derived";

/// Writes derived rows down.
pub(super) struct DerivedRows {
    folder: TempDir,
    schema: SchemaRef,
    writer: ArrowWriter<File>,
    rows: u64,
}

impl DerivedRows {
    pub(super) fn create(table: &Schema) -> Result<Self, AuditError> {
        let folder = TempDir::with_prefix("tidemark-audit-")?;
        let interval = Arc::new(Field::new(INTERVAL_COLUMN, DataType::Int64, false));
        let schema = Arc::new(Schema::new(table.fields().iter().cloned().chain([interval]).collect::<Vec<_>>()));
        let file = File::create(folder.path().join("rows.parquet"))?;
        // Without bounds nothing is pruned: what pruning does is for the audit to find.
        let properties = WriterProperties::builder().set_statistics_enabled(EnabledStatistics::None).build();
        let writer = ArrowWriter::try_new(file, Arc::clone(&schema), Some(properties)).map_err(derive)?;
        Ok(Self { folder, schema, writer, rows: 0 })
    }

    /// Takes rows of the dataset's table schema; each gets its interval among `cuts`.
    pub(super) fn push(&mut self, batch: &RecordBatch, cuts: &Cuts) -> Result<(), AuditError> {
        let intervals = intervals(batch, cuts)?;
        let columns = batch.columns().iter().cloned().chain([Arc::new(intervals) as _]).collect();
        self.rows += batch.num_rows() as u64;
        self.writer.write(&RecordBatch::try_new(Arc::clone(&self.schema), columns)?).map_err(derive)
    }

    /// Ends the writing; a session that knows the rows as [`TABLE`].
    pub(super) async fn finish(self) -> Result<Derived, AuditError> {
        self.writer.close().map_err(derive)?;
        let plain = SessionStateBuilder::new().with_config(SessionConfig::new()).with_default_features();
        let context = SessionContext::new_with_state(mended(plain)?);
        let path = self.folder.path().join("rows.parquet");
        let options = ParquetReadOptions::default().schema(self.schema.as_ref());
        context.register_parquet(TABLE, path.to_string_lossy(), options).await?;
        Ok(Derived { context, _folder: self.folder, rows: self.rows })
    }
}

/// Derived rows that can be asked.
pub(super) struct Derived {
    pub(super) context: SessionContext,
    /// Goes when the rows do.
    _folder: TempDir,
    pub(super) rows: u64,
}

impl Derived {
    pub(super) async fn ask(&self, sql: &str) -> Result<Vec<RecordBatch>, AuditError> {
        Ok(self.context.sql(sql).await?.collect().await?)
    }
}

fn derive(error: parquet::errors::ParquetError) -> AuditError {
    AuditError::Derive { reason: error.to_string() }
}

fn intervals(batch: &RecordBatch, cuts: &Cuts) -> Result<Int64Array, AuditError> {
    let lacking = || AuditError::Derive { reason: "rows without their position".to_owned() };
    let column = |name: &str| batch.column_by_name(name).ok_or_else(lacking);
    let sources = column(SOURCE_COLUMN)?.as_string::<i32>();
    let partitions = column(PARTITION_COLUMN)?.as_primitive::<Int64Type>();
    let offsets = column(OFFSET_COLUMN)?.as_primitive::<Int64Type>();
    if batch.num_rows() == 0 {
        return Ok(Int64Array::from(Vec::<i64>::new()));
    }
    // A batch is of one source and partition.
    if sources.value(0) == FILES_SOURCE {
        return Ok(Int64Array::from_value(0, batch.num_rows()));
    }
    let source = Source::topic(sources.value(0)).map_err(|error| AuditError::Derive { reason: error.to_string() })?;
    let partition = LogPartition { source, partition: u32::try_from(partitions.value(0)).map_err(|_| lacking())? };
    let interval = |offset: &i64| cuts.interval(&partition, u64::try_from(*offset).unwrap_or(0)) as i64;
    debug_assert_eq!(offsets.null_count(), 0);
    Ok(Int64Array::from_iter_values(offsets.values().iter().map(interval)))
}
