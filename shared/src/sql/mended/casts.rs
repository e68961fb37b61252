//! Casts that are compared (`m::int = 1`).
//!
//! DataFusion moves a cast to the constant on the other side: `m = 1.00`. Where the cast makes one of several values, fails or
//! is null for some, that asks for something else: `1.50::int` is 1. It knows that of instants cut to a coarser unit or to
//! days, and of no other type. So each such cast becomes a function's argument, out of its reach: wherever it stands, for from
//! a select list it may get into any condition.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode as _};
use datafusion::common::utils::take_function_args;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::{Cast, ScalarFunction, TryCast};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable as _, LogicalPlan, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};
use datafusion::optimizer::analyzer::AnalyzerRule;

use super::lists::is_fixed;
use super::zeros::value;

/// Functions that the optimizer makes a cast of; and those of them that are null where it can't be.
const CASTING: [&str; 2] = ["arrow_cast", "cast_to_type"];
const TRYING: [&str; 2] = ["arrow_try_cast", "try_cast_to_type"];

/// Keeps casts where they are written, unless moving them changes nothing. Add it to a session behind type coercion, and
/// behind what looks for casts.
#[derive(Debug, Default)]
pub(crate) struct CastsInPlace;

impl AnalyzerRule for CastsInPlace {
    fn name(&self) -> &'static str {
        "casts_in_place"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(in_place)?.data)
    }
}

fn in_place(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let schema = merge_schema(&node.inputs());
    let rewritten = node.map_expressions(|expr| match expr {
        // Its expressions are known by what they are, and no condition gets below it.
        Expr::GroupingSet(_) => Ok(Transformed::no(expr)),
        expr => expr.transform_up(|part| Ok(kept(part, &schema))),
    })?;
    if rewritten.transformed { rewritten.map_data(LogicalPlan::recompute_schema) } else { Ok(rewritten) }
}

/// `expr`, out of the optimizer's reach if it is a cast that must stay, or with such a cast on one side.
fn kept(expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    match expr {
        Expr::BinaryExpr(mut sides) => {
            let left = is_cut(&sides.left, [sides.right.as_ref()], schema);
            let right = is_cut(&sides.right, [sides.left.as_ref()], schema);
            if left {
                sides.left = Box::new(InPlace::of(*sides.left));
            }
            if right {
                sides.right = Box::new(InPlace::of(*sides.right));
            }
            Transformed::new_transformed(Expr::BinaryExpr(sides), left || right)
        }
        Expr::InList(mut list) => {
            let cut = is_cut(&list.expr, &list.list, schema);
            if cut {
                list.expr = Box::new(InPlace::of(*list.expr));
            }
            Transformed::new_transformed(Expr::InList(list), cut)
        }
        Expr::Between(mut between) => {
            let cut = is_cut(&between.expr, [between.low.as_ref(), between.high.as_ref()], schema);
            if cut {
                between.expr = Box::new(InPlace::of(*between.expr));
            }
            Transformed::new_transformed(Expr::Between(between), cut)
        }
        cast if must_stay(&cast, schema) => Transformed::yes(InPlace::of(cast)),
        other => Transformed::no(other),
    }
}

/// True for a cast that can't be undone for every value. One of a constant is computed once, whatever it is.
fn must_stay(expr: &Expr, schema: &DFSchema) -> bool {
    let (from, or_null) = match expr {
        Expr::Cast(Cast { expr, .. }) => (expr.as_ref(), false),
        Expr::TryCast(TryCast { expr, .. }) => (expr.as_ref(), true),
        Expr::ScalarFunction(ScalarFunction { func, args }) => {
            let or_null = TRYING.contains(&func.name());
            match args.first().filter(|_| or_null || CASTING.contains(&func.name())) {
                Some(from) => (from, or_null),
                None => return false,
            }
        }
        _ => return false,
    };
    if is_fixed(from) {
        return false;
    }
    match (from.get_type(schema), expr.get_type(schema)) {
        (Ok(from), Ok(to)) => !can_move(&from, &to, or_null),
        // Whatever is wrong with it, the planner says.
        _ => false,
    }
}

