//! What mends DataFusion's answers, for the engine and for sessions beside it: what an answer is compared with must not be
//! wrong itself.
//!
//! Wrong answers: [`names`], [`lists`], [`casts`], [`sums`], [`extremes`], [`zeros`], [`intervals`], [`dependent`]. Refusals
//! of what is valid: [`truths`], [`distinct`], [`repeated`], and [`dependent`] again.

use std::sync::Arc;

use datafusion::error::Result;
use datafusion::execution::{FunctionRegistry as _, SessionState, SessionStateBuilder};
use datafusion::optimizer::analyzer::{Analyzer, AnalyzerRule};
use datafusion::optimizer::optimizer::{Optimizer, OptimizerRule};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;

use dependent::OwnNames;
use distinct::SameTypes;
use extremes::{all_groups, extremes};
use intervals::NoIntervalOrder;
use lists::PlainLists;
use names::walled;
use sums::WideSums;
use truths::Truths;

use crate::curated::JudgedScans;

pub(crate) use casts::CastsInPlace;
pub(super) use dependent::check_joined;
pub(crate) use intervals::IntervalLengths;
pub(super) use repeated::Repeated;

mod casts;
mod dependent;
mod distinct;
mod extremes;
mod intervals;
mod lists;
mod names;
mod repeated;
mod sums;
mod truths;
mod zeros;

/// The rules of a session, in the order in which they run.
pub(super) struct Rules {
    pub(super) analyzer: Vec<Arc<dyn AnalyzerRule + Send + Sync>>,
    pub(super) optimizer: Vec<Arc<dyn OptimizerRule + Send + Sync>>,
    pub(super) physical: Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>>,
}

impl Rules {
    /// DataFusion's own.
    pub(super) fn of_datafusion() -> Self {
        Self {
            analyzer: Analyzer::new().rules,
            optimizer: Optimizer::new().rules,
            physical: PhysicalOptimizer::new().rules,
        }
    }

    /// These, with what mends them: behind the analyzer's, and around those of the others that go wrong.
    pub(super) fn mended(mut self) -> Self {
        self.analyzer.insert(0, Arc::new(NoIntervalOrder));
        self.analyzer.push(Arc::new(OwnNames));
        self.analyzer.push(Arc::new(PlainLists));
        self.analyzer.push(Arc::new(WideSums));
        self.analyzer.push(Arc::new(Truths));
        self.analyzer.push(Arc::new(CastsInPlace));
        self.optimizer = self.optimizer.into_iter().map(SameTypes::around).collect();
        self.physical = self.physical.into_iter().map(walled).map(all_groups).collect();
        // Behind those that hand filters to scans.
        self.physical.push(Arc::new(JudgedScans));
        self
    }

    /// The session that `builder` makes with these rules, its functions mended.
    ///
    /// # Errors
    /// If the session takes no functions.
    pub(super) fn session(self, builder: SessionStateBuilder) -> Result<SessionState> {
        let mut state = builder
            .with_analyzer_rules(self.analyzer)
            .with_optimizer_rules(self.optimizer)
            .with_physical_optimizer_rules(self.physical)
            .build();
        for function in extremes() {
            let _of_datafusion = state.register_udaf(function)?;
        }
        state.register_function_rewrite(Arc::new(IntervalLengths))?;
        Ok(state)
    }
}

/// A session of DataFusion's rules and functions, mended where they would give a wrong answer. `session` has its
/// configuration and the default features.
///
/// # Errors
/// If the session takes no functions.
pub fn mended(session: SessionStateBuilder) -> Result<SessionState> {
    Rules::of_datafusion().mended().session(session)
}
