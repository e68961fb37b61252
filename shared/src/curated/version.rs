//! One version of a dataset's current generation: its files, its schema and what it covers.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use deltalake::kernel::{LogicalFileView, Snapshot};
use deltalake::logstore::LogStoreRef;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};

use super::coverage::Transactions;
use super::pointer::{CurrentGeneration, current};
use super::statistics::LogStatistics;
use super::{CuratedError, background, log_store};
use crate::counts::Totals;
use crate::layout;
use crate::position::{Coverage, LogPartition};

/// Property of tables whose files name columns otherwise than the schema does.
const COLUMN_MAPPING: &str = "delta.columnMapping.mode";

/// One active data file of a version.
#[derive(Debug, Clone)]
pub struct DataFile {
    /// The object: full key in the store, size in bytes, time.
    pub object: ObjectMeta,
    /// Rows in the file, where the log says so.
    pub rows: Option<u64>,
    /// Value of each partition column, as text; `None` is null. A Delta table knows no empty text: it is null, too.
    pub partition_values: BTreeMap<String, Option<String>>,
    /// Bounds of its columns, where the log has them.
    pub statistics: LogStatistics,
}

/// A dataset's current generation at one version of its table. It never changes once opened.
#[derive(Debug, Clone)]
pub struct CuratedVersion {
    /// The dataset.
    pub dataset: String,
    /// The generation, and the definition that made it.
    pub generation: CurrentGeneration,
    /// Version of the Delta table.
    pub table_version: u64,
    /// How far the version covers each partition of the log.
    pub coverage: Coverage,
    /// Number of times that files were removed (compaction, rewrite, withdrawal); 0 if never.
    pub layout: u64,
    /// What became of the stream records that it covers, by partition (H8).
    pub counts: BTreeMap<LogPartition, Totals>,
    /// Covered offsets that left the log before they were archived, by partition.
    pub lost: BTreeMap<LogPartition, Vec<Range<u64>>>,
    /// The table's schema, in the order of its columns.
    pub schema: SchemaRef,
    /// Columns by whose values the table is partitioned.
    pub partition_columns: Vec<String>,
    /// Active files, in order of key.
    pub files: Vec<DataFile>,
    /// The snapshot, for whoever commits on it.
    pub snapshot: Arc<Snapshot>,
    /// The table's log.
    pub log_store: LogStoreRef,
    /// Where the files are.
    pub objects: Arc<dyn ObjectStore>,
}

impl CuratedVersion {
    /// Opens the newest version of the current generation of `dataset`; `None` if nothing was curated yet.
    ///
    /// # Errors
    /// [`CuratedError`]: store, pointer, table or coverage can't be read, or need a newer release.
    pub async fn open(objects: Arc<dyn ObjectStore>, dataset: &str) -> Result<Option<Self>, CuratedError> {
        let Some((_, generation)) = current(objects.as_ref(), dataset).await? else { return Ok(None) };
        Self::open_generation(objects, dataset, generation).await.map(Some)
    }

    /// Opens the newest version of one generation, current or not. May be dropped at any time.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_generation(
        objects: Arc<dyn ObjectStore>,
        dataset: &str,
        generation: CurrentGeneration,
    ) -> Result<Self, CuratedError> {
        let root = layout::table(dataset, &generation.generation);
        let dataset = dataset.to_owned();
        let opened = background::run(async move { Self::replay(objects, &dataset, generation).await }).await;
        opened.unwrap_or_else(|source| Err(CuratedError::Table { root: root.to_string(), source: source.into() }))
    }

    async fn replay(
        objects: Arc<dyn ObjectStore>,
        dataset: &str,
        generation: CurrentGeneration,
    ) -> Result<Self, CuratedError> {
        let root = layout::table(dataset, &generation.generation);
        let table_error = |source| CuratedError::Table { root: root.to_string(), source };
        let log_store = log_store(Arc::clone(&objects), dataset, &generation.generation)?;
        let snapshot = Snapshot::try_new(log_store.as_ref(), None).await.map_err(table_error)?;
        let table_version = snapshot.version();
        let configuration = snapshot.metadata().configuration();
        if configuration.get(COLUMN_MAPPING).is_some_and(|mode| mode != "none") {
            return Err(CuratedError::Unsupported { key: root.to_string(), what: "column mapping".to_owned() });
        }

        let schema = snapshot.arrow_schema();
        let partition_columns = snapshot.metadata().partition_columns().to_vec();
        // The log is read twice, for files and for transactions; side by side, not one after the other.
        let scanned = snapshot.scan_builder().build().map_err(table_error)?;
        let views = snapshot.file_views(log_store.as_ref(), None).try_collect();
        let transactions = Transactions::of_snapshot(&log_store, root.clone(), Arc::clone(scanned.snapshot()));
        let (views, transactions) = futures::future::join(views, transactions).await;
        let (views, transactions): (Vec<LogicalFileView>, _) = (views.map_err(table_error)?, transactions?);
        let mut files =
            views.iter().map(|view| data_file(&root, &schema, view)).collect::<Result<Vec<_>, CuratedError>>()?;
        files.sort_by(|a, b| a.object.location.cmp(&b.object.location));

        Ok(Self {
            dataset: dataset.to_owned(),
            generation,
            table_version,
            coverage: transactions.coverage,
            layout: transactions.layout,
            counts: transactions.counts,
            lost: transactions.lost,
            schema,
            partition_columns,
            files,
            snapshot: Arc::new(snapshot),
            log_store,
            objects,
        })
    }

    /// Bytes of all active files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.object.size).sum()
    }

    /// Rows of all active files, if the log has every file's count.
    #[must_use]
    pub fn rows(&self) -> Option<u64> {
        self.files.iter().map(|file| file.rows).sum()
    }
}

fn data_file(root: &Path, schema: &SchemaRef, view: &LogicalFileView) -> Result<DataFile, CuratedError> {
    let relative = view.object_store_path();
    let location: Path = root.parts().chain(relative.parts()).collect();
    if view.deletion_vector_descriptor().is_some() {
        return Err(CuratedError::Unsupported { key: location.to_string(), what: "deletion vectors".to_owned() });
    }
    let damaged = |message: String| CuratedError::Coverage { root: root.to_string(), message };
    let size = u64::try_from(view.size()).map_err(|_| damaged(format!("`{location}` has a negative size")))?;
    let last_modified = view.modification_datetime().map_err(|error| damaged(error.to_string()))?;
    let statistics = LogStatistics::new(view.stats().map(|json| json.to_string()), Arc::clone(schema));
    Ok(DataFile {
        object: ObjectMeta { location, last_modified, size, e_tag: None, version: None },
        rows: statistics.rows(),
        // An empty text is how some writers put null, and Delta's protocol reads it so.
        partition_values: view
            .partition_values_map()
            .into_iter()
            .map(|(column, value)| (column, value.filter(|value| !value.is_empty())))
            .collect(),
        statistics,
    })
}
