//! Expressions that the SQL parser reads otherwise than they are meant.
//!
//! It takes all that follows `IS [NOT] DISTINCT FROM` for the right side, where SQL ends that before the next `AND`, `OR` or
//! `IS`: `a IS DISTINCT FROM b AND c` would be `a IS DISTINCT FROM (b AND c)`. What is written with parentheses is read as
//! it is meant, so that they are asked for.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, Visit, Visitor};

/// What to write instead of an expression in `node` that is read otherwise than it is meant, if there is one.
pub(crate) fn misread(node: &impl Visit) -> Option<String> {
    match node.visit(&mut Walk) {
        ControlFlow::Break(message) => Some(message),
        ControlFlow::Continue(()) => None,
    }
}

struct Walk;

impl Visitor for Walk {
    type Break = String;

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<String> {
        let (words, right) = match expr {
            Expr::IsDistinctFrom(_, right) => ("IS DISTINCT FROM", right),
            Expr::IsNotDistinctFrom(_, right) => ("IS NOT DISTINCT FROM", right),
            _ => return ControlFlow::Continue(()),
        };
        if binds_looser(right) {
            return ControlFlow::Break(format!(
                "`… {words} {right}` is ambiguous: write `(… {words} …)` with parentheses around what is compared"
            ));
        }
        ControlFlow::Continue(())
    }
}

/// True for what, without parentheses, is no operand of `IS`.
fn binds_looser(expr: &Expr) -> bool {
    matches!(
        expr,
        Expr::BinaryOp { op: BinaryOperator::And | BinaryOperator::Or | BinaryOperator::Xor, .. }
            | Expr::IsNull(_)
            | Expr::IsNotNull(_)
            | Expr::IsTrue(_)
            | Expr::IsNotTrue(_)
            | Expr::IsFalse(_)
            | Expr::IsNotFalse(_)
            | Expr::IsUnknown(_)
            | Expr::IsNotUnknown(_)
            | Expr::IsDistinctFrom(..)
            | Expr::IsNotDistinctFrom(..)
    )
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::misread;

    #[test]
    fn what_follows_is_distinct_from_needs_parentheses() {
        let found = |sql: &str| misread(&Parser::parse_sql(&GenericDialect {}, sql).expect("SQL"));
        for refused in [
            "SELECT a IS DISTINCT FROM b AND c FROM t",
            "SELECT 1 FROM t WHERE d OR a IS NOT DISTINCT FROM b OR c",
            "SELECT (SELECT a IS DISTINCT FROM b IS NULL) FROM t",
            "SELECT a IS DISTINCT FROM b IS DISTINCT FROM c FROM t",
        ] {
            assert!(found(refused).is_some_and(|message| message.contains("parentheses")), "{refused}");
        }
        for meant in [
            "SELECT (a IS DISTINCT FROM b) AND c FROM t",
            "SELECT a IS DISTINCT FROM (b AND c) FROM t",
            "SELECT c AND a IS DISTINCT FROM b FROM t",
            "SELECT a IS DISTINCT FROM b + 1, (a IS DISTINCT FROM b) IS NULL FROM t",
        ] {
            assert_eq!(found(meant), None, "{meant}");
        }
    }
}
