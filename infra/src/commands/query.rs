//! Gives `tidemark sql` its engine: the store's curated tables and the catalog's, within the limits of the configuration.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use tidemark_batch::catalog::SqlCatalog;
use tidemark_batch::sql::{CatalogTable, CatalogTables, DatasetTables, PortTables, SqlConfig, SqlEngine, SqlError};
use tidemark_shared::catalog::CatalogError;
use tidemark_shared::error::AnyError;
use tidemark_shared::store::{IfMissing, Store};
use tokio::sync::OnceCell;

use super::sql::{self, SqlArgs, SqlCommandError};
use crate::client::Server;
use crate::context::{Context, stores};
use crate::error::CliError;
use crate::exit::Exit;
use crate::up::UpError;

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
    args.bytes_read_max = args.bytes_read_max.or(limits.bytes_read_max);
    args.quiet = context.quiet;
    let mut engine = args.engine_config();
    if args.memory.is_none() {
        engine.memory_bytes_max = usize::try_from(limits.memory_bytes_max).unwrap_or(usize::MAX);
    }
    engine.spill_bytes_max = limits.spill_bytes_max;
    let wants_server = args.at_least.is_some() || args.max_staleness.is_some();
    let found = if args.local { None } else { Server::find(args.server.as_deref(), context)? };
    let server = match found {
        None if wants_server => Some(Server::need(None, context).await?),
        // Files in place are this process's to read.
        found => found.filter(|_| wants_server || args.tables.is_empty()),
    };
    // Asking creates nothing: without the directory, the prompt keeps no history.
    let history = context.config.data_dir.is_dir().then(|| context.config.data_dir.join(HISTORY_FILE));
    if let Some(server) = server {
        return ended(sql::run_on(&args, &server, history.as_deref()).await);
    }
    // Files in place need no store.
    let (store, no_store) = match context.store(IfMissing::Fail).await {
        Ok(store) => (Some(store), None),
        Err(error @ CliError::NoStore { .. }) => (None, Some(error)),
        Err(error) => return Err(error),
    };
    let objects = store.as_ref().map_or_else(|| Arc::new(InMemory::new()) as Arc<dyn ObjectStore>, Store::objects);
    let catalog = Arc::new(ConfiguredCatalog::new(context));
    let tables = Arc::clone(&catalog) as Arc<dyn CatalogTables>;
    let mut engine = SqlEngine::new(objects, tables, engine).map_err(SqlCommandError::from)?.with_stores(stores());
    if let Some(store) = store {
        engine = engine.with_definitions(store);
    }
    let done = sql::run(&args, &engine, history.as_deref()).await;
    catalog.close().await;
    match (done, no_store) {
        (Err(SqlCommandError::Sql(SqlError::UnknownTable { .. })), Some(no_store)) => Err(no_store),
        (done, _) => ended(done),
    }
}

/// The engine of a command that asks what is curated, within the limits of the configuration.
///
/// # Errors
/// [`CliError`] if it can't be made.
pub(crate) fn local_engine(context: &Context, store: Store) -> Result<SqlEngine, CliError> {
    let limits = &context.config.sql;
    let memory_bytes_max = usize::try_from(limits.memory_bytes_max).unwrap_or(usize::MAX);
    let config = SqlConfig { memory_bytes_max, spill_bytes_max: limits.spill_bytes_max, ..SqlConfig::default() };
    let tables = configured_catalog(context);
    let engine = SqlEngine::new(store.objects(), tables, config).map_err(SqlCommandError::from)?;
    Ok(engine.with_stores(stores()).with_definitions(store))
}

/// The engine of a server: catalog tables beside the datasets that it serves, no files in place.
///
/// # Errors
/// [`UpError::Engine`].
pub(crate) fn serving_engine(
    objects: Arc<dyn ObjectStore>,
    tables: Arc<dyn CatalogTables>,
    datasets: Arc<dyn DatasetTables>,
    memory_bytes_max: usize,
    spill_bytes_max: u64,
) -> Result<SqlEngine, UpError> {
    let config = SqlConfig { memory_bytes_max, spill_bytes_max, ..SqlConfig::default() };
    let engine = SqlEngine::new(objects, tables, config).map_err(|error| UpError::Engine(Box::new(error)))?;
    Ok(engine.with_stores(stores()).with_datasets(datasets))
}

/// The catalog that the configuration names.
pub(crate) fn configured_catalog(context: &Context) -> Arc<dyn CatalogTables> {
    Arc::new(ConfiguredCatalog::new(context))
}

fn ended(done: Result<(), SqlCommandError>) -> Result<Exit, CliError> {
    match done {
        Ok(()) => Ok(Exit::Done),
        Err(SqlCommandError::Cancelled) => Err(CliError::Interrupted),
        Err(error) => Err(error.into()),
    }
}

/// The configured catalog, opened once a statement names a table of it: a question about datasets needs none, and is
/// answered while the catalog's server is away.
#[derive(Debug)]
struct ConfiguredCatalog {
    url: String,
    base: PathBuf,
    /// `None` where there is no catalog yet; asking does not make one.
    opened: OnceCell<Option<SqlCatalog>>,
}

impl ConfiguredCatalog {
    fn new(context: &Context) -> Self {
        let config = &context.config;
        Self { url: config.catalog_url.clone(), base: config.data_dir.clone(), opened: OnceCell::new() }
    }

    async fn tables(&self) -> Result<Option<PortTables>, CatalogError> {
        let opened = self.opened.get_or_try_init(|| SqlCatalog::open_for_reading(&self.url, &self.base)).await?;
        Ok(opened.as_ref().map(|catalog| PortTables::new(Arc::new(catalog.clone()))))
    }

    /// Leaves the file as it was: the last connection that is closed takes its write-ahead files along.
    async fn close(&self) {
        if let Some(Some(catalog)) = self.opened.get() {
            catalog.close().await;
        }
    }
}

#[async_trait]
impl CatalogTables for ConfiguredCatalog {
    async fn names(&self) -> Result<BTreeMap<String, Vec<String>>, AnyError> {
        match self.tables().await.map_err(AnyError::new)? {
            Some(tables) => tables.names().await,
            None => Ok(BTreeMap::new()),
        }
    }

    async fn table(&self, schema: &str, table: &str) -> Result<Option<CatalogTable>, AnyError> {
        match self.tables().await.map_err(AnyError::new)? {
            Some(tables) => tables.table(schema, table).await,
            None => Ok(None),
        }
    }
}
