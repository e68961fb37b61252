//! Subqueries that depend on the row outside (`EXISTS (SELECT 1 FROM b WHERE b.k = a.k)`).
//!
//! DataFusion makes a join of one, by what its `WHERE` compares with the row outside. For that the columns compared are
//! carried up to the subquery's own, and on their way they are known by their names alone. Where a name is there twice, it
//! refuses, or compares with the wrong column; and below a window or an aggregate over all rows the comparison would come
//! too late. So columns get names that nothing else has where names are not enough; and what would be answered wrongly, or
//! is left when all rules have run, is refused in words.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode as _, TreeNodeRecursion};
use datafusion::common::{Column, ScalarValue, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{Exists, InSubquery, SetComparison};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::utils::{conjunction, split_conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Aggregate, Expr, Filter, LogicalPlan, Projection, SkipType, Subquery, SubqueryAlias};
use datafusion::optimizer::analyzer::AnalyzerRule;
use datafusion::optimizer::simplify_expressions::ExprSimplifier;

/// What to write instead.
const INSTEAD: &str = "join with its tables instead, and GROUP BY the row outside where it aggregates";

/// Gives names of their own to the columns by which subqueries depend on the row outside, where these are not enough.
/// Add it after type coercion, which makes columns anew under the name of what they are made of.
#[derive(Debug, Default)]
pub(super) struct OwnNames;

impl AnalyzerRule for OwnNames {
    fn name(&self) -> &'static str {
        "own_names"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let mut given = 0;
        let analyzed = plan.transform_up_with_subqueries(|node| {
            check_outside(&node)?;
            node.map_expressions(|expr| expr.transform_up(|part| with_own_names(part, &mut given)))
        })?;
        Ok(analyzed.data)
    }
}

/// Refuses a subquery of `node` that depends on another row than those of `node`, or compares such a row with its own: no
/// join reaches that far.
fn check_outside(node: &LogicalPlan) -> Result<()> {
    // It has the columns of the rows that it sorts no more; DataFusion says what may stand there.
    if matches!(node, LogicalPlan::Sort(_)) {
        return Ok(());
    }
    let check = |expr: &Expr| {
        if let Expr::InSubquery(InSubquery { expr, subquery, .. })
        | Expr::SetComparison(SetComparison { expr, subquery, .. }) = expr
            && expr.contains_outer()
        {
            return plan_err!("{} is compared with a row further outside: {INSTEAD}", described(subquery));
        }
        let Some(subquery) = subquery_of(expr) else { return Ok(TreeNodeRecursion::Continue) };
        let is_near = |column: &Column| node.inputs().iter().any(|input| input.schema().has_column(column));
        if outside(subquery).iter().all(is_near) {
            return Ok(TreeNodeRecursion::Continue);
        }
        plan_err!("{} reaches over the query right around it: {INSTEAD}", described(subquery))
    };
    node.apply_expressions(|expr| expr.apply(check)).map(drop)
}

fn subquery_of(expr: &Expr) -> Option<&Subquery> {
    match expr {
        Expr::InSubquery(InSubquery { subquery, .. })
        | Expr::Exists(Exists { subquery, .. })
        | Expr::SetComparison(SetComparison { subquery, .. })
        | Expr::ScalarSubquery(subquery) => Some(subquery),
        _ => None,
    }
}

/// The columns of the row outside on which a subquery depends.
fn outside(subquery: &Subquery) -> BTreeSet<Column> {
    let column = |expr: &Expr| match expr {
        Expr::OuterReferenceColumn(_, column) => Some(column.clone()),
        _ => None,
    };
    subquery.outer_ref_columns.iter().filter_map(column).collect()
}

/// A subquery, for who wrote it.
fn described(subquery: &Subquery) -> String {
    let selects = subquery.subquery.schema().fields().first().map_or("", |field| field.name().as_str());
    let outside: Vec<String> = outside(subquery).iter().map(|column| format!("`{}`", column.flat_name())).collect();
    let depends =
        if outside.is_empty() { String::new() } else { format!(", which depends on {},", outside.join(" and ")) };
    format!("the subquery `SELECT {selects} …`{depends}")
}

