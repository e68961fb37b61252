//! Counts by partition, answered from the Delta log: `SELECT pickup_month, count(*) FROM trips GROUP BY pickup_month`
//! reads no file, because the log has every file's partition values and number of rows.
//!
//! Where curated rows are one part of a union, as in a merged table, their part is taken from the log, and the other
//! parts' rows count one each.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode as _};
use datafusion::common::{Column, DFSchema, Result, ScalarValue};
use datafusion::datasource::{MemTable, provider_as_source, source_as_provider};
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::functions_aggregate::expr_fn::sum;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, LogicalPlanBuilder, TableScan, lit};
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
    let groups = &aggregate.group_expr;
    let grouping_set = |expr: &Expr| matches!(expr, Expr::GroupingSet(_));
    if groups.iter().any(grouping_set) || !aggregate.aggr_expr.iter().all(counts_rows) {
        return Ok(None);
    }
    let mut parts = Vec::new();
    split(&aggregate.input, groups.clone(), &mut parts)?;
    if groups.is_empty() && parts.iter().all(Part::is_whole_table) {
        // That number of rows is known without a plan that adds it up.
        return Ok(None);
    }
    let of_log = parts.iter().map(Part::of_log).collect::<Result<Vec<_>>>()?;
    if of_log.iter().all(Option::is_none) {
        return Ok(None);
    }
    let mut counted = parts.into_iter().zip(of_log).map(|(part, of_log)| of_log.map_or_else(|| part.row_by_row(), Ok));
    let first = counted.next().expect("one of them is of the log")?;
    let rows = counted.try_fold(LogicalPlanBuilder::from(first), |all, part| all.union(part?))?;
    let keys = (0..groups.len()).map(|n| Expr::Column(Column::from_name(key_name(n))));
    let summed = rows.aggregate(keys.clone(), [sum(Expr::Column(Column::from_name(ROWS)))])?;
    let sum = Expr::Column(summed.schema().columns()[groups.len()].clone());
    // Over no row at all, a count is 0 and a sum null.
    let count = || coalesce(vec![sum.clone(), lit(0_i64)]);
    let columns = keys.chain(aggregate.aggr_expr.iter().map(|_| count())).zip(aggregate.schema.iter());
    let named = columns.map(|(expr, (table, field))| expr.alias_qualified(table.cloned(), field.name()));
    summed.project(named.collect::<Vec<_>>())?.build().map(Some)
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

fn key_name(n: usize) -> String {
    format!("__key_{n}")
}

/// A part of what is counted, and what its rows are grouped by.
struct Part<'a> {
    rows: &'a LogicalPlan,
    /// In terms of the part's own columns.
    groups: Vec<Expr>,
}

/// The parts of `plan`: itself, or what it is a union of.
fn split<'a>(plan: &'a LogicalPlan, groups: Vec<Expr>, parts: &mut Vec<Part<'a>>) -> Result<()> {
    let columns = |plan: &LogicalPlan| plan.schema().columns().into_iter().map(Expr::Column).collect::<Vec<_>>();
    match plan {
        LogicalPlan::SubqueryAlias(alias) => {
            split(&alias.input, in_terms_of(&columns(&alias.input), &alias.schema, groups)?, parts)
        }
        LogicalPlan::Projection(projection) if !projection.expr.iter().any(Expr::is_volatile) => {
            let below: Vec<Expr> = projection.expr.iter().map(|expr| expr.clone().unalias()).collect();
            split(&projection.input, in_terms_of(&below, &projection.schema, groups)?, parts)
        }
        LogicalPlan::Union(union) => union
            .inputs
            .iter()
            .try_for_each(|input| split(input, in_terms_of(&columns(input), &union.schema, groups.clone())?, parts)),
        rows => {
            parts.push(Part { rows, groups });
            Ok(())
        }
    }
}