/// True if a comparison after a cast is the same as one before, or DataFusion itself leaves the cast where it is. `or_null`:
/// the cast is null where it would fail.
fn can_move(from: &DataType, to: &DataType, or_null: bool) -> bool {
    if from == to {
        return true;
    }
    match (from, to) {
        (DataType::Timestamp(unit, from_zone), DataType::Timestamp(to_unit, to_zone)) => {
            // A local time gets its place in the zone; the constant would not.
            let shifts = from_zone.is_none() && !matches!(to_zone.as_deref(), None | Some("UTC" | "Z" | "+00:00"));
            return !(shifts || or_null && to_unit > unit);
        }
        (from, DataType::Date32 | DataType::Date64) if from.is_temporal() => return true,
        (DataType::Date32 | DataType::Date64, to) if to.is_temporal() => return true,
        _ => {}
    }
    // Of other types only what is equal in both is moved: texts, bytes, dictionaries.
    let (Some(from), Some(numbers)) = (Numbers::of(from), Numbers::of(to)) else { return true };
    // What is compared with more digits than there are is brought to the most that a type has, and is then too long or not
    // whatever it is compared with.
    let is_widest = matches!(to, DataType::Decimal32(9, _) | DataType::Decimal64(18, _) | DataType::Decimal128(38, _));
    from.scale >= 0 && numbers.scale >= from.scale && (numbers.has_all_of(from) || is_widest && !or_null)
}

/// The numbers that a type has: whole ones, with their point so many digits from the right.
#[derive(Debug, Clone, Copy)]
struct Numbers {
    least: i128,
    most: i128,
    scale: i8,
}

impl Numbers {
    /// `None` for a type in whose numbers DataFusion leaves casts alone (floats), or that has none. Instants and days are
    /// the numbers that they are cast to.
    fn of(data_type: &DataType) -> Option<Self> {
        let (least, most, scale) = match data_type {
            DataType::Int8 => (i128::from(i8::MIN), i128::from(i8::MAX), 0),
            DataType::Int16 => (i128::from(i16::MIN), i128::from(i16::MAX), 0),
            DataType::Int32 | DataType::Date32 => (i128::from(i32::MIN), i128::from(i32::MAX), 0),
            DataType::Int64 | DataType::Date64 | DataType::Timestamp(..) => {
                (i128::from(i64::MIN), i128::from(i64::MAX), 0)
            }
            DataType::UInt8 => (0, i128::from(u8::MAX), 0),
            DataType::UInt16 => (0, i128::from(u16::MAX), 0),
            DataType::UInt32 => (0, i128::from(u32::MAX), 0),
            DataType::UInt64 => (0, i128::from(u64::MAX), 0),
            DataType::Decimal32(digits, scale)
            | DataType::Decimal64(digits, scale)
            | DataType::Decimal128(digits, scale) => {
                let most = 10_i128.checked_pow(u32::from(*digits))? - 1;
                (-most, most, *scale)
            }
            _ => return None,
        };
        Some(Self { least, most, scale })
    }

    /// True if none of `others`, which have no more digits after the point, is beyond these.
    fn has_all_of(self, others: Self) -> bool {
        let more = u32::try_from(i32::from(self.scale) - i32::from(others.scale)).ok();
        let factor = more.and_then(|digits| 10_i128.checked_pow(digits));
        let here = |number: i128| factor.and_then(|factor| number.checked_mul(factor));
        here(others.least).is_some_and(|least| least >= self.least)
            && here(others.most).is_some_and(|most| most <= self.most)
    }
}

