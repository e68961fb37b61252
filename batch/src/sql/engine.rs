//! The engine: what all statements share, and the way from a statement to its answer.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::catalog::{MemoryCatalogProvider, TableProvider};
use datafusion::common::tree_node::{Transformed, TreeNode as _};
use datafusion::common::{ResolvedTableReference, TableReference};
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::Statement;
use object_store::ObjectStore;
use object_store::path::Path;
use tidemark_shared::curated::{CountsFromLog, CuratedTable, CuratedVersion, STORE_URL};
use url::Url;

use super::answer::{Answer, Deadline, RowsMade, Space, Totals, running_error};
use super::as_of::{AsOf, TableAsOf};
use super::catalog::{CatalogTables, OpenedSchema, SessionTable, SessionTables};
use super::error::{SqlError, nearest};
use super::files::{self, FileTable};
use super::meter::{Meter, MeteredRegistry};
use super::params::{self, Param};
use super::statement::{check_reads_only, parse};

/// Name of the one catalog.
const CATALOG: &str = "tidemark";
/// Schema of the curated tables, and of names without a schema.
const BATCH: &str = "batch";
/// Schemas that only a server answers.
const SERVED: [&str; 2] = ["merged", "live"];
const INFORMATION: &str = "information_schema";
/// A sort on one thread sets aside at most one of so many parts of that thread's memory.
const SORT_SHARES: usize = 8;

/// What an engine may use, for all its statements together.
#[derive(Debug, Clone)]
pub struct SqlConfig {
    /// Memory for sorts, joins and aggregates, in bytes; beyond it they spill.
    pub memory_bytes_max: usize,
    /// Disk space for spilling, in bytes; 0: nothing spills.
    pub spill_bytes_max: u64,
    /// Where to spill; `None`: the system's folder for temporary files.
    pub spill_folder: Option<PathBuf>,
    /// Threads of one statement; `None`: one per core.
    pub threads: Option<usize>,
    /// Statements may name files in place (`FROM 'trips.csv'`, `CREATE EXTERNAL TABLE`). For a person's own prompt only:
    /// whoever reaches the engine can then read every file that its process can.
    pub files_in_place: bool,
}

impl Default for SqlConfig {
    fn default() -> Self {
        Self {
            memory_bytes_max: 512 * 1024 * 1024,
            spill_bytes_max: 20 * 1024 * 1024 * 1024,
            spill_folder: None,
            threads: None,
            files_in_place: false,
        }
    }
}

/// Limits of one statement.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Longest time from handing the statement in to its last row.
    pub timeout: Option<Duration>,
    /// Most bytes read from data files.
    pub bytes_read_max: Option<u64>,
}

/// A statement to answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Query {
    /// One statement.
    pub sql: String,
    /// Values of `$1`, `$2`, …
    pub params: Vec<Param>,
    /// Its limits.
    pub limits: Limits,
}

/// SQL over the curated tables in a store, the tables of a catalog, and files in place.
pub struct SqlEngine {
    objects: Arc<dyn ObjectStore>,
    catalog: Arc<dyn CatalogTables>,
    runtime: Arc<RuntimeEnv>,
    session_tables: Arc<SessionTables>,
    config: SqlConfig,
}

impl fmt::Debug for SqlEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlEngine").field("config", &self.config).finish_non_exhaustive()
    }
}

