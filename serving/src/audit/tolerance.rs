//! How far a double may be from the derived one. Added up in another order, doubles differ: a sum of `n` of them by at most
//! `n·ε·Σ|x|`, however small the sum itself. Everything else compares exactly.
//!
//! The statement is asked for that bound too, by a column for each double behind its own.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, SelectItem, SetExpr,
    Statement, UnaryOperator, Visit, Visitor,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::compare::Kind;

/// The distance from 1 to the next double; as a text, for literals are decimals.
const EPSILON: &str = "CAST('2.220446049250313e-16' AS DOUBLE)";
/// Aggregates whose doubles depend on the order of rows.
const ORDERED: [&str; 13] = [
    "sum",
    "avg",
    "mean",
    "stddev",
    "stddev_pop",
    "stddev_samp",
    "var",
    "var_pop",
    "var_samp",
    "var_population",
    "var_sample",
    "corr",
    "median",
];

/// How the doubles of an answer are compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tolerance {
    /// They are as they are, whatever the order of rows.
    Exact,
    /// By this statement: the columns, then for each double among them how far it may be off.
    Asked(String),
    /// There is no telling.
    Unknown(String),
}

/// The tolerance of a statement whose columns are of these kinds.
pub(super) fn tolerance(sql: &str, kinds: &[Kind]) -> Tolerance {
    let unknown = |reason: &str| Tolerance::Unknown(reason.to_owned());
    if !kinds.contains(&Kind::Float) {
        return Tolerance::Exact;
    }
    let Ok(mut statements) = Parser::parse_sql(&GenericDialect {}, sql) else {
        return unknown("it is in a dialect that the audit does not read");
    };
    let Some(statement) = statements.first_mut() else { return unknown("it is not one query") };
    let all = aggregates(statement);
    if all == 0 {
        return Tolerance::Exact;
    }
    let deep = "a double is made of aggregates in a way that the audit can't bound";
    let Statement::Query(query) = &mut *statement else { return unknown("it is not one query") };
    let SetExpr::Select(select) = query.body.as_mut() else { return unknown(deep) };
    let shown: usize = select.projection.iter().map(aggregates).sum();
    if shown != all || select.distinct.is_some() || select.projection.len() != kinds.len() {
        return unknown(deep);
    }
    let mut bounds = Vec::new();
    for (item, _) in select.projection.iter().zip(kinds).filter(|(_, kind)| **kind == Kind::Float) {
        let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = item else {
            return unknown(deep);
        };
        let bound = bound(expr).and_then(|bound| parsed(&format!("CAST({bound} AS DOUBLE)")));
        let Some(expr) = bound else { return unknown(deep) };
        let alias = Ident::new(format!("__tolerance_{}", bounds.len()));
        bounds.push(SelectItem::ExprWithAlias { expr, alias });
    }
    select.projection.extend(bounds);
    Tolerance::Asked(statement.to_string())
}

fn parsed(expr: &str) -> Option<Expr> {
    Parser::new(&GenericDialect {}).try_with_sql(expr).ok()?.parse_expr().ok()
}

/// Number of aggregates in a piece of a statement that depend on the order of rows.
fn aggregates(piece: &impl Visit) -> usize {
    struct Count(usize);

    impl Visitor for Count {
        type Break = ();

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            if let Expr::Function(function) = expr {
                self.0 += usize::from(is_ordered(&name(function)));
            }
            ControlFlow::Continue(())
        }
    }

    let mut count = Count(0);
    let _flow = piece.visit(&mut count);
    count.0
}

fn name(function: &Function) -> String {
    function.name.to_string().to_lowercase()
}

fn is_ordered(name: &str) -> bool {
    ORDERED.contains(&name) || name.starts_with("covar") || name.starts_with("regr_")
}

