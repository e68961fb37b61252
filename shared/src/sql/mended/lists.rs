//! Lists and cases, as they are meant.
//!
//! The optimizer makes one list of several (`x IN (…) AND x NOT IN (…)`) as if no value were null and all of them constants,
//! and it makes lists of alternatives (`x = 1 OR x = 2`). So here only constants stay in a list, and lists over one value that
//! may be null are told apart, for it to leave them alone; save for those that must all hold, of which null and false are the
//! same. And where values are looked up rather than compared, `-0.0` and `0.0` are two to it, although they are equal.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode as _, TreeNodeRewriter};
use datafusion::common::utils::take_function_args;
use datafusion::common::{Column, DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{BinaryExpr, InList, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, merge_schema, split_conjunction_owned};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable as _, LogicalPlan, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility, and, lit, not, or,
};
use datafusion::optimizer::analyzer::AnalyzerRule;

use super::zeros::{compared, missing_zeros};

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
    /// In an aggregate, an order, …: what is above it has only its value.
    Other,
}

fn in_place(expr: Expr, schema: &DFSchema, place: Place) -> Result<Transformed<Expr>> {
    let rewriter = || Lists { schema, place, around: Vec::new(), known: Vec::new(), next: 0 };
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

/// What stands around an expression.
#[derive(Debug, Clone, Copy)]
struct Around {
    /// An odd number of NOT.
    negated: bool,
    /// Only AND and OR, up to a condition: nothing makes it its opposite.
    plain: bool,
    /// The chain of AND or of OR that it is part of, as they are once every NOT has been moved inwards; and which one it is.
    chain: Option<(Operator, usize)>,
}

/// The lists of an expression. Alternatives over one value (`x IN (…) OR x = …`) are one list.
struct Lists<'a> {
    schema: &'a DFSchema,
    place: Place,
    /// Of the expression that is looked at, and of each around it, from the outermost: what stands around those in it.
    around: Vec<Around>,
    /// The columns of a value that a list is of, and which list it is.
    known: Vec<(BTreeSet<Column>, usize)>,
    next: usize,
}

impl TreeNodeRewriter for Lists<'_> {
    type Node = Expr;

    fn f_down(&mut self, expr: Expr) -> Result<Transformed<Expr>> {
        let around = self.around();
        let inside = match &expr {
            Expr::Not(_) => Around { negated: !around.negated, plain: false, ..around },
            Expr::BinaryExpr(BinaryExpr { op: op @ (Operator::And | Operator::Or), .. }) => {
                let op = match (around.negated, op) {
                    (false, op) => *op,
                    (true, Operator::And) => Operator::Or,
                    (true, _) => Operator::And,
                };
                let known = around.chain.filter(|(known, _)| *known == op);
                Around { chain: Some(known.unwrap_or_else(|| (op, self.number()))), ..around }
            }
            // `(…) = false` is made the opposite of it, like others.
            _ => Around { negated: false, plain: false, chain: None },
        };
        self.around.push(inside);
        Ok(Transformed::no(expr))
    }

    fn f_up(&mut self, expr: Expr) -> Result<Transformed<Expr>> {
        let _own = self.around.pop();
        match expr {
            Expr::Case(case) => Ok(compared(case, self.schema)),
            Expr::InList(list) if !list.expr.is_volatile() => Ok(self.list(list)),
            Expr::BinaryExpr(comparison) if matches!(comparison.op, Operator::Eq | Operator::NotEq) => {
                Ok(self.comparison(comparison))
            }
            other => Ok(Transformed::no(other)),
        }
    }
}

