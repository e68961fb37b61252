//! Lists and cases, as they are meant.
//!
//! The optimizer makes one list of several (`x IN (…) AND x NOT IN (…)`) as if no value were null and all of them constants.
//! So here only constants stay in a list, and lists over one value that may be null are told apart, for it to leave them
//! alone; save for those that must all hold, of which null and false are the same. And where values are looked up rather
//! than compared, `-0.0` and `0.0` are two to it, although they are equal.

use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode as _, TreeNodeRewriter};
use datafusion::common::utils::take_function_args;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{BinaryExpr, Case, Cast, InList, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, merge_schema, split_conjunction_owned};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable as _, LogicalPlan, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility, lit, not, or,
};
use datafusion::optimizer::analyzer::AnalyzerRule;

/// Keeps lists and cases what they are. Add it to a session behind type coercion.
#[derive(Debug, Default)]
pub(super) struct PlainLists;

impl AnalyzerRule for PlainLists {
    fn name(&self) -> &'static str {
        "plain_lists"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(plain)?.data)
    }
}

fn plain(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let (schema, names) = (merge_schema(&node.inputs()), NamePreserver::new(&node));
    let place = match &node {
        LogicalPlan::Filter(_) | LogicalPlan::Join(_) => Place::Condition,
        LogicalPlan::Projection(_) => Place::Value,
        _ => Place::Other,
    };
    let rewritten = node.map_expressions(|expr| {
        // Its expressions are named by what they are.
        if matches!(expr, Expr::GroupingSet(_)) {
            return Ok(Transformed::no(expr));
        }
        let name = names.save(&expr);
        let rewritten = in_place(expr, &schema, place)?;
        Ok(if rewritten.transformed { rewritten.update_data(|expr| name.restore(expr)) } else { rewritten })
    })?;
    if rewritten.transformed { rewritten.map_data(LogicalPlan::recompute_schema) } else { Ok(rewritten) }
}

/// Where an expression stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Keeps the rows for which it is true. Those that must all hold are looked at one by one.
    Condition,
    /// In a select list, from where it may get into any condition.
    Value,
    /// Among others that may have to be the same as it.
    Other,
}

fn in_place(expr: Expr, schema: &DFSchema, place: Place) -> Result<Transformed<Expr>> {
    let rewriter = || Lists { schema, place, chains: Vec::new(), known: Vec::new(), next: 0 };
    if place != Place::Condition {
        return expr.rewrite(&mut rewriter());
    }
    let (mut changed, mut all) = (false, Vec::new());
    for condition in split_conjunction_owned(expr) {
        let rewritten = condition.rewrite(&mut rewriter())?;
        changed |= rewritten.transformed;
        all.push(rewritten.data);
    }
    let all = conjunction(all).expect("an expression is one condition at least");
    Ok(Transformed::new_transformed(all, changed))
}

/// The lists of an expression. Alternatives over one value (`x IN (…) OR x = …`) are one list.
struct Lists<'a> {
    schema: &'a DFSchema,
    place: Place,
    /// Of each expression around the one that is looked at: the chain of alternatives that it is part of.
    chains: Vec<Option<usize>>,
    /// Values that a list is of, and which it is.
    known: Vec<(Expr, usize)>,
    next: usize,
}

impl TreeNodeRewriter for Lists<'_> {
    type Node = Expr;

    fn f_down(&mut self, expr: Expr) -> Result<Transformed<Expr>> {
        let alternatives = matches!(&expr, Expr::BinaryExpr(BinaryExpr { op: Operator::Or, .. }));
        let chain = alternatives.then(|| self.chain().unwrap_or_else(|| self.number()));
        self.chains.push(chain);
        Ok(Transformed::no(expr))
    }

    fn f_up(&mut self, expr: Expr) -> Result<Transformed<Expr>> {
        let _own = self.chains.pop();
        match expr {
            Expr::Case(case) => Ok(compared(case, self.schema)),
            Expr::InList(list) if !list.expr.is_volatile() => Ok(self.list(list)),
            Expr::BinaryExpr(equality) if is_equality(&equality) => Ok(self.equality(equality)),
            other => Ok(Transformed::no(other)),
        }
    }
}

