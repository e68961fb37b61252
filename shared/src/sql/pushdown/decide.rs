//! What of a partial aggregate a view is asked for: decided over the plan, without I/O.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::common::{Column as Named, ScalarValue};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{BinaryExpr as Binary, Expr};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::{
    BinaryExpr, CastExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, Literal, NotExpr,
};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use tracing::Span;

use super::exec::StateColumn;
use crate::live::{AggregateRequest, LivePin, LiveScanExec, LiveState};

/// Deepest nesting of a condition that is looked at, and of projections and filters.
const DEPTH_MAX: usize = 32;

/// What a view is asked for, and how the partial aggregate's columns are made of its answer.
#[derive(Debug)]
pub(super) struct Decided {
    pub(super) pin: Arc<dyn LivePin>,
    pub(super) request: AggregateRequest,
    pub(super) columns: Vec<StateColumn>,
    /// Within which the view is asked.
    pub(super) span: Span,
}

impl Decided {
    /// For who reads the plan.
    pub(super) fn shown(&self) -> String {
        let schema = self.pin.schema();
        let name = |column: usize| schema.field(column).name().as_str();
        let state = |state: &LiveState| match state {
            LiveState::Rows => "rows".to_owned(),
            LiveState::Values(column) => format!("values({})", name(*column)),
            LiveState::Sum(column) | LiveState::FloatSum(column) => format!("sum({})", name(*column)),
            LiveState::Least(column) => format!("least({})", name(*column)),
            LiveState::Greatest(column) => format!("greatest({})", name(*column)),
        };
        let groups: Vec<&str> = self.request.groups.iter().map(|column| name(*column)).collect();
        let states: Vec<String> = self.request.states.iter().map(state).collect();
        let filters: Vec<String> = self.request.filters.iter().map(ToString::to_string).collect();
        let filters = if filters.is_empty() { String::new() } else { format!(", where=[{}]", filters.join(", ")) };
        format!("groups=[{}], states=[{}]{filters}", groups.join(", "), states.join(", "))
    }
}

/// What a view may be asked for instead of its rows; `None` if rows are needed.
pub(super) fn decide(aggregate: &AggregateExec, input: &Arc<dyn ExecutionPlan>) -> Option<Decided> {
    let plain = *aggregate.mode() == AggregateMode::Partial
        && aggregate.group_expr().is_single()
        && aggregate.limit_options().is_none()
        && aggregate.filter_expr().iter().all(Option::is_none);
    if !plain {
        return None;
    }
    let source = source(input, 0)?;
    let schema = source.schema();
    let fields = aggregate.schema();
    let mut decided = Decisions { schema: &schema, states: Vec::new(), columns: Vec::new() };
    let mut groups = Vec::new();
    for (expr, _) in aggregate.group_expr().expr() {
        let Origin::Column(column) = origin(expr, &source.columns) else { return None };
        if fields.field(groups.len()).data_type() != schema.field(column).data_type() {
            return None;
        }
        decided.columns.push(StateColumn::Is(groups.len()));
        groups.push(column);
    }
    for function in aggregate.aggr_expr() {
        decided.add(function, &source.columns)?;
    }
    let Decisions { states, columns, .. } = decided;
    let columns = columns.into_iter().enumerate();
    // States come after the groups.
    let columns = columns.map(|(n, column)| if n < groups.len() { column } else { column.after(groups.len()) });
    let columns: Vec<StateColumn> = columns.collect();
    if columns.len() != fields.fields().len() {
        return None;
    }
    let table = source.scan.table();
    let request = AggregateRequest { ranges: table.ranges().clone(), filters: source.filters, groups, states };
    Some(Decided { pin: Arc::clone(table.pin()), request, columns, span: source.scan.span().clone() })
}

/// What was decided so far.
struct Decisions<'a> {
    schema: &'a Schema,
    states: Vec<LiveState>,
    columns: Vec<StateColumn>,
}

impl Decisions<'_> {
    /// The place of a state among those that are asked for.
    fn state(&mut self, state: LiveState) -> usize {
        self.states.iter().position(|known| *known == state).unwrap_or_else(|| {
            self.states.push(state);
            self.states.len() - 1
        })
    }

    /// Adds what a function's partial states are made of; `None` if they can't be asked for.
    fn add(&mut self, function: &AggregateFunctionExpr, columns: &[Origin]) -> Option<()> {
        if function.is_distinct() || function.ignore_nulls() || !function.order_bys().is_empty() {
            return None;
        }
        let types: Vec<DataType> =
            function.state_fields().ok()?.iter().map(|field| field.data_type().clone()).collect();
        let arguments: Vec<Origin> = function.expressions().iter().map(|expr| origin(expr, columns)).collect();
        let [argument] = arguments.as_slice() else { return None };
        let state = match (function.fun().name(), argument, types.as_slice()) {
            ("count", Origin::Literal(value), [DataType::Int64]) if !value.is_null() => LiveState::Rows,
            ("count", Origin::Column(column), [DataType::Int64]) => LiveState::Values(*column),
            ("sum", Origin::Literal(ScalarValue::Int64(Some(each))), [DataType::Int64]) => {
                let rows = self.state(LiveState::Rows);
                self.columns.push(StateColumn::Times(rows, *each));
                return Some(());
            }
            ("sum", argument, [state]) => sum_of(argument, self.schema, state)?,
            ("avg", argument, [DataType::UInt64, DataType::Float64]) => {
                let sum = sum_of(argument, self.schema, &DataType::Float64)?;
                let count = self.state(LiveState::Values(sum.column()?));
                self.columns.push(StateColumn::NullIfNone(count));
                sum
            }
            ("min", Origin::Column(column), [state]) if state == self.schema.field(*column).data_type() => {
                LiveState::Least(*column)
            }
            ("max", Origin::Column(column), [state]) if state == self.schema.field(*column).data_type() => {
                LiveState::Greatest(*column)
            }
            _ => return None,
        };
        let place = self.state(state);
        self.columns.push(StateColumn::Is(place));
        Some(())
    }
}