/// Refuses an optimized plan with a subquery that no rule made a join of, be it one of `FROM`.
pub(in crate::sql) fn check_joined(plan: &LogicalPlan) -> Result<()> {
    let is_left = |expr: &Expr| match expr {
        // One that depends on no row is asked once, as it is.
        Expr::ScalarSubquery(subquery) => !subquery.outer_ref_columns.is_empty(),
        other => subquery_of(other).is_some(),
    };
    let check = |expr: &Expr| match subquery_of(expr).filter(|_| is_left(expr)) {
        None => check_beside(expr),
        Some(subquery) => plan_err!(
            "{} can't be made a join: it may compare its columns with those of the row outside in its WHERE, where it \
             aggregates by `=` alone, and without ORDER BY, LIMIT or UNION; else {INSTEAD}",
            described(subquery)
        ),
    };
    plan.apply_with_subqueries(|node| node.apply_expressions(|expr| expr.apply(check))).map(drop)
}

/// Refuses a column of another row, outside of the subqueries of conditions and values: it is of what stands beside it in
/// `FROM`.
fn check_beside(expr: &Expr) -> Result<TreeNodeRecursion> {
    let Expr::OuterReferenceColumn(_, column) = expr else { return Ok(TreeNodeRecursion::Continue) };
    let column = column.flat_name();
    plan_err!(
        "what stands in FROM depends on `{column}`, a column beside it, and can't be made a join: select the elements of a \
         list beside the other columns, `SELECT id, unnest(tags) FROM …`; for a LATERAL subquery, {INSTEAD}"
    )
}

/// `expr`, with own names in the subquery that it is, if it needs them.
fn with_own_names(expr: Expr, given: &mut usize) -> Result<Transformed<Expr>> {
    Ok(match expr {
        Expr::InSubquery(InSubquery { expr, subquery, negated }) => renamed(subquery, Asked::ForRows, given)?
            .update_data(|subquery| Expr::InSubquery(InSubquery { expr, subquery, negated })),
        Expr::Exists(Exists { subquery, negated }) => {
            renamed(subquery, Asked::ForRows, given)?.update_data(|subquery| Expr::Exists(Exists { subquery, negated }))
        }
        Expr::SetComparison(SetComparison { expr, subquery, op, quantifier }) => {
            renamed(subquery, Asked::ForRows, given)?
                .update_data(|subquery| Expr::SetComparison(SetComparison { expr, subquery, op, quantifier }))
        }
        Expr::ScalarSubquery(subquery) => {
            renamed(subquery, Asked::ForItsValue, given)?.update_data(Expr::ScalarSubquery)
        }
        other => Transformed::no(other),
    })
}

fn renamed(subquery: Subquery, asked: Asked, given: &mut usize) -> Result<Transformed<Subquery>> {
    if subquery.outer_ref_columns.is_empty() {
        return Ok(Transformed::no(subquery));
    }
    let Way { refused, needs_names, joined, .. } = Way::of(&subquery.subquery, asked)?;
    if let Some(step) = refused {
        return plan_err!("{} has {step} of rows that depend on it: {INSTEAD}", described(&subquery));
    }
    if !needs_names {
        return Ok(Transformed::no(subquery));
    }
    if joined {
        return plan_err!("{} compares with it below a join: compare in its outermost WHERE", described(&subquery));
    }
    let Subquery { subquery, outer_ref_columns, spans } = subquery;
    let plan = Arc::unwrap_or_clone(subquery).transform_up(|node| match node {
        LogicalPlan::Filter(filter) if filter.predicate.contains_outer() => compared_by_own_names(filter, given),
        LogicalPlan::SubqueryAlias(alias) if depends(&alias.input) => projected(alias).map(Transformed::yes),
        other => Ok(Transformed::no(other)),
    })?;
    Ok(Transformed::yes(Subquery { subquery: Arc::new(plan.data), outer_ref_columns, spans }))
}

fn depends(plan: &LogicalPlan) -> bool {
    plan.exists(|node| Ok(node.contains_outer_reference())).unwrap_or(false)
}

