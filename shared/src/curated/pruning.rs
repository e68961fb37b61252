//! Which files of a version a query has to read: decided on partition values, then on the bounds in the Delta log.
//!
//! Filters are *evaluated* on the partition values rather than matched against folder names, so that the answer is that
//! of a scan, whatever the filter: `pickup_month = 7`, `pickup_month LIKE '0%'`.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::pruning::PrunableStatistics;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result, ScalarValue, Statistics};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;

use super::judged::judged;

/// True if `filter` can be decided for a file by the values of `partition_columns` alone.
pub(super) fn decided_by_partition(filter: &Expr, partition_columns: &[String]) -> bool {
    // A constant is decided, too: the optimizer splits `p NOT IN ('a', NULL)` into `p <> 'a'` and a bare null after it
    // was told that the whole needs no filter above the scan.
    let columns = filter.column_refs();
    if filter.is_volatile() {
        return false;
    }
    let mut plain = true;
    let walk = filter.apply(|expr| {
        let nested = matches!(
            expr,
            Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) | Expr::OuterReferenceColumn(..)
        );
        plain &= !nested;
        Ok(if nested { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    walk.is_ok() && plain && columns.iter().all(|column| partition_columns.contains(&column.name))
}

/// For each file, whether its partition values satisfy all of `filters`.
///
/// `values[i]` are the values of `partitions`' columns for file `i`. A filter that fails on a value (a cast somebody
/// wrote) is tried again on the files that the others leave: one of them may be there to keep that value out.
///
/// # Errors
/// The failure of a filter on a file that no other filter excludes.
pub(super) fn matching_partitions(
    session: &dyn Session,
    filters: &[Expr],
    partitions: &SchemaRef,
    values: &[Vec<ScalarValue>],
) -> Result<Vec<bool>> {
    let schema = DFSchema::try_from(Arc::clone(partitions))?;
    let conjuncts = filters.iter().flat_map(split_conjunction);
    let mut waiting: Vec<Arc<dyn PhysicalExpr>> =
        conjuncts.map(|filter| session.create_physical_expr(filter.clone(), &schema)).collect::<Result<_>>()?;
    let mut files: Vec<usize> = (0..values.len()).collect();
    while !waiting.is_empty() && !files.is_empty() {
        let mut failed = Vec::new();
        let mut failure = None;
        let tried = waiting.len();
        for filter in waiting {
            match satisfied(filter.as_ref(), partitions, values, &files) {
                Ok(satisfied) => {
                    let mut satisfied = satisfied.into_iter();
                    files.retain(|_| satisfied.next().unwrap_or(false));
                }
                Err(error) => {
                    failure.get_or_insert(error);
                    failed.push(filter);
                }
            }
        }
        if failed.len() == tried
            && let Some(error) = failure
        {
            return Err(error);
        }
        waiting = failed;
    }
    let mut matching = vec![false; values.len()];
    files.into_iter().for_each(|file| matching[file] = true);
    Ok(matching)
}

/// For each of `files`, whether its partition values satisfy `filter`.
fn satisfied(
    filter: &dyn PhysicalExpr,
    partitions: &SchemaRef,
    values: &[Vec<ScalarValue>],
    files: &[usize],
) -> Result<Vec<bool>> {
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let columns = (0..partitions.fields().len())
        .map(|column| ScalarValue::iter_to_array(files.iter().map(|file| values[*file][column].clone())))
        .collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(files.len()));
    let batch = RecordBatch::try_new_with_options(Arc::clone(partitions), columns, &options)?;
    let outcome = filter.evaluate(&batch)?.into_array(files.len())?;
    let outcome = arrow::compute::cast(&outcome, &DataType::Boolean)?;
    let outcome = outcome.as_boolean();
    Ok((0..files.len()).map(|row| outcome.is_valid(row) && outcome.value(row)).collect())
}

/// For each file, whether its bounds leave it possible that one of its rows satisfies all of `filters`. Statistics are
/// over `schema`. A filter that can't be judged by bounds keeps every file, and so does each part that must not be: see
/// [`judged`].
pub(super) fn possible_by_bounds(
    session: &dyn Session,
    filters: &[Expr],
    schema: &SchemaRef,
    statistics: Vec<Arc<Statistics>>,
) -> Result<Vec<bool>> {
    let files = statistics.len();
    let mut possible = vec![true; files];
    let df_schema = DFSchema::try_from(Arc::clone(schema))?;
    let bounds = PrunableStatistics::new(statistics, Arc::clone(schema));
    for filter in filters {
        let judged = session
            .create_physical_expr(filter.clone(), &df_schema)
            .and_then(|expr| judged(&expr, schema))
            .and_then(|expr| PruningPredicateBuilder::new().with_file_schema(Arc::clone(schema)).try_build(expr))
            .and_then(|predicate| predicate.prune(&bounds));
        let Ok(judged) = judged else { continue };
        possible.iter_mut().zip(judged).for_each(|(possible, judged)| *possible &= judged);
    }
    Ok(possible)
}

/// The schema of `columns` of `schema`, in their order.
pub(super) fn project(schema: &Schema, columns: &[String]) -> Result<SchemaRef> {
    let fields = columns.iter().map(|name| Ok(schema.field_with_name(name)?.clone())).collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(Schema::new(fields)))
}
