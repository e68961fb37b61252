//! Comparisons whose sides are of two types: which side keeps its type, and which is brought to it, before DataFusion's own
//! coercion takes them both to a third one.

use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::expr::{Between, BinaryExpr, InList};
use datafusion::logical_expr::{Expr, ExprSchemable as _, Operator};

/// A rule for comparisons of two types.
pub(super) trait Meeting {
    /// True for the type to which the other side is brought.
    fn decides(&self, data_type: &DataType) -> bool;

    /// `side`, brought to `to`; as it is where the rule has no say in it.
    fn bring(&self, side: Expr, to: &DataType, schema: &DFSchema) -> Transformed<Expr>;
}

/// `expr` by the rule, if it is a comparison that the rule has a say in.
pub(super) fn meet(rule: &impl Meeting, expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    let decided = |expr: &Expr| expr.get_type(schema).ok().filter(|data_type| rule.decides(data_type));
    let together = |comparison: Expr, changed: bool| Transformed::new_transformed(comparison, changed);
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if compares(op) => {
            let (left, right, changed) = match (decided(&left), decided(&right)) {
                (Some(to), None) => {
                    let right = rule.bring(*right, &to, schema);
                    (left, Box::new(right.data), right.transformed)
                }
                (None, Some(to)) => {
                    let left = rule.bring(*left, &to, schema);
                    (Box::new(left.data), right, left.transformed)
                }
                _ => (left, right, false),
            };
            together(Expr::BinaryExpr(BinaryExpr { left, op, right }), changed)
        }
        Expr::Between(between) => {
            let Some(to) = decided(&between.expr) else { return Transformed::no(Expr::Between(between)) };
            let Between { expr, negated, low, high } = between;
            let (low, high) = (rule.bring(*low, &to, schema), rule.bring(*high, &to, schema));
            let changed = low.transformed || high.transformed;
            let (low, high) = (Box::new(low.data), Box::new(high.data));
            together(Expr::Between(Between { expr, negated, low, high }), changed)
        }
        Expr::InList(list) => {
            let Some(to) = decided(&list.expr) else { return Transformed::no(Expr::InList(list)) };
            let InList { expr, list, negated } = list;
            let list: Vec<_> = list.into_iter().map(|each| rule.bring(each, &to, schema)).collect();
            let changed = list.iter().any(|each| each.transformed);
            let list = list.into_iter().map(|each| each.data).collect();
            together(Expr::InList(InList { expr, list, negated }), changed)
        }
        other => Transformed::no(other),
    }
}

fn compares(operator: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(operator, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}