/// What a condition does with the row outside, by columns under names of their own.
fn compared_by_own_names(filter: Filter, given: &mut usize) -> Result<Transformed<LogicalPlan>> {
    let columns = filter.input.schema().columns();
    let names: BTreeMap<Column, Column> = compared(&filter.predicate)
        .into_iter()
        .map(|column| {
            *given += 1;
            (column, Column::from_name(format!("__outside_{given}")))
        })
        .collect();
    let plain = || columns.iter().cloned().map(Expr::Column);
    let named = names.iter().map(|(column, own)| Expr::Column(column.clone()).alias(own.name.as_str()));
    let input = Projection::try_new(plain().chain(named).collect(), Arc::clone(&filter.input))?;
    let by_own_name = |expr: Expr| -> Result<Transformed<Expr>> {
        let own = expr.try_as_col().and_then(|column| names.get(column)).cloned();
        Ok(own.map_or_else(|| Transformed::no(expr), |own| Transformed::yes(Expr::Column(own))))
    };
    let mut conditions = Vec::new();
    for condition in split_conjunction_owned(filter.predicate) {
        let condition = if condition.contains_outer() { condition.transform_up(by_own_name)?.data } else { condition };
        conditions.push(condition);
    }
    let predicate = conjunction(conditions).expect("a filter has a condition");
    let filter = Filter::try_new(predicate, Arc::new(LogicalPlan::Projection(input)))?;
    let restored = Projection::try_new(plain().collect(), Arc::new(LogicalPlan::Filter(filter)))?;
    Ok(Transformed::yes(LogicalPlan::Projection(restored)))
}

/// An alias as a projection, which more columns can be added to.
fn projected(alias: SubqueryAlias) -> Result<LogicalPlan> {
    let columns = alias.schema.columns().into_iter().zip(alias.input.schema().columns());
    let named =
        columns.map(|(named, column)| Expr::Column(column).alias_qualified(named.relation, named.name)).collect();
    Ok(LogicalPlan::Projection(Projection::try_new(named, alias.input)?))
}

/// The subquery's own columns in what a condition does with the row outside.
fn compared(predicate: &Expr) -> BTreeSet<Column> {
    let conditions = split_conjunction(predicate).into_iter().filter(|condition| condition.contains_outer());
    conditions.flat_map(Expr::column_refs).cloned().collect()
}

/// What a subquery is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// Which rows it has.
    ForRows,
    /// The value of its only row.
    ForItsValue,
}

/// The way of the columns that are compared with the row outside, up to the subquery's own.
#[derive(Debug)]
struct Way<'a> {
    asked: Asked,
    /// The steps above, and the one that is looked at.
    steps: Vec<&'a LogicalPlan>,
    /// Names of all columns compared so far.
    names: BTreeSet<String>,
    /// A name is not enough to find a column by.
    needs_names: bool,
    /// A join is on the way, which no column can be added to.
    joined: bool,
    /// A step that would mean something else if what stands below it were asked above it.
    refused: Option<&'static str>,
}

/// What some part of a subquery has to do with the row outside.
#[derive(Debug, Default)]
struct Below {
    depends: bool,
    /// The columns compared, by their names here, and whether each is among the part's columns.
    columns: Vec<(Column, bool)>,
}

impl<'a> Way<'a> {
    fn of(root: &'a LogicalPlan, asked: Asked) -> Result<Self> {
        let names = BTreeSet::new();
        let mut way = Self { asked, steps: Vec::new(), names, needs_names: false, joined: false, refused: None };
        let below = way.through(root)?;
        let columns: Vec<Expr> = root.schema().columns().into_iter().map(Expr::Column).collect();
        way.needs_names |= below.columns.iter().any(|(column, _)| columns.iter().any(|other| takes(other, column)));
        Ok(way)
    }

    fn through(&mut self, plan: &'a LogicalPlan) -> Result<Below> {
        let mut below = Below::default();
        // What stands beside a row of the same query (LATERAL) depends on that one.
        if matches!(plan, LogicalPlan::Subquery(_)) {
            return Ok(below);
        }
        self.steps.push(plan);
        for input in plan.inputs() {
            let Below { depends, columns } = self.through(input)?;
            below.depends |= depends;
            below.columns.extend(columns);
        }
        if below.depends && self.refused.is_none() {
            self.refused = self.changes_meaning(plan)?;
        }
        for (column, is_there) in &mut below.columns {
            self.step(plan, column, is_there);
        }
        if let LogicalPlan::Filter(filter) = plan
            && filter.predicate.contains_outer()
        {
            below.depends = true;
            for column in compared(&filter.predicate) {
                self.needs_names |= !self.names.insert(column.name.clone());
                below.columns.push((column, true));
            }
        }
        self.steps.pop();
        Ok(below)
    }

