//! A moment of a view in memory, and its plan.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::expressions::{Column, cast};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use tidemark_shared::counts::Counts;
use tidemark_shared::curated::with_string_views;
use tidemark_shared::live::{LiveError, LivePin, LiveRange, narrowed};
use tidemark_shared::position::{Coverage, LogPartition};
use tidemark_shared::reject::Reject;

use super::PartitionRuns;

pub(super) struct MemoryPin {
    held_schema: SchemaRef,
    schema: SchemaRef,
    partitions: BTreeMap<LogPartition, Arc<PartitionRuns>>,
    ranges: BTreeMap<LogPartition, LiveRange>,
    scan_parts: usize,
}

impl MemoryPin {
    pub(super) fn new(
        held_schema: SchemaRef,
        partitions: BTreeMap<LogPartition, Arc<PartitionRuns>>,
        scan_parts: usize,
    ) -> Self {
        let schema = with_string_views(&held_schema);
        let ranges = partitions.iter().map(|(partition, held)| (partition.clone(), held.range)).collect();
        Self { held_schema, schema, partitions, ranges, scan_parts }
    }

    /// The rows with positions in `ranges`, as slices, until there are `limit` of them.
    fn slices(&self, ranges: &BTreeMap<LogPartition, Vec<Range<u64>>>, limit: Option<usize>) -> Vec<RecordBatch> {
        let each = ranges.iter().flat_map(|(partition, ranges)| ranges.iter().map(move |range| (partition, range)));
        let held = |(partition, range)| self.partitions.get(partition).map(|held: &Arc<PartitionRuns>| (held, range));
        let runs = each.filter_map(held).flat_map(|(held, range): (&Arc<PartitionRuns>, &Range<u64>)| {
            held.runs_in(range).iter().filter_map(move |run| run.rows_in(range))
        });
        let (mut slices, mut rows) = (Vec::new(), 0);
        for slice in runs {
            if limit.is_some_and(|limit| rows >= limit) {
                break;
            }
            rows += slice.num_rows();
            slices.push(slice);
        }
        slices
    }
}

/// Splits batches into at most `parts` parts of about as many rows.
fn balanced(batches: Vec<RecordBatch>, parts: usize) -> Vec<Vec<RecordBatch>> {
    let mut split = vec![(0, Vec::new()); parts.clamp(1, batches.len().max(1))];
    for batch in batches {
        let (rows, members) = split.iter_mut().min_by_key(|(rows, _)| *rows).expect("there is at least one part");
        *rows += batch.num_rows();
        members.push(batch);
    }
    split.into_iter().map(|(_, members)| members).collect()
}

#[async_trait]
impl LivePin for MemoryPin {
    fn lost(&self) -> BTreeMap<LogPartition, Vec<Range<u64>>> {
        let some = self.partitions.iter().filter(|(_, held)| !held.lost.is_empty());
        some.map(|(partition, held)| (partition.clone(), held.lost.clone())).collect()
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn ranges(&self) -> &BTreeMap<LogPartition, LiveRange> {
        &self.ranges
    }

    fn rows(&self, ranges: &BTreeMap<LogPartition, Range<u64>>) -> Option<u64> {
        let of = |(partition, range): (&LogPartition, &Range<u64>)| {
            let runs = self.partitions.get(partition).map(|held| held.runs_in(range)).unwrap_or_default();
            runs.iter().map(|run| run.row_count_in(range) as u64).sum::<u64>()
        };
        Some(ranges.iter().map(of).sum())
    }

    async fn counts(&self, from: &Coverage) -> Result<Counts, LiveError> {
        let mut counts = Counts::default();
        for (partition, held) in &self.partitions {
            let from = from.end(partition);
            for run in held.runs.iter().filter(|run| run.range.end > from) {
                let rejects = run.rejects_from(from);
                let filtered = run.filtered_from(from).len() as u64;
                let rows = run.row_count_in(&(from..u64::MAX)) as u64;
                counts.accepted += rows;
                counts.filtered += filtered;
                counts.records += rows + filtered + rejects.len() as u64;
                for reject in rejects {
                    *counts.rejected.entry(reject.reason.code()).or_default() += 1;
                }
            }
        }
        Ok(counts)
    }

    async fn rejects(&self, from: &Coverage, limit: usize) -> Result<Vec<(LogPartition, Reject)>, LiveError> {
        let of = |(partition, held): (&LogPartition, &Arc<PartitionRuns>)| {
            let (partition, from, held) = (partition.clone(), from.end(partition), Arc::clone(held));
            let mut found = Vec::new();
            for run in &held.runs {
                let wanted = run.rejects_from(from).iter().take(limit - found.len());
                found.extend(wanted.map(|reject| (partition.clone(), reject.clone())));
            }
            found
        };
        Ok(self.partitions.iter().flat_map(of).take(limit).collect())
    }

    fn scan(
        &self,
        ranges: &BTreeMap<LogPartition, Range<u64>>,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> std::result::Result<Arc<dyn ExecutionPlan>, LiveError> {
        let parts = balanced(self.slices(&narrowed(ranges, filters), limit), self.scan_parts);
        let source = MemorySourceConfig::try_new(&parts, Arc::clone(&self.held_schema), projection.cloned());
        let plan = source.map(|source| DataSourceExec::from_data_source(source.with_limit(limit)));
        let plan = plan.and_then(|plan| as_read(plan, &self.schema));
        plan.map_err(|error| LiveError::backend("plan a scan", error))
    }
}

/// `plan` with strings as views, as `schema` has them: made while rows are read, and only of the columns that are.
fn as_read(plan: Arc<dyn ExecutionPlan>, schema: &SchemaRef) -> Result<Arc<dyn ExecutionPlan>> {
    let held = plan.schema();
    let mut columns = Vec::with_capacity(held.fields().len());
    let mut differ = false;
    for (index, field) in held.fields().iter().enumerate() {
        let wanted = schema.field_with_name(field.name())?.data_type();
        differ |= wanted != field.data_type();
        let column = Arc::new(Column::new(field.name(), index));
        let expr = cast(column, &held, wanted.clone())?;
        columns.push(ProjectionExpr { expr, alias: field.name().clone() });
    }
    Ok(if differ { Arc::new(ProjectionExec::try_new(columns, plan)?) } else { plan })
}

impl fmt::Debug for MemoryPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryPin").field("ranges", &self.ranges).finish_non_exhaustive()
    }
}
