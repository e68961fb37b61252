//! A curated version as a DataFusion table: Parquet files of the Delta log's active set, pruned by partition and bounds.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, Result, ScalarValue, Statistics};
use datafusion::config::TableParquetOptions;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;

use super::judged::JudgedFiles;
use super::pruning::{decided_by_partition, matching_partitions, possible_by_bounds, project};
use super::version::{CuratedVersion, DataFile};

/// Under this address a session's runtime finds the store of curated files. A session that wants to count or limit
/// reads registers its own wrapper there first; otherwise a scan registers the version's store.
pub const STORE_URL: &str = "tidemark://store";

/// Bytes read at a file's end in one request, in the hope that the whole footer is among them. More would save a
/// request on wide tables, and read a good part of a small file in vain.
const FOOTER_BYTES: usize = 16 * 1024;

/// [`TableProvider`] over one [`CuratedVersion`].
#[derive(Debug)]
pub struct CuratedTable {
    version: Arc<CuratedVersion>,
    /// What queries see: the table's columns in their order, strings as views.
    schema: SchemaRef,
    /// The same columns as a scan yields them: those in the files, then the partition columns.
    scan_schema: TableSchema,
    partitions: SchemaRef,
    /// Per file, the values of `partitions`.
    partition_values: Vec<Vec<ScalarValue>>,
}

impl CuratedTable {
    /// The table of `version`.
    ///
    /// # Errors
    /// A partition column that the schema lacks, or a partition value its column's type can't hold.
    pub fn try_new(version: Arc<CuratedVersion>) -> Result<Self> {
        let schema = with_string_views(&version.schema);
        let partitions = project(&schema, &version.partition_columns)?;
        let in_files: Vec<FieldRef> = schema
            .fields()
            .iter()
            .filter(|field| !version.partition_columns.contains(field.name()))
            .map(Arc::clone)
            .collect();
        let scan_schema = TableSchema::builder(Arc::new(Schema::new(in_files)))
            .with_table_partition_cols(partitions.fields().clone())
            .build();
        let value = |file: &DataFile, field: &FieldRef| {
            let text = file.partition_values.get(field.name()).cloned().flatten();
            ScalarValue::Utf8(text).cast_to(field.data_type())
        };
        let values = |file| partitions.fields().iter().map(|field| value(file, field)).collect::<Result<Vec<_>>>();
        let partition_values = version.files.iter().map(values).collect::<Result<Vec<_>>>()?;
        Ok(Self { version, schema, scan_schema, partitions, partition_values })
    }

    /// The version behind the table.
    #[must_use]
    pub fn version(&self) -> &Arc<CuratedVersion> {
        &self.version
    }

    /// The partition columns.
    pub(super) fn partitions(&self) -> &SchemaRef {
        &self.partitions
    }

    /// Per file, the values of the partition columns.
    pub(super) fn partition_values(&self) -> &[Vec<ScalarValue>] {
        &self.partition_values
    }

    /// The files that can hold rows which satisfy `filters`, as indices into the version's files.
    fn select(&self, session: &dyn Session, filters: &[Expr]) -> Result<Vec<usize>> {
        let (by_partition, others): (Vec<_>, Vec<_>) =
            filters.iter().cloned().partition(|filter| decided_by_partition(filter, &self.version.partition_columns));
        let matching = matching_partitions(session, &by_partition, &self.partitions, &self.partition_values)?;
        let matching: Vec<usize> = (0..matching.len()).filter(|file| matching[*file]).collect();
        if others.is_empty() || matching.is_empty() {
            return Ok(matching);
        }
        let bounds = matching.iter().map(|file| self.scan_statistics(*file)).collect();
        let possible = possible_by_bounds(session, &others, self.scan_schema.table_schema(), bounds)?;
        Ok(matching.into_iter().zip(possible).filter_map(|(file, possible)| possible.then_some(file)).collect())
    }

    /// Statistics of a file over the scan's schema.
    fn scan_statistics(&self, file: usize) -> Arc<Statistics> {
        self.partitioned_file(file).statistics.expect("every file is given statistics")
    }

    fn partitioned_file(&self, file: usize) -> PartitionedFile {
        let data = &self.version.files[file];
        let mut statistics = Statistics::clone(data.statistics.get());
        statistics.column_statistics = self
            .version
            .schema
            .fields()
            .iter()
            .zip(statistics.column_statistics)
            .filter(|(field, _)| !self.version.partition_columns.contains(field.name()))
            .map(|(field, mut column)| {
                let to = string_view(field.data_type());
                let cast = |bound: Precision<ScalarValue>| match bound.get_value().map(|value| value.cast_to(&to)) {
                    Some(Ok(value)) => Precision::Exact(value),
                    _ => Precision::Absent,
                };
                column.min_value = cast(column.min_value);
                column.max_value = cast(column.max_value);
                column
            })
            .collect();
        let values = &self.partition_values[file];
        let mut partitioned = PartitionedFile::new_from_meta(data.object.clone())
            .with_partition_values(values.clone())
            .with_statistics(Arc::new(statistics));
        // DataFusion claims that a partition column holds no null; a file of the null partition holds nothing else.
        if let Some(statistics) = partitioned.statistics.as_mut().filter(|_| values.iter().any(ScalarValue::is_null)) {
            let columns = &mut Arc::make_mut(statistics).column_statistics;
            let first = columns.len() - values.len();
            for (column, _) in columns[first..].iter_mut().zip(values).filter(|(_, value)| value.is_null()) {
                *column = ColumnStatistics::new_unknown();
            }
        }
        partitioned
    }

