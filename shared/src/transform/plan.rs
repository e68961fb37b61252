//! Planning: SQL of a definition → a chain of filters and projections, or what is wrong with it.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, DFSchemaRef, DataFusionError, SchemaError};
use datafusion::logical_expr::logical_plan::builder::table_source;
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};
use datafusion::optimizer::analyzer::Analyzer;
use datafusion::optimizer::analyzer::type_coercion::TypeCoercion;
use datafusion::optimizer::common_subexpr_eliminate::CommonSubexprEliminate;
use datafusion::optimizer::simplify_expressions::SimplifyExpressions;
use datafusion::optimizer::{Optimizer, OptimizerContext};
use datafusion::sql::planner::{ParserOptions, SqlToRel};
use datafusion::sql::sqlparser::ast::visit_expressions_mut;
use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, Ident, Select, Spanned, Statement, TableFactor};

use super::functions::{Functions, OneTable};
use super::sql::{
    INPUT, SqlProblem, excerpt, expression_problems, lowercase_first, parse_condition, parse_one, per_record_select,
    unknown_columns,
};
use super::types::storable;
use super::zone::zone_problems;
use crate::dataset::is_name;
use crate::sql::{CastsInPlace, IntervalLengths};

/// The name under which a condition sees the transform's output.
pub(super) const OUTPUT: &str = "output";
/// The name under which an expectation sees the accepted rows.
const BATCH: &str = "batch";

/// A transform that may be run.
#[derive(Debug, Clone)]
pub(crate) struct PlannedTransform {
    /// Projections and filters over a scan of the input.
    pub(super) plan: LogicalPlan,
    /// Output columns, all nullable, of storable types.
    pub(crate) output: SchemaRef,
    /// For each output column, the input column that it repeats unchanged.
    pub(crate) repeats: Vec<Option<String>>,
}

pub(super) fn options() -> ParserOptions {
    ParserOptions::new().with_collect_spans(true).with_map_string_types_to_utf8view(false)
}

/// Plans a transform over `input`, or tells everything that is wrong with it.
pub(crate) fn plan_transform(input: &SchemaRef, sql: &str) -> Result<PlannedTransform, Vec<SqlProblem>> {
    let statement = parse_one(sql).map_err(|problem| vec![problem])?;
    let select = per_record_select(&statement)?.clone();
    let tables = OneTable { name: INPUT, source: table_source(input) };
    let planned = SqlToRel::new_with_options(&tables, options()).sql_statement_to_plan(statement.clone());
    let plan = planned.map_err(|error| planning_problems(&error, &select, input))?;
    let repeats = repeated_columns(&plan);
    let plan = analyze(plan).and_then(optimize).map_err(|error| vec![planning_problem(&error)])?;
    let mut problems = plan_problems(&plan);
    let output = match output_schema(plan.schema(), &select) {
        Ok(output) => output,
        Err(more) => {
            problems.extend(more);
            Arc::new(Schema::empty())
        }
    };
    if problems.is_empty() { Ok(PlannedTransform { plan, output, repeats }) } else { Err(problems) }
}

/// Plans a condition over one record: `output`'s columns by name, and the input's as `input.<name>`.
/// The schema is the one that the expression is to be compiled against: output columns, then input columns.
pub(crate) fn plan_condition(
    output: &SchemaRef,
    input: &SchemaRef,
    sql: &str,
) -> Result<(Expr, DFSchemaRef), Vec<SqlProblem>> {
    let condition = parse_condition(sql).map_err(|problem| vec![problem])?;
    let problems = expression_problems(&condition);
    if !problems.is_empty() {
        return Err(problems);
    }
    let (of_output, of_input) = (names(output), names(input));
    let unknown = unknown_columns(&condition, &[(OUTPUT, &of_output), (INPUT, &of_input)]);
    if !unknown.is_empty() {
        return Err(unknown);
    }
    let schema = record_schema(output, input).map_err(|error| vec![planning_problem(&error)])?;
    let planned = plan_expr(qualified(condition, &of_output), &schema);
    let expr = planned.map_err(|error| vec![planning_problem(&error)])?;
    let mut problems = expr_problems(&expr);
    problems.extend(not_boolean(&expr, &schema, sql));
    if problems.is_empty() { Ok((expr, schema)) } else { Err(problems) }
}

