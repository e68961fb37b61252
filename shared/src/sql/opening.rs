//! From the names in a statement to tables: what it names is opened before it is planned, each table at one moment.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use crate::curated::{self, CuratedTable, CuratedVersion, STORE_URL};
use crate::dataset::is_name;
use crate::error::Kind;
use crate::layout;
use crate::ledger::entries_above;
use crate::secrets::shown_url;
use crate::store::{IfMissing, StoreUrl};
use datafusion::catalog::TableProvider;
use datafusion::common::{ResolvedTableReference, TableReference};
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::logical_expr::{DdlStatement, LogicalPlan};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionContext;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use url::Url;

use super::answer::{LayerRows, Totals};
use super::as_of::{AsOf, TableAsOf};
use super::catalog::{OpenedSchema, SessionTable};
use super::datasets::{CutError, Layer, OpenedDataset, StatementDatasets};
use super::engine::{BATCH, CATALOG, SqlEngine};
use super::error::{SqlError, nearest};
use super::files::{self, FileTable};
use super::layers;
use super::meter::{Meter, Reading};

const INFORMATION: &str = "information_schema";

/// What a statement was found to need.
pub(super) struct Opened {
    /// Counts what is read to open it.
    meter: Arc<Meter>,
    schemas: BTreeMap<String, Arc<OpenedSchema>>,
    /// True if `schemas` has all names there are.
    listed: bool,
    /// The schema of names without one.
    default_schema: &'static str,
    /// Datasets as a server answers for them, if one does.
    datasets: Option<Arc<dyn StatementDatasets>>,
    pub(super) reads: Reads,
}

impl Opened {
    pub(super) fn new(meter: &Arc<Meter>, datasets: Option<Arc<dyn StatementDatasets>>) -> Self {
        let default_schema = if datasets.is_some() { Layer::Merged.name() } else { BATCH };
        let meter = Arc::clone(meter);
        Self { meter, schemas: BTreeMap::new(), listed: false, default_schema, datasets, reads: Reads::default() }
    }

    /// Lets a session find them.
    pub(super) fn register(&self, context: &SessionContext) {
        let catalog = context.catalog(CATALOG).expect("every session has the catalog");
        for (name, schema) in &self.schemas {
            let _none = catalog
                .register_schema(name, Arc::clone(schema) as Arc<dyn datafusion::catalog::SchemaProvider>)
                .expect("an in-memory catalog takes every schema");
        }
    }

    fn schema(&mut self, name: &str) -> Arc<OpenedSchema> {
        Arc::clone(self.schemas.entry(name.to_owned()).or_default())
    }

    /// The nearest of all names to one that does not exist: a table of the same name in another schema, else the most
    /// similar in its own schema, else the most similar at all.
    fn suggestion(&self, schema: &str, table: &str) -> Option<String> {
        let full = |schema: &str, table: &str| match schema {
            _ if schema == self.default_schema => table.to_owned(),
            _ => format!("{schema}.{table}"),
        };
        let own = self.schemas.get(schema).map(|opened| opened.names()).unwrap_or_default();
        // A folder without a generation pointer has the name and is no table.
        let other = |name: &str| name != schema;
        let mut elsewhere = self.schemas.iter().filter(|(name, _)| other(name));
        let elsewhere = elsewhere.find(|(_, opened)| opened.names().iter().any(|name| name == table));
        if let Some((other, _)) = elsewhere {
            return Some(full(other, table));
        }
        if let Some(name) = nearest(table, own.iter().map(String::as_str).filter(|name| *name != table)) {
            return Some(full(schema, &name));
        }
        let of_schema = |(schema, opened): (&String, &Arc<OpenedSchema>)| -> Vec<String> {
            opened.names().iter().map(|name| full(schema, name)).collect()
        };
        let all: Vec<String> = self.schemas.iter().flat_map(of_schema).collect();
        let wanted = full(schema, table);
        nearest(&wanted, all.iter().map(String::as_str).filter(|name| *name != wanted))
    }
}

