//! A moment of a view: floors, positions and indices as they were. Rows below a position never change, so the moment needs
//! no copy of them; its indices stay for as long as it does, and each read compares their ids afterwards (H6). A position and
//! the ids of the indices that its rows are in stand in one document: so no position of one epoch is ever read with rows of
//! another, and nobody needs to compare epochs.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use tidemark_shared::counts::Counts;
use tidemark_shared::live::{AggregateRequest, LiveAggregation, LiveError, LivePin, LiveRange};
use tidemark_shared::position::{Coverage, LogPartition};
use tidemark_shared::reject::Reject;

use crate::aggregate::Aggregation;
use crate::cluster::{Cluster, Handle};
use crate::failure::failed;
use crate::leases::Lease;
use crate::scan;
use crate::state::{IndexRef, PartitionState};

/// What a pin, and all that reads by it, holds.
pub(crate) struct Pinned {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) handle: Arc<Handle>,
    pub(crate) states: BTreeMap<LogPartition, PartitionState>,
    leases: Vec<Arc<Lease>>,
}

/// Rows of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) partition: LogPartition,
    pub(crate) index: IndexRef,
    pub(crate) range: Range<u64>,
}

impl Pinned {
    /// Where the records of `range` are, in order.
    pub(crate) fn pieces(&self, partition: &LogPartition, range: &Range<u64>) -> Vec<Piece> {
        let Some(state) = self.states.get(partition) else { return Vec::new() };
        let (from, to) = (range.start.max(state.floor), range.end.min(state.visible));
        let within = |(start, index): (&u64, &IndexRef)| {
            let range = from.max(*start)..to.min(start.saturating_add(self.handle.range));
            (!range.is_empty()).then(|| Piece { partition: partition.clone(), index: index.clone(), range })
        };
        state.indices.iter().filter_map(within).collect()
    }

    /// The records from `from` on.
    pub(crate) fn from(&self, from: &Coverage) -> Vec<Piece> {
        let all = self.states.keys();
        all.flat_map(|partition| self.pieces(partition, &(from.end(partition)..u64::MAX))).collect()
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.leases.clear();
        if self.cluster.leases.has_doomed() {
            let cluster = Arc::clone(&self.cluster);
            let sweeping = async move { cluster.sweep_if_possible().await };
            // What was to go waited for this pin. If the process ends first, the next look over the view finds it.
            drop(self.cluster.client.home().spawn(sweeping));
        }
    }
}

/// See the module's text.
pub(crate) struct OpenSearchPin {
    pinned: Arc<Pinned>,
    ranges: BTreeMap<LogPartition, LiveRange>,
}

impl OpenSearchPin {
    /// Of partitions as they were read. To be called under the gate of the leases.
    pub(crate) fn new(
        cluster: Arc<Cluster>,
        handle: Arc<Handle>,
        states: BTreeMap<LogPartition, PartitionState>,
    ) -> Self {
        let range = |state: &PartitionState| LiveRange { floor: state.floor, visible: state.visible };
        let ranges = states.iter().map(|(partition, state)| (partition.clone(), range(state))).collect();
        let indices = states.values().flat_map(|state| state.indices.values());
        let leases = indices.map(|index| cluster.leases.hold(&index.name)).collect();
        Self { pinned: Arc::new(Pinned { cluster, handle, states, leases }), ranges }
    }
}

#[async_trait]
impl LivePin for OpenSearchPin {
    fn lost(&self) -> BTreeMap<LogPartition, Vec<Range<u64>>> {
        let some = self.pinned.states.iter().filter(|(_, state)| !state.lost.is_empty());
        some.map(|(partition, state)| (partition.clone(), state.lost.clone())).collect()
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(self.pinned.handle.exact.read())
    }

    fn ranges(&self) -> &BTreeMap<LogPartition, LiveRange> {
        &self.ranges
    }

    fn rows(&self, ranges: &BTreeMap<LogPartition, Range<u64>>) -> Option<u64> {
        let of = |(partition, range): (&LogPartition, &Range<u64>)| {
            self.pinned.states.get(partition).map_or(Some(0), |state| state.rows_in(range))
        };
        ranges.iter().map(of).sum()
    }

    async fn counts(&self, from: &Coverage) -> Result<Counts, LiveError> {
        self.pinned.counts(from).await.map_err(failed("count records"))
    }

    async fn rejects(&self, from: &Coverage, limit: usize) -> Result<Vec<(LogPartition, Reject)>, LiveError> {
        self.pinned.rejects(from, limit).await.map_err(failed("read rejects"))
    }

    fn scan(
        &self,
        ranges: &BTreeMap<LogPartition, Range<u64>>,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>, LiveError> {
        let plan = scan::plan(&self.pinned, ranges, projection, filters, limit);
        plan.map_err(|error| LiveError::backend("plan a scan", error))
    }

    fn aggregation(&self, request: &AggregateRequest) -> Option<Arc<dyn LiveAggregation>> {
        let aggregation = Aggregation::new(&self.pinned, request)?;
        Some(Arc::new(aggregation))
    }
}

impl fmt::Debug for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pinned").field("handle", &self.handle).finish_non_exhaustive()
    }
}

impl fmt::Debug for OpenSearchPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenSearchPin").field("ranges", &self.ranges).finish_non_exhaustive()
    }
}