impl SqlEngine {
    /// An engine over the curated tables in `objects` and the tables of `catalog`.
    ///
    /// # Errors
    /// [`SqlError::Plan`] if the spill folder can't be used.
    pub fn new(
        objects: Arc<dyn ObjectStore>,
        catalog: Arc<dyn CatalogTables>,
        config: SqlConfig,
    ) -> Result<Self, SqlError> {
        let mode = match &config.spill_folder {
            _ if config.spill_bytes_max == 0 => DiskManagerMode::Disabled,
            Some(folder) => DiskManagerMode::Directories(vec![folder.clone()]),
            None => DiskManagerMode::OsTmpDirectory,
        };
        let disk = DiskManagerBuilder::default().with_mode(mode).with_max_temp_directory_size(config.spill_bytes_max);
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(FairSpillPool::new(config.memory_bytes_max)))
            .with_disk_manager_builder(disk)
            // Listings are not kept: a file that was just put into a folder is part of the next statement's table.
            .with_object_list_cache_limit(0)
            .build_arc()
            .map_err(SqlError::from_planning)?;
        let store = Url::parse(STORE_URL).expect("a constant URL");
        let _none = runtime.register_object_store(&store, Arc::clone(&objects));
        Ok(Self { objects, catalog, runtime, session_tables: Arc::default(), config })
    }

    /// Lets catalog tables and file names use `store` under `url` (`s3://bucket`).
    pub fn register_store(&self, url: &Url, store: Arc<dyn ObjectStore>) {
        let _previous = self.runtime.register_object_store(url, store);
    }

    /// Gives files the name `name` for all further statements. It hides a dataset of that name.
    ///
    /// # Errors
    /// [`SqlError::BadFile`].
    pub async fn add_table(&self, name: &str, table: &FileTable) -> Result<(), SqlError> {
        let provider = files::open(&self.session(&self.runtime).state(), table).await?;
        let table = SessionTable { provider, location: table.location.clone() };
        let _previous = self.session_tables.insert(name.to_owned(), table);
        Ok(())
    }

    /// Answers one statement. Its rows are made while they are taken from the answer.
    ///
    /// # Errors
    /// [`SqlError`].
    pub async fn query(&self, query: &Query) -> Result<Answer, SqlError> {
        let deadline = Deadline { started: Instant::now(), timeout: query.limits.timeout };
        deadline.limit(Box::pin(self.answer(query, deadline))).await?
    }

    async fn answer(&self, query: &Query, deadline: Deadline) -> Result<Answer, SqlError> {
        let statement = parse(&query.sql)?;
        if let Statement::CreateExternalTable(create) = &statement
            && !self.config.files_in_place
        {
            return Err(SqlError::FilesClosed { location: create.locations.join(", ") });
        }
        let meter = Arc::new(Meter::new(query.limits.bytes_read_max));
        let context = self.session(&self.metered(&meter)?);
        let schemas = self.schemas().await?;
        register(&context, &schemas);
        let mut reads = Reads::default();
        if !matches!(statement, Statement::CreateExternalTable(_)) {
            let state = context.state();
            for reference in state.resolve_table_references(&statement).map_err(SqlError::from_planning)? {
                self.open(&schemas, reference, &mut reads).await?;
            }
        }
        let plan = context.state().statement_to_plan(statement).await.map_err(SqlError::from_planning)?;
        check_reads_only(&plan)?;
        let plan = params::bind(plan, &query.params)?;
        let is_query = !matches!(plan, LogicalPlan::Ddl(_));
        if !is_query {
            self.create_table(&schemas, &plan).await?;
        }
        let plan = if is_query { plan } else { LogicalPlan::EmptyRelation(no_rows()) };
        let failed = |error| match meter.exceeded() {
            Some(limit_bytes) => SqlError::TooManyBytes { limit_bytes },
            None => SqlError::from_planning(error),
        };
        let physical = context.state().create_physical_plan(&plan).await.map_err(failed)?;
        reads.count_files_in_place(&physical);
        let SqlConfig { memory_bytes_max, spill_bytes_max, .. } = self.config;
        let space = Space { memory_bytes_max, spill_bytes_max };
        let stream = yielding(physical)
            .and_then(|physical| execute_stream(physical, context.task_ctx()))
            .map_err(|error| running_error(error, &meter, space))?;
        Ok(Answer {
            schema: stream.schema(),
            as_of: reads.as_of,
            is_query,
            rows_made: RowsMade::start(stream),
            deadline,
            meter,
            space,
            totals: reads.totals,
            rows: 0,
        })
    }

    /// The engine's runtime with its stores behind `meter`.
    fn metered(&self, meter: &Arc<Meter>) -> Result<Arc<RuntimeEnv>, SqlError> {
        let registry = MeteredRegistry::new(Arc::clone(&self.runtime.object_store_registry), Arc::clone(meter));
        RuntimeEnvBuilder::from_runtime_env(&self.runtime)
            .with_object_store_registry(Arc::new(registry))
            .build_arc()
            .map_err(SqlError::from_planning)
    }

    fn session(&self, runtime: &Arc<RuntimeEnv>) -> SessionContext {
        let mut config = SessionConfig::new()
            .with_default_catalog_and_schema(CATALOG, BATCH)
            .with_create_default_catalog_and_schema(false)
            .with_information_schema(true);
        if let Some(threads) = self.config.threads {
            config = config.with_target_partitions(threads.max(1));
        }
        let threads = config.target_partitions();
        let options = config.options_mut();
        // Each sort sets this aside for merging what it spilled; with little memory, that must not be all of it.
        let merging = &mut options.execution.sort_spill_reservation_bytes;
        *merging = (*merging).min(self.config.memory_bytes_max / (SORT_SHARES * threads));
        options.execution.parquet.pushdown_filters = true;
        options.execution.parquet.reorder_filters = true;
        // `fare > 8.9` compares decimals as decimals, and can prune by their bounds.
        options.sql_parser.parse_float_as_decimal = true;
        let state = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(Arc::clone(runtime))
            .with_default_features()
            .with_optimizer_rule(Arc::new(CountsFromLog))
            .build();
        let context = SessionContext::new_with_state(state);
        let _none = context.register_catalog(CATALOG, Arc::new(MemoryCatalogProvider::new()));
        context
    }

    /// All names that a statement can use now, nothing opened.
    async fn schemas(&self) -> Result<Schemas, SqlError> {
        let mut batch = self.datasets().await?;
        batch.extend(self.session_tables.names());
        batch.sort();
        batch.dedup();
        let mut schemas = self.catalog.names().await.map_err(|source| SqlError::Catalog { source })?;
        schemas.retain(|name, _| name != INFORMATION && !SERVED.contains(&name.as_str()));
        let _hidden = schemas.insert(BATCH.to_owned(), batch);
        Ok(schemas.into_iter().map(|(name, tables)| (name, Arc::new(OpenedSchema::new(tables)))).collect())
    }

    /// Names of the datasets that have something curated.
    async fn datasets(&self) -> Result<Vec<String>, SqlError> {
        let root = Path::from("curated");
        let listed =
            self.objects.list_with_delimiter(Some(&root)).await.map_err(|source| SqlError::Store { source })?;
        Ok(listed.common_prefixes.iter().filter_map(|folder| folder.filename().map(str::to_owned)).collect())
    }

    /// Opens the table that a statement names.
    async fn open(&self, schemas: &Schemas, reference: TableReference, reads: &mut Reads) -> Result<(), SqlError> {
        let written = reference.to_string();
        let ResolvedTableReference { schema, table, .. } = reference.resolve(CATALOG, BATCH);
        let (schema, table) = (schema.as_ref(), table.as_ref());
        if schema == INFORMATION {
            return self.open_all(schemas).await;
        }
        if SERVED.contains(&schema) {
            return Err(SqlError::NeedsServer { schema: schema.to_owned(), table: table.to_owned() });
        }
        let unknown =
            || SqlError::UnknownTable { suggestion: suggestion(schemas, schema, table), name: written.clone() };
        let opened = schemas.get(schema).ok_or_else(unknown)?;
        if opened.opened(table).is_some() {
            return Ok(());
        }
        let provider = match self.find(schema, table, reads).await? {
            Some(provider) => provider,
            None if schema == BATCH && files::is_path(table) => self.file(table, reads).await?,
            None => return Err(unknown()),
        };
        opened.open(table, provider);
        Ok(())
    }

    /// The dataset, session table or catalog table of that name.
    async fn find(
        &self,
        schema: &str,
        table: &str,
        reads: &mut Reads,
    ) -> Result<Option<Arc<dyn TableProvider>>, SqlError> {
        if schema != BATCH {
            let found = self.catalog.table(schema, table).await.map_err(|source| SqlError::Catalog { source })?;
            let Some(found) = found else { return Ok(None) };
            let provider = files::open(&self.session(&self.runtime).state(), &found.files).await?;
            let as_of = TableAsOf { location: found.files.location, version: Some(found.version) };
            let _previous = reads.as_of.tables.insert(format!("{schema}.{table}"), as_of);
            return Ok(Some(provider));
        }
        if let Some(named) = self.session_tables.get(table) {
            let as_of = TableAsOf { location: named.location, version: None };
            let _previous = reads.as_of.tables.insert(table.to_owned(), as_of);
            return Ok(Some(named.provider));
        }
        let failed = |source| SqlError::Curated { dataset: table.to_owned(), source };
        if !is_dataset_name(table) {
            return Ok(None);
        }
        let version = CuratedVersion::open(Arc::clone(&self.objects), table).await.map_err(failed)?;
        let Some(version) = version else { return Ok(None) };
        reads.totals.files += version.files.len() as u64;
        reads.totals.bytes += version.bytes();
        let _previous = reads.as_of.datasets.insert(table.to_owned(), (&version).into());
        let provider = CuratedTable::try_new(Arc::new(version)).map_err(SqlError::from_planning)?;
        Ok(Some(Arc::new(provider)))
    }

    /// The file or folder that a `FROM` clause names.
    async fn file(&self, location: &str, reads: &mut Reads) -> Result<Arc<dyn TableProvider>, SqlError> {
        if !self.config.files_in_place {
            return Err(SqlError::FilesClosed { location: location.to_owned() });
        }
        let provider = files::open(&self.session(&self.runtime).state(), &FileTable::at(location)).await?;
        let as_of = TableAsOf { location: location.to_owned(), version: None };
        let _previous = reads.as_of.tables.insert(location.to_owned(), as_of);
        Ok(provider)
    }

    /// Opens every table, for `information_schema`, `SHOW TABLES` and the like. One that can't be opened is left out.
    async fn open_all(&self, schemas: &Schemas) -> Result<(), SqlError> {
        for (schema, opened) in schemas {
            for table in opened.names().iter().filter(|table| opened.opened(table).is_none()) {
                // What is only listed is not read: no part of the as-of.
                match self.find(schema, table, &mut Reads::default()).await {
                    Ok(Some(provider)) => opened.open(table, provider),
                    Ok(None) => {}
                    Err(error) => tracing::warn!(%schema, %table, %error, "table left out of the listing"),
                }
            }
        }
        Ok(())
    }

    /// `CREATE EXTERNAL TABLE`: the table stays for the engine's further statements, and nothing is written anywhere.
    async fn create_table(&self, schemas: &Schemas, plan: &LogicalPlan) -> Result<(), SqlError> {
        let LogicalPlan::Ddl(datafusion::logical_expr::DdlStatement::CreateExternalTable(create)) = plan else {
            return Err(SqlError::ReadOnly { statement: plan.display().to_string() });
        };
        let context = self.session(&self.runtime);
        register(&context, schemas);
        let _nothing = context.execute_logical_plan(plan.clone()).await.map_err(SqlError::from_planning)?;
        let name = create.name.clone().resolve(CATALOG, BATCH);
        let opened = schemas.get(name.schema.as_ref()).filter(|_| name.schema.as_ref() == BATCH);
        let provider = opened.and_then(|schema| schema.opened(&name.table));
        if provider.is_none() && create.if_not_exists && opened.is_some() {
            return Ok(());
        }
        let Some(provider) = provider else {
            let message = format!("`{}`: a table of this session has no schema", create.name);
            return Err(SqlError::Plan { message });
        };
        let table = SessionTable { provider, location: create.locations.join(", ") };
        let _previous = self.session_tables.insert(name.table.to_string(), table);
        Ok(())
    }
}

