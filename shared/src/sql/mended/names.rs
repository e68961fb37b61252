//! Conditions of a physical plan on their way down to the scans.
//!
//! DataFusion's rule finds a column in the plan below by its name. Where that has the name twice, as a join of a table with
//! itself has, or where the same name means something else there, the condition would be asked of the wrong column
//! (apache/datafusion#25259). So while the rule runs, a wall stands at each such place, which lets pass only conditions
//! whose names mean one thing; and at joins by floats, which find more equal than their bits are. What is kept back is asked
//! where it stands, as if the rule had not been.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::Schema;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode as _, TreeNodeRecursion};
use datafusion::common::{JoinType, Statistics};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::filter_pushdown::{
    ChildFilterDescription, ChildPushdownResult, FilterDescription, FilterPushdownPhase, FilterPushdownPropagation,
};
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};

/// Names of DataFusion's two rules that go by names of columns.
const RULES: [&str; 2] = ["FilterPushdown", "FilterPushdown(Post)"];

/// `rule`, behind walls if it is one that goes by names.
pub(super) fn walled(
    rule: Arc<dyn PhysicalOptimizerRule + Send + Sync>,
) -> Arc<dyn PhysicalOptimizerRule + Send + Sync> {
    if RULES.contains(&rule.name()) { Arc::new(Walled(rule)) } else { rule }
}

/// A rule that runs while walls stand.
#[derive(Debug)]
struct Walled(Arc<dyn PhysicalOptimizerRule + Send + Sync>);

impl PhysicalOptimizerRule for Walled {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let walls = plan.transform_up(with_walls)?;
        if !walls.transformed {
            return self.0.optimize(walls.data, config);
        }
        let bare = self.0.optimize(walls.data, config)?.transform_up(|node| {
            Ok(match node.downcast_ref::<Wall>().map(|wall| Arc::clone(&wall.input)) {
                Some(input) => Transformed::yes(input),
                None => Transformed::no(node),
            })
        })?;
        Ok(bare.data)
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }
}

/// `node`, with walls above those of its inputs that need one.
fn with_walls(node: Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let unclear: Vec<_> =
        node.children().into_iter().enumerate().map(|(at, input)| unclear(&node, at, input)).collect();
    if unclear.iter().all(BTreeSet::is_empty) {
        return Ok(Transformed::no(node));
    }
    let mut unclear = unclear.into_iter();
    node.map_children(|input| match unclear.next().filter(|unclear| !unclear.is_empty()) {
        Some(unclear) => {
            let wall: Arc<dyn ExecutionPlan> = Arc::new(Wall { input, unclear: Arc::new(unclear) });
            Ok(Transformed::yes(wall))
        }
        None => Ok(Transformed::no(input)),
    })
}

/// The names by which a condition of `node`, or of what is above it, may miss its column in `input`, the one at place `at`.
fn unclear(node: &Arc<dyn ExecutionPlan>, at: usize, input: &Arc<dyn ExecutionPlan>) -> BTreeSet<String> {
    let mut unclear = repeated(&input.schema());
    // A filter that chooses columns takes what it is given for conditions on its input.
    if let Some(filter) = input.downcast_ref::<FilterExec>()
        && filter.projection().is_some()
    {
        unclear.extend(repeated(&filter.input().schema()));
    }
    if let Some(aggregate) = node.downcast_ref::<AggregateExec>() {
        let made = aggregate.group_expr().expr().iter().filter(|(expr, name)| name_of(expr) != Some(name.as_str()));
        unclear.extend(made.map(|(_, name)| name.clone()));
        unclear.extend(sought_floats(aggregate, &input.schema()));
    } else if node.downcast_ref::<UnionExec>().is_some() {
        let (all, own) = (node.schema(), input.schema());
        let named = all.fields().iter().zip(own.fields());
        let named = named.filter(|(all, own)| all.name() != own.name());
        unclear.extend(named.map(|(all, _)| all.name().clone()));
    } else if let Some(join) = node.downcast_ref::<HashJoinExec>() {
        // The side that only decides is asked what the other one's keys are asked for, by their names.
        let keys = join.on().iter();
        let keys: Vec<_> = match (join.join_type(), at) {
            (JoinType::LeftSemi, 1) => keys.map(|(left, right)| (name_of(left), name_of(right))).collect(),
            (JoinType::RightSemi, 0) => keys.map(|(left, right)| (name_of(right), name_of(left))).collect(),
            _ => Vec::new(),
        };
        let others = keys.into_iter().filter(|(kept, decides)| kept != decides);
        unclear.extend(others.filter_map(|(kept, _)| kept.map(str::to_owned)));
        unclear.extend(float_keys(join, at, &input.schema()));
    }
    unclear
}