impl Lists<'_> {
    /// The chain of alternatives that the expression stands in.
    fn chain(&self) -> Option<usize> {
        self.chains.last().copied().flatten()
    }

    fn number(&mut self) -> usize {
        self.next += 1;
        self.next
    }

    fn list(&mut self, list: InList) -> Transformed<Expr> {
        let which = hash(&list);
        let InList { expr: value, list, negated } = list;
        let (mut constants, others): (Vec<Expr>, Vec<Expr>) =
            list.into_iter().partition(|member| is_constant(member, self.schema));
        let zeros = missing_zeros(&constants, &value.get_type(self.schema).unwrap_or(DataType::Null));
        let mut changed = !others.is_empty() || !zeros.is_empty();
        constants.extend(zeros);
        let number = match self.chain() {
            Some(chain) if !negated => chain,
            _ => self.number(),
        };
        let apart = match self.place {
            // A condition above may be put together of several.
            Place::Value | Place::Other => true,
            Place::Condition => self.is_another(&value, number),
        };
        let mut alternatives: Vec<Expr> = others.into_iter().map(|member| is_member(&value, member)).collect();
        if !constants.is_empty() {
            let apart = apart && value.nullable(self.schema).unwrap_or(true);
            changed |= apart;
            let value = if apart { Box::new(Same::of(*value, which)) } else { value };
            let alone = alternatives.is_empty();
            let of_constants = Expr::InList(InList { expr: value, list: constants, negated: negated && alone });
            if alone {
                return Transformed::new_transformed(of_constants, changed);
            }
            alternatives.push(of_constants);
        }
        let any = any(alternatives);
        Transformed::yes(if negated { not(any) } else { any })
    }

    /// `x = 1`, of which the optimizer makes lists where it is one of several alternatives.
    fn equality(&mut self, equality: BinaryExpr) -> Transformed<Expr> {
        let Some(chain) = self.chain().filter(|_| self.place != Place::Other) else {
            return Transformed::no(Expr::BinaryExpr(equality));
        };
        let is_left = matches!(equality.left.as_ref(), Expr::Column(_));
        let value = if is_left { &equality.left } else { &equality.right };
        if !self.is_another(value, chain) || !value.nullable(self.schema).unwrap_or(true) {
            return Transformed::no(Expr::BinaryExpr(equality));
        }
        let which = hash(&equality);
        let apart = |value: Box<Expr>| Box::new(Same::of(*value, which));
        let BinaryExpr { left, op, right } = equality;
        let (left, right) = if is_left { (apart(left), right) } else { (left, apart(right)) };
        Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, op, right }))
    }

    /// True if `value` has a list already that is not the one of this number.
    fn is_another(&mut self, value: &Expr, number: usize) -> bool {
        match self.known.iter().find(|(known, _)| known == value) {
            Some((_, first)) => *first != number,
            None => {
                self.known.push((value.clone(), number));
                false
            }
        }
    }
}

/// A column that is compared with a constant.
fn is_equality(comparison: &BinaryExpr) -> bool {
    let sides = (comparison.left.as_ref(), comparison.right.as_ref());
    comparison.op == Operator::Eq
        && matches!(sides, (Expr::Column(_), Expr::Literal(..)) | (Expr::Literal(..), Expr::Column(_)))
}

/// True if `member` has the same value for each row, and that is not null.
fn is_constant(member: &Expr, schema: &DFSchema) -> bool {
    let varies = member.exists(|part| {
        let constant = matches!(
            part,
            Expr::Literal(..) | Expr::Cast(_) | Expr::Negative(_) | Expr::BinaryExpr(_) | Expr::ScalarFunction(_)
        );
        Ok(!constant || part.is_volatile_node())
    });
    !varies.unwrap_or(true) && !member.nullable(schema).unwrap_or(true)
}

fn is_member(value: &Expr, member: Expr) -> Expr {
    match member {
        Expr::Literal(null, _) if null.is_null() => Expr::Literal(ScalarValue::Boolean(None), None),
        member => value.clone().eq(member),
    }
}

/// True if one of `alternatives` is, of which there is one at least; no deeper than it must be.
fn any(mut alternatives: Vec<Expr>) -> Expr {
    while alternatives.len() > 1 {
        let mut halved = Vec::with_capacity(alternatives.len().div_ceil(2));
        let mut rest = alternatives.into_iter();
        while let Some(first) = rest.next() {
            halved.push(match rest.next() {
                Some(second) => or(first, second),
                None => first,
            });
        }
        alternatives = halved;
    }
    alternatives.pop().unwrap_or_else(|| lit(false))
}

/// The zeros that `constants` of this type lack of the two that there are, if they have one.
fn missing_zeros(constants: &[Expr], data_type: &DataType) -> Vec<Expr> {
    let zeros = match data_type {
        DataType::Float32 => [ScalarValue::Float32(Some(0.0)), ScalarValue::Float32(Some(-0.0))],
        DataType::Float64 => [ScalarValue::Float64(Some(0.0)), ScalarValue::Float64(Some(-0.0))],
        _ => return Vec::new(),
    };
    let value = |constant: &Expr| match constant {
        Expr::Literal(value, _) => Some(value.clone()),
        Expr::Cast(Cast { expr, field }) => match expr.as_ref() {
            Expr::Literal(value, _) => value.cast_to(field.data_type()).ok(),
            _ => None,
        },
        _ => None,
    };
    let there: Vec<ScalarValue> = constants.iter().filter_map(value).filter(|value| zeros.contains(value)).collect();
    if there.is_empty() {
        return Vec::new();
    }
    zeros.into_iter().filter(|zero| !there.contains(zero)).map(|zero| Expr::Literal(zero, None)).collect()
}

/// `CASE x WHEN 0.0 …` as `CASE WHEN x = 0.0 …`, where `x` is a float.
fn compared(case: Case, schema: &DFSchema) -> Transformed<Expr> {
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

fn hash(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// Its argument, which the optimizer takes for something else than the argument of another of these.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Same {
    which: u64,
    signature: Signature,
}

/// Its name, for who reads plans.
const NAME: &str = "same";

impl Same {
    fn of(value: Expr, which: u64) -> Expr {
        let same = Self { which, signature: Signature::any(1, Volatility::Immutable) };
        Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(ScalarUDF::new_from_impl(same)), vec![value]))
    }
}

impl ScalarUDFImpl for Same {
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

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [value] = take_function_args(NAME, args.args)?;
        Ok(value)
    }
}
