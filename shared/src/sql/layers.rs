//! A dataset's table, put together from its parts: one query plan over curated and real-time rows, which the planner
//! treats like a view. Filters and column choices go down into both parts, partial aggregates run on each, and where the
//! dataset has a key, one row of each is left (DESIGN section 4).

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use datafusion::catalog::TableProvider;
use datafusion::catalog::view::ViewTable;
use datafusion::common::Column;
use datafusion::datasource::provider_as_source;
use datafusion::error::Result;
use datafusion::execution::SessionState;
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::functions::string::expr_fn::split_part;
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::{
    Expr, ExprFunctionExt as _, LogicalPlan, LogicalPlanBuilder, cast, lit, try_cast, when,
};

use super::datasets::OpenedDataset;
use crate::dataset::KeySpec;
use crate::position::{FILES_SOURCE, OFFSET_COLUMN, PARTITION_COLUMN, SOURCE_COLUMN};

/// Rank of a row among those of its key; a name that no definition can give a column.
const RANK: &str = "__rank";
/// Names of the parts in plans.
const PARTS: [&str; 2] = ["curated", "live"];

/// The table that `opened` is. `state` reads the condition that deletes a key, where there is one; making it takes as long
/// as planning a small statement.
pub(super) fn table(state: impl FnOnce() -> SessionState, opened: &OpenedDataset) -> Result<Arc<dyn TableProvider>> {
    if let ([part], None, None) = (opened.parts.as_slice(), &opened.only, &opened.key)
        && part.schema() == opened.schema
    {
        return Ok(Arc::clone(part));
    }
    let mut parts = opened.parts.iter().enumerate().map(|(n, part)| scan(n, part, &opened.schema));
    let mut plan = match parts.next() {
        Some(first) => first?,
        None => LogicalPlanBuilder::empty(false).project(nothing(&opened.schema))?.build()?,
    };
    for part in parts {
        plan = LogicalPlanBuilder::from(plan).union(part?)?.build()?;
    }
    if let Some(only) = &opened.only {
        plan = LogicalPlanBuilder::from(plan).filter(only.clone())?.build()?;
    }
    if let Some(key) = &opened.key {
        plan = one_row_per_key(state, plan, &opened.schema, key)?;
    }
    Ok(Arc::new(ViewTable::new(plan, None)))
}

/// One part with the table's columns.
fn scan(n: usize, part: &Arc<dyn TableProvider>, schema: &Schema) -> Result<LogicalPlan> {
    let name = PARTS.get(n).copied().unwrap_or("part");
    let own = part.schema();
    let scan = LogicalPlanBuilder::scan(name, provider_as_source(Arc::clone(part)), None)?;
    if own
        .fields()
        .iter()
        .map(|f| (f.name(), f.data_type()))
        .eq(schema.fields().iter().map(|f| (f.name(), f.data_type())))
    {
        return scan.build();
    }
    let columns = schema.fields().iter().map(|field| {
        let column = Expr::Column(Column::new(Some(name), field.name()));
        let same = own.field_with_name(field.name()).is_ok_and(|own| own.data_type() == field.data_type());
        if same { column } else { cast(column, field.data_type().clone()).alias(field.name()) }
    });
    scan.project(columns.collect::<Vec<_>>())?.build()
}

fn nothing(schema: &Schema) -> Vec<Expr> {
    schema
        .fields()
        .iter()
        .map(|field| cast(lit(datafusion::common::ScalarValue::Null), field.data_type().clone()).alias(field.name()))
        .collect()
}

fn column(name: &str) -> Expr {
    Expr::Column(Column::from_name(name))
}

/// Of each key the row with the highest version, ties by position: files before stream, and later incarnations of a
/// topic after earlier ones. A key whose last row deletes it is not shown. Costs a sort of all rows by key; only
/// conditions on key columns go below it.
fn one_row_per_key(
    state: impl FnOnce() -> SessionState,
    plan: LogicalPlan,
    schema: &Schema,
    key: &KeySpec,
) -> Result<LogicalPlan> {
    let of_files = column(SOURCE_COLUMN).eq(lit(FILES_SOURCE));
    let incarnation = try_cast(split_part(column(SOURCE_COLUMN), lit("~"), lit(2_i64)), DataType::Int64);
    let source = when(of_files, lit(0_i64)).otherwise(coalesce(vec![incarnation, lit(1_i64)]))?;
    let latest = |expr: Expr| expr.sort(false, false);
    let mut order: Vec<_> = key.version_by.iter().map(|version| latest(column(version))).collect();
    order.push(latest(source));
    order.extend([SOURCE_COLUMN, PARTITION_COLUMN, OFFSET_COLUMN].map(|name| latest(column(name))));
    let rank = row_number()
        .partition_by(key.columns.iter().map(|name| column(name)).collect())
        .order_by(order)
        .build()?
        .alias(RANK);
    let ranked = LogicalPlanBuilder::from(plan).window([rank])?;
    let mut shown = column(RANK).eq(lit(1_u64));
    if let Some(condition) = &key.delete_when {
        let deletes = state().create_logical_expr(condition, ranked.schema())?;
        shown = shown.and(!coalesce(vec![deletes, lit(false)]));
    }
    ranked.filter(shown)?.project(schema.fields().iter().map(|field| column(field.name())))?.build()
}