/// `exprs` over the columns of `schema`, of which `below` tells, in order, what each is made of.
fn in_terms_of(below: &[Expr], schema: &DFSchema, exprs: Vec<Expr>) -> Result<Vec<Expr>> {
    let replaced = |expr: Expr| match &expr {
        Expr::Column(column) => Ok(Transformed::yes(below[schema.index_of_column(column)?].clone())),
        _ => Ok(Transformed::no(expr)),
    };
    exprs.into_iter().map(|expr| Ok(expr.transform_up(replaced)?.data)).collect()
}

impl Part<'_> {
    fn is_whole_table(&self) -> bool {
        matches!(self.rows, LogicalPlan::TableScan(scan) if scan.filters.is_empty() && scan.fetch.is_none())
    }

    /// What the log says: the keys, and a number of rows, of each file; `None` if the log can't tell.
    fn of_log(&self) -> Result<Option<LogicalPlan>> {
        let LogicalPlan::TableScan(scan) = self.rows else { return Ok(None) };
        let provider = source_as_provider(&scan.source)?;
        let Some(table) = provider.downcast_ref::<CuratedTable>() else { return Ok(None) };
        if !self.decided_by_files(scan, table) {
            return Ok(None);
        }
        let Some(counts) = files(table) else { return Ok(None) };
        let source = provider_as_source(Arc::new(counts?));
        let mut plan = LogicalPlanBuilder::scan(scan.table_name.clone(), source, None)?;
        if let Some(filter) = conjunction(scan.filters.iter().cloned()) {
            plan = plan.filter(filter)?;
        }
        let rows = Expr::Column(Column::new(Some(scan.table_name.clone()), ROWS));
        self.keyed(plan, rows).map(Some)
    }

    fn decided_by_files(&self, scan: &TableScan, table: &CuratedTable) -> bool {
        let columns = &table.version().partition_columns;
        let decided = |expr: &Expr| decided_by_partition(expr, columns);
        scan.fetch.is_none() && scan.filters.iter().all(decided) && self.groups.iter().all(decided)
    }

    /// The keys of each row, which counts one.
    fn row_by_row(&self) -> Result<LogicalPlan> {
        self.keyed(LogicalPlanBuilder::from(self.rows.clone()), lit(1_i64))
    }

    fn keyed(&self, plan: LogicalPlanBuilder, rows: Expr) -> Result<LogicalPlan> {
        let keys = self.groups.iter().enumerate().map(|(n, group)| group.clone().alias(key_name(n)));
        plan.project(keys.chain([rows.alias(ROWS)]).collect::<Vec<_>>())?.build()
    }
}

/// One row per file that has rows: its partition values and their number. `None` if the log lacks a number.
fn files(table: &CuratedTable) -> Option<Result<MemTable>> {
    let rows = table.version().files.iter().map(|file| i64::try_from(file.rows?).ok()).collect::<Option<Vec<_>>>()?;
    Some(memory_table(table, &rows))
}

fn memory_table(table: &CuratedTable, rows: &[i64]) -> Result<MemTable> {
    let partitions = table.partitions();
    let filled: Vec<(&Vec<ScalarValue>, i64)> =
        table.partition_values().iter().zip(rows.iter().copied()).filter(|(_, rows)| *rows > 0).collect();
    let column = |index: usize, field: &FieldRef| -> Result<ArrayRef> {
        if filled.is_empty() {
            return Ok(arrow::array::new_empty_array(field.data_type()));
        }
        ScalarValue::iter_to_array(filled.iter().map(|(values, _)| values[index].clone()))
    };
    let fields = partitions.fields();
    let mut columns = fields.iter().enumerate().map(|(i, field)| column(i, field)).collect::<Result<Vec<_>>>()?;
    columns.push(Arc::new(Int64Array::from_iter_values(filled.iter().map(|(_, rows)| *rows))));
    let mut fields: Vec<FieldRef> = fields.iter().map(Arc::clone).collect();
    fields.push(Arc::new(Field::new(ROWS, DataType::Int64, false)));
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
    MemTable::try_new(schema, vec![vec![batch]])
}