impl SqlEngine {
    /// Opens the table that a statement names.
    pub(super) async fn open(&self, reference: TableReference, opened: &mut Opened) -> Result<(), SqlError> {
        let written = reference.to_string();
        let unqualified = reference.schema().is_none();
        let ResolvedTableReference { schema, table, .. } = reference.resolve(CATALOG, self.default_schema());
        let (schema, table) = (schema.as_ref(), table.as_ref());
        if schema == INFORMATION {
            return self.open_all(opened).await;
        }
        if opened.schemas.get(schema).is_some_and(|schema| schema.opened(table).is_some()) {
            return Ok(());
        }
        let meter = Arc::clone(&opened.meter);
        let datasets = opened.datasets.clone();
        if datasets.is_none() {
            self.check_served(schema, table, unqualified).await?;
        }
        let provider = match self.find(schema, table, &meter, datasets.as_deref(), &mut opened.reads).await? {
            Some(provider) => provider,
            None if schema == self.default_schema() && files::is_path(table) => {
                self.file(table, &meter, &mut opened.reads).await?
            }
            None if Layer::named(schema).is_some() && self.is_applied(table).await => {
                return Err(SqlError::NoTableYet { dataset: table.to_owned() });
            }
            None => {
                // Only who mistypes waits for all names there are, and gets what can be had.
                if let Err(error) = self.list(opened).await {
                    tracing::debug!(%error, "no names to suggest");
                }
                return Err(SqlError::UnknownTable { suggestion: opened.suggestion(schema, table), name: written });
            }
        };
        opened.schema(schema).open(table, provider);
        Ok(())
    }

    /// Takes down all names that a statement can use now, and opens none of them.
    pub(super) async fn list(&self, opened: &mut Opened) -> Result<(), SqlError> {
        if opened.listed {
            return Ok(());
        }
        self.list_own(opened).await?;
        let schemas = self.catalog.names().await.map_err(|source| SqlError::Catalog { source })?;
        let own = |name: &str| name == INFORMATION || Layer::named(name).is_some();
        for (name, tables) in schemas.into_iter().filter(|(name, _)| !own(name)) {
            opened.schema(&name).name(tables);
        }
        opened.listed = true;
        Ok(())
    }

    /// [`Self::list`] without the catalog's tables.
    pub(super) async fn list_own(&self, opened: &mut Opened) -> Result<(), SqlError> {
        let failed = |source| SqlError::Store { store: self.objects.to_string(), source };
        let datasets = curated::datasets(self.objects.as_ref()).await.map_err(failed)?;
        let layers = match &self.datasets {
            Some(_) => Layer::ALL.to_vec(),
            None => vec![Layer::Batch],
        };
        for layer in layers {
            let mut names = datasets.clone();
            if layer.name() == self.default_schema() {
                names.extend(self.session_tables.names());
            }
            names.sort();
            names.dedup();
            opened.schema(layer.name()).name(names);
        }
        Ok(())
    }

    /// Whether there is a definition of a dataset of that name, as far as can be told.
    async fn is_applied(&self, name: &str) -> bool {
        if !is_name(name) {
            return false;
        }
        let mut listed = self.objects.list(Some(&layout::definitions(name)));
        matches!(listed.next().await, Some(Ok(_)))
    }

