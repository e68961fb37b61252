//! Counts by partition, answered from the Delta log: `SELECT pickup_month, count(*) FROM trips GROUP BY pickup_month`
//! reads no file, because the log has every file's partition values and number of rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result, ScalarValue};
use datafusion::datasource::{MemTable, provider_as_source, source_as_provider};
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::functions_aggregate::expr_fn::sum;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, LogicalPlanBuilder, lit};
use datafusion::optimizer::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use super::pruning::decided_by_partition;
use super::table::CuratedTable;

/// Column of row counts beside the partition columns; a name that no definition can give a column.
const ROWS: &str = "__rows";

/// Replaces the files under a count by partition by what the log says of them. Add it to a session after
/// DataFusion's own rules: it looks for filters where these have put them, at the scan.
#[derive(Debug, Default)]
pub struct CountsFromLog;

impl OptimizerRule for CountsFromLog {
    fn name(&self) -> &'static str {
        "counts_from_log"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Aggregate(aggregate) = &plan else { return Ok(Transformed::no(plan)) };
        Ok(match rewritten(aggregate)? {
            Some(rewritten) => Transformed::yes(rewritten),
            None => Transformed::no(plan),
        })
    }
}

fn rewritten(aggregate: &Aggregate) -> Result<Option<LogicalPlan>> {
    let (scan, alias) = match aggregate.input.as_ref() {
        LogicalPlan::TableScan(scan) => (scan, None),
        LogicalPlan::SubqueryAlias(alias) => match alias.input.as_ref() {
            LogicalPlan::TableScan(scan) => (scan, Some(alias.alias.clone())),
            _ => return Ok(None),
        },
        _ => return Ok(None),
    };
    let provider = source_as_provider(&scan.source)?;
    let Some(table) = provider.downcast_ref::<CuratedTable>() else { return Ok(None) };
    let partition_columns = &table.version().partition_columns;
    let by_partition = |expr: &Expr| decided_by_partition(expr, partition_columns);
    let answerable = scan.fetch.is_none()
        && scan.filters.iter().all(by_partition)
        && aggregate.group_expr.iter().all(|expr| !matches!(expr, Expr::GroupingSet(_)) && by_partition(expr))
        && aggregate.aggr_expr.iter().all(counts_rows);
    let Some(counts) = answerable.then(|| partition_rows(table)).flatten().transpose()? else { return Ok(None) };

    let mut plan = LogicalPlanBuilder::scan(scan.table_name.clone(), provider_as_source(Arc::new(counts)), None)?;
    if let Some(filter) = conjunction(scan.filters.iter().cloned()) {
        plan = plan.filter(filter)?;
    }
    if let Some(alias) = alias {
        plan = plan.alias(alias)?;
    }
    let plan = plan.aggregate(aggregate.group_expr.clone(), [sum(Expr::Column(Column::from_name(ROWS)))])?;
    let groups = aggregate.group_expr.len();
    let summed = plan.schema().columns();
    // Over no row at all, a count is 0 and a sum null.
    let rows = || coalesce(vec![Expr::Column(summed[groups].clone()), lit(0_i64)]);
    let names = aggregate.schema.fields()[groups..].iter().map(|field| field.name().clone());
    let kept = summed[..groups].iter().cloned().map(Expr::Column);
    plan.project(kept.chain(names.map(|name| rows().alias(name))))?.build().map(Some)
}

/// True for `count(*)`, as it is planned.
fn counts_rows(expr: &Expr) -> bool {
    let Expr::AggregateFunction(function) = expr.clone().unalias() else { return false };
    let params = &function.params;
    let [Expr::Literal(counted, _)] = params.args.as_slice() else { return false };
    function.func.name() == "count"
        && !counted.is_null()
        && !params.distinct
        && params.filter.is_none()
        && params.order_by.is_empty()
}

/// One row per file: its partition values and number of rows. `None` if the log lacks a number.
fn partition_rows(table: &CuratedTable) -> Option<Result<MemTable>> {
    let rows =
        table.version().files.iter().map(|file| i64::try_from(file.rows?).ok()).collect::<Option<Int64Array>>()?;
    Some(memory_table(table, rows))
}

fn memory_table(table: &CuratedTable, rows: Int64Array) -> Result<MemTable> {
    let partitions = table.partitions();
    let values = table.partition_values();
    let column = |index: usize, field: &FieldRef| -> Result<ArrayRef> {
        if values.is_empty() {
            return Ok(arrow::array::new_empty_array(field.data_type()));
        }
        ScalarValue::iter_to_array(values.iter().map(|row| row[index].clone()))
    };
    let fields = partitions.fields();
    let mut columns = fields.iter().enumerate().map(|(i, field)| column(i, field)).collect::<Result<Vec<_>>>()?;
    columns.push(Arc::new(rows));
    let mut fields: Vec<FieldRef> = fields.iter().map(Arc::clone).collect();
    fields.push(Arc::new(Field::new(ROWS, DataType::Int64, false)));
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
    MemTable::try_new(schema, vec![vec![batch]])
}