fn not_boolean(expr: &Expr, schema: &DFSchema, sql: &str) -> Option<SqlProblem> {
    use datafusion::logical_expr::ExprSchemable;
    match expr.get_type(schema) {
        Ok(DataType::Boolean) => None,
        Ok(other) => Some(SqlProblem::new(format!("`{}` is of type {other}, not a condition", excerpt(sql.trim())))),
        Err(error) => Some(planning_problem(&error)),
    }
}

/// A bare name is an output column, whatever the input has under that name.
fn qualified(mut condition: SqlExpr, output: &[String]) -> SqlExpr {
    let done: ControlFlow<()> = visit_expressions_mut(&mut condition, |expr| {
        let of_output = |ident: &Ident| {
            ident
                .quote_style
                .map_or_else(|| output.contains(&ident.value.to_lowercase()), |_| output.contains(&ident.value))
        };
        match expr {
            SqlExpr::Identifier(ident) => {
                let parts = vec![Ident::new(OUTPUT), ident.clone()];
                *expr = SqlExpr::CompoundIdentifier(parts);
            }
            SqlExpr::CompoundIdentifier(parts)
                if parts.first().is_some_and(|first| {
                    of_output(first) && !matches!(first.value.to_lowercase().as_str(), OUTPUT | INPUT)
                }) =>
            {
                parts.insert(0, Ident::new(OUTPUT));
            }
            _ => {}
        }
        ControlFlow::Continue(())
    });
    debug_assert!(done.is_continue(), "the walk never breaks off");
    condition
}

/// Output columns as `output.<name>`, then input columns as `input.<name>`.
fn record_schema(output: &SchemaRef, input: &SchemaRef) -> Result<DFSchemaRef, DataFusionError> {
    let output = DFSchema::try_from_qualified_schema(OUTPUT, output)?;
    Ok(Arc::new(output.join(&DFSchema::try_from_qualified_schema(INPUT, input)?)?))
}

fn plan_expr(condition: SqlExpr, schema: &DFSchemaRef) -> Result<Expr, DataFusionError> {
    use datafusion::logical_expr::LogicalPlanBuilder;
    use datafusion::logical_expr::{EmptyRelation, Filter};
    let tables = OneTable { name: INPUT, source: table_source(&Schema::empty()) };
    let mut context = datafusion::sql::planner::PlannerContext::new();
    let expr = SqlToRel::new_with_options(&tables, options()).sql_to_expr(condition, schema, &mut context)?;
    if !matches!(
        datafusion::logical_expr::ExprSchemable::get_type(&expr, schema.as_ref())?,
        DataType::Boolean | DataType::Null
    ) {
        return Ok(expr);
    }
    let empty = LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: false, schema: Arc::clone(schema) });
    let plan = LogicalPlanBuilder::from(empty).filter(expr)?.build()?;
    match analyze(plan)? {
        LogicalPlan::Filter(Filter { predicate, .. }) => Ok(predicate),
        other => Err(DataFusionError::Internal(format!("a filter became {}", other.display()))),
    }
}