/// How far the value of `expr` may be off, as SQL; `None`: no telling.
fn bound(expr: &Expr) -> Option<String> {
    if aggregates(expr) == 0 {
        return Some("0".to_owned());
    }
    match expr {
        Expr::Nested(inner) | Expr::UnaryOp { op: UnaryOperator::Minus | UnaryOperator::Plus, expr: inner } => {
            bound(inner)
        }
        Expr::Cast { expr: inner, .. } => bound(inner),
        Expr::BinaryOp { left, op, right } => {
            let (of_left, of_right) = (bound(left)?, bound(right)?);
            let spread = match op {
                BinaryOperator::Plus | BinaryOperator::Minus => format!("({of_left}) + ({of_right})"),
                BinaryOperator::Multiply => {
                    format!("abs({left}) * ({of_right}) + abs({right}) * ({of_left}) + ({of_left}) * ({of_right})")
                }
                BinaryOperator::Divide => {
                    // Twice: the divisor may be smaller than it is, as long as it is far from zero.
                    let divisor = format!("nullif(abs({right}), 0)");
                    format!("2 * (({of_left}) / {divisor} + abs({left}) * ({of_right}) / ({divisor} * {divisor}))")
                }
                _ => return None,
            };
            Some(format!("{spread} + 2 * {EPSILON} * abs({expr})"))
        }
        Expr::Function(function) => of_aggregate(function),
        _ => None,
    }
}

/// The bound of `sum(x)` and `avg(x)`.
fn of_aggregate(function: &Function) -> Option<String> {
    let FunctionArguments::List(arguments) = &function.args else { return None };
    let [FunctionArg::Unnamed(FunctionArgExpr::Expr(value))] = arguments.args.as_slice() else { return None };
    if function.over.is_some() || aggregates(value) > 0 {
        return None;
    }
    let only = function.filter.as_ref().map(|when| format!(" FILTER (WHERE {when})")).unwrap_or_default();
    let sizes = format!("sum(abs(CAST({value} AS DOUBLE))){only}");
    match name(function).as_str() {
        "sum" => Some(format!("count({value}){only} * {EPSILON} * {sizes}")),
        // The sum's bound, by the number of values; and the division.
        "avg" | "mean" => Some(format!("2 * {EPSILON} * {sizes}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_that_no_order_changes_are_exact() {
        for (sql, kinds) in [
            ("SELECT x FROM t", vec![Kind::Float]),
            ("SELECT * FROM t WHERE x > 1", vec![Kind::Float, Kind::Text]),
            ("SELECT max(x), count(*) FROM t", vec![Kind::Float, Kind::Exact]),
            ("SELECT sum(n) FROM t", vec![Kind::Exact]),
        ] {
            assert_eq!(tolerance(sql, &kinds), Tolerance::Exact, "{sql}");
        }
    }

    #[test]
    fn a_sum_may_be_off_by_what_its_values_are() {
        let kinds = [Kind::Text, Kind::Float, Kind::Exact, Kind::Float];
        let sql = "SELECT c, sum(x) AS s, count(*), avg(x) FILTER (WHERE x > 1) FROM t GROUP BY c";
        let Tolerance::Asked(asked) = tolerance(sql, &kinds) else { panic!("it can be told") };
        let sum = format!("CAST(count(x) * {EPSILON} * sum(abs(CAST(x AS DOUBLE))) AS DOUBLE) AS __tolerance_0");
        assert!(asked.contains(&sum), "{asked}");
        let average = "sum(abs(CAST(x AS DOUBLE))) FILTER (WHERE x > 1) AS DOUBLE) AS __tolerance_1";
        assert!(asked.contains(average), "{asked}");
        assert!(asked.ends_with("FROM t GROUP BY c"), "{asked}");
        for sql in ["SELECT sum(x) / count(*) FROM t", "SELECT -(sum(x) * 2 - avg(y)) FROM t"] {
            assert!(matches!(tolerance(sql, &[Kind::Float]), Tolerance::Asked(_)), "{sql}");
        }
    }

    #[test]
    fn what_can_t_be_bounded_is_no_answer_to_audit() {
        for sql in [
            "SELECT stddev(x) FROM t",
            "SELECT sqrt(sum(x)) FROM t",
            "SELECT s FROM (SELECT sum(x) AS s FROM t)",
            "SELECT sum(x) FROM t UNION ALL SELECT 1.0",
            "SELECT DISTINCT sum(x) FROM t GROUP BY c",
            "SELECT avg(x) FROM t HAVING sum(y) > 1",
        ] {
            assert!(matches!(tolerance(sql, &[Kind::Float]), Tolerance::Unknown(_)), "{sql}");
        }
    }
}
