//! Conditions over subqueries (`NOT IN`, `<> ALL`, `EXISTS`, …), made to take time by what they read, not by the product
//! of both sides.
//!
//! Planned as they come, each row of the subquery meets every row of the same key: a `NOT IN` over few distinct values of
//! a big table compares billions of pairs. And a `NOT IN` over what may be null has to keep the outer side in memory.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode as _, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ExprSchema as _, JoinType, Result, Spans, plan_err};
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::expr::{BinaryExpr, Exists, InSubquery, SetComparison, SetQuantifier};
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    Expr, ExprSchemable as _, FetchType, Filter, Join, LogicalPlan, LogicalPlanBuilder, Operator, Subquery, lit, not,
    when,
};
use datafusion::optimizer::analyzer::AnalyzerRule;
use datafusion::optimizer::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::join_selection::JoinSelection;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};

/// The subquery's name in what is made of it, and that of its column: it is never taken for one of the outer side's.
const SET: &str = "__set";
const MEMBER: &str = "__member";

/// `x = ANY (…)` is `x IN (…)`, and `x <> ALL (…)` is `x NOT IN (…)`; the subquery of another comparison gets a name of
/// its own, or `fare > ALL (SELECT fare FROM trips)` over `trips` would compare the inner fare with itself.
#[derive(Debug, Default)]
pub(super) struct SetComparisons;

impl FunctionRewrite for SetComparisons {
    fn name(&self) -> &'static str {
        "set_comparisons"
    }

    fn rewrite(&self, expr: Expr, _: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        let Expr::SetComparison(SetComparison { expr, subquery, op, quantifier }) = expr else {
            return Ok(Transformed::no(expr));
        };
        let negated = match (op, &quantifier) {
            (Operator::Eq, SetQuantifier::Any) => Some(false),
            (Operator::NotEq, SetQuantifier::All) => Some(true),
            _ => None,
        };
        Ok(Transformed::yes(match negated {
            Some(negated) => Expr::InSubquery(InSubquery { expr, subquery, negated }),
            None => {
                let subquery = to_subquery(members(&subquery)?.build()?);
                Expr::SetComparison(SetComparison { expr, subquery, op, quantifier })
            }
        }))
    }
}

/// `x NOT IN (…)` as what it means: no value equals `x`; and there is no value at all, or none of them is null and
/// neither is `x`. The first can be joined with either side in memory, and the second is known before any row, unless the
/// subquery depends on the row. Inside of another condition it is true, false or null as SQL has it, like `x IN (…)`.
#[derive(Debug, Default)]
pub(super) struct NotIn;

impl AnalyzerRule for NotIn {
    fn name(&self) -> &'static str {
        "not_in"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let taken_apart = |plan| match plan {
            LogicalPlan::Filter(filter) => take_apart(filter),
            other => no_membership(&other).map(|()| Transformed::no(other)),
        };
        Ok(plan.transform_up_with_subqueries(taken_apart)?.data)
    }
}

/// Refuses a condition over a subquery where it would be a value: no rule makes a join of it there, and one that is moved
/// into a filter afterwards would be taken for a condition whose null is false.
fn no_membership(node: &LogicalPlan) -> Result<()> {
    for expr in node.expressions() {
        let is_one = |expr: &Expr| Ok(matches!(expr, Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_)));
        if expr.exists(is_one)? {
            return plan_err!(
                "a condition over a subquery (IN, EXISTS, ANY, ALL) may stand in WHERE and HAVING only: elsewhere, join \
                 with the subquery, or count its rows, `(SELECT count(*) FROM … WHERE …) > 0`"
            );
        }
    }
    Ok(())
}

