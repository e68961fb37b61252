//! Text compared with numbers. Partition columns are strings such as `pickup_month = '07'`; a comparison with a number
//! compares numbers, `pickup_month = 7`, and a text that is no number comes after every number.
//!
//! So every comparison has an answer for every text, `p < 7` and `p >= 7` share out all rows that have a `p`, and
//! `NOT (p = 7)` is `p <> 7`, whichever way the optimizer turns it. Casts that somebody wrote keep their meaning.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Float64Array, Scalar};
use arrow::compute::kernels::zip::zip;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::{Between, BinaryExpr, Case, InList, InSubquery};
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable as _, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility, cast, not,
};

/// In which whole numbers and decimals compare exactly: 28 digits before the point and 10 behind.
const EXACT: DataType = DataType::Decimal128(38, 10);
/// The largest value of [`EXACT`].
const LAST: i128 = 10_i128.pow(38) - 1;

/// Rewrites comparisons between a text (other than a literal) and a number. Add it to a session's function rewrites: it
/// then comes before type coercion, which would cast the text and fail where that is no number.
#[derive(Debug, Default)]
pub(super) struct TextAsNumber;

impl FunctionRewrite for TextAsNumber {
    fn name(&self) -> &str {
        "text_as_number"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        let sides = Sides { schema };
        Ok(match expr {
            Expr::BinaryExpr(comparison) if compares(comparison.op) => sides.comparison(comparison),
            Expr::Between(between) => sides.between(between),
            Expr::InList(list) => sides.in_list(list),
            Expr::InSubquery(subquery) => sides.in_subquery(subquery),
            Expr::Case(case) => sides.case(case),
            other => Transformed::no(other),
        })
    }
}

fn compares(operator: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(operator, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

/// Looks up the types of what is compared.
struct Sides<'a> {
    schema: &'a DFSchema,
}

impl Sides<'_> {
    fn is_text(&self, expr: &Expr) -> bool {
        let text = |data_type| matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
        !matches!(expr.clone().unalias(), Expr::Literal(..)) && expr.get_type(self.schema).is_ok_and(text)
    }

    /// The type in which a text compares with `expr`; `None` if that is no number.
    fn number(&self, expr: &Expr) -> Option<DataType> {
        number_type(&expr.get_type(self.schema).ok()?)
    }

    /// `text` and `number` as what compares.
    fn pair(&self, text: &Expr, number: &Expr) -> Option<(Expr, Expr)> {
        let to = self.number(number).filter(|_| self.is_text(text))?;
        Some((as_number(text.clone(), &to), cast(number.clone(), to)))
    }

    fn comparison(&self, BinaryExpr { left, op, right }: BinaryExpr) -> Transformed<Expr> {
        let compared = |left: Expr, right: Expr| {
            Transformed::yes(Expr::BinaryExpr(BinaryExpr { left: Box::new(left), op, right: Box::new(right) }))
        };
        if let Some((left, right)) = self.pair(&left, &right) {
            return compared(left, right);
        }
        if let Some((right, left)) = self.pair(&right, &left) {
            return compared(left, right);
        }
        Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right }))
    }

    fn between(&self, between: Between) -> Transformed<Expr> {
        if self.pair(&between.expr, &between.low).is_none() && self.pair(&between.expr, &between.high).is_none() {
            return Transformed::no(Expr::Between(between));
        }
        // One bound may be a text.
        let Between { expr, negated, low, high } = between;
        let bound = |comparison: Expr| match comparison {
            Expr::BinaryExpr(comparison) => self.comparison(comparison).data,
            other => other,
        };
        let within = bound(expr.clone().gt_eq(*low)).and(bound(expr.lt_eq(*high)));
        Transformed::yes(if negated { not(within) } else { within })
    }

    fn in_list(&self, InList { expr, list, negated }: InList) -> Transformed<Expr> {
        if !self.is_text(&expr) || list.iter().all(|item| self.number(item).is_none()) {
            return Transformed::no(Expr::InList(InList { expr, list, negated }));
        }
        let (numbers, texts): (Vec<_>, Vec<_>) = list.into_iter().partition(|item| self.number(item).is_some());
        let to = if numbers.iter().all(|item| self.number(item) == Some(EXACT)) { EXACT } else { DataType::Float64 };
        let numbers = numbers.into_iter().map(|item| cast(item, to.clone())).collect();
        let mut found = as_number((*expr).clone(), &to).in_list(numbers, false);
        if !texts.is_empty() {
            found = found.or(expr.in_list(texts, false));
        }
        Transformed::yes(if negated { not(found) } else { found })
    }

    fn in_subquery(&self, subquery: InSubquery) -> Transformed<Expr> {
        let fields = subquery.subquery.subquery.schema().fields();
        let to = fields.first().and_then(|field| number_type(field.data_type()));
        match to.filter(|_| self.is_text(&subquery.expr)) {
            Some(to) => {
                let expr = Box::new(as_number(*subquery.expr, &to));
                Transformed::yes(Expr::InSubquery(InSubquery { expr, ..subquery }))
            }
            None => Transformed::no(Expr::InSubquery(subquery)),
        }
    }

    /// `CASE p WHEN 7 …` as `CASE WHEN p = 7 …`.
    fn case(&self, case: Case) -> Transformed<Expr> {
        let base = case.expr.as_ref().filter(|base| self.is_text(base)).cloned();
        let Some(base) = base.filter(|_| case.when_then_expr.iter().any(|(when, _)| self.number(when).is_some()))
        else {
            return Transformed::no(Expr::Case(case));
        };
        let branch = |(when, then): (Box<Expr>, Box<Expr>)| {
            let (left, right) = self.pair(&base, &when).unwrap_or_else(|| ((*base).clone(), *when));
            (Box::new(left.eq(right)), then)
        };
        let when_then_expr = case.when_then_expr.into_iter().map(branch).collect();
        Transformed::yes(Expr::Case(Case { expr: None, when_then_expr, else_expr: case.else_expr }))
    }
}

