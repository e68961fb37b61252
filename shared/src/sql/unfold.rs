//! How large a plan's columns are once each is replaced by what it is made of.
//!
//! A column that is twice in the next one, which is twice in the next, …, is a million times in the twentieth. As it stands
//! that is a short plan, but conditions on their way down, bounds of an ordering and types of structs are made by
//! replacing, in steps that nothing can stop.

use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, LogicalPlan};

use super::watch::{EXPRESSIONS_MAX, Refusal};

/// Refuses a plan with a column, or a condition, that stands for too many expressions.
pub(super) fn check_columns(plan: &LogicalPlan) -> Result<()> {
    sizes(plan).map(drop)
}

/// The sizes of a plan's columns.
fn sizes(plan: &LogicalPlan) -> Result<Vec<usize>> {
    let inputs = plan.inputs();
    let mut of_inputs = Vec::new();
    for input in &inputs {
        of_inputs.push((input.schema().as_ref(), sizes(input)?));
    }
    let mut of_exprs = Vec::new();
    let _walked = plan.apply_expressions(|expr| {
        of_exprs.push(size(expr, &of_inputs)?);
        Ok(TreeNodeRecursion::Continue)
    })?;
    let below = || of_inputs.iter().flat_map(|(_, sizes)| sizes.iter().copied());
    let columns = plan.schema().fields().len();
    let found: Vec<usize> = match plan {
        LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_) => of_exprs,
        LogicalPlan::Window(_) => below().chain(of_exprs).collect(),
        _ => below().collect(),
    };
    // Where columns are chosen or put beside each other in other ways, each counts as the largest of them.
    let largest = found.iter().chain(&[1]).copied().max().unwrap_or(1);
    Ok(if found.len() == columns { found } else { vec![largest; columns] })
}

/// The size of an expression over columns of these sizes; refused beyond the most there may be.
fn size(expr: &Expr, inputs: &[(&DFSchema, Vec<usize>)]) -> Result<usize> {
    let mut size = 0_usize;
    let _walked = expr.apply(|part| {
        let of_column = part.try_as_col().and_then(|column| {
            let mut found =
                inputs.iter().filter_map(|(schema, sizes)| sizes.get(schema.maybe_index_of_column(column)?));
            found.next().copied()
        });
        size = size.saturating_add(of_column.unwrap_or(1));
        if let Expr::ScalarSubquery(subquery) = part {
            check_columns(&subquery.subquery)?;
        } else if let Expr::InSubquery(within) = part {
            check_columns(&within.subquery.subquery)?;
        } else if let Expr::Exists(exists) = part {
            check_columns(&exists.subquery.subquery)?;
        }
        match size > EXPRESSIONS_MAX {
            true => Err(Refusal::Parts { what: "expressions", limit: EXPRESSIONS_MAX }.into()),
            false => Ok(TreeNodeRecursion::Continue),
        }
    })?;
    Ok(size)
}