/// Checks an expectation over the accepted rows of a file: a condition made of aggregates.
pub(crate) fn check_expectation(output: &SchemaRef, sql: &str) -> Result<(), Vec<SqlProblem>> {
    let one = |problem| vec![problem];
    let condition = parse_condition(sql).map_err(one)?;
    let mut problems = unknown_columns(&condition, &[(BATCH, &names(output))]);
    problems.extend(zone_problems(&condition));
    if !problems.is_empty() {
        return Err(problems);
    }
    let statement = parse_one(&format!("SELECT ({condition}) AS holds FROM {BATCH}")).map_err(one)?;
    let tables = OneTable { name: BATCH, source: table_source(output) };
    let planned = SqlToRel::new_with_options(&tables, options()).sql_statement_to_plan(statement);
    let plan = planned.and_then(analyze).map_err(|error| vec![planning_problem(&error)])?;
    let aggregates = matches!(&plan, LogicalPlan::Projection(top) if matches!(*top.input, LogicalPlan::Aggregate(_)));
    let shown = excerpt(sql.trim());
    if !aggregates {
        let problem = SqlProblem::new(format!("`{shown}` is not a condition over the whole batch"));
        return Err(vec![problem.suggest("use aggregates, e.g. count(*) FILTER (WHERE …) = 0")]);
    }
    match plan.schema().field(0).data_type() {
        DataType::Boolean => Ok(()),
        other => Err(vec![SqlProblem::new(format!("`{shown}` is of type {other}, not a condition"))]),
    }
}

fn names(schema: &SchemaRef) -> Vec<String> {
    schema.fields().iter().map(|field| field.name().clone()).collect()
}

fn analyze(plan: LogicalPlan) -> Result<LogicalPlan, DataFusionError> {
    let mut rules = Analyzer::with_rules(vec![Arc::new(TypeCoercion::new()), Arc::new(CastsInPlace)]);
    rules.add_function_rewrite(Arc::new(IntervalLengths));
    rules.execute_and_check(plan, Functions::get().options(), |_, _| {})
}

fn optimize(plan: LogicalPlan) -> Result<LogicalPlan, DataFusionError> {
    let rules =
        Optimizer::with_rules(vec![Arc::new(SimplifyExpressions::new()), Arc::new(CommonSubexprEliminate::new())]);
    let context = OptimizerContext::new().without_query_execution_start_time().with_max_passes(2);
    rules.optimize(plan, &context, |_, _| {})
}

fn repeated_columns(plan: &LogicalPlan) -> Vec<Option<String>> {
    let LogicalPlan::Projection(top) = plan else { return Vec::new() };
    let repeated = |expr: &Expr| match expr.clone().unalias() {
        Expr::Column(Column { name, .. }) => Some(name),
        _ => None,
    };
    top.expr.iter().map(repeated).collect()
}

/// What the syntax let pass and the plan shows all the same.
fn plan_problems(plan: &LogicalPlan) -> Vec<SqlProblem> {
    let mut problems = Vec::new();
    let walked = plan.apply(|node| {
        match node {
            LogicalPlan::Projection(_)
            | LogicalPlan::Filter(_)
            | LogicalPlan::SubqueryAlias(_)
            | LogicalPlan::TableScan(_) => {}
            other => problems.push(SqlProblem::new(format!("not per record: {}", excerpt(other.display())))),
        }
        for expr in node.expressions() {
            problems.extend(expr_problems(&expr));
        }
        Ok(TreeNodeRecursion::Continue)
    });
    if let Err(error) = walked {
        problems.push(planning_problem(&error));
    }
    problems
}

fn expr_problems(expr: &Expr) -> Vec<SqlProblem> {
    let mut problems = Vec::new();
    let walked = expr.apply(|expr| {
        let refused = match expr {
            Expr::ScalarFunction(call) => call.func.signature().volatility != Volatility::Immutable,
            Expr::AggregateFunction(_)
            | Expr::WindowFunction(_)
            | Expr::Exists(_)
            | Expr::InSubquery(_)
            | Expr::SetComparison(_)
            | Expr::ScalarSubquery(_)
            | Expr::GroupingSet(_)
            | Expr::Placeholder(_)
            | Expr::OuterReferenceColumn(..)
            | Expr::ScalarVariable(..)
            | Expr::Unnest(_) => true,
            _ => false,
        };
        if refused {
            let message = format!("`{}` is refused: it is not a function of the record alone", excerpt(expr));
            problems.push(SqlProblem::new(message));
        }
        Ok(TreeNodeRecursion::Continue)
    });
    if let Err(error) = walked {
        problems.push(planning_problem(&error));
    }
    problems
}