fn number_type(data_type: &DataType) -> Option<DataType> {
    match data_type {
        whole if whole.is_integer() => Some(EXACT),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
            if (0..=10).contains(scale) && precision.saturating_sub(scale.unsigned_abs()) <= 28 =>
        {
            Some(EXACT)
        }
        number if number.is_numeric() => Some(DataType::Float64),
        _ => None,
    }
}

fn as_number(text: Expr, to: &DataType) -> Expr {
    static EXACTLY: LazyLock<Arc<ScalarUDF>> =
        LazyLock::new(|| Arc::new(NumberOrLast::new("number_or_last", EXACT).into()));
    static ROUNDED: LazyLock<Arc<ScalarUDF>> =
        LazyLock::new(|| Arc::new(NumberOrLast::new("double_or_last", DataType::Float64).into()));
    let function = if *to == EXACT { &EXACTLY } else { &ROUNDED };
    function.call(vec![text])
}

/// A text's number; of a text that is none, what comes after every number. In `Float64` that is NaN.
#[derive(Debug, PartialEq, Eq, Hash)]
struct NumberOrLast {
    name: &'static str,
    to: DataType,
    signature: Signature,
}

impl NumberOrLast {
    fn new(name: &'static str, to: DataType) -> Self {
        Self { name, to, signature: Signature::string(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for NumberOrLast {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.to.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let texts = ColumnarValue::values_to_arrays(&args.args)?.remove(0);
        let numbers = numbers(&texts, &self.to)?;
        match args.args.first() {
            Some(ColumnarValue::Scalar(_)) => {
                Ok(ColumnarValue::Scalar(datafusion::common::ScalarValue::try_from_array(&numbers, 0)?))
            }
            _ => Ok(ColumnarValue::Array(numbers)),
        }
    }
}

fn numbers(texts: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    let numbers = cast_with_options(texts, to, &CastOptions { safe: true, ..CastOptions::default() })?;
    let (numbers, last): (ArrayRef, ArrayRef) = match to {
        DataType::Float64 => {
            // `inf` is no number here, either: one rule, whatever it is compared with.
            let finite = |number: f64| number.is_finite().then_some(number);
            let numbers = numbers.as_primitive::<Float64Type>().unary_opt::<_, Float64Type>(finite);
            (Arc::new(numbers), Arc::new(Float64Array::from_iter_values([f64::NAN])))
        }
        _ => (numbers, Arc::new(Decimal128Array::from_iter_values([LAST]).with_data_type(EXACT))),
    };
    if numbers.null_count() == texts.null_count() {
        return Ok(numbers);
    }
    let no_number: BooleanArray =
        (0..texts.len()).map(|row| Some(texts.is_valid(row) && numbers.is_null(row))).collect();
    Ok(zip(&no_number, &Scalar::new(last), &numbers)?)
}
