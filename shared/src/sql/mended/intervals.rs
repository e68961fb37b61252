//! Lengths of time: intervals, and the differences of instants.
//!
//! DataFusion compares intervals by their fields, months before days before nanoseconds: `INTERVAL '720 hours'` would be
//! less than `INTERVAL '30 days'`, and so would every difference of two instants, which has nanoseconds alone. So both are
//! compared as nanoseconds, with 30 days to a month and 24 hours to a day. Where values are sorted, grouped or joined there
//! is nothing to write a comparison for: intervals are refused there.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, AsArray as _, Decimal128Array};
use arrow::datatypes::{
    DataType, DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType, DurationSecondType,
    IntervalDayTimeType, IntervalMonthDayNanoType, IntervalUnit, IntervalYearMonthType, TimeUnit,
};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode as _, TreeNodeRecursion};
use datafusion::common::{DFSchema, ScalarValue, exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{
    AggregateFunction, BinaryExpr, Case, InList, InSubquery, ScalarFunction, SetComparison, Sort,
};
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    Between, ColumnarValue, Distinct, Expr, ExprSchemable as _, LogicalPlan, Operator, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};
use datafusion::optimizer::analyzer::AnalyzerRule;

const DAY_NANOS: i128 = 86_400_000_000_000;
const MONTH_NANOS: i128 = 30 * DAY_NANOS;
/// Of a length in nanoseconds: that of the longest interval has 25 digits.
const LENGTH: DataType = DataType::Decimal128(38, 0);

static LENGTH_OF: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Arc::new(ScalarUDF::new_from_impl(LengthOf::new())));

/// Compares lengths of time as lengths. It has to come before type coercion, which makes intervals of both sides.
#[derive(Debug, Default)]
pub(crate) struct IntervalLengths;

impl FunctionRewrite for IntervalLengths {
    fn name(&self) -> &'static str {
        "interval_lengths"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        match expr {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) if compares(op) => {
                let sides = compared(vec![*left, *right], schema)?;
                Ok(sides.update_data(|sides| {
                    let [left, right] = boxed(sides);
                    Expr::BinaryExpr(BinaryExpr { left, op, right })
                }))
            }
            Expr::Between(Between { expr, negated, low, high }) => {
                let parts = compared(vec![*expr, *low, *high], schema)?;
                Ok(parts.update_data(|parts| {
                    let [expr, low, high] = boxed(parts);
                    Expr::Between(Between { expr, negated, low, high })
                }))
            }
            Expr::InList(InList { expr, list, negated }) => {
                let parts = compared(std::iter::once(*expr).chain(list).collect(), schema)?;
                Ok(parts.update_data(|mut parts| {
                    let list = parts.split_off(1);
                    let [expr] = boxed(parts);
                    Expr::InList(InList { expr, list, negated })
                }))
            }
            Expr::Case(Case { expr: Some(value), when_then_expr, else_expr }) => {
                let (whens, thens): (Vec<Expr>, Vec<Box<Expr>>) =
                    when_then_expr.into_iter().map(|(when, then)| (*when, then)).unzip();
                let parts = compared(std::iter::once(*value).chain(whens).collect(), schema)?;
                Ok(parts.update_data(|mut parts| {
                    let whens = parts.split_off(1).into_iter().map(Box::new);
                    let [value] = boxed(parts);
                    Expr::Case(Case { expr: Some(value), when_then_expr: whens.zip(thens).collect(), else_expr })
                }))
            }
            Expr::ScalarFunction(call) => {
                check_choice(&call, schema)?;
                Ok(Transformed::no(Expr::ScalarFunction(call)))
            }
            other => Ok(Transformed::no(other)),
        }
    }
}

fn compares(op: Operator) -> bool {
    matches!(
        op,
        Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
            | Operator::IsDistinctFrom
            | Operator::IsNotDistinctFrom
    )
}

/// As many parts as were given to [`compared`].
fn boxed<const N: usize>(parts: Vec<Expr>) -> [Box<Expr>; N] {
    let parts: Vec<Box<Expr>> = parts.into_iter().map(Box::new).collect();
    parts.try_into().expect("each part is compared as one")
}

/// What is compared with each other: lengths, if all of it is some time's and not of one kind that compares as it is.
fn compared(values: Vec<Expr>, schema: &DFSchema) -> Result<Transformed<Vec<Expr>>> {
    let types: Result<Vec<DataType>> = values.iter().map(|value| value.get_type(schema)).collect();
    // What has no type is refused by whoever gives it one.
    let Ok(types) = types else { return Ok(Transformed::no(values)) };
    if !are_lengths(&types) {
        return Ok(Transformed::no(values));
    }
    let one = |(value, data_type): (Expr, DataType)| if data_type.is_null() { Ok(value) } else { length(value) };
    let lengths: Result<Vec<Expr>> = values.into_iter().zip(types).map(one).collect();
    lengths.map(Transformed::yes)
}