fn take_apart(Filter { predicate, input, .. }: Filter) -> Result<Transformed<LogicalPlan>> {
    let predicate = predicate.transform_up(of_one_row)?.transform_data(|expr| expr.transform_up(told_apart))?;
    let mut changed = predicate.transformed;
    let mut conditions = Vec::new();
    for condition in split_conjunction_owned(predicate.data) {
        let membership = Membership::of(&condition, input.schema());
        if membership.as_ref().is_some_and(|(_, negated)| !negated) {
            // A join that keeps what is found: null and false are the same to it.
            conditions.push(condition);
        } else if let Some((membership, _)) = membership {
            let parts = membership.negation()?;
            changed |= parts.is_some();
            conditions.extend(parts.unwrap_or_else(|| vec![condition.clone()]));
        } else {
            check_repeated(&condition, input.schema())?;
            let rewritten = condition.transform_up(|expr| match Membership::of(&expr, input.schema()) {
                Some((membership, negated)) if membership.may_be_null() && membership.can_be_repeated() => {
                    let value = membership.value()?;
                    Ok(Transformed::yes(if negated { not(value) } else { value }))
                }
                _ => Ok(Transformed::no(expr)),
            })?;
            changed |= rewritten.transformed;
            conditions.push(rewritten.data);
        }
    }
    let predicate = conjunction(conditions).expect("a filter has a condition");
    Ok(Transformed::new_transformed(LogicalPlan::Filter(Filter::try_new(predicate, input)?), changed))
}

/// A condition over what is one row whatever it depends on (`x IN (SELECT count(*) FROM b WHERE b.k = a.k)`), as one over the
/// value of that row: a join of it would have no row where nothing was aggregated.
fn of_one_row(expr: Expr) -> Result<Transformed<Expr>> {
    let compared = |value: Box<Expr>, op: Operator, subquery: Subquery| {
        Transformed::yes(Expr::BinaryExpr(BinaryExpr::new(value, op, Box::new(Expr::ScalarSubquery(subquery)))))
    };
    Ok(match expr {
        Expr::InSubquery(InSubquery { expr, subquery, negated }) if depends_and_is_one_row(&subquery) => {
            compared(expr, if negated { Operator::NotEq } else { Operator::Eq }, subquery)
        }
        Expr::SetComparison(SetComparison { expr, subquery, op, .. }) if depends_and_is_one_row(&subquery) => {
            compared(expr, op, subquery)
        }
        Expr::Exists(Exists { subquery, negated }) if depends_and_is_one_row(&subquery) => {
            Transformed::yes(lit(!negated))
        }
        other => Transformed::no(other),
    })
}

fn depends_and_is_one_row(subquery: &Subquery) -> bool {
    fn is_one_row(plan: &LogicalPlan) -> bool {
        match plan {
            LogicalPlan::Projection(projection) => is_one_row(&projection.input),
            LogicalPlan::SubqueryAlias(alias) => is_one_row(&alias.input),
            LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
            _ => false,
        }
    }
    !subquery.outer_ref_columns.is_empty() && is_one_row(&subquery.subquery)
}

/// `v IN (SELECT v …)` where the outer `v` is of no table, as it is of a subquery without a name: the inner one is then
/// found by the same name.
fn told_apart(expr: Expr) -> Result<Transformed<Expr>> {
    let Expr::InSubquery(InSubquery { expr, subquery, negated }) = expr else { return Ok(Transformed::no(expr)) };
    let is_member = |name: &str| match &subquery.subquery.schema().fields()[..] {
        [member] => member.name() == name,
        _ => false,
    };
    let is_mistaken = expr.column_refs().iter().any(|column| column.relation.is_none() && is_member(&column.name));
    let subquery = if is_mistaken { to_subquery(members(&subquery)?.build()?) } else { subquery };
    let condition = Expr::InSubquery(InSubquery { expr, subquery, negated });
    Ok(Transformed::new_transformed(condition, is_mistaken))
}

