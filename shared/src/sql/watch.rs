//! Keeps planning within bounds: how long it may go on, how much it may take apart, and how large its constants get.
//!
//! Planning is a computation without a point at which it could be cancelled, and folds constants by calling functions. So
//! each rule looks, before it begins at a part of the plan, whether anybody waits for it still, and after it has changed
//! one, whether that has grown beyond bounds: pushing a condition through columns that are made of each other doubles it
//! at each.

use std::error::Error as StdError;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode as _, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::analyzer::AnalyzerRule;
use datafusion::optimizer::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};
use datafusion::physical_optimizer::{PhysicalOptimizerContext, PhysicalOptimizerRule};
use datafusion::physical_plan::ExecutionPlan;

/// Most expressions in what one rule makes, or in a column with all that it is made of.
pub(super) const EXPRESSIONS_MAX: usize = 250_000;

/// Why something was not gone on with, somewhere within the engine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// A value, or the values of some rows, that a function would make.
    #[error("`{function}` would make more than {bytes_max} bytes at once")]
    Value {
        /// What would.
        function: String,
        /// The most there may be.
        bytes_max: usize,
    },
    /// Constants of one statement.
    #[error("constants of more than {bytes_max} bytes")]
    Constants {
        /// The most there may be.
        bytes_max: usize,
    },
    /// More parts than are taken apart.
    #[error("more than {limit} {what}")]
    Parts {
        /// Which parts.
        what: &'static str,
        /// The most there may be.
        limit: usize,
    },
    /// Nobody waits any more.
    #[error("nobody waits any more")]
    Stopped {
        /// The time limit.
        limit_ms: u128,
    },
}

impl Refusal {
    /// The refusal that `error` came of, if it did.
    pub(super) fn of<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        let mut causes = std::iter::successors(Some(error), |error| (**error).source());
        causes.find_map(|cause| {
            let boxed = cause.downcast_ref::<Box<Self>>().map(AsRef::as_ref);
            cause.downcast_ref::<Self>().or(boxed)
        })
    }
}

impl From<Refusal> for DataFusionError {
    fn from(refusal: Refusal) -> Self {
        Self::External(Box::new(refusal))
    }
}

/// One statement, as those who plan it look at it.
#[derive(Debug)]
pub(super) struct Watch {
    until: Option<Instant>,
    timeout: Option<Duration>,
    gone: AtomicBool,
    planned: AtomicBool,
    constants: AtomicU64,
    /// Most bytes that a function may make at once, and all constants together have.
    pub(super) bytes_max: usize,
}

impl Watch {
    pub(super) fn new(started: Instant, timeout: Option<Duration>, bytes_max: usize) -> Self {
        Self {
            until: timeout.and_then(|timeout| started.checked_add(timeout)),
            timeout,
            gone: AtomicBool::new(false),
            planned: AtomicBool::new(false),
            constants: AtomicU64::new(0),
            bytes_max,
        }
    }

    /// For what is planned beside a statement.
    pub(super) fn unlimited(bytes_max: usize) -> Arc<Self> {
        let watch = Self::new(Instant::now(), None, bytes_max);
        watch.planned();
        Arc::new(watch)
    }

    /// From now on, what functions make is no constant.
    pub(super) fn planned(&self) {
        self.planned.store(true, Ordering::Relaxed);
    }

    /// Adds a constant to those that planning made.
    pub(super) fn charge(&self, bytes: u64) -> Result<(), Refusal> {
        if self.planned.load(Ordering::Relaxed) {
            return Ok(());
        }
        let before = self.constants.fetch_add(bytes, Ordering::Relaxed);
        match before.saturating_add(bytes) > self.bytes_max as u64 {
            true => Err(Refusal::Constants { bytes_max: self.bytes_max }),
            false => Ok(()),
        }
    }

    /// Fails once the statement's time is over, or nobody waits for it any more.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        let late = self.until.is_some_and(|until| Instant::now() >= until);
        if late || self.gone.load(Ordering::Relaxed) {
            return Err(Refusal::Stopped { limit_ms: self.timeout.map_or(0, |timeout| timeout.as_millis()) });
        }
        Ok(())
    }
}

/// Ends planning, and the joins of a running statement, when whoever waits for it goes.
#[derive(Debug)]
pub(super) struct Waiting(pub(super) Arc<Watch>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.gone.store(true, Ordering::Relaxed);
    }
}

