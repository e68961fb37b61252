//! The transform: one per-record, deterministic `SELECT … FROM input`, compiled once and run on batches by both layers.
//!
//! It is compiled to DataFusion's physical expressions and runs synchronously on record batches: no stream, no
//! runtime, no session. A record on which an expression fails becomes a reject, and the records around it go on.

mod functions;
pub(crate) mod plan;
mod record_bytes;
mod run;
mod sql;
mod types;
mod view;
mod zone;

use std::sync::Arc;

use arrow::array::{AsArray, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{Transformed as Changed, TreeNode as _};
use datafusion::common::{DFSchema, DataFusionError, ScalarValue};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{LogicalPlan, Operator};
use datafusion::physical_expr::expressions::{BinaryExpr, Column, NegativeExpr, cast, lit};
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr, execution_props::ExecutionProps};

use crate::dataset::{Definition, RejectRule};
use crate::decode::Decoded;
use crate::error::{ErrorKind, Kind};
use crate::reject::{Reason, Reject};

pub use functions::own_functions;
pub(crate) use sql::SqlProblem;
pub(crate) use view::{View, check_view};
pub(crate) use zone::parse_zone;

use functions::Functions;
use run::Run;
use zone::LocalTime;

/// What the transform made of one [`crate::decode::Decoded`].
/// `decoded.batch.num_rows() = batch.num_rows() + filtered + rejects.len()` (H8).
#[derive(Debug, Clone)]
pub struct Transformed {
    /// Accepted rows, with the output schema, in order of position.
    pub batch: RecordBatch,
    /// Position of each row of `batch`.
    pub offsets: Vec<u64>,
    /// Records for which the `WHERE` yields no row.
    pub filtered: u64,
    /// Records on which the transform failed, a `reject` rule held, or the event time does not exist, with the
    /// record's original bytes.
    pub rejects: Vec<Reject>,
}

/// A definition's transform, event-time check and reject rules, ready to run. Cheap to share between threads.
#[derive(Debug)]
pub struct Transform {
    stages: Vec<Stage>,
    output: SchemaRef,
    /// Output columns, then input columns: what reject rules see.
    record: SchemaRef,
    event_time: Option<EventTimeCheck>,
    /// Partition columns, as indices of the output: an empty text of theirs is null, in whatever layer the row is.
    partitions: Vec<usize>,
    rules: Vec<(RejectRule, Arc<dyn PhysicalExpr>)>,
}

/// One step from the input to the output.
#[derive(Debug)]
enum Stage {
    /// Keeps the records for which this is true.
    Filter(Arc<dyn PhysicalExpr>),
    /// Makes new columns of the ones before.
    Project { expressions: Vec<Arc<dyn PhysicalExpr>>, schema: SchemaRef },
}

/// A zoneless event-time column: some local times do not exist.
#[derive(Debug)]
struct EventTimeCheck {
    index: usize,
    name: String,
    zone: chrono_tz::Tz,
    local: LocalTime,
}

/// A transform or reject rule that can't be compiled. Definitions made by [`crate::dataset::parse`] never yield one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the transform of `{dataset}` can't be compiled: {problem}")]
pub struct TransformError {
    /// Name of the dataset.
    pub dataset: String,
    /// What is wrong, the first of possibly several problems.
    pub problem: String,
}