impl Lists<'_> {
    /// What stands around the expression that is looked at.
    fn around(&self) -> Around {
        let outermost = Around { negated: false, plain: self.place == Place::Condition, chain: None };
        self.around.last().copied().unwrap_or(outermost)
    }

    /// The chain of alternatives that the expression is one of; `negated`: that its opposite is.
    fn chain(&self, negated: bool) -> Option<usize> {
        let around = self.around();
        match (around.chain?, negated != around.negated) {
            ((Operator::Or, which), false) | ((Operator::And, which), true) => Some(which),
            _ => None,
        }
    }

    fn number(&mut self) -> usize {
        self.next += 1;
        self.next
    }

    /// True if a list over `value`, or alternatives that may become one, must be told apart from the others.
    fn is_apart(&mut self, value: &Expr, number: usize) -> bool {
        let apart = match self.place {
            // A condition above may be put together of several.
            Place::Value | Place::Other => true,
            Place::Condition => self.is_another(value, number),
        };
        apart && value.nullable(self.schema).unwrap_or(true)
    }

    fn list(&mut self, list: InList) -> Transformed<Expr> {
        let InList { expr: value, list, negated } = list;
        let (mut constants, others): (Vec<Expr>, Vec<Expr>) =
            list.into_iter().partition(|member| is_constant(member, self.schema));
        let zeros = missing_zeros(&constants, &value.get_type(self.schema).unwrap_or(DataType::Null));
        let mut changed = !others.is_empty() || !zeros.is_empty();
        constants.extend(zeros);
        let number = self.chain(negated).unwrap_or_else(|| self.number());
        let apart = self.is_apart(&value, number);
        let mut alternatives: Vec<Expr> = others.into_iter().map(|member| is_member(&value, member)).collect();
        if !constants.is_empty() {
            changed |= apart;
            let alone = alternatives.is_empty();
            let of_constants = Expr::InList(InList { expr: value, list: constants, negated: negated && alone });
            let of_constants = if apart { Same::of(of_constants) } else { of_constants };
            if alone {
                return Transformed::new_transformed(of_constants, changed);
            }
            alternatives.push(of_constants);
        }
        let any = any(alternatives);
        Transformed::yes(if negated { not(any) } else { any })
    }

    /// `x = 1` or `x <> 1`, of which the optimizer makes lists where it, or its opposite, is one of several alternatives.
    fn comparison(&mut self, comparison: BinaryExpr) -> Transformed<Expr> {
        let differs = comparison.op == Operator::NotEq;
        let chain = self.chain(differs).filter(|_| !(differs && self.around().plain));
        let number = match (chain, self.place) {
            (Some(chain), _) => chain,
            (None, Place::Value) => self.number(),
            (None, _) => return Transformed::no(Expr::BinaryExpr(comparison)),
        };
        let Some((value, constant)) = sides(&comparison) else {
            return Transformed::no(Expr::BinaryExpr(comparison));
        };
        let data_type = value.get_type(self.schema).unwrap_or(DataType::Null);
        let zeros = missing_zeros(std::slice::from_ref(constant), &data_type);
        let apart = self.is_apart(value, number);
        if !apart && zeros.is_empty() {
            return Transformed::no(Expr::BinaryExpr(comparison));
        }
        let value = value.clone();
        let compared = zeros.into_iter().fold(Expr::BinaryExpr(comparison), |compared, zero| {
            let value = value.clone();
            if differs { and(compared, value.not_eq(zero)) } else { or(compared, value.eq(zero)) }
        });
        Transformed::yes(if apart { Same::of(compared) } else { compared })
    }

    /// True if there is a list already over what `value` has been made of, other than the one of this number. What is made of
    /// it may come to be the same: casts are moved to the other side, `x * 1` is `x`.
    fn is_another(&mut self, value: &Expr, number: usize) -> bool {
        let columns: BTreeSet<Column> = value.column_refs().into_iter().cloned().collect();
        match self.known.iter().find(|(known, _)| *known == columns) {
            Some((_, first)) => *first != number,
            None => {
                self.known.push((columns, number));
                false
            }
        }
    }
}

/// What is compared, which is of one column, and the constant that it is compared with.
fn sides(comparison: &BinaryExpr) -> Option<(&Expr, &Expr)> {
    let (left, right) = (comparison.left.as_ref(), comparison.right.as_ref());
    let is_of_column =
        |value: &Expr| value.column_refs().len() == 1 && !value.is_volatile() && !value.contains_scalar_subquery();
    if is_of_column(left) && is_fixed(right) {
        Some((left, right))
    } else if is_of_column(right) && is_fixed(left) {
        Some((right, left))
    } else {
        None
    }
}

/// True if `member` has the same value for each row, and that is not null.
fn is_constant(member: &Expr, schema: &DFSchema) -> bool {
    is_fixed(member) && !member.nullable(schema).unwrap_or(true)
}

/// True if `expr` has the same value for each row.
pub(super) fn is_fixed(expr: &Expr) -> bool {
    let varies = expr.exists(|part| {
        let fixed = matches!(
            part,
            Expr::Literal(..)
                | Expr::Cast(_)
                | Expr::TryCast(_)
                | Expr::Negative(_)
                | Expr::Case(_)
                | Expr::BinaryExpr(_)
                | Expr::ScalarFunction(_)
        );
        Ok(!fixed || part.is_volatile_node())
    });
    !varies.unwrap_or(true)
}

/// `value` compared with a member that is in no list.
fn is_member(value: &Expr, member: Expr) -> Expr {
    match member {
        Expr::Literal(null, _) if null.is_null() => Expr::Literal(ScalarValue::Boolean(None), None),
        // It may turn out to be a constant, and would get into the list after all.
        member if is_fixed(&member) => Same::of(value.clone().eq(member)),
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

/// Its argument, a condition: the optimizer takes nothing that is in it together with what is beside it.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Same {
    signature: Signature,
}

/// Its name, for who reads plans.
const NAME: &str = "same";

impl Same {
    fn of(condition: Expr) -> Expr {
        let same = Self { signature: Signature::any(1, Volatility::Immutable) };
        Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(ScalarUDF::new_from_impl(same)), vec![condition]))
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