type Schemas = BTreeMap<String, Arc<OpenedSchema>>;

fn register(context: &SessionContext, schemas: &Schemas) {
    let catalog = context.catalog(CATALOG).expect("every session has the catalog");
    for (name, schema) in schemas {
        let _none = catalog
            .register_schema(name, Arc::clone(schema) as Arc<dyn datafusion::catalog::SchemaProvider>)
            .expect("an in-memory catalog takes every schema");
    }
}

/// The nearest of all names to one that does not exist: a table of the same name in another schema, else the most
/// similar in its own schema, else the most similar at all.
fn suggestion(schemas: &Schemas, schema: &str, table: &str) -> Option<String> {
    let full = |schema: &str, table: &str| match schema {
        BATCH => table.to_owned(),
        _ => format!("{schema}.{table}"),
    };
    let own = schemas.get(schema).map(|opened| opened.names().to_vec()).unwrap_or_default();
    let elsewhere = schemas.iter().find(|(_, opened)| opened.names().iter().any(|name| name == table));
    if let Some((other, _)) = elsewhere {
        return Some(full(other, table));
    }
    if let Some(name) = nearest(table, own.iter().map(String::as_str)) {
        return Some(full(schema, &name));
    }
    let all: Vec<String> =
        schemas.iter().flat_map(|(schema, opened)| opened.names().iter().map(move |name| full(schema, name))).collect();
    nearest(&full(schema, table), all.iter().map(String::as_str))
}

