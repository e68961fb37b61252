//! A partial aggregate that a view is asked for when the statement runs, and that is made of its rows if it can't answer.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::compute::{cast, nullif};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use arrow::error::ArrowError;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties as _, PlanProperties,
};
use futures::TryStreamExt as _;
use tokio::sync::OnceCell;

use crate::live::LiveAggregation;

/// Its name, for who reads plans and who is told what memory went for.
const NAME: &str = "LiveAggregateExec";
/// Counts statements whose states the view answered.
const ANSWERED: &str = "answered_by_view";
/// Counts those whose rows were read all the same.
const READ: &str = "read_rows_instead";

/// How a column of a partial aggregate is made of the columns of a view's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StateColumn {
    /// It is the column at this place.
    Is(usize),
    /// A count that is null where it is 0, which is how an average without values has it.
    NullIfNone(usize),
    /// The sum of a constant over so many rows as the column says; null without any.
    Times(usize, i64),
}

impl StateColumn {
    /// The same, so many places further.
    pub(super) fn after(self, places: usize) -> Self {
        match self {
            Self::Is(at) => Self::Is(at + places),
            Self::NullIfNone(at) => Self::NullIfNone(at + places),
            Self::Times(at, each) => Self::Times(at + places, each),
        }
    }

    fn made_of(self, answer: &RecordBatch, wanted: &DataType) -> Result<ArrayRef, ArrowError> {
        let some = |at: usize| {
            let none = answer.column(at).as_primitive::<Int64Type>().iter().map(|count| Some(count == Some(0)));
            nullif(answer.column(at), &none.collect())
        };
        let made = match self {
            Self::Is(at) => Arc::clone(answer.column(at)),
            Self::NullIfNone(at) => some(at)?,
            Self::Times(at, each) => {
                // A sum of 64-bit numbers wraps around, as the engine's own does.
                let times = |count: Option<i64>| count.map(|count| count.wrapping_mul(each));
                Arc::new(some(at)?.as_primitive::<Int64Type>().iter().map(times).collect::<Int64Array>())
            }
        };
        cast(&made, wanted)
    }
}

/// See the module's text. Its output is that of `partial`, as far as the final aggregation is concerned.
#[derive(Debug)]
pub(super) struct LiveAggregateExec {
    aggregation: Arc<dyn LiveAggregation>,
    columns: Arc<[StateColumn]>,
    shown: String,
    partial: Arc<dyn ExecutionPlan>,
    /// All partitions ask once.
    answer: Arc<OnceCell<Option<Answered>>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl LiveAggregateExec {
    pub(super) fn new(
        aggregation: Arc<dyn LiveAggregation>,
        columns: impl Into<Arc<[StateColumn]>>,
        shown: String,
        partial: Arc<dyn ExecutionPlan>,
    ) -> Self {
        let properties = PlanProperties::new(
            // Whatever order rows would be in, states come in none.
            EquivalenceProperties::new(partial.schema()),
            partial.output_partitioning().clone(),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        let (columns, answer, metrics) = (columns.into(), Arc::default(), ExecutionPlanMetricsSet::new());
        Self { aggregation, columns, shown, partial, answer, properties: Arc::new(properties), metrics }
    }
}

impl DisplayAs for LiveAggregateExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{NAME}: {}", self.shown)
    }
}

impl ExecutionPlan for LiveAggregateExec {
    fn name(&self) -> &'static str {
        NAME
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.partial]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let partial = children.into_iter().next().unwrap_or_else(|| Arc::clone(&self.partial));
        let (aggregation, columns) = (Arc::clone(&self.aggregation), Arc::clone(&self.columns));
        Ok(Arc::new(Self::new(aggregation, columns, self.shown.clone(), partial)))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let counter = |name: &'static str| MetricBuilder::new(&self.metrics).counter(name, partition);
        let stream = StateStream {
            aggregation: Arc::clone(&self.aggregation),
            columns: Arc::clone(&self.columns),
            partial: Arc::clone(&self.partial),
            answer: Arc::clone(&self.answer),
            counters: [counter(ANSWERED), counter(READ)],
        };
        let states = futures::stream::once(stream.states(partition, context)).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), states)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// What a view answered, and its part of the memory that statements may hold. All of it stays until the plan goes, for each
/// partition may look at it.
#[derive(Debug)]
struct Answered {
    batches: Vec<RecordBatch>,
    _memory: MemoryReservation,
}

impl Answered {
    /// # Errors
    /// [`DataFusionError::ResourcesExhausted`] if there is not so much memory left.
    fn held(batches: Vec<RecordBatch>, context: &TaskContext) -> Result<Self> {
        let memory = MemoryConsumer::new(NAME).register(context.memory_pool());
        memory.try_grow(batches.iter().map(RecordBatch::get_array_memory_size).sum())?;
        Ok(Self { batches, _memory: memory })
    }
}

/// What a stream of states keeps.
struct StateStream {
    aggregation: Arc<dyn LiveAggregation>,
    columns: Arc<[StateColumn]>,
    partial: Arc<dyn ExecutionPlan>,
    answer: Arc<OnceCell<Option<Answered>>>,
    counters: [Count; 2],
}

impl StateStream {
    /// The states of a partition: all of the view's are those of the first one.
    async fn states(self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let answer = self.answer.get_or_try_init(|| self.asked(&context)).await?;
        let [answered, read] = &self.counters;
        let Some(answer) = answer else {
            read.add(usize::from(partition == 0));
            return self.partial.execute(partition, context);
        };
        let mut batches = Vec::new();
        if partition == 0 {
            answered.add(1);
            batches.clone_from(&answer.batches);
        }
        let (columns, schema) = (Arc::clone(&self.columns), self.partial.schema());
        let wanted = Arc::clone(&schema);
        // Batch by batch: columns that are converted are held by nobody but whoever takes them.
        let states = batches.into_iter().map(move |batch| made_of(&batch, &columns, &wanted));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::iter(states))))
    }

    async fn asked(&self, context: &TaskContext) -> Result<Option<Answered>> {
        let answer = self.aggregation.answer().await;
        let answer = answer.map_err(|error| DataFusionError::External(Box::new(error)))?;
        answer.map(|batches| Answered::held(batches, context)).transpose()
    }
}

/// The partial aggregate's columns of a view's answer.
fn made_of(answer: &RecordBatch, columns: &[StateColumn], schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = columns.iter().zip(schema.fields()).map(|(column, field)| column.made_of(answer, field.data_type()));
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(answer.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}
