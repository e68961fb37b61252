//! Partial aggregates of real-time rows, asked of the view that holds them instead of made of its rows: `SELECT country,
//! sum(cents) … GROUP BY country` takes a state for each country from a search cluster, and no row.
//!
//! A merged table is a union. Its parts are aggregated each by itself, the real-time part by the view, and the final
//! aggregation merges what comes of them, as it does anyway. What may be asked for is decided in [`decide`], over the plan
//! alone; whether it can be answered exactly, by the view. Where it can't be, rows are read as ever ([`exec`]).

mod decide;
mod exec;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode as _};
use datafusion::error::Result;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::union::UnionExec;

use self::exec::LiveAggregateExec;
use crate::live::LiveScanExec;

/// Replaces partial aggregates over a [`crate::live::LiveTable`] by what its view answers. It goes before all other rules:
/// it looks for the plan as the planner made it.
#[derive(Debug, Default)]
pub(super) struct AggregateLive;

impl PhysicalOptimizerRule for AggregateLive {
    fn name(&self) -> &'static str {
        "aggregate_live"
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        if !plan.exists(|node| Ok(node.downcast_ref::<LiveScanExec>().is_some()))? {
            return Ok(plan);
        }
        let pushed = plan.transform_up(|node| {
            let aggregate = node.downcast_ref::<AggregateExec>();
            let Some(aggregate) = aggregate.filter(|aggregate| *aggregate.mode() == AggregateMode::Partial) else {
                return Ok(Transformed::no(node));
            };
            Ok(match pushed(aggregate, aggregate.input())? {
                Some(pushed) => Transformed::yes(pushed),
                None => Transformed::no(node),
            })
        })?;
        // The other rules know a view's own plan.
        let bare = pushed.data.transform_up(|node| {
            Ok(match node.downcast_ref::<LiveScanExec>().map(|scan| Arc::clone(scan.rows())) {
                Some(rows) => Transformed::yes(rows),
                None => Transformed::no(node),
            })
        })?;
        Ok(bare.data)
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The aggregate of `input`, with parts of it that views are asked for; `None` if there is no such part.
fn pushed(aggregate: &AggregateExec, input: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(union) = input.downcast_ref::<UnionExec>() else {
        let Some(decided) = decide::decide(aggregate, input) else { return Ok(None) };
        let aggregation = decided.span.in_scope(|| decided.pin.aggregation(&decided.request));
        let Some(aggregation) = aggregation else { return Ok(None) };
        let shown = decided.shown();
        let made = LiveAggregateExec::new(aggregation, decided.columns, shown, partial(aggregate, input)?);
        return Ok(Some(Arc::new(made)));
    };
    let schema = union.schema();
    let is_alike = |part: &Arc<dyn ExecutionPlan>| {
        let own = part.schema();
        let same = own.fields().iter().zip(schema.fields());
        same.clone().all(|(own, all)| own.name() == all.name() && own.data_type() == all.data_type())
    };
    if !union.inputs().iter().all(is_alike) {
        return Ok(None);
    }
    let parts = union.inputs().iter().map(|part| pushed(aggregate, part)).collect::<Result<Vec<_>>>()?;
    if parts.iter().all(Option::is_none) {
        return Ok(None);
    }
    let parts = parts.into_iter().zip(union.inputs());
    let parts = parts.map(|(pushed, part)| pushed.map_or_else(|| partial(aggregate, part), Ok));
    UnionExec::try_new(parts.collect::<Result<_>>()?).map(Some)
}

/// The same partial aggregate over a part of its input.
fn partial(aggregate: &AggregateExec, input: &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let (functions, filters) = (aggregate.aggr_expr().to_vec(), aggregate.filter_expr().to_vec());
    let (groups, schema) = (aggregate.group_expr().clone(), aggregate.input_schema());
    let partial =
        AggregateExec::try_new(AggregateMode::Partial, groups, functions, filters, Arc::clone(input), schema)?;
    Ok(Arc::new(partial))
}
