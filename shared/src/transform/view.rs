//! Views and alerts against the dataset's own table, as far as one definition alone can tell.

use std::cell::RefCell;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{DataFusionError, Result as DfResult, SchemaError, TableReference, plan_err};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::logical_plan::builder::table_source;
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner};
use datafusion::logical_expr::{AggregateUDF, HigherOrderUDF, ScalarUDF, TableSource, WindowUDF};
use datafusion::sql::planner::SqlToRel;
use datafusion::sql::sqlparser::ast::{Spanned, Statement};

use super::functions::OneTable;
use super::plan::{options, planning_problem};
use super::sql::{SqlProblem, excerpt, parse_one};
use super::zone::zone_problems;
use crate::dataset::nearest;
use crate::position::{OFFSET_COLUMN, PARTITION_COLUMN, SOURCE_COLUMN};

/// The schemas under which queries find a dataset's table.
const SCHEMAS: [&str; 3] = ["batch", "merged", "live"];

/// What could be told about a view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum View {
    /// All of it.
    Checked,
    /// Only its syntax, for this reason.
    Unchecked(String),
}

/// Plans a view of `dataset`, whose table has the transform's columns `output` and the position's.
pub(crate) fn check_view(dataset: &str, output: &SchemaRef, sql: &str) -> Result<View, Vec<SqlProblem>> {
    let statement = parse_one(sql).map_err(|problem| vec![problem])?;
    if !matches!(statement, Statement::Query(_)) {
        let problem = SqlProblem::new(format!("`{}` is not a SELECT", excerpt(&statement)));
        return Err(vec![problem.at(statement.span())]);
    }
    let problems = zone_problems(&statement);
    if !problems.is_empty() {
        return Err(problems);
    }
    let own = OneTable { name: "", source: table_source(&with_position(output)) };
    let tables = Tables { dataset, own, others: RefCell::default() };
    let Err(error) = SqlToRel::new_with_options(&tables, options()).sql_statement_to_plan(statement) else {
        return Ok(View::Checked);
    };
    if let Some(other) = tables.others.into_inner() {
        return Ok(View::Unchecked(format!("it reads `{other}`, which is no table of `{dataset}`")));
    }
    match error.find_root() {
        DataFusionError::NotImplemented(what) => Ok(View::Unchecked(what.clone())),
        _ => Err(error.iter().map(view_problem).collect()),
    }
}

fn view_problem(error: &DataFusionError) -> SqlProblem {
    let problem = planning_problem(error);
    let DataFusionError::SchemaError(inner, _) = error.find_root() else { return problem };
    let SchemaError::FieldNotFound { field, valid_fields } = inner.as_ref() else { return problem };
    let unknown = SqlProblem { message: format!("unknown column `{}`", field.name), suggestion: None, ..problem };
    match nearest(&field.name, valid_fields.iter().map(|known| known.name.as_str())) {
        Some(near) => unknown.suggest(format!("did you mean `{near}`?")),
        None => unknown,
    }
}

fn with_position(output: &SchemaRef) -> SchemaRef {
    let position = [
        Field::new(SOURCE_COLUMN, DataType::Utf8, false),
        Field::new(PARTITION_COLUMN, DataType::Int64, false),
        Field::new(OFFSET_COLUMN, DataType::Int64, false),
    ];
    let fields = output.fields().iter().map(|field| field.as_ref().clone()).chain(position);
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The dataset's own table under its names; any other is remembered, for only a store can tell what it is.
struct Tables<'a> {
    dataset: &'a str,
    own: OneTable,
    others: RefCell<Option<String>>,
}

impl ContextProvider for Tables<'_> {
    fn get_table_source(&self, name: TableReference) -> DfResult<Arc<dyn TableSource>> {
        let ours = name.catalog().is_none() && name.schema().is_none_or(|schema| SCHEMAS.contains(&schema));
        if ours && name.table() == self.dataset {
            return Ok(Arc::clone(&self.own.source));
        }
        self.others.borrow_mut().get_or_insert_with(|| name.to_string());
        plan_err!("unknown table `{name}`")
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        self.own.get_expr_planners()
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.own.get_function_meta(name)
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.own.get_higher_order_meta(name)
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.own.get_aggregate_meta(name)
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.own.get_window_meta(name)
    }

    fn get_variable_type(&self, names: &[String]) -> Option<DataType> {
        self.own.get_variable_type(names)
    }

    fn options(&self) -> &ConfigOptions {
        self.own.options()
    }

    fn udf_names(&self) -> Vec<String> {
        self.own.udf_names()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        self.own.higher_order_function_names()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.own.udaf_names()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.own.udwf_names()
    }
}
