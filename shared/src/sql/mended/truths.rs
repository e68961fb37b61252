//! `x IS TRUE` and its like, where they make columns.
//!
//! DataFusion runs them as comparisons that may be null, and plans them as columns that never are; whatever is grouped or
//! counted above such a column is then refused, for the two must be the same.

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode as _};
use datafusion::error::Result;
use datafusion::logical_expr::expr::BinaryExpr;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan, Operator, lit};
use datafusion::optimizer::analyzer::AnalyzerRule;

/// Plans them as what they are run as. Add it after type coercion, which makes a truth of what they are asked of.
#[derive(Debug, Default)]
pub(super) struct Truths;

impl AnalyzerRule for Truths {
    fn name(&self) -> &'static str {
        "truths"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let mut changed = false;
        let analyzed = plan.transform_up_with_subqueries(|node| {
            let compared = with_comparisons(node)?;
            changed |= compared.transformed;
            // What stands above one has its columns.
            if changed { compared.map_data(LogicalPlan::recompute_schema) } else { Ok(compared) }
        });
        Ok(analyzed?.data)
    }
}

/// Conditions stay as they are: they make no column, and the optimizer knows them.
fn with_comparisons(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    if !matches!(node, LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_) | LogicalPlan::Window(_)) {
        return Ok(Transformed::no(node));
    }
    let names = NamePreserver::new(&node);
    node.map_expressions(|expr| {
        // A grouping set can't be given its name back, and has no column below.
        if matches!(expr, Expr::GroupingSet(_)) || !expr.exists(|part| Ok(is_asked(part)))? {
            return Ok(Transformed::no(expr));
        }
        let name = names.save(&expr);
        Ok(expr.transform_up(comparison)?.update_data(|expr| name.restore(expr)))
    })
}

fn is_asked(expr: &Expr) -> bool {
    matches!(
        expr,
        Expr::IsTrue(_)
            | Expr::IsNotTrue(_)
            | Expr::IsFalse(_)
            | Expr::IsNotFalse(_)
            | Expr::IsUnknown(_)
            | Expr::IsNotUnknown(_)
    )
}

fn comparison(expr: Expr) -> Result<Transformed<Expr>> {
    let with = |truth: Box<Expr>, operator: Operator, value: bool| {
        Expr::BinaryExpr(BinaryExpr::new(truth, operator, Box::new(lit(value))))
    };
    Ok(Transformed::yes(match expr {
        Expr::IsTrue(truth) => with(truth, Operator::IsNotDistinctFrom, true),
        Expr::IsNotTrue(truth) => with(truth, Operator::IsDistinctFrom, true),
        Expr::IsFalse(truth) => with(truth, Operator::IsNotDistinctFrom, false),
        Expr::IsNotFalse(truth) => with(truth, Operator::IsDistinctFrom, false),
        Expr::IsUnknown(truth) => Expr::IsNull(truth),
        Expr::IsNotUnknown(truth) => Expr::IsNotNull(truth),
        other => return Ok(Transformed::no(other)),
    }))
}
