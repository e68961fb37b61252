//! The real-time view in memory: Arrow batches in order of offset, rebuilt after a restart from log and archive.
//!
//! A partition's state is an immutable list of [`run::Run`]s behind an `Arc`. Whoever changes it makes the next list
//! beside the old one and swaps it in under a short lock, so that readers never wait for work on rows, and a pin is a
//! handful of counted references.

mod pin;
mod run;
mod size;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::thread::available_parallelism;

use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use async_trait::async_trait;
use tidemark_shared::elsewhere::elsewhere;
use tidemark_shared::live::{LiveBatch, LiveError, LivePin, LiveRange, LiveUsage, LiveView, ViewId, lost_with};
use tidemark_shared::lock;
use tidemark_shared::position::{Coverage, LogPartition};

use pin::MemoryPin;
use run::{Run, to_merge};

/// Rows above which work on them leaves the runtime's threads.
const INLINE_ROWS_MAX: usize = 2_048;

/// How a [`MemoryView`] behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryViewSettings {
    /// Most bytes that all views together take. Rows that only a pin still has do not count.
    pub bytes_max: u64,
    /// Parts that a scan is split into at most, to be read side by side.
    pub scan_parts: usize,
}

impl Default for MemoryViewSettings {
    /// 1 GiB; as many parts as there are processors.
    fn default() -> Self {
        Self { bytes_max: 1 << 30, scan_parts: available_parallelism().map_or(1, usize::from) }
    }
}

/// Real-time views in memory.
pub struct MemoryView {
    settings: MemoryViewSettings,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    views: BTreeMap<ViewId, View>,
    usage: LiveUsage,
}

struct View {
    /// Of the rows as they are held; reads yield strings as views.
    schema: SchemaRef,
    partitions: BTreeMap<LogPartition, Arc<PartitionRuns>>,
}

/// What a view holds of a partition: runs that follow each other from the floor to the visible position.
#[derive(Debug)]
struct PartitionRuns {
    range: LiveRange,
    runs: Vec<Arc<Run>>,
    /// Lost offsets that it has read past.
    lost: Vec<Range<u64>>,
    usage: LiveUsage,
}

impl PartitionRuns {
    fn new(floor: u64, visible: u64, runs: Vec<Arc<Run>>, lost: Vec<Range<u64>>) -> Self {
        let of = |run: &Arc<Run>| LiveUsage {
            rows: run.row_count() as u64,
            rejects: run.rejects.len() as u64,
            bytes: run.bytes,
        };
        let usage = runs.iter().map(of).fold(LiveUsage::default(), LiveUsage::plus);
        Self { range: LiveRange { floor, visible }, runs, lost, usage }
    }

    /// The runs that have offsets in `range`, and maybe others.
    fn runs_in(&self, range: &Range<u64>) -> &[Arc<Run>] {
        let first = self.runs.partition_point(|run| run.range.end <= range.start);
        let last = self.runs.partition_point(|run| run.range.start < range.end);
        &self.runs[first..last.max(first)]
    }
}

/// A change of a partition: what comes instead of what was there, or nothing if it is to stay.
type Changed = Result<Option<PartitionRuns>, LiveError>;

impl MemoryView {
    /// No views.
    #[must_use]
    pub fn new(settings: MemoryViewSettings) -> Self {
        Self { settings, state: Mutex::default() }
    }

    fn held(&self, view: &ViewId, partition: &LogPartition) -> Result<(Arc<PartitionRuns>, SchemaRef), LiveError> {
        let missing = |partition| LiveError::Missing { view: view.clone(), partition };
        let state = lock(&self.state);
        let found = state.views.get(view).ok_or_else(|| missing(None))?;
        let held = found.partitions.get(partition).ok_or_else(|| missing(Some(partition.clone())))?;
        Ok((Arc::clone(held), Arc::clone(&found.schema)))
    }

