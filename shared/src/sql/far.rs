//! Instants before 1677 and after 2262: nanoseconds, DataFusion's unit for what is written as `TIMESTAMP`, end there; our
//! columns, in microseconds, do not.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray as _, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, FieldRef, TimeUnit, TimestampMicrosecondType};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{BinaryExpr, Case, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ExprSchemable as _, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature,
};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{self, TypedString, Value, VisitMut, VisitorMut};

use crate::curated::comparisons;

/// Microseconds of 400 years, after which dates and weekdays are the same again.
const CYCLE_MICROS: i64 = 146_097 * 86_400_000_000;

/// Makes microseconds of the instants in a statement (`TIMESTAMP '3000-01-01'`, `CAST('3000-01-01' AS TIMESTAMP)`) that
/// nanoseconds don't reach. The others stay as they are, with all their digits.
pub(super) fn reach_far(statement: &mut Statement) {
    match statement {
        Statement::Statement(inner) => {
            let _walked: ControlFlow<()> = inner.visit(&mut FarTexts);
        }
        Statement::Explain(explain) => reach_far(&mut explain.statement),
        Statement::CreateExternalTable(_) | Statement::CopyTo(_) | Statement::Reset(_) => {}
    }
}

struct FarTexts;

impl VisitorMut for FarTexts {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<()> {
        let (written, text) = match expr {
            ast::Expr::TypedString(TypedString { data_type, value, .. }) => (data_type, &value.value),
            ast::Expr::Cast { expr, data_type, format: None, .. } => match &**expr {
                ast::Expr::Value(value) => (data_type, &value.value),
                _ => return ControlFlow::Continue(()),
            },
            _ => return ControlFlow::Continue(()),
        };
        if let (ast::DataType::Timestamp(digits @ None, _), Value::SingleQuotedString(text)) = (written, text)
            && is_far(text)
        {
            *digits = Some(6);
        }
        ControlFlow::Continue(())
    }
}

/// True for an instant that microseconds reach, and nanoseconds do not.
fn is_far(text: &str) -> bool {
    let text = ScalarValue::from(text);
    let reaches = |unit| text.cast_to(&DataType::Timestamp(unit, None)).is_ok_and(|instant| !instant.is_null());
    !reaches(TimeUnit::Nanosecond) && reaches(TimeUnit::Microsecond)
}

/// Functions that have one of their arguments for their value.
const CHOOSING: [&str; 4] = ["coalesce", "greatest", "least", "nullif"];

/// Makes of a text or a date that stands beside an instant in a choice (`coalesce`, `CASE`, …) what a comparison of the two
/// makes of it, an instant of the same unit: DataFusion would take all of them to nanoseconds.
#[derive(Debug)]
pub(super) struct SameUnit {
    comparisons: [Arc<dyn FunctionRewrite + Send + Sync>; 3],
}

impl Default for SameUnit {
    fn default() -> Self {
        Self { comparisons: comparisons() }
    }
}

impl FunctionRewrite for SameUnit {
    fn name(&self) -> &'static str {
        "same_unit"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, config: &ConfigOptions) -> Result<Transformed<Expr>> {
        match expr {
            Expr::ScalarFunction(ScalarFunction { func, args }) if CHOOSING.contains(&func.name()) => {
                let args = self.of_one_unit(args, schema, config)?;
                Ok(args.update_data(|args| Expr::ScalarFunction(ScalarFunction { func, args })))
            }
            Expr::Case(case) => Ok(self.case(case, schema, config)?.update_data(Expr::Case)),
            other => Ok(Transformed::no(other)),
        }
    }
}

impl SameUnit {
    /// What is compared with each other in a `CASE`, and what it may choose.
    fn case(&self, case: Case, schema: &DFSchema, config: &ConfigOptions) -> Result<Transformed<Case>> {
        let Case { expr, when_then_expr, else_expr } = case;
        let (whens, thens): (Vec<Expr>, Vec<Expr>) =
            when_then_expr.into_iter().map(|(when, then)| (*when, *then)).unzip();
        let conditions = whens.len();
        let compared = expr.into_iter().map(|value| *value).chain(whens).collect();
        let compared = self.of_one_unit(compared, schema, config)?;
        let chosen = thens.into_iter().chain(else_expr.map(|value| *value)).collect();
        let chosen = self.of_one_unit(chosen, schema, config)?;
        let changed = compared.transformed || chosen.transformed;
        let (mut compared, mut chosen) = (compared.data.into_iter(), chosen.data.into_iter());
        let expr = if compared.len() > conditions { compared.next().map(Box::new) } else { None };
        let thens = chosen.by_ref().take(conditions).map(Box::new);
        let when_then_expr = compared.map(Box::new).zip(thens).collect();
        let else_expr = chosen.next().map(Box::new);
        Ok(Transformed::new_transformed(Case { expr, when_then_expr, else_expr }, changed))
    }

    fn of_one_unit(
        &self,
        values: Vec<Expr>,
        schema: &DFSchema,
        config: &ConfigOptions,
    ) -> Result<Transformed<Vec<Expr>>> {
        let is_instant = |value: &&Expr| {
            let unit = value.get_type(schema);
            matches!(unit, Ok(DataType::Timestamp(TimeUnit::Second | TimeUnit::Millisecond | TimeUnit::Microsecond, _)))
        };
        let Some(instant) = values.iter().find(is_instant).cloned() else { return Ok(Transformed::no(values)) };
        let mut changed = false;
        let mut met = Vec::with_capacity(values.len());
        for value in values {
            let value = self.beside(&instant, value, schema, config)?;
            changed |= value.transformed;
            met.push(value.data);
        }
        Ok(Transformed::new_transformed(met, changed))
    }