/// Floats of which all rows' least or greatest is sought. The aggregate tells the scans by how much it is exceeded, but NaN,
/// which exceeds all, is in no file's bounds.
fn sought_floats(aggregate: &AggregateExec, input: &Schema) -> Vec<String> {
    if !aggregate.group_expr().is_empty() {
        return Vec::new();
    }
    let arguments = aggregate.aggr_expr().iter().flat_map(|function| function.expressions());
    let names = arguments.filter_map(|argument| name_of(&argument).map(str::to_owned));
    let is_float = |name: &String| input.field_with_name(name).is_ok_and(|field| field.data_type().is_floating());
    names.filter(is_float).collect()
}

/// Columns of which the input at place `at` has its keys, if these are floats. What a join has found is told to the scans by the
/// bits of it, and to the join itself `-0.0` equals `0.0`.
fn float_keys(join: &HashJoinExec, at: usize, input: &Schema) -> Vec<String> {
    let keys = join.on().iter().map(|(left, right)| if at == 0 { left } else { right });
    let floats = keys.filter(|key| key.data_type(input).is_ok_and(|data_type| data_type.is_floating()));
    floats.flat_map(collect_columns).map(|column| column.name().to_owned()).collect()
}

/// The names that `schema` has more than once.
fn repeated(schema: &Schema) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let again = schema.fields().iter().filter(|field| !names.insert(field.name().as_str()));
    again.map(|field| field.name().clone()).collect()
}

fn name_of(expr: &Arc<dyn PhysicalExpr>) -> Option<&str> {
    expr.downcast_ref::<Column>().map(Column::name)
}

/// Lets conditions pass to its input that ask for no unclear name. It stands while a rule runs, and never in a plan that does.
#[derive(Debug)]
struct Wall {
    input: Arc<dyn ExecutionPlan>,
    unclear: Arc<BTreeSet<String>>,
}

impl DisplayAs for Wall {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wall: {:?}", self.unclear)
    }
}

impl ExecutionPlan for Wall {
    fn name(&self) -> &'static str {
        "Wall"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.into_iter().next().unwrap_or_else(|| Arc::clone(&self.input));
        Ok(Arc::new(Self { input, unclear: Arc::clone(&self.unclear) }))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.input.execute(partition, context)
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition)]
    }

    fn statistics_from_inputs(&self, inputs: &[Arc<Statistics>], _: &StatisticsArgs) -> Result<Arc<Statistics>> {
        let of_input = inputs.first().cloned();
        Ok(of_input.unwrap_or_else(|| Arc::new(Statistics::new_unknown(&self.schema()))))
    }

    fn gather_filters_for_pushdown(
        &self,
        _: FilterPushdownPhase,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        _: &ConfigOptions,
    ) -> Result<FilterDescription> {
        let schema = self.schema();
        let clear = schema.fields().iter().enumerate().filter(|(_, field)| !self.unclear.contains(field.name()));
        let clear = clear.map(|(at, _)| at).collect();
        let input = ChildFilterDescription::from_child_with_allowed_indices(&filters, clear, &self.input)?;
        Ok(FilterDescription::new().with_child(input))
    }

    fn handle_child_pushdown_result(
        &self,
        _: FilterPushdownPhase,
        result: ChildPushdownResult,
        _: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        Ok(FilterPushdownPropagation::if_all(result))
    }
}