/// Refuses a condition whose null would be taken for false where that is not the same: what gives it its null can't be asked
/// a second time, for it may have other rows then.
fn check_repeated(condition: &Expr, outer: &DFSchema) -> Result<()> {
    let mut parts = vec![condition];
    while let Some(part) = parts.pop() {
        if let Expr::BinaryExpr(BinaryExpr { left, op: Operator::And | Operator::Or, right }) = part {
            parts.extend([left.as_ref(), right.as_ref()]);
            continue;
        }
        if Membership::of(part, outer).is_some_and(|(_, negated)| !negated) {
            continue;
        }
        let lost = part.exists(|expr| {
            let membership = Membership::of(expr, outer);
            Ok(membership.is_some_and(|(membership, _)| membership.may_be_null() && !membership.can_be_repeated()))
        })?;
        if lost {
            return plan_err!(
                "`NOT IN` over a subquery with a LIMIT or with random values, and `IN` that is asked for its null, may not \
                 stand within another condition: make it one of its own, `… AND x NOT IN (…)`, or leave out the LIMIT"
            );
        }
    }
    Ok(())
}

/// `value IN (subquery)` over the rows of `outer`.
struct Membership<'a> {
    value: &'a Expr,
    subquery: &'a Subquery,
    outer: &'a DFSchema,
}

impl<'a> Membership<'a> {
    /// The parts of a condition, if it is one of the rows of `outer`, and whether it is negated.
    fn of(condition: &'a Expr, outer: &'a DFSchema) -> Option<(Self, bool)> {
        let (condition, outside) = match condition {
            Expr::Not(inner) => (inner.as_ref(), true),
            other => (other, false),
        };
        match condition {
            Expr::InSubquery(InSubquery { expr, subquery, negated })
                if subquery.subquery.schema().fields().len() == 1 && !expr.contains_outer() =>
            {
                Some((Self { value: expr, subquery, outer }, *negated != outside))
            }
            _ => None,
        }
    }

    /// Whether nulls make it more than an `EXISTS`.
    fn may_be_null(&self) -> bool {
        let plan = self.subquery.subquery.as_ref();
        self.value.nullable(self.outer).unwrap_or(true) || plan.schema().field(0).is_nullable()
    }

    /// Whether it gives the same whenever it is asked.
    fn can_be_repeated(&self) -> bool {
        !self.value.is_volatile() && !varies(&self.subquery.subquery)
    }

    /// Whether the subquery has other rows for other rows outside.
    fn depends(&self) -> bool {
        !self.subquery.outer_ref_columns.is_empty()
    }

    /// What its negation is, as conditions of which all must hold; `None` if DataFusion has it right.
    fn negation(&self) -> Result<Option<Vec<Expr>>> {
        match (self.can_be_repeated(), self.depends(), self.may_be_null()) {
            (true, _, true) => Ok(Some(vec![not(self.found()?), self.known()?])),
            // DataFusion takes a null in what the subquery depends on for one in what is compared.
            (true, true, false) => Ok(Some(vec![not(self.found()?)])),
            (false, true, _) => plan_err!(
                "`NOT IN` over a subquery that depends on the row outside may have no LIMIT and no random values: write \
                 `NOT EXISTS (SELECT … WHERE …)`, or join with its tables"
            ),
            (_, false, _) => Ok(None),
        }
    }

    /// A value of the subquery equals `value`.
    fn found(&self) -> Result<Expr> {
        let value = self.value.clone().transform_up(|expr| match expr {
            Expr::Column(column) => {
                let field = Arc::clone(self.outer.field_from_column(&column)?);
                Ok(Transformed::yes(Expr::OuterReferenceColumn(field, column)))
            }
            other => Ok(Transformed::no(other)),
        })?;
        self.any(|member| member.eq(value.data))
    }