/// The sum of `argument` in the type `state`, if no conversion on the way to it changes a value by more than the tolerance
/// of sums.
fn sum_of(argument: &Origin, schema: &Schema, state: &DataType) -> Option<LiveState> {
    let (column, to) = match argument {
        Origin::Column(column) => (*column, schema.field(*column).data_type()),
        Origin::Cast(column, to) => (*column, to),
        Origin::Literal(_) | Origin::Other => return None,
    };
    let of = schema.field(column).data_type();
    match (of, to, state) {
        _ if !of.is_numeric() => None,
        (_, DataType::Float64, DataType::Float64) if of.is_signed_integer() || of.is_floating() => {
            Some(LiveState::FloatSum(column))
        }
        (_, DataType::Int64, DataType::Int64) if of.is_signed_integer() => Some(LiveState::Sum(column)),
        (DataType::Decimal128(..), to, state) if of == to && LiveState::Sum(column).data_type(of) == *state => {
            Some(LiveState::Sum(column))
        }
        _ => None,
    }
}

/// What a column of a plan is.
#[derive(Debug, Clone, PartialEq)]
enum Origin {
    /// A column of the pin, by its place.
    Column(usize),
    /// The same, converted.
    Cast(usize, DataType),
    /// The same value in each row.
    Literal(ScalarValue),
    /// Something else.
    Other,
}

/// The rows of a plan over a live scan: which columns they have, and the conditions that they meet.
struct Source<'a> {
    scan: &'a LiveScanExec,
    columns: Vec<Origin>,
    filters: Vec<Expr>,
}

impl Source<'_> {
    fn schema(&self) -> SchemaRef {
        self.scan.table().pin().schema()
    }
}

/// `None` if `plan` is more than a choice of columns and rows of a live scan.
fn source(plan: &Arc<dyn ExecutionPlan>, depth: usize) -> Option<Source<'_>> {
    if depth > DEPTH_MAX {
        return None;
    }
    if let Some(scan) = plan.downcast_ref::<LiveScanExec>() {
        let columns = scan.columns().iter().copied().map(Origin::Column).collect();
        return (!scan.is_limited()).then_some(Source { scan, columns, filters: Vec::new() });
    }
    if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        let inner = source(projection.input(), depth + 1)?;
        let columns = projection.expr().iter().map(|made| origin(&made.expr, &inner.columns)).collect();
        return Some(Source { columns, ..inner });
    }
    let filter = plan.downcast_ref::<FilterExec>()?;
    if filter.fetch().is_some() {
        return None;
    }
    let mut inner = source(filter.input(), depth + 1)?;
    let condition = condition(filter.predicate(), &inner, 0)?;
    inner.filters.push(condition);
    if let Some(kept) = filter.projection() {
        inner.columns = kept.iter().map(|column| inner.columns.get(*column).cloned()).collect::<Option<_>>()?;
    }
    Some(inner)
}

/// What `expr` is over rows with `columns`.
fn origin(expr: &Arc<dyn PhysicalExpr>, columns: &[Origin]) -> Origin {
    if let Some(column) = expr.downcast_ref::<Column>() {
        return columns.get(column.index()).cloned().unwrap_or(Origin::Other);
    }
    if let Some(literal) = expr.downcast_ref::<Literal>() {
        return Origin::Literal(literal.value().clone());
    }
    match expr.downcast_ref::<CastExpr>().map(|cast| (origin(cast.expr(), columns), cast.cast_type())) {
        Some((Origin::Column(column), to)) => Origin::Cast(column, to.clone()),
        _ => Origin::Other,
    }
}

/// A condition in terms of the pin's columns.
fn condition(expr: &Arc<dyn PhysicalExpr>, source: &Source<'_>, depth: usize) -> Option<Expr> {
    if depth > DEPTH_MAX {
        return None;
    }
    let inner = |expr: &Arc<dyn PhysicalExpr>| condition(expr, source, depth + 1);
    match origin(expr, &source.columns) {
        Origin::Column(column) => {
            return Some(Expr::Column(Named::from_name(source.schema().field(column).name())));
        }
        Origin::Literal(value) => return Some(Expr::Literal(value, None)),
        Origin::Cast(..) => return None,
        Origin::Other => {}
    }
    if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
        let (left, right) = (inner(binary.left())?, inner(binary.right())?);
        return Some(Expr::BinaryExpr(Binary::new(Box::new(left), *binary.op(), Box::new(right))));
    }
    if let Some(list) = expr.downcast_ref::<InListExpr>() {
        let values = list.list().iter().map(inner).collect::<Option<Vec<_>>>()?;
        return Some(Expr::InList(InList::new(Box::new(inner(list.expr())?), values, list.negated())));
    }
    if let Some(is_null) = expr.downcast_ref::<IsNullExpr>() {
        return Some(Expr::IsNull(Box::new(inner(is_null.arg())?)));
    }
    if let Some(is_not_null) = expr.downcast_ref::<IsNotNullExpr>() {
        return Some(Expr::IsNotNull(Box::new(inner(is_not_null.arg())?)));
    }
    let not = expr.downcast_ref::<NotExpr>()?;
    Some(Expr::Not(Box::new(inner(not.arg())?)))
}