/// True for types that are compared as lengths. Differences of one unit already are.
fn are_lengths(types: &[DataType]) -> bool {
    let known: Vec<&DataType> = types.iter().filter(|data_type| !data_type.is_null()).collect();
    let is_length = |data_type: &&DataType| matches!(data_type, DataType::Interval(_) | DataType::Duration(_));
    let differ = known.iter().any(|data_type| *data_type != known[0]);
    known.iter().all(is_length) && (differ || known.iter().any(|data_type| is_interval(data_type)))
}

fn is_interval(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Interval(_))
}

/// The length of `value`; of a constant, as a constant.
fn length(value: Expr) -> Result<Expr> {
    match value {
        Expr::Literal(value, _) => {
            let lengths = nanoseconds(&value.to_array()?)?;
            Ok(Expr::Literal(ScalarValue::try_from_array(&lengths, 0)?, None))
        }
        other => Ok(Expr::ScalarFunction(ScalarFunction { func: Arc::clone(&LENGTH_OF), args: vec![other] })),
    }
}

/// The lengths of intervals or differences.
fn nanoseconds(values: &ArrayRef) -> Result<ArrayRef> {
    let lengths: Decimal128Array = match values.data_type() {
        DataType::Interval(IntervalUnit::YearMonth) => {
            values.as_primitive::<IntervalYearMonthType>().unary(|months| i128::from(months) * MONTH_NANOS)
        }
        DataType::Interval(IntervalUnit::DayTime) => values
            .as_primitive::<IntervalDayTimeType>()
            .unary(|time| i128::from(time.days) * DAY_NANOS + i128::from(time.milliseconds) * 1_000_000),
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            values.as_primitive::<IntervalMonthDayNanoType>().unary(|time| {
                let days = i128::from(time.months) * MONTH_NANOS + i128::from(time.days) * DAY_NANOS;
                days + i128::from(time.nanoseconds)
            })
        }
        DataType::Duration(TimeUnit::Second) => {
            values.as_primitive::<DurationSecondType>().unary(|time| i128::from(time) * 1_000_000_000)
        }
        DataType::Duration(TimeUnit::Millisecond) => {
            values.as_primitive::<DurationMillisecondType>().unary(|time| i128::from(time) * 1_000_000)
        }
        DataType::Duration(TimeUnit::Microsecond) => {
            values.as_primitive::<DurationMicrosecondType>().unary(|time| i128::from(time) * 1_000)
        }
        DataType::Duration(TimeUnit::Nanosecond) => values.as_primitive::<DurationNanosecondType>().unary(i128::from),
        other => return exec_err!("{other} is no length of time"),
    };
    Ok(Arc::new(lengths.with_data_type(LENGTH)))
}

/// The length of an interval or of a difference of instants, in nanoseconds.
#[derive(Debug, PartialEq, Eq, Hash)]
struct LengthOf {
    signature: Signature,
}

impl LengthOf {
    fn new() -> Self {
        Self { signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for LengthOf {
    fn name(&self) -> &'static str {
        "length_of_time"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(LENGTH)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.as_slice() {
            [ColumnarValue::Array(times)] => Ok(ColumnarValue::Array(nanoseconds(times)?)),
            [ColumnarValue::Scalar(time)] => {
                let length = nanoseconds(&time.to_array()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&length, 0)?))
            }
            _ => exec_err!("{} takes one length of time", self.name()),
        }
    }
}

/// Functions that choose one of their arguments by comparing them.
const COMPARING: [&str; 3] = ["greatest", "least", "nullif"];
/// Aggregates that compare their values.
const ORDERING: [&str; 2] = ["min", "max"];

fn check_choice(call: &ScalarFunction, schema: &DFSchema) -> Result<()> {
    let is_one = COMPARING.contains(&call.func.name());
    if is_one && call.args.iter().any(|value| makes_interval(value, schema)) {
        return refused(call.func.name());
    }
    Ok(())
}

fn makes_interval(expr: &Expr, schema: &DFSchema) -> bool {
    expr.get_type(schema).is_ok_and(|data_type| is_interval(&data_type))
}

fn refused<T>(what: &str) -> Result<T> {
    plan_err!(
        "{what} of intervals is not supported, as those of one length may be several values (30 days, 720 hours): take \
         the difference of two instants instead, or seconds, `extract(epoch FROM …)`"
    )
}

/// Refuses to sort, group and join by intervals. It has to come before the rules that make joins of subqueries.
#[derive(Debug, Default)]
pub(super) struct NoIntervalOrder;

impl AnalyzerRule for NoIntervalOrder {
    fn name(&self) -> &'static str {
        "no_interval_order"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let check = |node: &LogicalPlan| check_step(node).map(|()| TreeNodeRecursion::Continue);
        let _walked = plan.apply_with_subqueries(check)?;
        Ok(plan)
    }
}

