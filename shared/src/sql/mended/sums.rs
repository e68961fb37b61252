//! Sums and averages of decimals, and windows by floats, as they are meant.
//!
//! DataFusion gives a sum ten digits more than its argument has, as far as its type has them, and wraps around without a
//! word beyond that. So what may not fit is summed in a wider type and brought back at the end, which fails if it can't be.
//! Windows by floats have one zero.

use std::sync::Arc;

use arrow::datatypes::{
    DECIMAL32_MAX_PRECISION, DECIMAL64_MAX_PRECISION, DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType,
};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode as _};
use datafusion::common::{DFSchema, Result, plan_err};
use datafusion::logical_expr::expr::{AggregateFunction, WindowFunction};
use datafusion::logical_expr::{
    Aggregate, Expr, ExprSchemable as _, LogicalPlan, Projection, Window, WindowFunctionDefinition, cast,
};
use datafusion::optimizer::analyzer::AnalyzerRule;

use super::zeros::one_zero;

/// Digits by which DataFusion's sum has more than its argument: enough for 10 billion rows.
const MORE_DIGITS: u8 = 10;

/// Makes sums wide enough, and zeros equal in windows. Add it to a session behind type coercion.
#[derive(Debug, Default)]
pub(super) struct WideSums;

impl AnalyzerRule for WideSums {
    fn name(&self) -> &'static str {
        "wide_sums"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(widened)?.data)
    }
}

fn widened(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let wide = match &node {
        LogicalPlan::Aggregate(Aggregate { input, group_expr, aggr_expr, .. }) => match all(aggr_expr, input.schema())?
        {
            Some(wide) => LogicalPlan::Aggregate(Aggregate::try_new(Arc::clone(input), group_expr.clone(), wide)?),
            None => return Ok(Transformed::no(node)),
        },
        LogicalPlan::Window(Window { input, window_expr, .. }) => match all(window_expr, input.schema())? {
            Some(wide) => LogicalPlan::Window(Window::try_new(wide, Arc::clone(input))?),
            None => return Ok(Transformed::no(node)),
        },
        _ => return Ok(Transformed::no(node)),
    };
    // What is above knows the columns by the names and types that they had.
    let known = node.schema().iter().zip(wide.schema().iter());
    let columns = known.map(|((relation, field), made)| {
        let column = Expr::from(made);
        if field.data_type() == made.1.data_type() && (relation, field.name()) == (made.0, made.1.name()) {
            return column;
        }
        let same_type = field.data_type() == made.1.data_type();
        let column = if same_type { column } else { cast(column, field.data_type().clone()) };
        column.alias_qualified(relation.cloned(), field.name().clone())
    });
    let columns = columns.collect();
    Ok(Transformed::yes(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(wide))?)))
}

/// `exprs` over an input, rewritten; `None` if all are as they should be.
fn all(exprs: &[Expr], schema: &DFSchema) -> Result<Option<Vec<Expr>>> {
    let mut changed = false;
    let mut rewritten = Vec::with_capacity(exprs.len());
    for expr in exprs {
        let one = expr.clone().transform_up(|expr| one(expr, schema))?;
        changed |= one.transformed;
        rewritten.push(one.data);
    }
    Ok(changed.then_some(rewritten))
}

fn one(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    match expr {
        Expr::AggregateFunction(AggregateFunction { func, mut params }) => {
            let changed = widen(func.name(), &mut params.args, schema)?;
            Ok(Transformed::new_transformed(Expr::AggregateFunction(AggregateFunction { func, params }), changed))
        }
        Expr::WindowFunction(window) => {
            let WindowFunction { fun, mut params } = *window;
            let mut changed = match &fun {
                WindowFunctionDefinition::AggregateUDF(func) => widen(func.name(), &mut params.args, schema)?,
                WindowFunctionDefinition::WindowUDF(_) => false,
            };
            let ordered = params.order_by.iter_mut().map(|sort| &mut sort.expr);
            for by in params.partition_by.iter_mut().chain(ordered) {
                changed |= one_zero(by, schema);
            }
            let window = Expr::WindowFunction(Box::new(WindowFunction { fun, params }));
            Ok(Transformed::new_transformed(window, changed))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// Gives the argument of a sum or an average a type that its sum fits into. True if it had none.
fn widen(function: &str, args: &mut [Expr], schema: &DFSchema) -> Result<bool> {
    let [argument] = args else { return Ok(false) };
    let Ok(data_type) = argument.get_type(schema) else { return Ok(false) };
    Ok(match wider(function, &data_type)? {
        Some(wider) => {
            *argument = cast(argument.clone(), wider);
            true
        }
        None => false,
    })
}

/// The type to sum values of `data_type` in, if not in their own.
fn wider(function: &str, data_type: &DataType) -> Result<Option<DataType>> {
    let (precision, max) = match data_type {
        DataType::Decimal32(precision, _) => (*precision, DECIMAL32_MAX_PRECISION),
        DataType::Decimal64(precision, _) => (*precision, DECIMAL64_MAX_PRECISION),
        DataType::Decimal128(precision, _) => (*precision, DECIMAL128_MAX_PRECISION),
        DataType::Decimal256(precision, _) => (*precision, DECIMAL256_MAX_PRECISION),
        _ => return Ok(None),
    };
    if !matches!(function, "sum" | "avg") || precision.saturating_add(MORE_DIGITS) <= max {
        return Ok(None);
    }
    Ok(Some(match *data_type {
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(precision, scale)
        }
        DataType::Decimal128(precision, scale) => DataType::Decimal256(precision, scale),
        _ => {
            let digits = max - MORE_DIGITS;
            return plan_err!(
                "{function} of {data_type} could have more digits than there are: `CAST(… AS DECIMAL(p, s))` its argument, \
                 with p at most {digits}"
            );
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_not_fit_is_summed_in_a_wider_type() {
        for (data_type, wanted) in [
            (DataType::Decimal128(10, 2), None),
            (DataType::Decimal128(28, 2), None),
            (DataType::Decimal128(29, 2), Some(DataType::Decimal256(29, 2))),
            (DataType::Decimal128(38, 0), Some(DataType::Decimal256(38, 0))),
            (DataType::Decimal32(5, 1), Some(DataType::Decimal128(5, 1))),
            (DataType::Decimal64(8, 1), None),
            (DataType::Decimal64(18, 1), Some(DataType::Decimal128(18, 1))),
            (DataType::Decimal256(66, 1), None),
            (DataType::Float64, None),
        ] {
            for function in ["sum", "avg"] {
                assert_eq!(wider(function, &data_type).expect("a type"), wanted, "{function} of {data_type}");
            }
            assert_eq!(wider("max", &data_type).expect("a type"), None);
        }
        let refused = wider("sum", &DataType::Decimal256(67, 1)).expect_err("may not fit");
        assert!(refused.to_string().contains("p at most 66"), "{refused}");
    }
}
