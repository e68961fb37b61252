//! Constants beside rows: where a constant stands for a column, it is copied for every row of a batch.

use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, LogicalPlan};

use super::error::SqlError;

/// Longest constant beside rows.
const BYTES_MAX: usize = 128 * 1024;
/// Most bytes of all that one step puts beside rows.
const SUM_BYTES_MAX: usize = 256 * 1024;

/// Refuses a plan whose constants would be copied for many rows and are too long for that.
pub(super) fn check_literals(plan: &LogicalPlan) -> std::result::Result<(), SqlError> {
    if has_one_row(plan) {
        return Ok(());
    }
    let (mut longest, mut most) = (0, 0);
    let walked = plan.apply_with_subqueries(|node| {
        let mut sum = 0;
        let _walked = node.apply_expressions(|expr| literals(expr, &mut longest, &mut sum))?;
        // A condition compares with its constants as they are; values of a list of rows stand once each.
        if !matches!(node, LogicalPlan::Filter(_) | LogicalPlan::TableScan(_) | LogicalPlan::Values(_)) {
            most = most.max(sum);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    walked.map_err(SqlError::from_planning)?;
    for (bytes, limit_bytes, what) in [
        (longest, BYTES_MAX, "the statement has a constant beside rows"),
        (most, SUM_BYTES_MAX, "the statement has constants beside rows"),
    ] {
        if bytes > limit_bytes {
            return Err(SqlError::TooLarge { what: what.to_owned(), limit_bytes });
        }
    }
    Ok(())
}

/// True if no step makes more rows of one.
fn has_one_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::EmptyRelation(_) => true,
        LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Limit(_)
        | LogicalPlan::Explain(_) => plan.inputs().into_iter().all(has_one_row),
        _ => false,
    }
}

fn literals(expr: &Expr, longest: &mut usize, sum: &mut usize) -> Result<TreeNodeRecursion> {
    expr.apply(|expr| {
        if let Expr::Literal(value, _) = expr {
            let bytes = bytes(value);
            *longest = (*longest).max(bytes);
            *sum += bytes;
        }
        // What is looked up in a list is never a column of its own.
        Ok(if matches!(expr, Expr::InList(_)) { TreeNodeRecursion::Jump } else { TreeNodeRecursion::Continue })
    })
}

/// Bytes of a value that can be of any length.
fn bytes(value: &ScalarValue) -> usize {
    match value {
        ScalarValue::Utf8(text) | ScalarValue::LargeUtf8(text) | ScalarValue::Utf8View(text) => {
            text.as_ref().map_or(0, String::len)
        }
        ScalarValue::Binary(bytes) | ScalarValue::LargeBinary(bytes) | ScalarValue::BinaryView(bytes) => {
            bytes.as_ref().map_or(0, Vec::len)
        }
        other if other.data_type().is_nested() => other.size(),
        _ => 0,
    }
}