    /// The dataset, session table or catalog table of that name.
    async fn find(
        &self,
        schema: &str,
        table: &str,
        meter: &Arc<Meter>,
        datasets: Option<&dyn StatementDatasets>,
        reads: &mut Reads,
    ) -> Result<Option<Arc<dyn TableProvider>>, SqlError> {
        let Some(layer) = Layer::named(schema) else {
            let found = self.catalog.table(schema, table).await.map_err(|source| SqlError::Catalog { source })?;
            let Some(found) = found else { return Ok(None) };
            let provider = self.open_files(&found.files, meter).await?;
            let as_of = TableAsOf { location: found.files.location, version: Some(found.version) };
            let _previous = reads.as_of.tables.insert(format!("{schema}.{table}"), as_of);
            return Ok(Some(provider));
        };
        if schema == self.default_schema()
            && let Some(named) = self.session_tables.get(table)
        {
            let as_of = TableAsOf { location: named.location, version: None };
            let _previous = reads.as_of.tables.insert(table.to_owned(), as_of);
            return Ok(Some(named.provider));
        }
        let failed = |source| SqlError::Curated { dataset: table.to_owned(), source };
        // Other names never reach the store's keys.
        if !is_name(table) {
            return Ok(None);
        }
        if let Some(datasets) = datasets {
            let opened = datasets.open(layer, table).await?;
            return opened.map(|opened| self.put_together(table, opened, reads)).transpose();
        }
        let version = self.curated.open(table).await.map_err(failed)?;
        let Some(version) = version else { return self.without_pointer(table).await };
        reads.notes.extend(self.behind(&version).await);
        reads.totals.files += version.files.len() as u64;
        reads.totals.bytes += version.bytes();
        let _previous = reads.as_of.datasets.insert(table.to_owned(), version.as_ref().into());
        let provider = CuratedTable::try_new(Arc::clone(&version)).map_err(SqlError::from_planning)?;
        self.with_key(&version, Arc::new(provider)).await.map(Some)
    }

    /// Where no server answers: what is curated is all there is of a dataset that no stream ever fed.
    async fn check_served(&self, schema: &str, table: &str, unqualified: bool) -> Result<(), SqlError> {
        let needs_server =
            || SqlError::NeedsServer { schema: Layer::Merged.name().to_owned(), table: table.to_owned() };
        match Layer::named(schema) {
            Some(Layer::Live) => Err(SqlError::NeedsServer { schema: schema.to_owned(), table: table.to_owned() }),
            Some(Layer::Batch) if !unqualified => Ok(()),
            Some(_) if !is_name(table) || self.session_tables.get(table).is_some() => Ok(()),
            Some(_) if self.has_stream(table).await? => Err(needs_server()),
            _ => Ok(()),
        }
    }

    /// True if a topic was ever entered as a source of the dataset.
    async fn has_stream(&self, dataset: &str) -> Result<bool, SqlError> {
        let failed = |source| SqlError::Store { store: self.objects.to_string(), source };
        let first = self.objects.list(Some(&layout::stream_sources(dataset))).try_next().await;
        Ok(first.map_err(failed)?.is_some())
    }

    /// A dataset's table, made of what a server opened.
    fn put_together(
        &self,
        dataset: &str,
        opened: OpenedDataset,
        reads: &mut Reads,
    ) -> Result<Arc<dyn TableProvider>, SqlError> {
        let state = || self.session(&self.runtime).state();
        let provider = layers::table(state, &opened).map_err(SqlError::from_planning)?;
        // The tables of one dataset share a cut: naming two of them reads no file twice, and what the one with the
        // real-time part covers is what the answer covers.
        match reads.as_of.datasets.get_mut(dataset) {
            Some(known) if known.positions.includes(&opened.as_of.positions) => {}
            Some(known) => *known = opened.as_of,
            None => drop(reads.as_of.datasets.insert(dataset.to_owned(), opened.as_of)),
        }
        let layers = reads.layers.entry(dataset.to_owned()).or_default();
        if layers.files == 0 {
            reads.totals.files += opened.files;
            reads.totals.bytes += opened.bytes;
        }
        let rows = LayerRows { batch: opened.rows_batch, live: opened.rows_live };
        *layers = DatasetRead { files: layers.files.max(opened.files), rows: layers.rows.with(rows) };
        let rows = reads.layers.values().fold(LayerRows::default(), |all, layers| all.plus(layers.rows));
        reads.totals.layers = Some(rows);
        Ok(provider)
    }

