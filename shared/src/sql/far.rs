//! Instants before 1677 and after 2262: nanoseconds, DataFusion's unit for what is written as `TIMESTAMP`, end there; our
//! columns, in microseconds, do not.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray as _, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, FieldRef, TimeUnit, TimestampMicrosecondType};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{self, TypedString, Value, VisitMut, VisitorMut};

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