/// Other names never reach the store's keys.
fn is_dataset_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_')
}

/// Makes joins give way: one that turns few rows into very many would otherwise run on without a point at which it can
/// be cancelled.
fn yielding(plan: Arc<dyn ExecutionPlan>) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
    let wrapped = plan.transform_up(|node| match node.name().ends_with("JoinExec") {
        true => Ok(Transformed::yes(Arc::new(CooperativeExec::new(node)) as Arc<dyn ExecutionPlan>)),
        false => Ok(Transformed::no(node)),
    })?;
    Ok(wrapped.data)
}

fn no_rows() -> datafusion::logical_expr::EmptyRelation {
    datafusion::logical_expr::EmptyRelation {
        produce_one_row: false,
        schema: Arc::new(datafusion::common::DFSchema::empty()),
    }
}

/// What a statement reads, as far as it is known before it runs.
#[derive(Default)]
struct Reads {
    as_of: AsOf,
    totals: Totals,
}

impl Reads {
    /// Adds the files of listed tables; a curated table's are known from its log.
    fn count_files_in_place(&mut self, plan: &Arc<dyn ExecutionPlan>) {
        let mut seen = HashSet::new();
        self.count(plan, &mut seen);
    }

    fn count(&mut self, plan: &Arc<dyn ExecutionPlan>, seen: &mut HashSet<Path>) {
        let scan = plan
            .downcast_ref::<DataSourceExec>()
            .and_then(|exec| exec.data_source().downcast_ref::<FileScanConfig>())
            .filter(|scan| scan.object_store_url.as_str().trim_end_matches('/') != STORE_URL);
        for file in scan.iter().flat_map(|scan| &scan.file_groups).flat_map(|group| group.iter()) {
            if seen.insert(file.object_meta.location.clone()) {
                self.totals.files += 1;
                self.totals.bytes += file.object_meta.size;
            }
        }
        for child in plan.children() {
            self.count(child, seen);
        }
    }
}
