//! `compact`: merges small data files into larger ones, in commits that change no row and no coverage (H2).
//!
//! Frequent runs leave small files, and every query opens all of them. A compaction gives way: whoever takes files out at
//! the same time (another compaction, a withdrawal) moves the same `tidemark/layout`, and a compaction that meets it drops
//! its work and plans again, a few times. Appends and compactions do not meet at all.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::{SortColumn, concat_batches, lexsort_to_indices, take_record_batch};
use arrow::datatypes::SchemaRef;
use deltalake::kernel::LogicalFileView;
use futures::StreamExt as _;
use tidemark_shared::backoff::{Attempts, Backoff};
use tidemark_shared::position::{OFFSET_COLUMN, PARTITION_COLUMN, SOURCE_COLUMN};

use crate::curate::exclude::{damaged, key, open, with_partition_values};
use crate::curate::plan_compact::{File, groups};
use crate::curated::table::{Change, TableHead};
use crate::curated::writer::TableWriter;
use crate::error::BatchError;
use crate::failpoint;
use crate::generation::{Maker, ours};
use crate::report::CompactReport;
use crate::service::Batch;

/// So often a compaction that others spoil is tried; then it is left for the next one.
const BACKOFF: Backoff = Backoff { attempts_max: 5, ..Backoff::RACE };
/// One of so many parts of the memory for rows is for those that are sorted.
const SORT_SHARES: usize = 8;

impl Batch {
    /// Merges small data files of the generation that answers.
    ///
    /// # Errors
    /// [`BatchError`]; nothing that counts was changed.
    pub async fn compact(&self, dataset: &str) -> Result<CompactReport, BatchError> {
        let started = std::time::Instant::now();
        let mut definitions = self.definitions(dataset).await?;
        let mut report = CompactReport { dataset: dataset.to_owned(), ..CompactReport::default() };
        let mut attempts = Attempts::new(BACKOFF);
        loop {
            let Some((_, pointer)) = self.pointer(dataset).await? else { break };
            let opened = TableHead::open(&self.store.objects(), dataset, &pointer.generation).await?;
            let Some(table) = opened else { break };
            report.generation = Some(pointer.generation);
            report.table_version = Some(table.version());
            ours(dataset, &table.generation, table.semantics()?)?;
            let views: Vec<LogicalFileView> = table.snapshot.log_data().iter().collect();
            let files: Vec<File> = views.iter().map(file).collect();
            let groups = groups(&files, self.settings.file_bytes_target, self.settings.commit_bytes);
            if groups.is_empty() {
                break;
            }
            // A frozen table answers no longer than its successor takes.
            report.gave_way = table.successor().is_some();
            if report.gave_way {
                break;
            }
            let maker = self.maker(&mut definitions, &pointer.definition).await?;
            let change = self.merge(&maker, &table, &views, &groups).await?;
            failpoint::pass("compact.before_commit");
            if let Some(version) = self.commit(&table, &change).await? {
                attempts = Attempts::new(BACKOFF);
                note(&mut report, version, &change);
            } else {
                self.delete_files(&table.root, &change.adds).await;
                report.gave_way = !attempts.again(self.ambient.random()).await;
                if report.gave_way {
                    break;
                }
            }
        }
        report.elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(report)
    }

    /// Writes every group of files as one, and names the old ones.
    async fn merge(
        &self,
        maker: &Maker,
        table: &TableHead,
        views: &[LogicalFileView],
        groups: &[Vec<usize>],
    ) -> Result<Change, BatchError> {
        let mut change = Change { same_rows: true, ..Change::default() };
        for group in groups {
            let mut merged = Sorting {
                schema: maker.schema.clone(),
                writer: TableWriter::new(maker.table_layout(self, &table.generation)),
                bytes_max: self.settings.buffer_bytes_max / SORT_SHARES,
                waiting: Vec::new(),
                bytes: 0,
            };
            // By name, which is by time of writing.
            let mut files: Vec<&LogicalFileView> = group.iter().map(|index| &views[*index]).collect();
            files.sort_by(|a, b| a.path().cmp(&b.path()));
            for view in files {
                let (mut rows, mut read) = (open(table, view, &[]).await?, 0);
                while let Some(batch) = rows.next().await {
                    let batch = batch.map_err(|error| BatchError::object(&key(table, view), error))?;
                    let whole = with_partition_values(&maker.schema, &batch, view);
                    let whole = whole.map_err(|error| damaged(table, view, &error.to_string()))?;
                    read += whole.num_rows();
                    merged.take(whole).await?;
                }
                if view.num_records().is_some_and(|rows| rows != read) {
                    return Err(damaged(table, view, &format!("it holds {read} rows, and the log says otherwise")));
                }
                change.removes.push(view.remove_action(false));
            }
            for mut file in merged.finish().await? {
                file.add.data_change = false;
                change.adds.push(file);
            }
        }
        Ok(change)
    }
}

fn file(view: &LogicalFileView) -> File {
    File {
        partition: view.partition_values_map().into_iter().collect(),
        bytes: u64::try_from(view.size()).unwrap_or(u64::MAX),
    }
}

fn note(report: &mut CompactReport, version: u64, change: &Change) {
    let bytes = |size: i64| u64::try_from(size).unwrap_or(0);
    report.table_version = Some(version);
    report.files_merged += change.removes.len() as u64;
    report.files_written += change.adds.len() as u64;
    report.bytes_merged += change.removes.iter().map(|remove| bytes(remove.size.unwrap_or(0))).sum::<u64>();
    report.bytes_written += change.adds.iter().map(|file| bytes(file.add.size)).sum::<u64>();
}

/// Writes rows in order of position, as far as they fit into memory: then a run of them is written, and the next one begins.
struct Sorting {
    schema: SchemaRef,
    writer: TableWriter,
    bytes_max: usize,
    waiting: Vec<RecordBatch>,
    bytes: usize,
}

impl Sorting {
    async fn take(&mut self, rows: RecordBatch) -> Result<(), BatchError> {
        self.bytes += rows.get_array_memory_size();
        self.waiting.push(rows);
        if self.bytes > self.bytes_max {
            self.write().await?;
        }
        Ok(())
    }

    async fn write(&mut self) -> Result<(), BatchError> {
        let (schema, waiting) = (self.schema.clone(), std::mem::take(&mut self.waiting));
        self.bytes = 0;
        let sorting = tokio::task::spawn_blocking(move || sorted(&schema, &waiting));
        let rows = sorting.await.map_err(|source| BatchError::Panicked { task: "sort", source })??;
        self.writer.write(&rows).await
    }

    async fn finish(mut self) -> Result<Vec<crate::curated::writer::StagedFile>, BatchError> {
        self.write().await?;
        self.writer.finish().await
    }
}

fn sorted(schema: &SchemaRef, rows: &[RecordBatch]) -> Result<RecordBatch, BatchError> {
    let rows = concat_batches(schema, rows)?;
    let column = |name: &str| -> Result<SortColumn, BatchError> {
        let values: ArrayRef = rows.column(schema.index_of(name)?).clone();
        Ok(SortColumn { values, options: None })
    };
    let by = [column(SOURCE_COLUMN)?, column(PARTITION_COLUMN)?, column(OFFSET_COLUMN)?];
    Ok(take_record_batch(&rows, &lexsort_to_indices(&by, None)?)?)
}
