//! The gate: whether a file's rows may be published. Counting is done by the caller; expectations run as one streaming
//! aggregation over the accepted rows, in the same pass that writes the data files.

use std::sync::{Arc, Mutex};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::SchemaRef;
use arrow::util::display::array_value_to_string;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::StreamExt as _;
use tidemark_shared::dataset::{Expectation, Gate};
use tidemark_shared::ledger::{Breach, Verdict};
use tidemark_shared::transform::own_functions;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::error::BatchError;
use crate::report::Counts;

/// Batches that wait for the aggregation.
const QUEUE_BATCHES: usize = 4;
/// Memory for the aggregates of one file's expectations, such as the distinct values of a `count(DISTINCT …)`.
const EXPECTATION_BYTES_MAX: usize = 128 << 20;

/// What the gate says of a file with these counts and these failed expectations. Pure.
///
/// A file that could not be opened as its format is one reject as a whole; it has no rows to hold back. A file without
/// any record passes: there is nothing wrong with it.
pub(crate) fn judge(gate: &Gate, counts: &Counts, bad_file: bool, failed: Vec<Breach>) -> Verdict {
    if bad_file || counts.records == 0 {
        return Verdict::Passed;
    }
    let mut breaches = Vec::new();
    let rejected = counts.rejected_total();
    if let Some(max) = gate.max_reject_ratio {
        #[expect(clippy::cast_precision_loss, reason = "a ratio for a threshold; counts stay far below 2^53")]
        let ratio = rejected as f64 / counts.records as f64;
        if ratio > max {
            breaches.push(Breach {
                rule: "max_reject_ratio".to_owned(),
                wanted: format!("at most {:.2} % of the records rejected", max * 100.0),
                found: format!("{:.2} % ({rejected} of {})", ratio * 100.0, counts.records),
            });
        }
    }
    if counts.accepted < gate.min_rows {
        breaches.push(Breach {
            rule: "min_rows".to_owned(),
            wanted: format!("at least {} accepted rows", gate.min_rows),
            found: counts.accepted.to_string(),
        });
    }
    breaches.extend(failed);
    if breaches.is_empty() { Verdict::Passed } else { Verdict::Held { breaches } }
}

/// The running aggregation of one file's expectations.
pub(crate) struct Expectations {
    rows: mpsc::Sender<RecordBatch>,
    task: AbortOnDropHandle<Result<Vec<Breach>, BatchError>>,
}

impl Expectations {
    /// Starts the aggregation; `None` where there is nothing to expect.
    pub(crate) fn start(expectations: &[Expectation], schema: &SchemaRef) -> Option<Self> {
        if expectations.is_empty() {
            return None;
        }
        let (rows, receiver) = mpsc::channel(QUEUE_BATCHES);
        let expectations = expectations.to_vec();
        let schema = Arc::clone(schema);
        #[expect(
            clippy::disallowed_methods,
            reason = "owned by this value: awaited in finish, aborted when it is dropped without"
        )]
        let task = tokio::spawn(async move { evaluate(&expectations, schema, receiver).await });
        Some(Self { rows, task: AbortOnDropHandle::new(task) })
    }

    /// Takes accepted rows.
    pub(crate) async fn feed(&self, batch: &RecordBatch) {
        // A closed queue means that the aggregation failed; finish() has the reason.
        if self.rows.send(batch.clone()).await.is_err() {
            tracing::debug!("an expectation ended before its input");
        }
    }

    /// The expectations that do not hold.
    pub(crate) async fn finish(self) -> Result<Vec<Breach>, BatchError> {
        drop(self.rows);
        self.task.await.map_err(|source| BatchError::Panicked { task: "expectations", source })?
    }
}

