//! Functions that make much of little (`repeat`, `range`, `replace`, …), within the memory of a statement.
//!
//! What a function makes is in no account of the engine's memory, so a statement of a line could take all that the machine
//! has. Each of them is wrapped: how much it would make is told from its arguments, and what is too much is refused. For
//! those whose arguments tell only a bound, rows are halved until it fits or a row is left.

mod join;
mod size;
#[cfg(test)]
mod tests;

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::concat;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode as _};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{BinaryExpr, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ExpressionPlacement, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature,
};

use super::watch::{Refusal, Watch};
use join::JoinTexts;
use size::{Argument, Growth, bytes_of};

/// A function whose result is measured before it is made.
#[derive(Debug)]
struct Guarded {
    inner: Arc<ScalarUDF>,
    growth: Growth,
    watch: Arc<Watch>,
}

impl PartialEq for Guarded {
    fn eq(&self, other: &Self) -> bool {
        self.inner == other.inner
    }
}

impl Eq for Guarded {}

impl Hash for Guarded {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

/// `function` behind a guard, if it is one that needs it and has none.
pub(super) fn guarded(function: &Arc<ScalarUDF>, watch: &Arc<Watch>) -> Option<Arc<ScalarUDF>> {
    let growth = Growth::of(function.name()).filter(|_| !function.inner().is::<Guarded>())?;
    let guarded = Guarded { inner: Arc::clone(function), growth, watch: Arc::clone(watch) };
    Some(Arc::new(ScalarUDF::new_from_impl(guarded)))
}

/// Puts guards before the functions that the planner calls by itself: `||`, `[a, b]`.
#[derive(Debug)]
pub(super) struct Guards {
    watch: Arc<Watch>,
    join: Arc<ScalarUDF>,
}

impl Guards {
    pub(super) fn new(watch: &Arc<Watch>) -> Self {
        Self { watch: Arc::clone(watch), join: Arc::new(ScalarUDF::new_from_impl(JoinTexts::default())) }
    }
}

impl FunctionRewrite for Guards {
    fn name(&self) -> &str {
        "guards"
    }

    fn rewrite(&self, expr: Expr, _: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        let call = match expr {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::StringConcat, right }) => {
                ScalarFunction::new_udf(Arc::clone(&self.join), vec![*left, *right])
            }
            Expr::ScalarFunction(call) => call,
            other => return Ok(Transformed::no(other)),
        };
        Ok(match guarded(&call.func, &self.watch) {
            Some(func) => Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args: call.args })),
            None => Transformed::no(Expr::ScalarFunction(call)),
        })
    }
}

impl Guarded {
    fn refused(&self) -> Refusal {
        Refusal::Value { function: self.inner.name().to_owned(), bytes_max: self.watch.bytes_max }
    }

    /// What the function makes of `args`; in pieces, where all of it may be too much.
    fn make(&self, args: ScalarFunctionArgs, rows: usize) -> Result<ColumnarValue> {
        let measured = args.args.iter().map(Argument::new).collect::<Result<Vec<_>>>()?;
        if bytes_of(self.growth, &measured, rows, self.watch.bytes_max as u128) <= self.watch.bytes_max as u128 {
            return self.inner.invoke_with_args(args);
        }
        if rows <= 1 || !self.growth.is_a_bound() {
            return Err(self.refused().into());
        }
        let half = rows / 2;
        let first = self.make(slice(&args, 0, half), half)?.into_array(half)?;
        let second = self.make(slice(&args, half, rows - half), rows - half)?.into_array(rows - half)?;
        if size::bytes(&first) + size::bytes(&second) > self.watch.bytes_max as u128 {
            return Err(self.refused().into());
        }
        Ok(ColumnarValue::Array(concat(&[first.as_ref(), second.as_ref()])?))
    }
}

fn slice(args: &ScalarFunctionArgs, start: usize, rows: usize) -> ScalarFunctionArgs {
    let of_one = |arg: &ColumnarValue| match arg {
        ColumnarValue::Array(array) => ColumnarValue::Array(array.slice(start, rows)),
        ColumnarValue::Scalar(scalar) => ColumnarValue::Scalar(scalar.clone()),
    };
    ScalarFunctionArgs { args: args.args.iter().map(of_one).collect(), number_rows: rows, ..args.clone() }
}

impl ScalarUDFImpl for Guarded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.inner.schema_name(args)
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arg_types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn is_strict(&self) -> bool {
        self.inner.is_strict()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let made = self.make(args, rows)?;
        if constant {
            let bytes = match &made {
                ColumnarValue::Scalar(scalar) => scalar.size(),
                ColumnarValue::Array(array) => array.get_array_memory_size(),
            };
            self.watch.charge(bytes as u64)?;
        }
        Ok(made)
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        // `concat` becomes a simpler `concat`, which is to be guarded, too.
        let guard = |expr| match expr {
            Expr::ScalarFunction(call) => Ok(match guarded(&call.func, &self.watch) {
                Some(func) => Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args: call.args })),
                None => Transformed::no(Expr::ScalarFunction(call)),
            }),
            other => Ok(Transformed::no(other)),
        };
        Ok(match self.inner.simplify(args, info)? {
            ExprSimplifyResult::Simplified(expr) => ExprSimplifyResult::Simplified(expr.transform_up(guard)?.data),
            original => original,
        })
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.inner.output_ordering(inputs)
    }

    fn preserves_lex_ordering(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.inner.preserves_lex_ordering(inputs)
    }

    fn strictly_order_preserving(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.inner.strictly_order_preserving(inputs)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(arg_types)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn placement(&self, args: &[ExpressionPlacement]) -> ExpressionPlacement {
        self.inner.placement(args)
    }
}

/// The value of one row.
fn scalar(array: &ArrayRef) -> Result<ColumnarValue> {
    Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(array, 0)?))
}
