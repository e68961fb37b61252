//! Doubles compared with decimals. A literal such as `4.4` is a decimal, so that it compares exactly with decimal columns and
//! prunes by their bounds; compared with a double, DataFusion would cut the double to a decimal of 15 digits behind the
//! point. Here both compare as doubles, which is what the same condition means in a transform.

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{Expr, ExprSchemable as _, cast};

use super::sides::{Meeting, meet};

/// Rewrites comparisons between a double and a decimal. Add it to a session's function rewrites: it then comes before type
/// coercion.
#[derive(Debug, Default)]
pub(super) struct DecimalAsDouble;

impl FunctionRewrite for DecimalAsDouble {
    fn name(&self) -> &str {
        "decimal_as_double"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        Ok(meet(self, expr, schema))
    }
}

impl Meeting for DecimalAsDouble {
    fn decides(&self, data_type: &DataType) -> bool {
        data_type.is_floating()
    }

    fn bring(&self, side: Expr, to: &DataType, schema: &DFSchema) -> Transformed<Expr> {
        match side.get_type(schema).is_ok_and(|data_type| data_type.is_decimal()) {
            true => Transformed::yes(as_double(side, to)),
            false => Transformed::no(side),
        }
    }
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
