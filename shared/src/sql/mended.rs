//! What mends DataFusion's answers, for the engine and for sessions beside it: what an answer is compared with must not be
//! wrong itself.

use std::sync::Arc;

use datafusion::error::Result;
use datafusion::execution::{FunctionRegistry as _, SessionState, SessionStateBuilder};
use datafusion::optimizer::analyzer::{Analyzer, AnalyzerRule};
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;

use super::extremes::extremes;
use super::lists::PlainLists;
use super::names::walled;
use super::sums::WideSums;

/// The rules that come behind DataFusion's own.
pub(super) fn analyzer_rules() -> [Arc<dyn AnalyzerRule + Send + Sync>; 2] {
    [Arc::new(PlainLists), Arc::new(WideSums)]
}

/// A session of DataFusion's rules and functions, mended where they would give a wrong answer. `session` has its
/// configuration and the default features.
///
/// # Errors
/// If the session takes no functions.
pub fn mended(session: SessionStateBuilder) -> Result<SessionState> {
    let mut analyzer = Analyzer::new().rules;
    analyzer.extend(analyzer_rules());
    let physical = PhysicalOptimizer::new().rules.into_iter().map(walled).collect();
    let mut state = session.with_analyzer_rules(analyzer).with_physical_optimizer_rules(physical).build();
    for function in extremes() {
        let _of_datafusion = state.register_udaf(function)?;
    }
    Ok(state)
}