impl ErrorKind for TransformError {
    fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

impl Transform {
    /// Compiles the transform of a definition.
    ///
    /// # Errors
    /// [`TransformError`] for a definition that was not validated.
    pub fn compile(definition: &Definition) -> Result<Self, TransformError> {
        let failed = |problem: String| TransformError { dataset: definition.name.clone(), problem };
        let first = |problems: Vec<SqlProblem>| {
            failed(problems.into_iter().next().map_or_else(String::new, |problem| problem.message))
        };
        let internal = |error: DataFusionError| failed(error.strip_backtrace());
        let input = definition.input_schema();
        let planned = plan::plan_transform(&input, &definition.transform_sql).map_err(first)?;
        let mut stages = Vec::new();
        add_stages(&planned.plan, &mut stages).map_err(internal)?;
        stages.push(storing_stage(planned.plan.schema(), &planned.output).map_err(internal)?);
        let mut rules = Vec::new();
        for rule in &definition.reject_rules {
            let (expr, schema) = plan::plan_condition(&planned.output, &input, &rule.when).map_err(first)?;
            rules.push((rule.clone(), compile_expr(&expr, &schema).map_err(internal)?));
        }
        let event_time = event_time_check(definition, &planned.output);
        let record = record_schema(&planned.output, &input);
        let index = |name: &String| planned.output.index_of(name).ok();
        let partitions = definition.partition_columns.iter().filter_map(index).collect();
        Ok(Self { stages, output: planned.output, record, event_time, partitions, rules })
    }

    /// Schema of the accepted rows: storable types, every column nullable.
    #[must_use]
    pub fn output_schema(&self) -> SchemaRef {
        Arc::clone(&self.output)
    }

    /// Runs on one decoded batch. Never fails as a whole: a record on which it fails is a reject.
    #[must_use]
    pub fn apply(&self, decoded: &Decoded) -> Transformed {
        let mut run = Run::new(decoded, !self.rules.is_empty());
        for stage in &self.stages {
            match stage {
                Stage::Filter(predicate) => run.filter(predicate),
                Stage::Project { expressions, schema } => run.project(expressions, schema),
            }
        }
        if let Some(check) = &self.event_time {
            check.run(&mut run);
        }
        if !self.rules.is_empty() {
            run.widen(&self.record);
            for (rule, condition) in &self.rules {
                run.reject_where(rule, condition);
            }
            run.narrow(&self.output);
        }
        let mut transformed = run.finish();
        transformed.batch = self.without_empty_partitions(transformed.batch);
        transformed
    }