fn check_step(node: &LogicalPlan) -> Result<()> {
    let has_interval = |schema: &DFSchema, columns: usize| {
        schema.fields().iter().take(columns).any(|field| is_interval(field.data_type()))
    };
    match node {
        LogicalPlan::Sort(sort) => check_sort(&sort.expr, sort.input.schema())?,
        LogicalPlan::Aggregate(aggregate) => {
            let groups = aggregate.schema.fields().len() - aggregate.aggr_expr.len();
            if has_interval(&aggregate.schema, groups) {
                return refused("GROUP BY");
            }
        }
        LogicalPlan::Distinct(Distinct::All(input)) if has_interval(input.schema(), usize::MAX) => {
            return refused("DISTINCT");
        }
        LogicalPlan::Distinct(Distinct::On(on)) => {
            if on.on_expr.iter().any(|expr| makes_interval(expr, on.input.schema())) {
                return refused("DISTINCT");
            }
            check_sort(on.sort_expr.as_deref().unwrap_or_default(), on.input.schema())?;
        }
        LogicalPlan::Join(join) => {
            let by_interval = |(left, right): &(Expr, Expr)| {
                makes_interval(left, join.left.schema()) || makes_interval(right, join.right.schema())
            };
            if join.on.iter().any(by_interval) {
                return refused("a join by columns");
            }
        }
        _ => {}
    }
    let schema = merge_schema(&node.inputs());
    node.apply_expressions(|expr| expr.apply(|part| check_part(part, &schema))).map(drop)
}

/// Refuses what compares intervals within an expression, and is no comparison.
fn check_part(expr: &Expr, schema: &DFSchema) -> Result<TreeNodeRecursion> {
    let any = |exprs: &[Expr]| exprs.iter().any(|expr| makes_interval(expr, schema));
    match expr {
        Expr::AggregateFunction(AggregateFunction { func, params }) => {
            let compares = params.distinct || ORDERING.contains(&func.name());
            if compares && any(&params.args) {
                return refused(if params.distinct { "DISTINCT" } else { func.name() });
            }
            check_sort(&params.order_by, schema)?;
        }
        Expr::WindowFunction(window) => {
            let params = &window.params;
            let compares = params.distinct || ORDERING.contains(&window.fun.name());
            if compares && any(&params.args) {
                return refused(if params.distinct { "DISTINCT" } else { window.fun.name() });
            }
            if any(&params.partition_by) {
                return refused("PARTITION BY");
            }
            check_sort(&params.order_by, schema)?;
        }
        Expr::InSubquery(InSubquery { expr, subquery, .. })
        | Expr::SetComparison(SetComparison { expr, subquery, .. }) => {
            let members = subquery.subquery.schema().fields();
            if makes_interval(expr, schema) || members.iter().any(|member| is_interval(member.data_type())) {
                return refused("a condition over a subquery");
            }
        }
        _ => {}
    }
    Ok(TreeNodeRecursion::Continue)
}

fn check_sort(by: &[Sort], schema: &DFSchema) -> Result<()> {
    if by.iter().any(|by| makes_interval(&by.expr, schema)) { refused("ORDER BY") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{IntervalDayTime, IntervalMonthDayNano};

    use super::*;

    #[test]
    fn a_length_is_exact_however_it_is_written() {
        let day_time = |days, milliseconds| ScalarValue::IntervalDayTime(Some(IntervalDayTime { days, milliseconds }));
        let full = |months, days, nanoseconds| {
            ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano { months, days, nanoseconds }))
        };
        let longest = i128::from(i32::MAX) * (MONTH_NANOS + DAY_NANOS) + i128::from(i64::MAX);
        for (value, wanted) in [
            (ScalarValue::IntervalYearMonth(Some(-2)), -60 * DAY_NANOS),
            (day_time(1, 5), DAY_NANOS + 5_000_000),
            (full(1, -30, 7), 7),
            (full(i32::MAX, i32::MAX, i64::MAX), longest),
            (ScalarValue::DurationSecond(Some(i64::MIN)), i128::from(i64::MIN) * 1_000_000_000),
            (ScalarValue::DurationMillisecond(Some(3)), 3_000_000),
            (ScalarValue::DurationMicrosecond(Some(-3)), -3_000),
            (ScalarValue::DurationNanosecond(Some(3)), 3),
        ] {
            let length = length(Expr::Literal(value.clone(), None)).expect("a length");
            assert_eq!(length, Expr::Literal(ScalarValue::Decimal128(Some(wanted), 38, 0), None), "{value:?}");
        }
    }

    #[test]
    fn lengths_are_what_has_an_interval_or_several_units() {
        let (interval, null) = (DataType::Interval(IntervalUnit::MonthDayNano), DataType::Null);
        let (micros, nanos) = (DataType::Duration(TimeUnit::Microsecond), DataType::Duration(TimeUnit::Nanosecond));
        for (types, wanted) in [
            (vec![interval.clone(), micros.clone()], true),
            (vec![interval.clone(), interval.clone(), null.clone()], true),
            (vec![micros.clone(), nanos], true),
            (vec![micros.clone(), micros, null.clone()], false),
            (vec![interval, DataType::Utf8], false),
            (vec![null.clone(), null], false),
            (vec![DataType::Int64, DataType::Int32], false),
        ] {
            assert_eq!(are_lengths(&types), wanted, "{types:?}");
        }
    }
}