    /// One step of a column.
    fn step(&mut self, plan: &LogicalPlan, column: &mut Column, is_there: &mut bool) {
        let is_it = |expr: &Expr| matches!(expr, Expr::Column(same) if *same == *column);
        match plan {
            LogicalPlan::Projection(projection) => {
                self.needs_names |= projection.expr.iter().any(|expr| takes(expr, column));
                *is_there &= projection.expr.iter().any(is_it);
            }
            LogicalPlan::Aggregate(aggregate) => {
                let mut made = aggregate.group_expr.iter().chain(&aggregate.aggr_expr);
                self.needs_names |= made.any(|expr| takes(expr, column));
                *is_there &= aggregate.group_expr.iter().any(is_it);
            }
            LogicalPlan::SubqueryAlias(alias) => {
                let mut others = alias.input.schema().columns().into_iter().map(Expr::Column);
                self.needs_names |= !*is_there || others.any(|other| takes(&other, column));
                *column = Column::new(Some(alias.alias.clone()), column.name.clone());
            }
            LogicalPlan::Join(_) | LogicalPlan::Unnest(_) => {
                self.joined = true;
                self.needs_names |= !*is_there;
            }
            _ => {}
        }
    }

    /// What `plan`, the last of the steps, is, if it can't be taken before the row outside is known.
    fn changes_meaning(&self, plan: &LogicalPlan) -> Result<Option<&'static str>> {
        let above = self.steps.len() - 1;
        Ok(match plan {
            LogicalPlan::Window(_) => Some("a window function"),
            LogicalPlan::Limit(limit) if !matches!(limit.get_skip_type(), Ok(SkipType::Literal(0))) => {
                Some("an OFFSET")
            }
            LogicalPlan::Aggregate(aggregate) if has_row_of_all(aggregate) => {
                let is_right = match (self.asked, self.steps[..above].last()) {
                    (Asked::ForRows, Some(LogicalPlan::Filter(having))) => fails_for_none(having, aggregate)?,
                    (Asked::ForRows, _) => false,
                    (Asked::ForItsValue, _) => self.steps[..above].iter().all(|step| keeps_the_row(step)),
                };
                (!is_right).then_some("an aggregate over all")
            }
            _ => None,
        })
    }
}

/// True if `expr` makes another column that goes by a name of `column`.
fn takes(expr: &Expr, column: &Column) -> bool {
    let (_, name) = expr.qualified_name();
    let is_it = matches!(expr, Expr::Column(same) if same == column);
    !is_it && (name == column.name || name == column.flat_name())
}

/// True if an aggregate has a row where there is nothing to aggregate.
fn has_row_of_all(aggregate: &Aggregate) -> bool {
    aggregate.group_expr.is_empty() || aggregate.group_expr.iter().any(|by| matches!(by, Expr::GroupingSet(_)))
}

/// True for a step above an aggregate that DataFusion takes for one of no rows, too, where there is nothing to aggregate.
fn keeps_the_row(step: &LogicalPlan) -> bool {
    matches!(step, LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) | LogicalPlan::Filter(_))
}

/// True if a condition on aggregates is certain not to hold for those over no rows.
fn fails_for_none(having: &Filter, aggregate: &Aggregate) -> Result<bool> {
    if !aggregate.group_expr.is_empty() {
        return Ok(false);
    }
    let of_none = |expr: Expr| -> Result<Transformed<Expr>> {
        let at = expr.try_as_col().and_then(|column| aggregate.schema.maybe_index_of_column(column));
        let made = at.and_then(|at| Some((aggregate.aggr_expr.get(at)?, aggregate.schema.field(at).data_type())));
        let made =
            made.map(|(made, data_type)| (if let Expr::Alias(named) = made { &*named.expr } else { made }, data_type));
        let Some((Expr::AggregateFunction(made), data_type)) = made else { return Ok(Transformed::no(expr)) };
        Ok(Transformed::yes(Expr::Literal(made.func.default_value(data_type)?, None)))
    };
    let condition = having.predicate.clone().transform_up(of_none)?.data;
    // What can't be computed may hold.
    Ok(match ExprSimplifier::new(SimplifyContext::default()).simplify(condition) {
        Ok(Expr::Literal(ScalarValue::Boolean(None | Some(false)) | ScalarValue::Null, _)) => true,
        Ok(_) | Err(_) => false,
    })
}
