//! Which files of a version a query has to read: decided on partition values, then on the bounds in the Delta log.
//!
//! Partition columns are strings such as `pickup_month = '07'`; a comparison with an integer compares numerically
//! (`pickup_month = 7`), so filters are *evaluated* on the partition values rather than matched against folder names.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::pruning::PrunableStatistics;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result, ScalarValue, Statistics};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TryCast};
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;

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
/// `values[i]` are the values of `partitions`' columns for file `i`. A value that is no number, compared with one, is
/// null there: it matches nothing, and a stray folder fails no query.
pub(super) fn matching_partitions(
    session: &dyn Session,
    filters: &[Expr],
    partitions: &SchemaRef,
    values: &[Vec<ScalarValue>],
) -> Result<Vec<bool>> {
    let lenient = filters.iter().cloned().map(lenient_casts).collect::<Result<Vec<_>>>()?;
    let Some(filter) = conjunction(lenient) else { return Ok(vec![true; values.len()]) };
    let columns = (0..partitions.fields().len())
        .map(|column| ScalarValue::iter_to_array(values.iter().map(|row| row[column].clone())))
        .collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(values.len()));
    let batch = RecordBatch::try_new_with_options(Arc::clone(partitions), columns, &options)?;
    let schema = DFSchema::try_from(Arc::clone(partitions))?;
    let outcome = session.create_physical_expr(filter, &schema)?.evaluate(&batch)?.into_array(values.len())?;
    let outcome = arrow::compute::cast(&outcome, &DataType::Boolean)?;
    let outcome = outcome.as_boolean();
    Ok((0..values.len()).map(|file| outcome.is_valid(file) && outcome.value(file)).collect())
}

/// `filter` with casts that yield null for what they can't convert.
pub(super) fn lenient_casts(filter: Expr) -> Result<Expr> {
    let lenient = |expr| match expr {
        Expr::Cast(cast) => Ok(Transformed::yes(Expr::TryCast(TryCast::new_from_field(cast.expr, cast.field)))),
        other => Ok(Transformed::no(other)),
    };
    Ok(filter.transform(lenient)?.data)
}

/// For each file, whether its bounds leave it possible that one of its rows satisfies all of `filters`. Statistics are
/// over `schema`. A filter that can't be judged by bounds keeps every file.
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