    /// `provider`, of a curated version, with one row per key if the definition that made it has one.
    async fn with_key(
        &self,
        version: &CuratedVersion,
        provider: Arc<dyn TableProvider>,
    ) -> Result<Arc<dyn TableProvider>, SqlError> {
        let Some(definitions) = &self.definitions else { return Ok(provider) };
        let (dataset, definition) = (&version.dataset, &version.generation.definition);
        let failed = |source| SqlError::Cut { dataset: dataset.clone(), source: CutError::failed(source) };
        let definition = definitions.get(dataset, definition).await.map_err(failed)?;
        let Some(key) = definition.and_then(|definition| definition.key.clone()) else { return Ok(provider) };
        let opened = OpenedDataset {
            schema: provider.schema(),
            parts: vec![provider],
            only: None,
            key: Some(key),
            as_of: version.into(),
            files: 0,
            bytes: 0,
            rows_batch: 0,
            rows_live: Some(0),
        };
        layers::table(|| self.session(&self.runtime).state(), &opened).map_err(SqlError::from_planning)
    }

    /// Nothing is curated yet under a name that no pointer knows; unless generations lie there.
    async fn without_pointer(&self, dataset: &str) -> Result<Option<Arc<dyn TableProvider>>, SqlError> {
        let folder = layout::curated(dataset);
        let failed = |source| SqlError::Store { store: self.objects.to_string(), source };
        let listed = self.objects.list_with_delimiter(Some(&folder)).await.map_err(failed)?;
        if listed.common_prefixes.is_empty() {
            return Ok(None);
        }
        Err(SqlError::NoGeneration { dataset: dataset.to_owned(), pointers: layout::currents(dataset).to_string() })
    }

    /// What the ledger has and the table does not: rows that a run was about to bring, or that were lost with a commit.
    async fn behind(&self, version: &CuratedVersion) -> Option<String> {
        let dataset = &version.dataset;
        let covered = version.coverage.files_end();
        match entries_above(self.objects.as_ref(), dataset, covered).await {
            Ok(0) => None,
            Ok(entries) => Some(format!(
                "{dataset} is behind its ledger: of {} entries, {entries} are not in the table; \
                 `tidemark batch run {dataset}` takes them in",
                covered + entries,
            )),
            Err(error) => {
                // The table answers for what it covers, and the as-of says what that is.
                tracing::warn!(%dataset, %error, "the ledger can't be read");
                None
            }
        }
    }

    /// The file or folder that a `FROM` clause names.
    async fn file(
        &self,
        location: &str,
        meter: &Arc<Meter>,
        reads: &mut Reads,
    ) -> Result<Arc<dyn TableProvider>, SqlError> {
        if !self.config.files_in_place {
            return Err(SqlError::FilesClosed { location: location.to_owned() });
        }
        let provider = self.open_files(&FileTable::at(location), meter).await?;
        let as_of = TableAsOf { location: location.to_owned(), version: None };
        let _previous = reads.as_of.tables.insert(location.to_owned(), as_of);
        Ok(provider)
    }

    /// The files of a table, wherever they are.
    pub(super) async fn open_files(
        &self,
        table: &FileTable,
        meter: &Arc<Meter>,
    ) -> Result<Arc<dyn TableProvider>, SqlError> {
        self.open_bucket(&table.location).await?;
        let session = self.session(&self.metered(meter, Reading::Beginning)?);
        let opened = files::open(&session.state(), table).await;
        within_limit(meter)?;
        opened
    }