async fn evaluate(
    expectations: &[Expectation],
    schema: SchemaRef,
    rows: mpsc::Receiver<RecordBatch>,
) -> Result<Vec<Breach>, BatchError> {
    let failed = |source: DataFusionError| BatchError::Expectation { name: names(expectations), source };
    let context = session().map_err(failed)?;
    let stream = Arc::new(RowStream { schema: Arc::clone(&schema), rows: Mutex::new(Some(rows)) });
    let table = StreamingTable::try_new(schema, vec![stream]).map_err(failed)?;
    context.register_table("batch", Arc::new(table)).map_err(failed)?;
    let conditions: Vec<String> =
        expectations.iter().enumerate().map(|(i, e)| format!("({}) AS __expect_{i}", e.that)).collect();
    let sql = format!("SELECT {} FROM batch", conditions.join(", "));
    let plan = context.state().create_logical_plan(&sql).await.map_err(failed)?;
    let (plan, figures) = with_figures(plan).map_err(failed)?;
    let result = match context.execute_logical_plan(plan).await.map_err(failed)?.collect().await {
        Ok(result) => result,
        // What these rows do to an expectation is no reason to keep other files out: the file is held, and told why.
        Err(error) => return Ok(expectations.iter().map(|e| not_evaluated(e, &error)).collect()),
    };
    let Some(row) = result.iter().find(|batch| batch.num_rows() > 0) else { return Ok(Vec::new()) };
    let breaches = expectations.iter().enumerate().filter_map(|(i, expectation)| {
        let flags = row.column(i).as_boolean_opt()?;
        let holds = !flags.is_null(0) && flags.value(0);
        (!holds).then(|| breach(expectation, row, expectations.len(), &figures))
    });
    Ok(breaches.collect())
}

/// A session with a bound on memory and the functions that a definition may call.
fn session() -> Result<SessionContext, DataFusionError> {
    let runtime = RuntimeEnvBuilder::new().with_memory_limit(EXPECTATION_BYTES_MAX, 1.0).build_arc()?;
    let context = SessionContext::new_with_config_rt(SessionConfig::new().with_target_partitions(1), runtime);
    for function in own_functions() {
        context.register_udf(function);
    }
    Ok(context)
}

fn not_evaluated(expectation: &Expectation, error: &DataFusionError) -> Breach {
    Breach {
        rule: expectation.name.clone(),
        wanted: expectation.that.clone(),
        found: format!("not known: {}", error.strip_backtrace()),
    }
}

fn names(expectations: &[Expectation]) -> String {
    expectations.iter().map(|e| e.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// Adds the aggregates themselves to the result, so that a breach can tell by how much it fails.
fn with_figures(plan: LogicalPlan) -> Result<(LogicalPlan, Vec<String>), DataFusionError> {
    let LogicalPlan::Projection(projection) = &plan else { return Ok((plan, Vec::new())) };
    let LogicalPlan::Aggregate(aggregate) = projection.input.as_ref() else { return Ok((plan, Vec::new())) };
    let figures: Vec<String> = aggregate.schema.fields().iter().map(|f| f.name().clone()).collect();
    let mut columns = projection.expr.clone();
    columns.extend(aggregate.schema.columns().into_iter().map(|c| {
        let name = format!("__figure_{}", c.name);
        datafusion::logical_expr::Expr::Column(c).alias(name)
    }));
    let input = projection.input.as_ref().clone();
    Ok((LogicalPlanBuilder::from(input).project(columns)?.build()?, figures))
}

fn breach(expectation: &Expectation, row: &RecordBatch, first: usize, figures: &[String]) -> Breach {
    let lower = expectation.that.to_lowercase().replace(' ', "");
    let relevant = figures.iter().enumerate().filter_map(|(i, name)| {
        // `avg(batch.fare)` in the plan is `avg(fare)` in the condition.
        let text = name.to_lowercase().replace("batch.", "").replace(' ', "");
        let column = row.column(first + i);
        let value = if column.is_null(0) { "null".to_owned() } else { array_value_to_string(column, 0).ok()? };
        (lower.contains(&text) || figures.len() == 1).then(|| format!("{} = {value}", name.replace("batch.", "")))
    });
    let found: Vec<String> = relevant.collect();
    Breach {
        rule: expectation.name.clone(),
        wanted: expectation.that.clone(),
        found: if found.is_empty() { "not true".to_owned() } else { found.join(", ") },
    }
}

#[derive(Debug)]
struct RowStream {
    schema: SchemaRef,
    rows: Mutex<Option<mpsc::Receiver<RecordBatch>>>,
}

impl PartitionStream for RowStream {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let rows = self.rows.lock().expect("no holder panics").take();
        let stream = futures::stream::unfold(rows, |rows| async move {
            let mut rows = rows?;
            let batch = rows.recv().await?;
            Some((Ok(batch), Some(rows)))
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), stream.boxed()))
    }
}

#[cfg(test)]
mod tests;
