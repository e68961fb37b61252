//! The engine: what all statements share, and the way from a statement to its answer.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::curated::{CuratedReader, STORE_URL, comparisons};
use crate::dataset::KnownDefinitions;
use crate::store::{Store, Stores};
use crate::telemetry::SPANS;
use datafusion::catalog::MemoryCatalogProvider;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{FunctionRegistry as _, SessionStateBuilder};
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::Statement;
use object_store::ObjectStore;
use tracing::{Instrument as _, info_span};
use url::Url;

use super::answer::{Answer, Deadline, RowsMade, Space, running_error};
use super::catalog::{CatalogTables, SessionTable, SessionTables};
use super::datasets::{DatasetTables, Layer, Wants};
use super::error::SqlError;
use super::far::{SameUnit, reaching_far};
use super::files::FileTable;
use super::guard::{Guards, guarded};
use super::memory::shared_memory;
use super::mended::Repeated;
use super::meter::{Meter, MeteredRegistry, Reading};
use super::opening::Opened;
use super::params::Param;
use super::planning::{Planning, no_rows, rules};
use super::spill::SpillFolder;
use super::statement::parse;
use super::subqueries::SetComparisons;
use super::watch::{Waiting, Watch};
use super::workers::Place;

/// Name of the one catalog.
pub(super) const CATALOG: &str = "tidemark";
/// Schema of the curated tables; where no server answers, also of names without a schema.
pub(super) const BATCH: &str = "batch";
/// A sort on one thread sets aside at most one of so many parts of that thread's memory.
const SORT_SHARES: usize = 8;
/// Of the engine's memory, what a function makes at once may take one of so many parts, within bounds.
const VALUE_SHARE: usize = 4;
const VALUE_BYTES_MIN: usize = 16 << 20;
const VALUE_BYTES_MAX: usize = 256 << 20;
/// Longest statement that is parsed where it is asked for; a longer one takes its time.
const PARSED_AT_ONCE_BYTES_MAX: usize = 16 << 10;

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
            memory_bytes_max: 1024 * 1024 * 1024,
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
    /// What it asks of the moment that it is answered at; only a server knows more than one.
    pub wants: Wants,
}

