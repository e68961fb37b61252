//! Doubles compared with decimals. A literal such as `4.4` is a decimal, so that it compares exactly with decimal columns and
//! prunes by their bounds; compared with a double, DataFusion would cut the double to a decimal of 15 digits behind the
//! point. Here both compare as doubles, which is what the same condition means in a transform.

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{Between, BinaryExpr, InList};
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{Expr, ExprSchemable as _, Operator, cast};

/// Rewrites comparisons between a double and a decimal. Add it to a session's function rewrites: it then comes before type
/// coercion.
#[derive(Debug, Default)]
pub struct DecimalAsDouble;

impl FunctionRewrite for DecimalAsDouble {
    fn name(&self) -> &str {
        "decimal_as_double"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        let double = |expr: &Expr| expr.get_type(schema).ok().filter(DataType::is_floating);
        let decimal = |expr: &Expr| expr.get_type(schema).is_ok_and(|data_type| data_type.is_decimal());
        Ok(match expr {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) if compares(op) => {
                let (left_type, right_type) = (double(&left), double(&right));
                match (left_type, right_type) {
                    (Some(to), None) if decimal(&right) => Transformed::yes(binary(*left, op, as_double(*right, &to))),
                    (None, Some(to)) if decimal(&left) => Transformed::yes(binary(as_double(*left, &to), op, *right)),
                    _ => Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right })),
                }
            }
            Expr::Between(between) => match double(&between.expr) {
                Some(to) if decimal(&between.low) || decimal(&between.high) => {
                    let side = |side: Box<Expr>| match decimal(&side) {
                        true => Box::new(as_double(*side, &to)),
                        false => side,
                    };
                    let Between { expr, negated, low, high } = between;
                    Transformed::yes(Expr::Between(Between { expr, negated, low: side(low), high: side(high) }))
                }
                _ => Transformed::no(Expr::Between(between)),
            },
            Expr::InList(list) => match double(&list.expr) {
                Some(to) if list.list.iter().any(decimal) => {
                    let InList { expr, list, negated } = list;
                    let each = |each: Expr| if decimal(&each) { as_double(each, &to) } else { each };
                    Transformed::yes(Expr::InList(InList { expr, list: list.into_iter().map(each).collect(), negated }))
                }
                _ => Transformed::no(Expr::InList(list)),
            },
            other => Transformed::no(other),
        })
    }
}

fn compares(operator: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(operator, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

fn binary(left: Expr, op: Operator, right: Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr { left: Box::new(left), op, right: Box::new(right) })
}

/// `decimal` as a double; a literal as the nearest one to its text.
fn as_double(decimal: Expr, to: &DataType) -> Expr {
    let literal = match &decimal {
        Expr::Literal(ScalarValue::Decimal128(Some(unscaled), _, scale), _) => nearest(*unscaled, *scale, to),
        _ => None,
    };
    literal.map_or_else(|| cast(decimal, to.clone()), |value| Expr::Literal(value, None))
}

/// The double nearest to a decimal: by its text, for dividing could round twice.
fn nearest(unscaled: i128, scale: i8, to: &DataType) -> Option<ScalarValue> {
    let text = format!("{unscaled}e{}", -i32::from(scale));
    match to {
        DataType::Float64 => text.parse().ok().map(|value| ScalarValue::Float64(Some(value))),
        DataType::Float32 => text.parse().ok().map(|value| ScalarValue::Float32(Some(value))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray as _;
    use datafusion::execution::FunctionRegistry as _;
    use datafusion::prelude::{SessionConfig, SessionContext};
    use std::sync::Arc;

    use super::*;

    async fn is_true(sql: &str) -> bool {
        let mut config = SessionConfig::new();
        config.options_mut().sql_parser.parse_float_as_decimal = true;
        let context = SessionContext::new_with_config(config);
        let mut state = context.state();
        state.register_function_rewrite(Arc::new(DecimalAsDouble)).expect("a session takes every rewrite");
        let context = SessionContext::new_with_state(state);
        let batches = context.sql(sql).await.expect(sql).collect().await.expect(sql);
        batches[0].column(0).as_boolean().value(0)
    }

    #[tokio::test]
    async fn a_literal_beside_a_double_is_the_nearest_double() {
        for (condition, wanted) in [
            ("CAST(4.4 AS DOUBLE) = 4.4", true),
            ("4.4 = CAST('4.4' AS DOUBLE)", true),
            ("CAST('0.1' AS DOUBLE) + CAST('0.2' AS DOUBLE) = 0.3", false),
            ("CAST('1e-20' AS DOUBLE) > 0.0", true),
            ("CAST('-1e-16' AS DOUBLE) < 0.0", true),
            ("CAST('1e300' AS DOUBLE) > 0.5", true),
            ("CAST('NaN' AS DOUBLE) > 0.5", true),
            ("CAST('8.3' AS DOUBLE) BETWEEN 8.3 AND 8.3", true),
            ("CAST('8.3' AS DOUBLE) IN (1.5, 8.3)", true),
            ("CAST('8.3' AS DOUBLE) NOT IN (1.5, 8.3)", false),
            ("CAST('4.4' AS FLOAT) = 4.4", true),
            ("CAST(8.90 AS DECIMAL(10, 2)) = 8.9", true),
        ] {
            assert_eq!(is_true(&format!("SELECT {condition}")).await, wanted, "{condition}");
        }
    }
}