    /// No null keeps "not found" from being certain.
    fn known(&self) -> Result<Expr> {
        let has_value = self.value.clone().is_not_null();
        if self.depends() {
            let nothing = not(exists(set(self.subquery)?.build()?));
            return Ok(not(self.any(Expr::is_null)?).and(has_value.or(nothing)));
        }
        let set = set(self.subquery)?;
        let member = member(&set);
        let counts = [count(lit(1_i64)).alias("members"), count(member).alias("values")];
        let counted = set.aggregate(Vec::<Expr>::new(), counts)?;
        let (members, values) = (Expr::from(Column::from_name("members")), Expr::from(Column::from_name("values")));
        // True: there is none. False: there are some, none of them null. Null: there is a null.
        let empty = when(members.clone().eq(lit(0_i64)), lit(true)).when(members.eq(values), lit(false)).end()?;
        let empty = Expr::ScalarSubquery(to_subquery(counted.project([empty.alias("empty")])?.build()?));
        Ok(empty.clone().is_true().or(empty.is_false().and(has_value)))
    }

    /// What SQL says of it: true, false or null.
    fn value(&self) -> Result<Expr> {
        Ok(self.found()?.or(when(self.known()?, lit(false)).end()?))
    }

    fn any(&self, condition: impl FnOnce(Expr) -> Expr) -> Result<Expr> {
        let member = Expr::from(Column::from_name(MEMBER));
        Ok(exists(members(self.subquery)?.filter(condition(member))?.build()?))
    }
}

/// True if a second look may see other rows.
fn varies(plan: &LogicalPlan) -> bool {
    let mut varies = false;
    let walked = plan.apply_with_subqueries(|node| {
        varies |= matches!(node, LogicalPlan::Limit(_)) || node.expressions().iter().any(Expr::is_volatile);
        Ok(TreeNodeRecursion::Continue)
    });
    varies || walked.is_err()
}

/// The rows of a subquery, under [`SET`]. One that depends on the row outside has had to tell the two apart by names of
/// its own, and DataFusion makes no join of it behind another.
fn set(subquery: &Subquery) -> Result<LogicalPlanBuilder> {
    let rows = LogicalPlanBuilder::from(subquery.subquery.as_ref().clone());
    if subquery.outer_ref_columns.is_empty() { rows.alias(SET) } else { Ok(rows) }
}

/// The values of a subquery, as [`MEMBER`]: a column outside may have no table, and the name of one of the subquery's.
fn members(subquery: &Subquery) -> Result<LogicalPlanBuilder> {
    let set = set(subquery)?;
    let member = member(&set).alias(MEMBER);
    set.project([member])
}

fn member(set: &LogicalPlanBuilder) -> Expr {
    Expr::Column(Column::from(set.schema().qualified_field(0)))
}

fn exists(plan: LogicalPlan) -> Expr {
    Expr::Exists(Exists { subquery: to_subquery(plan), negated: false })
}

fn to_subquery(plan: LogicalPlan) -> Subquery {
    let outer_ref_columns = plan.all_out_ref_exprs();
    Subquery { subquery: Arc::new(plan), outer_ref_columns, spans: Spans::new() }
}

/// Lets each combination of values that a semi, anti or mark join compares occur once on the side that only decides.
/// Add it to a session after DataFusion's own rules: it looks for the joins that these make of subqueries.
#[derive(Debug, Default)]
pub(super) struct DecideOnce;

impl OptimizerRule for DecideOnce {
    fn name(&self) -> &'static str {
        "decide_once"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Join(join) = plan else { return Ok(Transformed::no(plan)) };
        let decides = matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark);
        if !decides || occurs_once(&join.right) || join.filter.as_ref().is_some_and(Expr::is_volatile) {
            return Ok(Transformed::no(LogicalPlan::Join(join)));
        }
        let compared = compared(&join);
        let right = LogicalPlanBuilder::from(join.right.as_ref().clone());
        // A nested value may be of a kind that can't be grouped.
        if compared.iter().any(|column| is_nested(join.right.schema(), column)) {
            return Ok(Transformed::no(LogicalPlan::Join(join)));
        }
        let right = match compared.is_empty() {
            // All that counts is whether there is a row.
            true => right.limit(0, Some(1))?,
            false => right.aggregate(compared.into_iter().map(Expr::Column), Vec::<Expr>::new())?,
        };
        let Join { left, on, filter, join_type, join_constraint, null_equality, null_aware, .. } = join;
        let right = Arc::new(right.build()?);
        Join::try_new(left, right, on, filter, join_type, join_constraint, null_equality, null_aware)
            .map(|join| Transformed::yes(LogicalPlan::Join(join)))
    }
}

