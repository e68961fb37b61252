//! Rows of a pin as a table, which says in a plan what it reads, so that aggregates can be asked of the view instead.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};

use tracing::field::Empty;
use tracing::{Span, info_span};

use super::LivePin;
use crate::position::{Coverage, LogPartition};
use crate::telemetry::{SPANS, number, positions};

/// Rows of a pinned view in some ranges of offsets.
#[derive(Debug, Clone)]
pub struct LiveTable {
    dataset: String,
    pin: Arc<dyn LivePin>,
    ranges: BTreeMap<LogPartition, Range<u64>>,
    schema: SchemaRef,
}

impl LiveTable {
    /// The rows of `pin` with positions in `ranges`, which lie within the view's.
    #[must_use]
    pub fn new(dataset: &str, pin: Arc<dyn LivePin>, ranges: BTreeMap<LogPartition, Range<u64>>) -> Self {
        let schema = pin.schema();
        Self { dataset: dataset.to_owned(), pin, ranges, schema }
    }

    /// The pin.
    #[must_use]
    pub fn pin(&self) -> &Arc<dyn LivePin> {
        &self.pin
    }

    /// Positions of the rows.
    #[must_use]
    pub fn ranges(&self) -> &BTreeMap<LogPartition, Range<u64>> {
        &self.ranges
    }
}

#[async_trait]
impl TableProvider for LiveTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let span = live_span(&self.dataset, &self.ranges);
        let scanned = span.in_scope(|| self.pin.scan(&self.ranges, projection, filters, limit));
        let rows = scanned.map_err(|error| DataFusionError::External(Box::new(error)))?;
        let all = || (0..self.schema.fields().len()).collect();
        let columns = projection.cloned().unwrap_or_else(all);
        Ok(Arc::new(LiveScanExec { table: self.clone(), columns, is_limited: limit.is_some(), rows, span }))
    }
}

/// A pin's plan with what it was made of. It yields what that yields; planning takes it out again.
#[derive(Debug, Clone)]
pub struct LiveScanExec {
    table: LiveTable,
    columns: Vec<usize>,
    is_limited: bool,
    rows: Arc<dyn ExecutionPlan>,
    span: Span,
}

impl LiveScanExec {
    /// The table that is read.
    #[must_use]
    pub fn table(&self) -> &LiveTable {
        &self.table
    }

    /// The columns that it yields, as places in the pin's schema.
    #[must_use]
    pub fn columns(&self) -> &[usize] {
        &self.columns
    }

    /// True if not all rows are wanted.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.is_limited
    }

    /// The span within which the view is asked.
    #[must_use]
    pub fn span(&self) -> &Span {
        &self.span
    }

    /// The pin's plan.
    #[must_use]
    pub fn rows(&self) -> &Arc<dyn ExecutionPlan> {
        &self.rows
    }
}

impl DisplayAs for LiveScanExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LiveScanExec")
    }
}

impl ExecutionPlan for LiveScanExec {
    fn name(&self) -> &'static str {
        "LiveScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.rows.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.rows]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let rows = children.into_iter().next().unwrap_or_else(|| Arc::clone(&self.rows));
        Ok(Arc::new(Self { rows, ..Self::clone(&self) }))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.rows.execute(partition, context)
    }
}

/// The span of a cut's real-time rows: how they are got is made out within it. A view that is elsewhere is asked later, and the
/// requests to it are within this one all the same.
fn live_span(dataset: &str, ranges: &BTreeMap<LogPartition, Range<u64>>) -> Span {
    let span = info_span!(
        target: SPANS,
        "query.live",
        tidemark.dataset = dataset,
        tidemark.offsets = Empty,
        tidemark.positions = Empty,
    );
    if !span.is_disabled() {
        let ends: Coverage = ranges.iter().map(|(partition, range)| (partition.clone(), range.end)).collect();
        span.record("tidemark.offsets", number(ranges.values().map(|range| range.end - range.start).sum::<u64>()));
        span.record("tidemark.positions", positions(&ends));
    }
    span
}