/// SQL over the curated tables in a store, the tables of a catalog, and files in place.
pub struct SqlEngine {
    pub(super) objects: Arc<dyn ObjectStore>,
    pub(super) curated: CuratedReader,
    pub(super) catalog: Arc<dyn CatalogTables>,
    pub(super) datasets: Option<Arc<dyn DatasetTables>>,
    pub(super) definitions: Option<KnownDefinitions>,
    pub(super) stores: Option<Arc<dyn Stores>>,
    pub(super) runtime: Arc<RuntimeEnv>,
    pub(super) session_tables: Arc<SessionTables>,
    pub(super) config: SqlConfig,
    _spill: Option<SpillFolder>,
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
        let spill = match &config.spill_folder {
            _ if config.spill_bytes_max == 0 => None,
            Some(folder) => {
                Some(SpillFolder::new(Some(folder)).map_err(|error| SqlError::from_planning(error.into()))?)
            }
            // Where none can be made, only a statement that needs one is refused.
            None => SpillFolder::new(None).ok(),
        };
        let mode = match &spill {
            _ if config.spill_bytes_max == 0 => DiskManagerMode::Disabled,
            Some(folder) => folder.mode(),
            None => DiskManagerMode::OsTmpDirectory,
        };
        let disk = DiskManagerBuilder::default().with_mode(mode).with_max_temp_directory_size(config.spill_bytes_max);
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(shared_memory(config.memory_bytes_max, config.spill_bytes_max > 0))
            .with_disk_manager_builder(disk)
            // Listings are not kept: a file that was just put into a folder is part of the next statement's table.
            .with_object_list_cache_limit(0)
            .build_arc()
            .map_err(SqlError::from_planning)?;
        let store = Url::parse(STORE_URL).expect("a constant URL");
        let _none = runtime.register_object_store(&store, Arc::clone(&objects));
        let curated = CuratedReader::new(Arc::clone(&objects));
        Ok(Self {
            objects,
            curated,
            catalog,
            datasets: None,
            definitions: None,
            stores: None,
            runtime,
            session_tables: Arc::default(),
            config,
            _spill: spill,
        })
    }

    /// Lets catalog tables and file names be in buckets (`s3://bucket/…`), which `stores` opens.
    #[must_use]
    pub fn with_stores(mut self, stores: Arc<dyn Stores>) -> Self {
        self.stores = Some(stores);
        self
    }

    /// Lets a server answer for datasets: `merged.<dataset>` (where names without a schema are, too), `batch.<dataset>`
    /// and `live.<dataset>`.
    #[must_use]
    pub fn with_datasets(mut self, datasets: Arc<dyn DatasetTables>) -> Self {
        self.datasets = Some(datasets);
        self
    }

    /// Lets the engine, where no server answers, look up the datasets' definitions in `store`: of a dataset with a key,
    /// it then shows one row per key.
    #[must_use]
    pub fn with_definitions(mut self, store: Store) -> Self {
        self.definitions = Some(KnownDefinitions::new(store));
        self
    }

    /// The schema of names without one.
    pub(super) fn default_schema(&self) -> &'static str {
        if self.datasets.is_some() { Layer::Merged.name() } else { BATCH }
    }

    /// Gives files the name `name` for all further statements. It hides a dataset of that name.
    ///
    /// # Errors
    /// [`SqlError::BadFile`].
    pub async fn add_table(&self, name: &str, table: &FileTable) -> Result<(), SqlError> {
        let provider = self.open_files(table, &Arc::default()).await?;
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
        let watch = Arc::new(Watch::new(deadline.started, deadline.timeout, self.value_bytes_max()));
        deadline.limit(Box::pin(self.answer(query, deadline, Waiting(watch)))).await?
    }

    async fn answer(&self, query: &Query, deadline: Deadline, waiting: Waiting) -> Result<Answer, SqlError> {
        let watch = &waiting.0;
        let SqlConfig { memory_bytes_max, spill_bytes_max, .. } = self.config;
        let space = Space { memory_bytes_max, spill_bytes_max };
        let meter = Arc::new(Meter::new(query.limits.bytes_read_max));
        let failed = |error| running_error(error, &meter, space);
        let place = Place::of_caller().await.map_err(failed)?;
        let text = query.sql.clone();
        let statement = if text.len() > PARSED_AT_ONCE_BYTES_MAX {
            place.plan(async move { parse(&text) }).await.map_err(failed)??
        } else {
            parse(&text)?
        };
        let is_query = !matches!(statement, Statement::CreateExternalTable(_));
        let context = self.session_of(&self.metered(&meter, Reading::Whole)?, watch);
        let mut opened = self.open_named(&context, &statement, query, deadline, &meter).await?;
        opened.register(&context);
        let planning = Planning { context, watch: Arc::clone(watch), meter: Arc::clone(&meter), space };
        let begun = if is_query {
            let params = query.params.clone();
            let begin = async move {
                let (plan, repeated) = planning.logical(statement, &params).await?;
                planning.begin(&plan, repeated).await
            };
            // One that can't be planned leaves nothing running.
            let planned = place.plan(begin.instrument(info_span!(target: SPANS, "query.plan")));
            planned.await.map_err(failed)?.inspect_err(|_| place.done())?
        } else {
            let (plan, _) = planning.logical(statement, &query.params).await?;
            self.create_table(&opened, &plan).await?;
            planning.begin(&no_rows(), Repeated::default()).await?
        };
        let reads = &mut opened.reads;
        reads.count_files_in_place(&begun.physical);
        reads.notes.extend(begun.notes);
        let reads = opened.reads;
        Ok(Answer {
            schema: begun.stream.schema(),
            as_of: reads.as_of,
            notes: reads.notes,
            is_query,
            rows_made: RowsMade::start(begun.stream, place),
            deadline,
            meter,
            space,
            totals: reads.totals,
            rows: 0,
            _waiting: waiting,
        })
    }

    /// Opens the tables that a statement names.
    async fn open_named(
        &self,
        context: &SessionContext,
        statement: &Statement,
        query: &Query,
        deadline: Deadline,
        meter: &Arc<Meter>,
    ) -> Result<Opened, SqlError> {
        let left = Limits { timeout: deadline.left(), ..query.limits };
        let datasets = self.datasets.as_ref().map(|datasets| datasets.statement(&query.wants, left));
        let mut opened = Opened::new(meter, datasets);
        if let Statement::CreateExternalTable(create) = statement {
            self.check_locations(&create.locations).await?;
            self.list_own(&mut opened).await?;
            return Ok(opened);
        }
        let state = context.state();
        let mut references = state.resolve_table_references(statement).map_err(SqlError::from_planning)?;
        // The layers of a dataset share one moment, and what is curated is the last to cover a position: who waits for
        // positions waits there first.
        references.sort_by_key(|reference| reference.schema() != Some(BATCH));
        for reference in references {
            // `range(10)`: the name of a function that yields rows.
            let is_function = reference.schema().is_none() && state.table_functions().contains_key(reference.table());
            match self.open(reference, &mut opened).await {
                Err(SqlError::UnknownTable { .. }) if is_function => {}
                outcome => outcome?,
            }
        }
        Ok(opened)
    }

    /// Most bytes that a function may make at once: what it makes is in no account of the memory.
    fn value_bytes_max(&self) -> usize {
        (self.config.memory_bytes_max / VALUE_SHARE).clamp(VALUE_BYTES_MIN, VALUE_BYTES_MAX)
    }

    /// The engine's runtime with its stores behind `meter`.
    pub(super) fn metered(&self, meter: &Arc<Meter>, reading: Reading) -> Result<Arc<RuntimeEnv>, SqlError> {
        let stores = Arc::clone(&self.runtime.object_store_registry);
        let registry = MeteredRegistry::new(stores, Arc::clone(meter), reading);
        RuntimeEnvBuilder::from_runtime_env(&self.runtime)
            .with_object_store_registry(Arc::new(registry))
            .build_arc()
            .map_err(SqlError::from_planning)
    }

    /// A session for what is planned beside a statement.
    pub(super) fn session(&self, runtime: &Arc<RuntimeEnv>) -> SessionContext {
        self.session_of(runtime, &Watch::unlimited(self.value_bytes_max()))
    }

    fn session_of(&self, runtime: &Arc<RuntimeEnv>, watch: &Arc<Watch>) -> SessionContext {
        let mut config = SessionConfig::new()
            .with_default_catalog_and_schema(CATALOG, self.default_schema())
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
        // Filters go over decoded batches. Put into the decoder, they save something only where they leave few rows of
        // few columns (two thirds of the time, measured on 9 M trips) and else cost up to twice as much.
        options.execution.parquet.pushdown_filters = false;
        // `fare > 8.9` compares decimals as decimals, and can prune by their bounds.
        options.sql_parser.parse_float_as_decimal = true;
        let builder = SessionStateBuilder::new().with_config(config).with_runtime_env(Arc::clone(runtime));
        let state = rules(watch).session(builder.with_default_features());
        let mut state = state.expect("a session takes every function");
        let ours = |known| guarded(known, watch).or_else(|| reaching_far(known));
        let functions: Vec<_> = state.scalar_functions().values().filter_map(ours).collect();
        for function in functions {
            let _theirs = state.register_udf(function).expect("a session takes every function");
        }
        let own: [Arc<dyn FunctionRewrite + Send + Sync>; 3] =
            [Arc::new(SameUnit::default()), Arc::new(SetComparisons), Arc::new(Guards::new(watch))];
        for rewrite in comparisons().into_iter().chain(own) {
            state.register_function_rewrite(rewrite).expect("a session takes every rewrite");
        }
        let context = SessionContext::new_with_state(state);
        let _none = context.register_catalog(CATALOG, Arc::new(MemoryCatalogProvider::new()));
        context
    }
}