/// A rule under a watch.
#[derive(Debug)]
pub(super) struct Watched<R: ?Sized> {
    watch: Arc<Watch>,
    rule: Arc<R>,
}

impl<R: ?Sized> Watched<R> {
    pub(super) fn new(watch: &Arc<Watch>, rule: Arc<R>) -> Self {
        Self { watch: Arc::clone(watch), rule }
    }
}

impl OptimizerRule for Watched<dyn OptimizerRule + Send + Sync> {
    fn name(&self) -> &str {
        self.rule.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.rule.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        self.watch.check()?;
        let rewritten = self.rule.rewrite(plan, config)?;
        if rewritten.transformed {
            let of_one_node = self.apply_order().is_some();
            check_size(&rewritten.data, of_one_node)?;
        }
        Ok(rewritten)
    }
}

impl AnalyzerRule for Watched<dyn AnalyzerRule + Send + Sync> {
    fn analyze(&self, plan: LogicalPlan, config: &ConfigOptions) -> Result<LogicalPlan> {
        self.watch.check()?;
        let plan = self.rule.analyze(plan, config)?;
        check_size(&plan, false)?;
        Ok(plan)
    }

    fn name(&self) -> &str {
        self.rule.name()
    }
}

impl PhysicalOptimizerRule for Watched<dyn PhysicalOptimizerRule + Send + Sync> {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        self.watch.check()?;
        self.rule.optimize(plan, config)
    }

    fn optimize_with_context(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        context: &dyn PhysicalOptimizerContext,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.watch.check()?;
        self.rule.optimize_with_context(plan, context)
    }

    fn name(&self) -> &str {
        self.rule.name()
    }

    fn schema_check(&self) -> bool {
        self.rule.schema_check()
    }
}

/// Counts up to one more than there may be.
struct Count(usize);

impl Count {
    fn add(&mut self, node: &LogicalPlan) -> Result<TreeNodeRecursion> {
        node.apply_expressions(|expr| self.add_expr(expr))
    }

    fn add_expr(&mut self, expr: &Expr) -> Result<TreeNodeRecursion> {
        expr.apply(|_| {
            self.0 += 1;
            Ok(if self.0 > EXPRESSIONS_MAX { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })
    }

    fn check(&self) -> Result<()> {
        match self.0 > EXPRESSIONS_MAX {
            true => Err(Refusal::Parts { what: "expressions", limit: EXPRESSIONS_MAX }.into()),
            false => Ok(()),
        }
    }
}

/// Refuses a plan that has too many expressions; or the node at its top, with those right below it, where a rule puts what
/// it takes further down.
fn check_size(plan: &LogicalPlan, of_one_node: bool) -> Result<()> {
    let mut count = Count(0);
    if of_one_node {
        for node in std::iter::once(plan).chain(plan.inputs()) {
            let _walked = count.add(node)?;
        }
    } else {
        let _walked = plan.apply_with_subqueries(|node| count.add(node))?;
    }
    count.check()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_found_below_what_was_made_of_it() {
        let refusal = Refusal::Constants { bytes_max: 7 };
        let wrapped = DataFusionError::from(refusal.clone()).context("a rule").context("a plan");
        let shared = DataFusionError::Shared(Arc::new(wrapped));
        assert_eq!(Refusal::of(&shared), Some(&refusal));
        assert_eq!(Refusal::of(&DataFusionError::Plan("other".to_owned())), None);
    }

    #[test]
    fn constants_add_up_until_the_statement_is_planned() {
        let watch = Watch::new(Instant::now(), None, 100);
        assert_eq!(watch.charge(60), Ok(()));
        assert_eq!(watch.charge(60), Err(Refusal::Constants { bytes_max: 100 }));
        watch.planned();
        assert_eq!(watch.charge(60), Ok(()));
    }

    #[test]
    fn planning_ends_with_its_time_or_with_who_waits() {
        let now = Instant::now();
        assert_eq!(Watch::new(now, Some(Duration::ZERO), 1).check(), Err(Refusal::Stopped { limit_ms: 0 }));
        let watch = Arc::new(Watch::new(now, Some(Duration::from_secs(3600)), 1));
        assert_eq!(watch.check(), Ok(()));
        drop(Waiting(Arc::clone(&watch)));
        assert_eq!(watch.check(), Err(Refusal::Stopped { limit_ms: 3_600_000 }));
    }
}
