//! `-0.0` and `0.0`: equal where they are compared, and two values to DataFusion where they are looked up in a list, or
//! where windows begin and end by them.

use arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::expr::{Case, Cast};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, ExprSchemable as _};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;

/// The zeros that `constants` of this type lack of the two that there are, if they have one.
pub(super) fn missing_zeros(constants: &[Expr], data_type: &DataType) -> Vec<Expr> {
    let zeros = match data_type {
        DataType::Float32 => [ScalarValue::Float32(Some(0.0)), ScalarValue::Float32(Some(-0.0))],
        DataType::Float64 => [ScalarValue::Float64(Some(0.0)), ScalarValue::Float64(Some(-0.0))],
        _ => return Vec::new(),
    };
    let there: Vec<ScalarValue> = constants.iter().filter_map(value).filter(|value| zeros.contains(value)).collect();
    if there.is_empty() {
        return Vec::new();
    }
    zeros.into_iter().filter(|zero| !there.contains(zero)).map(|zero| Expr::Literal(zero, None)).collect()
}

/// What the optimizer will make of a constant; `None` if it leaves it as it is.
pub(super) fn value(constant: &Expr) -> Option<ScalarValue> {
    match constant {
        Expr::Literal(value, _) => return Some(value.clone()),
        // Lists may have thousands of these.
        Expr::Cast(Cast { expr, field }) => {
            if let Expr::Literal(value, _) = expr.as_ref() {
                return value.cast_to(field.data_type()).ok();
            }
        }
        _ => {}
    }
    // One that can't be computed fails where it is.
    match ExprSimplifier::new(SimplifyContext::default()).simplify(constant.clone()) {
        Ok(Expr::Literal(value, _)) => Some(value),
        _ => None,
    }
}

/// `CASE x WHEN 0.0 …` as `CASE WHEN x = 0.0 …`, where `x` is a float.
pub(super) fn compared(case: Case, schema: &DFSchema) -> Transformed<Expr> {
    let Case { expr, when_then_expr, else_expr } = case;
    let value = match expr {
        Some(value) if is_float(&value, schema) && !value.is_volatile() => value,
        expr => return Transformed::no(Expr::Case(Case { expr, when_then_expr, else_expr })),
    };
    let when = |(when, then): (Box<Expr>, Box<Expr>)| (Box::new(value.as_ref().clone().eq(*when)), then);
    let when_then_expr = when_then_expr.into_iter().map(when).collect();
    Transformed::yes(Expr::Case(Case { expr: None, when_then_expr, else_expr }))
}

fn is_float(value: &Expr, schema: &DFSchema) -> bool {
    value.get_type(schema).is_ok_and(|data_type| data_type.is_floating())
}

/// Makes `-0.0` the same as `0.0` in `by`. True if it is a float.
pub(super) fn one_zero(by: &mut Expr, schema: &DFSchema) -> bool {
    let zero = match by.get_type(schema) {
        Ok(DataType::Float32) => ScalarValue::Float32(Some(0.0)),
        Ok(DataType::Float64) => ScalarValue::Float64(Some(0.0)),
        _ => return false,
    };
    *by = by.clone() + Expr::Literal(zero, None);
    true
}

#[cfg(test)]
mod tests {
    use datafusion::common::Column;
    use datafusion::logical_expr::{cast, lit};

    use super::*;

    #[test]
    fn a_zero_is_known_whatever_computes_it() {
        let least = || lit(-0.0);
        for (constants, wanted) in [
            (vec![lit(0.0), lit(1.0)], vec![lit(-0.0)]),
            (vec![least()], vec![lit(0.0)]),
            (vec![lit(0.0), least()], vec![]),
            (vec![lit(1.0)], vec![]),
            (vec![cast(lit(0_i64), DataType::Float64)], vec![least()]),
            (vec![lit(0.0) * lit(1.0), lit(2.0)], vec![least()]),
            (vec![cast(lit(1_i64) - lit(1_i64), DataType::Float64)], vec![least()]),
            (vec![Expr::Column(Column::from_name("x"))], vec![]),
        ] {
            assert_eq!(missing_zeros(&constants, &DataType::Float64), wanted, "{constants:?}");
        }
        assert!(missing_zeros(&[lit(0_i64)], &DataType::Int64).is_empty());
    }
}