    /// A table of partitions knows no empty text: it is null there, and so it is here.
    fn without_empty_partitions(&self, batch: RecordBatch) -> RecordBatch {
        let mut columns = batch.columns().to_vec();
        let mut changed = false;
        for index in &self.partitions {
            let Some(texts) = columns[*index].as_string_opt::<i32>() else { continue };
            if texts.iter().any(|text| text == Some("")) {
                columns[*index] =
                    Arc::new(texts.iter().map(|text| text.filter(|text| !text.is_empty())).collect::<StringArray>());
                changed = true;
            }
        }
        if !changed {
            return batch;
        }
        RecordBatch::try_new(batch.schema(), columns).expect("the same columns, of the same length and type")
    }
}

impl EventTimeCheck {
    fn run(&self, run: &mut Run<'_>) {
        let column = Arc::clone(run.column(self.index));
        let times = column.as_primitive::<TimestampMicrosecondType>();
        let Some(skipped) = self.local.nonexistent(times) else { return };
        run.reject_marked(&skipped, |row| {
            let time = times.value_as_datetime(row).map_or_else(String::new, |time| time.to_string());
            let message = format!("{time} does not exist in {}", self.zone);
            (Reason::NonexistentTime, Some(self.name.clone()), message)
        });
    }
}

/// Checks that `sql` is one statement, and nothing else.
pub(crate) fn parse_statement(sql: &str) -> Result<(), SqlProblem> {
    sql::parse_one(sql).map(drop)
}

/// The one statement that `sql` is, if it is one.
pub(crate) fn parse_select(sql: &str) -> Option<datafusion::sql::sqlparser::ast::Statement> {
    sql::parse_one(sql).ok()
}

fn event_time_check(definition: &Definition, output: &SchemaRef) -> Option<EventTimeCheck> {
    let event_time = definition.event_time.as_ref()?;
    let (index, field) = output.column_with_name(&event_time.column)?;
    // An instant always exists.
    matches!(field.data_type(), DataType::Timestamp(_, None)).then(|| EventTimeCheck {
        index,
        name: event_time.column.clone(),
        zone: event_time.zone,
        local: LocalTime::new(event_time.zone),
    })
}

fn compile_expr(
    expr: &datafusion::logical_expr::Expr,
    schema: &DFSchema,
) -> Result<Arc<dyn PhysicalExpr>, DataFusionError> {
    let mut properties = ExecutionProps::new();
    properties.config_options = Some(Arc::clone(Functions::get().options()));
    let compiled = create_physical_expr(expr, schema, &properties, &PhysicalPlanningContext::default())?;
    Ok(compiled.transform_up(|expr| failing_on_overflow(expr, schema.as_arrow()))?.data)
}

/// Arithmetic that fails where its result does not fit: DataFusion's own would go on with a number from the other end.
fn failing_on_overflow(
    expr: Arc<dyn PhysicalExpr>,
    input: &Schema,
) -> Result<Changed<Arc<dyn PhysicalExpr>>, DataFusionError> {
    if let Some(binary) = expr.downcast_ref::<BinaryExpr>()
        && matches!(binary.op(), Operator::Plus | Operator::Minus | Operator::Multiply)
    {
        return Ok(Changed::yes(Arc::new(binary.clone().with_fail_on_overflow(true))));
    }
    if let Some(negative) = expr.downcast_ref::<NegativeExpr>()
        && negative.arg().data_type(input)?.is_signed_integer()
    {
        let zero = ScalarValue::new_zero(&negative.arg().data_type(input)?)?;
        let from_zero = BinaryExpr::new(lit(zero), Operator::Minus, Arc::clone(negative.arg()));
        return Ok(Changed::yes(Arc::new(from_zero.with_fail_on_overflow(true))));
    }
    Ok(Changed::no(expr))
}

fn add_stages(plan: &LogicalPlan, stages: &mut Vec<Stage>) -> Result<(), DataFusionError> {
    match plan {
        LogicalPlan::TableScan(_) => Ok(()),
        LogicalPlan::SubqueryAlias(alias) => add_stages(&alias.input, stages),
        LogicalPlan::Filter(filter) => {
            add_stages(&filter.input, stages)?;
            stages.push(Stage::Filter(compile_expr(&filter.predicate, filter.input.schema())?));
            Ok(())
        }
        LogicalPlan::Projection(projection) => {
            add_stages(&projection.input, stages)?;
            let input = projection.input.schema();
            let compiled = projection.expr.iter().map(|expr| compile_expr(expr, input));
            let expressions = compiled.collect::<Result<Vec<_>, _>>()?;
            stages.push(Stage::Project { expressions, schema: nullable(projection.schema.as_arrow()) });
            Ok(())
        }
        other => Err(DataFusionError::Plan(format!("not per record: {}", other.display()))),
    }
}

/// The last step: every column cast to the type it is stored as, where it is not of that type yet.
fn storing_stage(planned: &DFSchema, output: &SchemaRef) -> Result<Stage, DataFusionError> {
    let from = planned.as_arrow();
    let mut expressions = Vec::new();
    for (index, (field, stored)) in from.fields().iter().zip(output.fields()).enumerate() {
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(field.name(), index));
        expressions.push(cast(column, from, stored.data_type().clone())?);
    }
    Ok(Stage::Project { expressions, schema: Arc::clone(output) })
}

fn nullable(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter();
    Arc::new(Schema::new(
        fields.map(|field| Field::new(field.name(), field.data_type().clone(), true)).collect::<Vec<_>>(),
    ))
}

fn record_schema(output: &SchemaRef, input: &SchemaRef) -> SchemaRef {
    let fields = output.fields().iter().chain(input.fields());
    Arc::new(Schema::new(
        fields.map(|field| Field::new(field.name(), field.data_type().clone(), true)).collect::<Vec<_>>(),
    ))
}

#[cfg(test)]
mod tests;