    /// `value` as `instant = value` has it.
    fn beside(
        &self,
        instant: &Expr,
        value: Expr,
        schema: &DFSchema,
        config: &ConfigOptions,
    ) -> Result<Transformed<Expr>> {
        // All that is written as an instant is one of these.
        if !matches!(value, Expr::Literal(..) | Expr::Cast(_)) {
            return Ok(Transformed::no(value));
        }
        let sides = (Box::new(instant.clone()), Box::new(value.clone()));
        let mut compared = Transformed::no(Expr::BinaryExpr(BinaryExpr::new(sides.0, Operator::Eq, sides.1)));
        for rewrite in &self.comparisons {
            compared = compared.transform_data(|expr| rewrite.rewrite(expr, schema, config))?;
        }
        match compared.data {
            Expr::BinaryExpr(BinaryExpr { left, right, .. }) if compared.transformed && *left == *instant => {
                Ok(Transformed::yes(*right))
            }
            _ => Ok(Transformed::no(value)),
        }
    }
}

/// `date_trunc`, which takes all instants to nanoseconds: those beyond are cut 400 years, or a few times that, nearer.
#[derive(Debug, PartialEq, Eq, Hash)]
struct FarDateTrunc {
    inner: Arc<ScalarUDF>,
}

/// `function` with a longer reach, if it is the one that lacks it.
pub(super) fn reaching_far(function: &Arc<ScalarUDF>) -> Option<Arc<ScalarUDF>> {
    let lacks = function.name() == "date_trunc" && !function.inner().is::<FarDateTrunc>();
    lacks.then(|| Arc::new(ScalarUDF::new_from_impl(FarDateTrunc { inner: Arc::clone(function) })))
}

impl FarDateTrunc {
    /// The function by way of nearer instants; `None` if it is not their distance that it fails for. Another zone than that
    /// of our columns may have other hours in other years.
    fn by_near_ones(&self, args: &ScalarFunctionArgs) -> Result<Option<ColumnarValue>> {
        let [precision, instants] = args.args.as_slice() else { return Ok(None) };
        let DataType::Timestamp(TimeUnit::Microsecond, zone) = instants.data_type() else { return Ok(None) };
        if !matches!(zone.as_deref(), None | Some("UTC" | "Z" | "+00:00")) {
            return Ok(None);
        }
        let is_constant = matches!(instants, ColumnarValue::Scalar(_));
        let rows = if is_constant { 1 } else { args.number_rows };
        let instants = instants.clone().into_array(rows)?;
        let instants = instants.as_primitive::<TimestampMicrosecondType>();
        let nearby: TimestampMicrosecondArray = instants.unary(near).with_timezone_opt(zone.clone());
        let asked = vec![precision.clone(), ColumnarValue::Array(Arc::new(nearby.clone()))];
        let asked = ScalarFunctionArgs { args: asked, number_rows: rows, ..args.clone() };
        let cut = self.inner.invoke_with_args(asked)?.into_array(rows)?;
        let cut = cut.as_primitive::<TimestampMicrosecondType>();
        let moved = instants.iter().zip(nearby.iter().zip(cut.iter())).map(|(instant, pair)| match (instant, pair) {
            (Some(instant), (Some(near), Some(cut))) => instant.checked_sub(near - cut).map(Some),
            _ => Some(None),
        });
        let Some(moved) = moved.collect::<Option<Vec<Option<i64>>>>() else { return Ok(None) };
        let moved: ArrayRef = Arc::new(TimestampMicrosecondArray::from(moved).with_timezone_opt(zone));
        Ok(Some(match is_constant {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&moved, 0)?),
            false => ColumnarValue::Array(moved),
        }))
    }
}

/// The instant nearest to 1970, at most 200 years away, that is a number of cycles before or after `instant`.
fn near(instant: i64) -> i64 {
    let after_1970 = instant.rem_euclid(CYCLE_MICROS);
    if after_1970 < CYCLE_MICROS / 2 { after_1970 } else { after_1970 - CYCLE_MICROS }
}

impl ScalarUDFImpl for FarDateTrunc {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
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

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let again = args.clone();
        match self.inner.invoke_with_args(args) {
            Ok(cut) => Ok(cut),
            Err(error) => self.by_near_ones(&again)?.ok_or(error),
        }
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.inner.output_ordering(inputs)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_instant_is_whole_cycles_away() {
        for instant in [0, 1, -1, CYCLE_MICROS / 2, -CYCLE_MICROS / 2, 3 * CYCLE_MICROS + 5, i64::MIN, i64::MAX] {
            let near = near(instant);
            assert!((-CYCLE_MICROS / 2..CYCLE_MICROS / 2).contains(&near), "{instant}: {near}");
            assert_eq!((i128::from(instant) - i128::from(near)) % i128::from(CYCLE_MICROS), 0, "{instant}: {near}");
        }
    }

    #[test]
    fn far_is_what_microseconds_reach_and_nanoseconds_do_not() {
        for (text, far) in [
            ("2500-01-01", true),
            ("0001-01-01 00:00:00", true),
            ("9999-12-31T23:59:59.999999Z", true),
            ("1677-01-01", true),
            ("2024-05-06 07:08:09.123456789", false),
            ("2262-01-01", false),
            ("soon", false),
            ("", false),
        ] {
            assert_eq!(is_far(text), far, "{text}");
        }
    }
}
