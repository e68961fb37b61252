//! `count(DISTINCT y)` beside a sum, with the types that were planned.
//!
//! Where one column alone is counted once, DataFusion takes the aggregate apart: a group for each `y` first, then those
//! added up. The sum of sums of decimals is wider than the sum, and a condition above (`HAVING sum(d) > 3`) was made for that.

use std::sync::Arc;

use datafusion::common::DFSchema;
use datafusion::common::tree_node::Transformed;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast};
use datafusion::optimizer::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};
use datafusion::optimizer::single_distinct_to_groupby::SingleDistinctToGroupBy;

/// A rule whose plans get back the types of those that it was given.
#[derive(Debug)]
pub(super) struct SameTypes {
    rule: Arc<dyn OptimizerRule + Send + Sync>,
}

impl SameTypes {
    /// `rule`; behind this one, if it is the one that takes aggregates apart.
    pub(super) fn around(rule: Arc<dyn OptimizerRule + Send + Sync>) -> Arc<dyn OptimizerRule + Send + Sync> {
        if rule.name() == SingleDistinctToGroupBy::new().name() { Arc::new(Self { rule }) } else { rule }
    }
}

impl OptimizerRule for SameTypes {
    fn name(&self) -> &str {
        self.rule.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.rule.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let planned = Arc::clone(plan.schema());
        let rewritten = self.rule.rewrite(plan, config)?;
        if rewritten.transformed { rewritten.map_data(|plan| with_types(plan, &planned)) } else { Ok(rewritten) }
    }
}

/// `plan`, with its columns of the types that `planned` has them in.
fn with_types(plan: LogicalPlan, planned: &DFSchema) -> Result<LogicalPlan> {
    let mut differs = false;
    let mut columns = Vec::new();
    let made = plan.schema().columns().into_iter().zip(plan.schema().fields());
    for ((column, made), (table, field)) in made.zip(planned.iter()) {
        let column = Expr::Column(column);
        columns.push(if made.data_type() == field.data_type() {
            column
        } else {
            differs = true;
            cast(column, field.data_type().clone()).alias_qualified(table.cloned(), field.name())
        });
    }
    if differs { LogicalPlanBuilder::from(plan).project(columns)?.build() } else { Ok(plan) }
}
