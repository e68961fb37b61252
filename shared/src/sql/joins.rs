//! Joins that can be stopped.
//!
//! A join that turns few rows into very many, or very many into none, would run on without a point at which it could be
//! cancelled. So joins give way at each batch that they take in or give out; and their conditions, which are asked about all
//! pairs, however few pass, look whether anybody waits for the answer still.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{Transformed, TreeNode as _};
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec, NestedLoopJoinExecBuilder};

use super::watch::Watch;

/// `plan`, with joins that give way, and end when the statement of `watch` does.
pub(super) fn yielding(plan: Arc<dyn ExecutionPlan>, watch: &Arc<Watch>) -> Result<Arc<dyn ExecutionPlan>> {
    let give_way = |node| Arc::new(CooperativeExec::new(node)) as Arc<dyn ExecutionPlan>;
    let wrapped = plan.transform_up(|node| {
        if !node.name().ends_with("JoinExec") {
            return Ok(Transformed::no(node));
        }
        let join = node.map_children(|input| Ok(Transformed::yes(give_way(input))))?;
        Ok(Transformed::yes(give_way(watched(join.data, watch)?)))
    })?;
    Ok(wrapped.data)
}

/// `join`, its condition watched.
fn watched(join: Arc<dyn ExecutionPlan>, watch: &Arc<Watch>) -> Result<Arc<dyn ExecutionPlan>> {
    let condition = |filter: &JoinFilter| {
        let (watch, inner) = (Arc::clone(watch), Arc::clone(filter.expression()));
        let condition = Arc::new(Condition { watch, inner });
        Some(JoinFilter::new(condition, filter.column_indices().to_vec(), Arc::clone(filter.schema())))
    };
    if let Some(loops) = join.downcast_ref::<NestedLoopJoinExec>()
        && let Some(filter) = loops.filter()
    {
        let (left, right) = (Arc::clone(loops.left()), Arc::clone(loops.right()));
        let builder = NestedLoopJoinExecBuilder::new(left, right, *loops.join_type())
            .with_filter(condition(filter))
            .with_projection_ref(loops.projection().clone());
        return Ok(Arc::new(builder.build()?));
    }
    if let Some(hash) = join.downcast_ref::<HashJoinExec>()
        && let Some(filter) = hash.filter()
    {
        return hash.builder().with_filter(condition(filter)).build_exec();
    }
    Ok(join)
}

/// A join's condition that fails once nobody waits any more.
#[derive(Debug, Clone)]
struct Condition {
    watch: Arc<Watch>,
    inner: Arc<dyn PhysicalExpr>,
}

impl PartialEq for Condition {
    fn eq(&self, other: &Self) -> bool {
        self.inner.eq(&other.inner)
    }
}

impl Eq for Condition {}

impl Hash for Condition {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl PhysicalExpr for Condition {
    fn data_type(&self, input: &Schema) -> Result<DataType> {
        self.inner.data_type(input)
    }

    fn nullable(&self, input: &Schema) -> Result<bool> {
        self.inner.nullable(input)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        self.watch.check()?;
        self.inner.evaluate(batch)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.inner]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        let inner = children.into_iter().next().unwrap_or_else(|| Arc::clone(&self.inner));
        Ok(Arc::new(Self { watch: Arc::clone(&self.watch), inner }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_sql(f)
    }
}