/// True if `side` is an instant cast to a finer unit, and one of the constants beside it has digits that only the finer unit
/// has: moved to the constant, the cast would cut them.
fn is_cut<'a>(side: &Expr, beside: impl IntoIterator<Item = &'a Expr>, schema: &DFSchema) -> bool {
    let Expr::Cast(Cast { expr: instant, field }) = side else { return false };
    let DataType::Timestamp(finer, zone) = field.data_type() else { return false };
    let Ok(DataType::Timestamp(unit, _)) = instant.get_type(schema) else { return false };
    if *finer <= unit {
        return false;
    }
    let coarse = DataType::Timestamp(unit, zone.clone());
    let constants = beside.into_iter().filter(|other| is_fixed(other));
    constants.filter_map(value).any(|constant| {
        let back = constant.cast_to(&coarse).and_then(|cut| cut.cast_to(&constant.data_type()));
        back.is_ok_and(|back| back != constant)
    })
}

/// Its argument, a cast: the optimizer takes it for a function like any other.
#[derive(Debug, PartialEq, Eq, Hash)]
struct InPlace {
    signature: Signature,
}

/// Its name, for who reads plans.
const NAME: &str = "in_place";

impl InPlace {
    fn of(cast: Expr) -> Expr {
        let in_place = Self { signature: Signature::any(1, Volatility::Immutable) };
        Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(ScalarUDF::new_from_impl(in_place)), vec![cast]))
    }
}

impl ScalarUDFImpl for InPlace {
    fn name(&self) -> &str {
        NAME
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let [value] = take_function_args(NAME, args)?;
        Ok(value.schema_name().to_string())
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        let [value] = take_function_args(NAME, arg_types)?;
        Ok(value.clone())
    }

    /// Null where its argument may be: what stands above has been planned with that.
    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let [value] = take_function_args(NAME, args.arg_fields)?;
        Ok(Arc::clone(value))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [value] = take_function_args(NAME, args.args)?;
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::TimeUnit;

    use super::*;

    #[test]
    fn a_cast_moves_where_it_tells_all_values_apart() {
        use DataType::{Date32, Date64, Decimal64, Decimal128, Float64, Int8, Int16, Int32, Int64, UInt64, Utf8};
        let at = |unit: TimeUnit, zone: Option<&str>| DataType::Timestamp(unit, zone.map(Into::into));
        let micros = |zone| at(TimeUnit::Microsecond, zone);
        for (from, to, moves, moves_or_null) in [
            (Decimal128(10, 2), Int32, false, false),
            (Decimal128(10, 2), Int64, false, false),
            (Decimal128(9, 0), Int32, true, true),
            (Decimal128(10, 0), Int32, false, false),
            (Decimal128(10, 2), Decimal128(10, 0), false, false),
            (Decimal128(10, 2), Decimal64(18, 1), false, false),
            (Decimal128(10, 2), Decimal128(10, 3), false, false),
            (Decimal128(10, 2), Decimal128(11, 3), true, true),
            (Decimal128(10, -2), Decimal128(38, 0), false, false),
            (Decimal128(38, 2), Decimal128(38, 5), true, false),
            (Int64, Decimal128(20, 0), true, true),
            (Int64, Decimal128(22, 2), true, true),
            (Int64, Decimal128(5, 0), false, false),
            (Int32, Int64, true, true),
            (Int64, Int8, false, false),
            (Int64, UInt64, false, false),
            (Int16, Int16, true, true),
            (Int64, Float64, true, true),
            (Int64, Utf8, true, true),
            (Date32, Date64, true, true),
            (Date32, Int32, true, true),
            (micros(None), Int64, true, true),
            (micros(None), Int32, false, false),
            (micros(None), Date32, true, true),
            (micros(None), at(TimeUnit::Nanosecond, None), true, false),
            (micros(None), micros(Some("UTC")), true, true),
            (micros(None), micros(Some("America/New_York")), false, false),
            (micros(Some("America/New_York")), micros(None), true, true),
        ] {
            assert_eq!(can_move(&from, &to, false), moves, "CAST {from} AS {to}");
            assert_eq!(can_move(&from, &to, true), moves_or_null, "TRY_CAST {from} AS {to}");
        }
    }
}
