//! For tests of what reads it: a real-time view that is batches in a list.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use arrow::array::{AsArray as _, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Int64Type, SchemaRef};
use async_trait::async_trait;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use tidemark_shared::counts::Counts;
use tidemark_shared::live::{LiveBatch, LiveError, LivePin, LiveRange, LiveUsage, LiveView, ViewId};
use tidemark_shared::position::{Coverage, LogPartition, OFFSET_COLUMN};
use tidemark_shared::reject::Reject;

#[derive(Debug, Clone)]
struct Held {
    schema: SchemaRef,
    ranges: BTreeMap<LogPartition, LiveRange>,
    rows: Vec<(LogPartition, RecordBatch)>,
}

#[derive(Debug, Default)]
pub(crate) struct TestLive {
    views: Mutex<BTreeMap<ViewId, Held>>,
}

impl TestLive {
    fn change<T>(&self, view: &ViewId, change: impl FnOnce(&mut Held) -> T) -> Result<T, LiveError> {
        let mut views = self.views.lock().expect("views");
        let held = views.get_mut(view).ok_or_else(|| LiveError::Missing { view: view.clone(), partition: None })?;
        Ok(change(held))
    }
}

#[async_trait]
impl LiveView for TestLive {
    async fn open(&self, view: &ViewId, schema: &SchemaRef, floors: &Coverage) -> Result<(), LiveError> {
        let range = |end| LiveRange { floor: end, visible: end };
        let ranges = floors.iter().map(|(partition, end)| (partition.clone(), range(end))).collect();
        let held = Held { schema: Arc::clone(schema), ranges, rows: Vec::new() };
        let _opened = self.views.lock().expect("views").entry(view.clone()).or_insert(held);
        Ok(())
    }

    async fn apply(&self, view: &ViewId, batch: LiveBatch) -> Result<(), LiveError> {
        self.change(view, |held| {
            let range = held.ranges.get_mut(&batch.partition).expect("a known partition");
            assert_eq!(range.visible, batch.range.start, "tests bring each offset once");
            range.visible = batch.range.end;
            held.rows.extend(batch.rows.into_iter().map(|rows| (batch.partition.clone(), rows)));
        })
    }

    async fn pin(&self, view: &ViewId) -> Result<Option<Arc<dyn LivePin>>, LiveError> {
        let held = self.views.lock().expect("views").get(view).cloned();
        Ok(held.map(|held| Arc::new(held) as Arc<dyn LivePin>))
    }

    async fn drop_below(&self, view: &ViewId, coverage: &Coverage) -> Result<(), LiveError> {
        self.change(view, |held| {
            for (partition, range) in &mut held.ranges {
                range.floor = range.floor.max(coverage.end(partition));
                range.visible = range.visible.max(range.floor);
            }
        })
    }

    async fn close(&self, view: &ViewId) -> Result<(), LiveError> {
        let _held = self.views.lock().expect("views").remove(view);
        Ok(())
    }

    async fn views(&self) -> Result<Vec<ViewId>, LiveError> {
        Ok(self.views.lock().expect("views").keys().cloned().collect())
    }

    fn usage(&self) -> LiveUsage {
        LiveUsage::default()
    }

    fn limit(&self) -> Option<LiveUsage> {
        None
    }
}

impl Held {
    fn within(&self, ranges: &BTreeMap<LogPartition, Range<u64>>) -> Vec<RecordBatch> {
        let within = |(partition, rows): &(LogPartition, RecordBatch)| {
            let (range, held) = (ranges.get(partition)?, self.ranges.get(partition)?);
            let offsets = rows.column_by_name(OFFSET_COLUMN)?.as_primitive::<Int64Type>().clone();
            let inside = |offset: Option<i64>| {
                offset.map(|offset| range.contains(&(offset as u64)) && offset as u64 >= held.floor)
            };
            let kept: BooleanArray = offsets.iter().map(inside).collect();
            Some(filter_record_batch(rows, &kept).expect("a mask of its length"))
        };
        self.rows.iter().filter_map(within).collect()
    }
}

#[async_trait]
impl LivePin for Held {
    fn lost(&self) -> BTreeMap<LogPartition, Vec<Range<u64>>> {
        BTreeMap::new()
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn ranges(&self) -> &BTreeMap<LogPartition, LiveRange> {
        &self.ranges
    }

    fn rows(&self, ranges: &BTreeMap<LogPartition, Range<u64>>) -> Option<u64> {
        Some(self.within(ranges).iter().map(|rows| rows.num_rows() as u64).sum())
    }

    async fn counts(&self, from: &Coverage) -> Result<Counts, LiveError> {
        let above = self
            .ranges
            .iter()
            .map(|(partition, range)| (partition.clone(), from.end(partition).max(range.floor)..range.visible));
        let rows = self.within(&above.collect()).iter().map(|rows| rows.num_rows() as u64).sum();
        Ok(Counts { records: rows, accepted: rows, ..Counts::default() })
    }

    async fn rejects(&self, _: &Coverage, _: usize) -> Result<Vec<(LogPartition, Reject)>, LiveError> {
        Ok(Vec::new())
    }

    fn scan(
        &self,
        ranges: &BTreeMap<LogPartition, Range<u64>>,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>, LiveError> {
        let batches = self.within(ranges);
        let exec = MemorySourceConfig::try_new_exec(&[batches], Arc::clone(&self.schema), projection.cloned());
        Ok(exec.map_err(|error| LiveError::backend("scan", error))?)
    }
}
