//! Gives `tidemark sql` its engine: the store's curated tables, within the limits of the configuration.

use std::sync::Arc;

use tidemark_batch::sql::{NoCatalogTables, SqlEngine};
use tidemark_shared::store::IfMissing;

use super::sql::{self, SqlArgs, SqlCommandError};
use crate::context::Context;
use crate::error::CliError;
use crate::exit::Exit;

/// File of the data directory that keeps the prompt's lines.
const HISTORY_FILE: &str = "sql-history";

/// Runs `tidemark sql`. Flags count before `[sql]` of the configuration.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: &SqlArgs, context: &Context) -> Result<Exit, CliError> {
    let limits = &context.config.sql;
    let mut args = args.clone();
    args.timeout = args.timeout.or(Some(limits.timeout));
    args.max_bytes = args.max_bytes.or(limits.scan_bytes_max);
    let mut engine = args.engine_config();
    if args.memory.is_none() {
        engine.memory_bytes_max = usize::try_from(limits.memory_bytes_max).unwrap_or(usize::MAX);
    }
    let store = context.store(IfMissing::Fail).await?;
    let engine = SqlEngine::new(store.objects(), Arc::new(NoCatalogTables), engine);
    let engine = engine.map_err(SqlCommandError::from)?;
    // Asking creates nothing: without the directory, the prompt keeps no history.
    let history = context.config.data_dir.is_dir().then(|| context.config.data_dir.join(HISTORY_FILE));
    match sql::run(&args, &engine, history.as_deref()).await {
        Ok(()) => Ok(Exit::Done),
        Err(SqlCommandError::Cancelled) => Err(CliError::Interrupted),
        Err(error) => Err(error.into()),
    }
}