fn planning_problems(error: &DataFusionError, select: &Select, input: &SchemaRef) -> Vec<SqlProblem> {
    if !is_unknown_column(error) {
        return vec![planning_problem(error)];
    }
    let columns = names(input);
    let alias = select.from.first().and_then(|from| match &from.relation {
        TableFactor::Table { alias, .. } => alias.as_ref().map(|alias| alias.name.value.to_lowercase()),
        _ => None,
    });
    let table = alias.as_deref().unwrap_or(INPUT);
    let found = unknown_columns(select, &[(table, &columns)]);
    if found.is_empty() { vec![planning_problem(error)] } else { found }
}

fn is_unknown_column(error: &DataFusionError) -> bool {
    matches!(error.find_root(), DataFusionError::SchemaError(inner, _) if matches!(**inner, SchemaError::FieldNotFound { .. }))
        || error.diagnostic().is_some_and(|diagnostic| diagnostic.message.contains("not found"))
}

pub(super) fn planning_problem(error: &DataFusionError) -> SqlProblem {
    let span = error.diagnostic().and_then(|diagnostic| diagnostic.span);
    let text = match error.find_root() {
        DataFusionError::Plan(text) => text.clone(),
        root => root.strip_backtrace(),
    };
    let mut problem = SqlProblem::new(lowercase_first(text.lines().next().unwrap_or_default()));
    problem.line = span.map(|span| span.start.line);
    problem.column = span.map(|span| span.start.column);
    problem
}

/// The stored columns of a transform's result.
fn output_schema(planned: &DFSchemaRef, select: &Select) -> Result<SchemaRef, Vec<SqlProblem>> {
    let mut problems = Vec::new();
    let mut seen = HashSet::new();
    let mut fields = Vec::new();
    // With a wildcard there are more columns than items, and no item's place to name.
    let items = &select.projection;
    let place = |index: usize| (items.len() == planned.fields().len()).then(|| items[index].span());
    for (index, field) in planned.fields().iter().enumerate() {
        let name = field.name();
        let mut refuse = |problem: SqlProblem| {
            problems.push(match place(index) {
                Some(span) => problem.at(span),
                None => problem,
            });
        };
        if name.starts_with('_') {
            refuse(SqlProblem::new(format!("output column `{name}`: names that start with `_` are reserved")));
        } else if !is_name(name) {
            let problem = SqlProblem::new(format!("`{}` can't name an output column", excerpt(name)));
            refuse(problem.suggest("name it: … AS name, of lower-case letters, digits and `_`"));
        } else if !seen.insert(name.to_lowercase()) {
            refuse(SqlProblem::new(format!("output column `{name}` appears twice")));
        }
        match storable(field.data_type()) {
            Ok(data_type) => fields.push(Field::new(name, data_type, true)),
            Err(hint) => {
                let message = format!(
                    "output column `{}` is of type {}, which a table can't hold",
                    excerpt(name),
                    field.data_type()
                );
                refuse(SqlProblem::new(message).suggest(hint));
            }
        }
    }
    if problems.is_empty() { Ok(Arc::new(Schema::new(fields))) } else { Err(problems) }
}

/// `sql` as the parser prints it: comments, white space and the case of keywords do not count.
pub(crate) fn normalised(sql: &str) -> Option<String> {
    let statement: Statement = parse_one(sql).ok()?;
    Some(statement.to_string())
}

/// A condition as the parser prints it.
pub(crate) fn normalised_condition(sql: &str) -> Option<String> {
    Some(parse_condition(sql).ok()?.to_string())
}