    /// Lets the engine read the bucket that `location` is in, if it is in one.
    async fn open_bucket(&self, location: &str) -> Result<(), SqlError> {
        let Some((address, bucket)) = files::bucket(location) else { return Ok(()) };
        let bad = |message: &str| {
            let (location, message) = (shown_url(location), message.to_owned());
            SqlError::BadFile { location, message, kind: Kind::Invalid }
        };
        let url = Url::parse(&address).map_err(|_| bad("this is no address of an object in a bucket"))?;
        if self.runtime.object_store_registry.get_store(&url).is_ok() {
            return Ok(());
        }
        let Some(stores) = &self.stores else { return Err(bad("this door opens no buckets")) };
        let failed = |source| SqlError::Bucket { location: shown_url(location), source };
        let store_url = StoreUrl::parse(&format!("s3://{bucket}"), std::path::Path::new("/")).map_err(failed)?;
        let store = stores.open(&store_url, IfMissing::Fail).await.map_err(failed)?;
        let _none = self.runtime.register_object_store(&url, store.objects());
        Ok(())
    }

    /// Opens every table, for `information_schema`, `SHOW TABLES` and the like. One that can't be opened is left out.
    async fn open_all(&self, opened: &mut Opened) -> Result<(), SqlError> {
        self.list(opened).await?;
        for (schema, tables) in &opened.schemas {
            for table in tables.names().iter().filter(|table| tables.opened(table).is_none()) {
                // What is only listed is not read: no part of the as-of.
                match self.find(schema, table, &opened.meter, opened.datasets.as_deref(), &mut Reads::default()).await {
                    Ok(Some(provider)) => tables.open(table, provider),
                    Ok(None) => {}
                    Err(error) => tracing::warn!(%schema, %table, %error, "table left out of the listing"),
                }
            }
        }
        Ok(())
    }

    /// Whether files in place may be named here, and are where they can be read.
    pub(super) async fn check_locations(&self, locations: &[String]) -> Result<(), SqlError> {
        if !self.config.files_in_place {
            return Err(SqlError::FilesClosed { location: locations.join(", ") });
        }
        for location in locations {
            self.open_bucket(location).await?;
        }
        Ok(())
    }

    /// `CREATE EXTERNAL TABLE`: the table stays for the engine's further statements, and nothing is written anywhere.
    pub(super) async fn create_table(&self, opened: &Opened, plan: &LogicalPlan) -> Result<(), SqlError> {
        let LogicalPlan::Ddl(DdlStatement::CreateExternalTable(create)) = plan else {
            return Err(SqlError::ReadOnly { statement: plan.display().to_string() });
        };
        let context = self.session(&self.metered(&opened.meter, Reading::Beginning)?);
        opened.register(&context);
        let created = context.execute_logical_plan(plan.clone()).await;
        within_limit(&opened.meter)?;
        let _nothing = created.map_err(SqlError::from_planning)?;
        let name = create.name.clone().resolve(CATALOG, self.default_schema());
        let own = name.schema.as_ref() == self.default_schema();
        let schema = opened.schemas.get(name.schema.as_ref()).filter(|_| own);
        let provider = schema.and_then(|schema| schema.opened(&name.table));
        if provider.is_none() && create.if_not_exists && schema.is_some() {
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

/// Charges what opening files took; a limit reached on the way is the reason, whatever failed for it.
fn within_limit(meter: &Meter) -> Result<(), SqlError> {
    match (meter.settle(), meter.exceeded()) {
        (_, Some(limit_bytes)) => Err(SqlError::TooManyBytes { limit_bytes }),
        (Err(source), None) => Err(SqlError::from_planning(source.into())),
        (Ok(()), None) => Ok(()),
    }
}

/// What a statement reads, as far as it is known before it runs.
#[derive(Default)]
pub(super) struct Reads {
    pub(super) as_of: AsOf,
    pub(super) totals: Totals,
    pub(super) notes: Vec<String>,
    layers: BTreeMap<String, DatasetRead>,
}

/// Files and rows of one dataset, as far as its tables are read.
#[derive(Debug, Clone, Copy, Default)]
struct DatasetRead {
    files: u64,
    rows: LayerRows,
}

impl Reads {
    /// Adds the files of listed tables; a curated table's are known from its log.
    pub(super) fn count_files_in_place(&mut self, plan: &Arc<dyn ExecutionPlan>) {
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