/// The columns of the right side by which the join decides.
fn compared(join: &Join) -> BTreeSet<Column> {
    let keys = join.on.iter().flat_map(|(_, right)| right.column_refs());
    let filtered = join.filter.iter().flat_map(Expr::column_refs);
    keys.chain(filtered).filter(|column| join.right.schema().has_column(column)).cloned().collect()
}

fn is_nested(schema: &DFSchema, column: &Column) -> bool {
    schema.field_from_column(column).map_or(true, |field| field.data_type().is_nested())
}

/// True if the rows of `plan` differ already, or are few.
fn occurs_once(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Aggregate(_) | LogicalPlan::Distinct(_) | LogicalPlan::EmptyRelation(_) => true,
        LogicalPlan::Limit(limit) => matches!(limit.get_fetch_type(), Ok(FetchType::Literal(Some(0 | 1)))),
        LogicalPlan::SubqueryAlias(alias) => occurs_once(&alias.input),
        LogicalPlan::Projection(projection) => occurs_once(&projection.input),
        LogicalPlan::Filter(filter) => occurs_once(&filter.input),
        _ => false,
    }
}

/// Rows that stand for one value, at least, on the side that [`DecideOnce`] lets each occur once: the optimizer takes it
/// for as long as its input.
const ROWS_PER_VALUE: usize = 10;

/// Keeps the values in memory by which a semi, anti or mark join decides, and lets the other side flow by. Put it behind
/// DataFusion's rule that chooses the sides, which compares the estimated lengths of both as if each row had its own value.
#[derive(Debug, Default)]
pub(super) struct KeepDecisions;

impl PhysicalOptimizerRule for KeepDecisions {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let turned = plan.transform_up(|node| match node.downcast_ref::<HashJoinExec>() {
            Some(join) if keeps_the_rows(join)? => Ok(Transformed::yes(join.swap_inputs(*join.partition_mode())?)),
            _ => Ok(Transformed::no(node)),
        })?;
        Ok(turned.data)
    }

    fn name(&self) -> &'static str {
        "keep_decisions"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// True if the side that is kept has the rows that are asked for, and more of them than the other has values.
fn keeps_the_rows(join: &HashJoinExec) -> Result<bool> {
    let decides = matches!(join.join_type(), JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark);
    let values = join.right().downcast_ref::<AggregateExec>();
    if !decides || join.null_aware || values.is_none_or(|values| !values.aggr_expr().is_empty()) {
        return Ok(false);
    }
    let rows = |plan: &Arc<dyn ExecutionPlan>| -> Result<Option<usize>> {
        let statistics = StatisticsContext::new().compute(plan.as_ref(), &StatisticsArgs::new())?;
        Ok(statistics.num_rows.get_value().copied())
    };
    Ok(match (rows(join.left())?, rows(join.right())?) {
        (Some(left), Some(right)) => left.saturating_mul(ROWS_PER_VALUE) >= right,
        _ => true,
    })
}

/// DataFusion's rules for physical plans, and [`KeepDecisions`] where it belongs.
pub(super) fn physical_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = PhysicalOptimizer::new().rules;
    let sides = rules.iter().position(|rule| rule.name() == JoinSelection::new().name());
    rules.insert(sides.map_or(0, |at| at + 1), Arc::new(KeepDecisions));
    rules
}