    /// [`Self::partitioned_file`] for a scan: bounds are estimates there, since they need not occur in the file and a
    /// `min()` must not be answered by them. Row and null counts are exact.
    fn scanned_file(&self, file: usize) -> PartitionedFile {
        let mut scanned = self.partitioned_file(file);
        if let Some(statistics) = scanned.statistics.as_mut() {
            for column in &mut Arc::make_mut(statistics).column_statistics {
                column.min_value = std::mem::take(&mut column.min_value).to_inexact();
                column.max_value = std::mem::take(&mut column.max_value).to_inexact();
            }
        }
        scanned
    }

    /// Row count of `files`; the columns' statistics are left to the files.
    fn total(&self, files: &[usize]) -> Statistics {
        let mut total = Statistics::new_unknown(self.scan_schema.table_schema());
        let rows: Option<u64> = files.iter().map(|file| self.version.files[*file].rows).sum();
        let rows = rows.and_then(|rows| usize::try_from(rows).ok());
        total.num_rows = rows.map_or(Precision::Absent, Precision::Exact);
        total
    }

    /// A projection of `schema` as one of the scan's schema.
    fn scan_projection(&self, projection: Option<&Vec<usize>>) -> Result<Vec<usize>> {
        let all: Vec<usize> = (0..self.schema.fields().len()).collect();
        let scan = self.scan_schema.table_schema();
        let columns = projection.unwrap_or(&all);
        columns.iter().map(|column| Ok(scan.index_of(self.schema.field(*column).name())?)).collect()
    }
}

#[async_trait]
impl TableProvider for CuratedTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let decided = |filter: &&Expr| decided_by_partition(filter, &self.version.partition_columns);
        Ok(filters
            .iter()
            .map(|filter| match decided(filter) {
                true => TableProviderFilterPushDown::Exact,
                false => TableProviderFilterPushDown::Inexact,
            })
            .collect())
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let url = ObjectStoreUrl::parse(STORE_URL)?;
        let runtime = session.runtime_env();
        let store = match runtime.object_store(&url) {
            Ok(store) => store,
            Err(_) => {
                let _previous = runtime.register_object_store(url.as_ref(), Arc::clone(&self.version.objects));
                runtime.object_store(&url)?
            }
        };
        let columns = self.scan_projection(projection)?;
        let mut files = self.select(session, filters)?;
        // DataFusion passes a limit only if no filter is left to it, so the first rows of any files will do.
        if let Some(limit) = limit
            && filters.iter().all(|filter| decided_by_partition(filter, &self.version.partition_columns))
        {
            files = self.enough_for(files, limit as u64);
        }
        if files.is_empty() {
            return Ok(Arc::new(EmptyExec::new(Arc::new(self.scan_schema.table_schema().project(&columns)?))));
        }
        let options = TableParquetOptions {
            global: session.config_options().execution.parquet.clone(),
            ..TableParquetOptions::default()
        };
        let metadata = runtime.cache_manager.get_file_metadata_cache();
        let source = ParquetSource::new(self.scan_schema.clone())
            .with_table_parquet_options(options)
            .with_metadata_size_hint(FOOTER_BYTES)
            .with_parquet_file_reader_factory(Arc::new(CachedParquetFileReaderFactory::new(store, metadata)));
        let groups =
            balanced(&files, session.config().target_partitions(), |file| self.version.files[file].object.size);
        let groups =
            groups.iter().map(|group| group.iter().map(|file| self.scanned_file(*file)).collect::<FileGroup>());
        let config = FileScanConfigBuilder::new(url, Arc::new(source))
            .with_file_groups(groups.collect())
            .with_statistics(self.total(&files))
            .with_limit(limit)
            .with_expr_adapter(Some(Arc::new(JudgedFiles)))
            .with_projection_indices(Some(columns))?
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

impl CuratedTable {
    /// The first of `files` that together hold at least `limit` rows.
    fn enough_for(&self, files: Vec<usize>, limit: u64) -> Vec<usize> {
        let mut rows = 0;
        let mut enough = Vec::new();
        for file in files {
            enough.push(file);
            rows += self.version.files[file].rows.unwrap_or(0);
            if rows >= limit {
                break;
            }
        }
        enough
    }
}

/// Splits `files` into at most `groups` groups of about the same size: the biggest first, each into the group that is
/// smallest so far.
fn balanced(files: &[usize], groups: usize, size: impl Fn(usize) -> u64) -> Vec<Vec<usize>> {
    let count = groups.clamp(1, files.len().max(1));
    let mut split = vec![(0_u64, Vec::new()); count];
    let mut by_size = files.to_vec();
    by_size.sort_by_key(|file| std::cmp::Reverse(size(*file)));
    for file in by_size {
        let (bytes, members) = split.iter_mut().min_by_key(|(bytes, _)| *bytes).expect("there is at least one group");
        *bytes += size(file);
        members.push(file);
    }
    split.into_iter().map(|(_, members)| members).filter(|members| !members.is_empty()).collect()
}

/// A table's schema as reads of it yield the rows: strings as views, so that the reader copies no text that a filter
/// drops. Real-time views yield the same.
#[must_use]
pub fn with_string_views(schema: &Schema) -> SchemaRef {
    let field = |field: &FieldRef| {
        let data_type = string_view(field.data_type());
        Field::new(field.name(), data_type, field.is_nullable()).with_metadata(field.metadata().clone())
    };
    Arc::new(Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>()))
}

fn string_view(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        other => other.clone(),
    }
}