    /// Swaps `next` in if the partition still holds `seen`; tells whether it did. With `bounded`, only if there is room.
    fn swap(
        &self,
        view: &ViewId,
        partition: &LogPartition,
        seen: &Arc<PartitionRuns>,
        next: PartitionRuns,
        bounded: bool,
    ) -> Result<bool, LiveError> {
        let mut state = lock(&self.state);
        let State { views, usage } = &mut *state;
        let slot = views.get_mut(view).and_then(|found| found.partitions.get_mut(partition));
        let Some(slot) = slot.filter(|slot| Arc::ptr_eq(slot, seen)) else { return Ok(false) };
        let after = usage.without(slot.usage).plus(next.usage);
        if bounded && after.bytes > usage.bytes && after.bytes > self.settings.bytes_max {
            return Err(LiveError::Full { used: usage.bytes, max: self.settings.bytes_max });
        }
        *usage = after;
        *slot = Arc::new(next);
        Ok(true)
    }

    /// Merges the newest runs of a partition. Somebody else's change meanwhile makes it vain; the next batch tries again.
    async fn merge(&self, view: &ViewId, partition: &LogPartition) -> Result<(), LiveError> {
        let (held, schema) = match self.held(view, partition) {
            Ok(found) => found,
            Err(LiveError::Missing { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        let weights: Vec<(usize, u64)> = held.runs.iter().map(|run| (run.weight(), run.bytes)).collect();
        let count = to_merge(&weights);
        if count < 2 {
            return Ok(());
        }
        let (kept, tail) = held.runs.split_at(held.runs.len() - count);
        let (tail, rows) = (tail.to_vec(), tail.iter().map(|run| run.row_count()).sum());
        let merged = off_runtime(rows, move || Run::merged(&tail, &schema)).await?;
        let runs = kept.iter().cloned().chain([Arc::new(merged)]).collect();
        let next = PartitionRuns::new(held.range.floor, held.range.visible, runs, held.lost.clone());
        let _swapped = self.swap(view, partition, &held, next, false)?;
        Ok(())
    }

    async fn drop_partition(&self, view: &ViewId, partition: &LogPartition, end: u64) -> Result<(), LiveError> {
        loop {
            let held = match self.held(view, partition) {
                Ok((held, _)) => held,
                // the coverage may know partitions that the view does not
                Err(LiveError::Missing { partition: Some(_), .. }) => return Ok(()),
                Err(error) => return Err(error),
            };
            let Some(next) = below(&held, end).await? else { return Ok(()) };
            if self.swap(view, partition, &held, next, false)? {
                return Ok(());
            }
        }
    }
}

/// What is left of a partition without the offsets below `end`.
async fn below(held: &Arc<PartitionRuns>, end: u64) -> Changed {
    let LiveRange { floor, visible } = held.range;
    if end <= floor {
        return Ok(None);
    }
    if end >= visible {
        return Ok(Some(PartitionRuns::new(end, end, Vec::new(), Vec::new())));
    }
    let mut runs: Vec<Arc<Run>> = held.runs.iter().filter(|run| run.range.end > end).cloned().collect();
    if let Some(first) = runs.first_mut().filter(|first| first.range.start < end) {
        let cut = Arc::clone(first);
        *first = Arc::new(off_runtime(cut.row_count(), move || cut.above(end)).await?);
    }
    Ok(Some(PartitionRuns::new(end, visible, runs, lost_with(&held.lost, &[], end))))
}

/// Does work on so many rows where it keeps nobody waiting.
async fn off_runtime<T: Send + 'static>(
    rows: usize,
    work: impl FnOnce() -> Result<T, ArrowError> + Send + 'static,
) -> Result<T, LiveError> {
    let failed = |error: ArrowError| LiveError::backend("arrange rows", error);
    if rows <= INLINE_ROWS_MAX {
        return work().map_err(failed);
    }
    let done = elsewhere(work).await;
    done.map_err(|error| LiveError::backend("arrange rows", error))?.map_err(failed)
}

#[async_trait]
impl LiveView for MemoryView {
    async fn open(&self, view: &ViewId, schema: &SchemaRef, floors: &Coverage) -> Result<(), LiveError> {
        let mut state = lock(&self.state);
        let found = state
            .views
            .entry(view.clone())
            .or_insert_with(|| View { schema: Arc::clone(schema), partitions: BTreeMap::new() });
        if found.schema != *schema {
            return Err(LiveError::Schema { view: view.clone() });
        }
        for (partition, floor) in floors.iter().filter(|(partition, _)| **partition != LogPartition::files()) {
            let held = || Arc::new(PartitionRuns::new(floor, floor, Vec::new(), Vec::new()));
            found.partitions.entry(partition.clone()).or_insert_with(held);
        }
        Ok(())
    }

    async fn apply(&self, view: &ViewId, batch: LiveBatch) -> Result<(), LiveError> {
        let partition = batch.partition.clone();
        let batch = Arc::new(batch);
        loop {
            let (held, schema) = self.held(view, &partition)?;
            let LiveRange { floor, visible } = held.range;
            if batch.range.start > visible {
                let (view, start) = (view.clone(), batch.range.start);
                return Err(LiveError::Gap { view, partition, visible, start });
            }
            if batch.range.end <= visible {
                return Ok(());
            }
            let columns = |rows: &arrow::array::RecordBatch| rows.num_columns() == schema.fields().len();
            if !batch.rows.iter().all(columns) {
                return Err(LiveError::Schema { view: view.clone() });
            }
            let rows = batch.rows.iter().map(arrow::array::RecordBatch::num_rows).sum();
            let taken = Arc::clone(&batch);
            let run = off_runtime(rows, move || Run::of(&taken, visible, &schema)).await?;
            let runs = held.runs.iter().cloned().chain([Arc::new(run)]).collect();
            let lost = lost_with(&held.lost, &batch.lost, floor);
            if self.swap(view, &partition, &held, PartitionRuns::new(floor, batch.range.end, runs, lost), true)? {
                break;
            }
        }
        self.merge(view, &partition).await
    }

    async fn pin(&self, view: &ViewId) -> Result<Option<Arc<dyn LivePin>>, LiveError> {
        let state = lock(&self.state);
        let Some(found) = state.views.get(view) else { return Ok(None) };
        let (schema, partitions) = (Arc::clone(&found.schema), found.partitions.clone());
        drop(state);
        Ok(Some(Arc::new(MemoryPin::new(schema, partitions, self.settings.scan_parts))))
    }

    async fn drop_below(&self, view: &ViewId, coverage: &Coverage) -> Result<(), LiveError> {
        if !lock(&self.state).views.contains_key(view) {
            return Err(LiveError::Missing { view: view.clone(), partition: None });
        }
        for (partition, end) in coverage.iter() {
            self.drop_partition(view, partition, end).await?;
        }
        Ok(())
    }

    async fn close(&self, view: &ViewId) -> Result<(), LiveError> {
        let mut state = lock(&self.state);
        let Some(closed) = state.views.remove(view) else { return Ok(()) };
        for held in closed.partitions.values() {
            state.usage = state.usage.without(held.usage);
        }
        drop(state);
        Ok(())
    }

    async fn views(&self) -> Result<Vec<ViewId>, LiveError> {
        Ok(lock(&self.state).views.keys().cloned().collect())
    }

    fn usage(&self) -> LiveUsage {
        lock(&self.state).usage
    }

    fn limit(&self) -> Option<LiveUsage> {
        Some(LiveUsage { rows: u64::MAX, rejects: u64::MAX, bytes: self.settings.bytes_max })
    }
}

impl fmt::Debug for MemoryView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryView").field("settings", &self.settings).finish_non_exhaustive()
    }
}
