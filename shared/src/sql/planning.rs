//! From a statement whose tables are open to rows that can be taken.

use std::sync::Arc;

use datafusion::common::plan_err;
use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::error::Result as DfResult;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::{EmptyRelation, Expr, LogicalPlan};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement;

use super::answer::{Space, running_error};
use super::error::SqlError;
use super::joins::yielding;
use super::literals::check_literals;
use super::mended::{Repeated, Rules, check_joined};
use super::meter::Meter;
use super::notes::texts_that_match_nothing;
use super::params::{self, Param};
use super::pushdown::AggregateLive;
use super::statement::check_reads_only;
use super::subqueries::{DecideOnce, NotIn, physical_rules};
use super::unfold::check_columns;
use super::watch::{Watch, Watched};
use crate::curated::CountsFromLog;

/// The session of a statement, and what it may use. Its methods compute for long: see [`super::workers`].
pub(super) struct Planning {
    pub(super) context: SessionContext,
    pub(super) watch: Arc<Watch>,
    pub(super) meter: Arc<Meter>,
    pub(super) space: Space,
}

/// Aggregates that give all that they were given.
const LISTS: [&str; 2] = ["array_agg", "string_agg"];

/// A statement that has begun to run.
pub(super) struct Begun {
    pub(super) physical: Arc<dyn ExecutionPlan>,
    pub(super) stream: SendableRecordBatchStream,
    /// What whoever asked should know.
    pub(super) notes: Vec<String>,
}

impl Planning {
    /// The plan of a statement, its parameters bound; and which of its columns are there again.
    pub(super) async fn logical(
        &self,
        mut statement: Statement,
        params: &[Param],
    ) -> Result<(LogicalPlan, Repeated), SqlError> {
        let repeated = Repeated::set_apart(&mut statement);
        let plan = self.context.state().statement_to_plan(statement).await.map_err(SqlError::from_planning)?;
        check_reads_only(&plan)?;
        Ok((params::bind(plan, params)?, repeated))
    }

    /// Begins to run a plan.
    pub(super) async fn begin(&self, plan: &LogicalPlan, repeated: Repeated) -> Result<Begun, SqlError> {
        let state = self.context.state();
        let failed = |error| match self.meter.exceeded() {
            Some(limit_bytes) => SqlError::TooManyBytes { limit_bytes },
            None => SqlError::from_planning(error),
        };
        check_columns(plan).map_err(failed)?;
        check_windows(plan).map_err(failed)?;
        let optimized = state.optimize(plan).map_err(failed)?;
        check_joined(&optimized).map_err(failed)?;
        check_literals(&optimized)?;
        let physical = state.query_planner().create_physical_plan(&optimized, &state).await.map_err(failed)?;
        self.watch.planned();
        let stream = yielding(Arc::clone(&physical), &self.watch)
            .and_then(|physical| execute_stream(physical, self.context.task_ctx()))
            .map_err(|error| running_error(error, &self.meter, self.space))?;
        let stream = repeated.named(stream);
        Ok(Begun { physical, stream, notes: texts_that_match_nothing(plan).into_iter().collect() })
    }
}

/// The rules of a statement's session, under its watch.
pub(super) fn rules(watch: &Arc<Watch>) -> Rules {
    let mut known = Rules::of_datafusion();
    known.analyzer.push(Arc::new(NotIn));
    known.physical = physical_rules();
    let mut rules = known.mended();
    rules.optimizer.push(Arc::new(DecideOnce));
    rules.optimizer.push(Arc::new(CountsFromLog));
    rules.physical.insert(0, Arc::new(AggregateLive));
    let mut watched = Rules { analyzer: Vec::new(), optimizer: Vec::new(), physical: Vec::new() };
    for rule in rules.analyzer {
        watched.analyzer.push(Arc::new(Watched::new(watch, rule)));
    }
    for rule in rules.optimizer {
        watched.optimizer.push(Arc::new(Watched::new(watch, rule)));
    }
    for rule in rules.physical {
        watched.physical.push(Arc::new(Watched::new(watch, rule)));
    }
    watched
}

/// Refuses aggregates that make a value as large as their window, at each row: what they come to grows with the square of
/// the rows, and no pool of memory counts it.
fn check_windows(plan: &LogicalPlan) -> DfResult<()> {
    let refused = |expr: &Expr| match expr {
        Expr::WindowFunction(window) if LISTS.contains(&window.fun.name()) => plan_err!(
            "{} makes a value of all rows of its window at each row: group by the window's columns instead, and join",
            window.fun.name()
        ),
        _ => Ok(TreeNodeRecursion::Continue),
    };
    let walked = plan.apply_with_subqueries(|node| match node {
        LogicalPlan::Window(window) => {
            for expr in &window.window_expr {
                let _walked = expr.apply(refused)?;
            }
            Ok(TreeNodeRecursion::Continue)
        }
        _ => Ok(TreeNodeRecursion::Continue),
    });
    walked.map(drop)
}

/// The plan of a statement that has no rows.
pub(super) fn no_rows() -> LogicalPlan {
    let schema = Arc::new(datafusion::common::DFSchema::empty());
    LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: false, schema })
}
