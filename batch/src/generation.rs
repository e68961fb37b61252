//! Generations: one curated table with its rejects, all made by one definition version (H9).

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use tidemark_shared::curated::{self, CurrentGeneration, Published};
use tidemark_shared::dataset::registry::{self, Registered, RegistryError};
use tidemark_shared::dataset::{Gate, InputSpec, SEMANTICS, nearest};
use tidemark_shared::error::AnyError;
use tidemark_shared::ledger::LedgerState;
use tidemark_shared::rows::{StreamRows, table_schema};
use tidemark_shared::transform::Transform;

use crate::curate::streams::Route;
use crate::curated::table::TableHead;
use crate::curated::writer::TableLayout;
use crate::error::BatchError;
use crate::failpoint;
use crate::report::Progress;
use crate::service::Batch;

/// What makes a generation's rows: one definition version, compiled.
#[derive(Clone)]
pub(crate) struct Maker {
    pub(crate) dataset: String,
    pub(crate) version: String,
    /// `None` where the dataset takes no files.
    spec: Option<Arc<InputSpec>>,
    /// Makes rows of stream records; `None` where the dataset has no stream.
    pub(crate) streams: Option<Arc<StreamRows>>,
    pub(crate) transform: Arc<Transform>,
    pub(crate) schema: SchemaRef,
    pub(crate) partition_columns: Vec<String>,
    pub(crate) gate: Gate,
}

impl Maker {
    fn compile(applied: &Registered) -> Result<Self, BatchError> {
        let definition = &applied.definition;
        let failed = |source| BatchError::Definition {
            dataset: definition.name.clone(),
            version: applied.version.to_string(),
            source,
        };
        let transform = Transform::compile(definition).map_err(|error| failed(AnyError::new(error)))?;
        let transform = Arc::new(transform);
        let streams =
            definition.stream.as_ref().map(|_| StreamRows::with_transform(definition, Arc::clone(&transform)));
        let streams = streams.transpose().map_err(|error| failed(AnyError::new(error)))?;
        Ok(Self {
            dataset: definition.name.clone(),
            version: applied.version.to_string(),
            spec: definition.file_input().map(Arc::new),
            streams: streams.map(Arc::new),
            schema: table_schema(&transform.output_schema()),
            transform,
            partition_columns: definition.partition_columns.clone(),
            gate: definition.gate.clone(),
        })
    }

    /// Columns and format of the dataset's files.
    ///
    /// # Errors
    /// [`BatchError::NoFiles`].
    pub(crate) fn spec(&self) -> Result<&Arc<InputSpec>, BatchError> {
        self.spec.as_ref().ok_or_else(|| BatchError::NoFiles { dataset: self.dataset.clone() })
    }

    /// How this generation's data files are laid out.
    pub(crate) fn table_layout(&self, batch: &Batch, generation: &str) -> TableLayout {
        TableLayout {
            objects: batch.store.objects(),
            root: tidemark_shared::layout::table(&self.dataset, generation),
            schema: Arc::clone(&self.schema),
            partition_columns: self.partition_columns.clone(),
            buffer_bytes_max: batch.settings.buffer_bytes_max,
            file_bytes_target: batch.settings.file_bytes_target,
            encoders: batch.threads(),
            ambient: Arc::clone(&batch.ambient),
        }
    }
}

/// A dataset's definitions as one command sees them: the newest, and those that it compiled, by version.
pub(crate) struct Definitions {
    pub(crate) dataset: String,
    latest: Registered,
    makers: BTreeMap<String, Maker>,
}

impl Definitions {
    /// True if the newest definition takes files.
    pub(crate) fn takes_files(&self) -> bool {
        self.latest.definition.files.is_some()
    }

    /// True if the newest definition has a stream.
    pub(crate) fn has_stream(&self) -> bool {
        self.latest.definition.stream.is_some()
    }
}

/// The generation that answers, and what makes it.
pub(crate) struct Current {
    /// Number of the pointer that names it.
    pub(crate) number: u64,
    pub(crate) generation: String,
    pub(crate) maker: Maker,
    /// Its table, when it was looked at.
    pub(crate) table: TableHead,
}

/// Refuses a ledger that ends before what the table covers. `ledger_end` was read after the table.
pub(crate) fn whole_ledger(dataset: &str, table: &TableHead, ledger_end: u64) -> Result<(), BatchError> {
    let covered = table.files_end();
    if covered <= ledger_end {
        return Ok(());
    }
    let what =
        format!("the table covers {covered} ledger entries, and the ledger has {ledger_end}: restore the others");
    Err(BatchError::Damaged { dataset: dataset.to_owned(), what })
}

impl Batch {
    /// The newest applied definition.
    pub(crate) async fn latest_definition(&self, dataset: &str) -> Result<Registered, BatchError> {
        if let Some(applied) = registry::latest(&self.store, dataset).await? {
            return Ok(applied);
        }
        let known = registry::list(&self.store).await?;
        let nearest = nearest(dataset, known.iter().map(String::as_str)).map(str::to_owned);
        Err(BatchError::UnknownDataset { dataset: dataset.to_owned(), nearest })
    }

    /// What a command knows of the dataset's definitions; they are read once.
    pub(crate) async fn definitions(&self, dataset: &str) -> Result<Definitions, BatchError> {
        let latest = self.latest_definition(dataset).await?;
        Ok(Definitions { dataset: dataset.to_owned(), latest, makers: BTreeMap::new() })
    }

    /// What a generation made by definition `version` is made by. The gate is the newest definition's where that
    /// decides the same rows: gates are versioned apart.
    pub(crate) async fn maker(&self, definitions: &mut Definitions, version: &str) -> Result<Maker, BatchError> {
        if let Some(maker) = definitions.makers.get(version) {
            return Ok(maker.clone());
        }
        let dataset = &definitions.dataset;
        let maker = if definitions.latest.version.as_str() == version {
            Maker::compile(&definitions.latest)?
        } else {
            let missing = || BatchError::Damaged {
                dataset: dataset.clone(),
                what: format!("definition {version}, which made the current generation, is gone"),
            };
            let applied = registry::by_version(&self.store, dataset, version).await?;
            Maker::compile(&applied.ok_or_else(missing)?)?
        };
        definitions.makers.insert(version.to_owned(), maker.clone());
        Ok(maker)
    }

    /// What a new generation is made by: the newest definition, under this release's semantics. One that was applied by
    /// a release with others is applied again, for its version says of what kind its rows are.
    pub(crate) async fn newest_maker(&self, definitions: &mut Definitions) -> Result<Maker, BatchError> {
        if definitions.latest.semantics != SEMANTICS {
            registry::apply(&self.store, &definitions.latest.sources).await?;
            definitions.latest = self.latest_definition(&definitions.dataset).await?;
        }
        let version = definitions.latest.version.to_string();
        self.maker(definitions, &version).await
    }

    /// Fails if the generation that answers was made under semantics that are not ours: then nothing may be added to it,
    /// and nothing to the ledger that would wait for it.
    /// Otherwise tells whether a generation answers.
    pub(crate) async fn refuse_other_semantics(&self, dataset: &str) -> Result<bool, BatchError> {
        match self.pointer(dataset).await? {
            Some((_, pointer)) => ours(dataset, &pointer.generation, pointer.semantics).map(|()| true),
            None => Ok(false),
        }
    }

    /// Makes the dataset's first generation, empty, unless there is one: a stream's rows can be shown before any of them is
    /// curated.
    ///
    /// # Errors
    /// [`BatchError`].
    pub async fn ensure_generation(&self, dataset: &str) -> Result<(), BatchError> {
        if self.pointer(dataset).await?.is_some() {
            return Ok(());
        }
        let mut definitions = self.definitions(dataset).await?;
        self.current(&mut definitions).await.map(drop)
    }

    /// The pointer to the generation that answers, as stored.
    pub(crate) async fn pointer(&self, dataset: &str) -> Result<Option<(u64, CurrentGeneration)>, BatchError> {
        Ok(curated::current(self.store.objects().as_ref(), dataset).await?)
    }

    /// The generation that answers, as stored, and its table as it is now; neither where there is none yet.
    pub(crate) async fn answering(
        &self,
        dataset: &str,
    ) -> Result<(Option<CurrentGeneration>, Option<TableHead>), BatchError> {
        let Some((_, pointer)) = self.pointer(dataset).await? else { return Ok((None, None)) };
        let table = TableHead::open(&self.store.objects(), dataset, &pointer.generation).await?;
        Ok((Some(pointer), table))
    }

    /// The generation that answers; the first one is created here, by the newest definition.
    ///
    /// A frozen generation is finished on behalf of whoever froze it: its successor catches up to the frozen coverage
    /// and takes over (H9). So a recompute that was killed between the two never blocks anybody.
    pub(crate) async fn current(&self, definitions: &mut Definitions) -> Result<Current, BatchError> {
        let dataset = definitions.dataset.clone();
        loop {
            let Some((number, pointer)) = self.pointer(&dataset).await? else {
                self.create_first(definitions).await?;
                continue;
            };
            let maker = self.maker(definitions, &pointer.definition).await?;
            let table = self.open_or_create(&maker, &pointer.generation).await?;
            let Some(successor) = table.successor().map(str::to_owned) else {
                return Ok(Current { number, generation: pointer.generation, maker, table });
            };
            self.hand_over(definitions, number, &table, &successor).await?;
        }
    }

    /// [`Self::current`], to be replaced by what `newest` makes. The definition that made it may be one that this release
    /// can't use: nothing is made by that any more, its table is only looked at and frozen.
    pub(crate) async fn current_to_replace(
        &self,
        definitions: &mut Definitions,
        newest: &Maker,
    ) -> Result<Current, BatchError> {
        let error = match self.current(definitions).await {
            Err(error @ BatchError::Registry(RegistryError::NoLongerValid { .. })) => error,
            other => return other,
        };
        let Some((_, pointer)) = self.pointer(&definitions.dataset).await? else { return Err(error) };
        definitions.makers.insert(pointer.definition, newest.clone());
        self.current(definitions).await
    }

    /// The generation that answers, where `exists` says that there is one, beside a ledger not shorter than what it covers.
    ///
    /// # Errors
    /// [`BatchError::Damaged`] where entries were lost: new ones would take their numbers, and the table would count
    /// them as covered without having their rows.
    pub(crate) async fn open_current(
        &self,
        definitions: &mut Definitions,
        state: &mut LedgerState,
        exists: bool,
    ) -> Result<Option<Current>, BatchError> {
        if !exists {
            return Ok(None);
        }
        let dataset = definitions.dataset.clone();
        let current = self.current(definitions).await?;
        if current.table.files_end() > state.end() {
            // Another run may have appended and committed since the ledger was read.
            self.ledger(&dataset).catch_up(state).await?;
        }
        whole_ledger(&dataset, &current.table, state.end())?;
        Ok(Some(current))
    }

    pub(crate) async fn open_or_create(&self, maker: &Maker, generation: &str) -> Result<TableHead, BatchError> {
        let objects = self.store.objects();
        if let Some(table) = TableHead::open(&objects, &maker.dataset, generation).await? {
            return Ok(table);
        }
        TableHead::create(&objects, &maker.dataset, generation, &maker.schema, &maker.partition_columns, &maker.version)
            .await
    }

    async fn create_first(&self, definitions: &mut Definitions) -> Result<(), BatchError> {
        let maker = self.newest_maker(definitions).await?;
        let generation = self.new_generation_name(&maker.version);
        self.open_or_create(&maker, &generation).await?;
        failpoint::pass("generation.after_create");
        let pointer = CurrentGeneration::new(&generation, &maker.version, SEMANTICS);
        self.publish(&maker.dataset, 0, &pointer).await?;
        Ok(())
    }

    /// A folder name that no other attempt uses, and that tells people which definition made it.
    pub(crate) fn new_generation_name(&self, version: &str) -> String {
        format!("{}-{version}", self.ambient.unique_id())
    }

    /// Makes `pointer` the `number`-th. False: another one is.
    pub(crate) async fn publish(
        &self,
        dataset: &str,
        number: u64,
        pointer: &CurrentGeneration,
    ) -> Result<bool, BatchError> {
        let published = curated::publish(&self.store, dataset, number, pointer).await?;
        failpoint::pass("generation.after_publish");
        Ok(published == Published::Created)
    }

    /// Brings `table`, of a generation that is to take over, up to what `other` covers: files and every log partition. Gives
    /// the bytes that it wrote. `state` is the ledger as read before, if it was.
    ///
    /// Files go to the ledger's end, not only as far as the other table: what comes after may take out a file whose bytes
    /// are lost.
    pub(crate) async fn catch_up(
        &self,
        maker: &Maker,
        table: TableHead,
        other: &TableHead,
        state: Option<&mut LedgerState>,
        progress: &Arc<dyn Progress>,
    ) -> Result<u64, BatchError> {
        let (dataset, mut written, mut table) = (&maker.dataset, 0, table);
        if table.files_end() < other.files_end() {
            let mut read = LedgerState::default();
            let state = state.unwrap_or(&mut read);
            if state.end() == 0 {
                *state = self.ledger(dataset).state().await?;
            }
            self.ledger(dataset).catch_up(state).await?;
            let (dataset, generation) = (dataset.clone(), table.generation.clone());
            written += self.extend(maker, table, state, state.end(), None, progress).await?.curated_bytes;
            let now = TableHead::open(&self.store.objects(), &dataset, &generation).await?;
            table = now.ok_or(BatchError::Abandoned { dataset, generation })?;
        }
        if !table.coverage().includes(&other.stream_coverage()) {
            if maker.streams.is_none() {
                return Err(BatchError::NoStream { dataset: maker.dataset.clone() });
            }
            let mut route = Route::to(self.archive(&maker.dataset), other.stream_coverage());
            written += self.extend_streams(maker, table, &mut route, progress).await?.curated_bytes;
        }
        Ok(written)
    }

    /// Finishes the switch from a frozen table to its successor.
    pub(crate) async fn hand_over(
        &self,
        definitions: &mut Definitions,
        number: u64,
        frozen: &TableHead,
        successor: &str,
    ) -> Result<(), BatchError> {
        let (objects, dataset) = (self.store.objects(), definitions.dataset.clone());
        let missing = || BatchError::Damaged {
            dataset: dataset.clone(),
            what: format!("generation {successor}, which should take over, has no table"),
        };
        let table = TableHead::open(&objects, &dataset, successor).await?.ok_or_else(missing)?;
        let version = table.definition().ok_or_else(missing)?;
        let pointer = CurrentGeneration::new(successor, version, table.semantics()?);
        if !table.coverage().includes(&frozen.coverage()) {
            let maker = self.maker(definitions, &pointer.definition).await?;
            self.catch_up(&maker, table, frozen, None, &crate::report::quiet()).await?;
        }
        // Somebody else may have published it meanwhile; either way the pointer is not `number` any more.
        self.publish(&dataset, number + 1, &pointer).await?;
        Ok(())
    }
}

/// Fails if `semantics`, those of a generation, are not this release's.
pub(crate) fn ours(dataset: &str, generation: &str, semantics: u32) -> Result<(), BatchError> {
    if semantics == SEMANTICS {
        return Ok(());
    }
    let (dataset, generation) = (dataset.to_owned(), generation.to_owned());
    Err(BatchError::OtherSemantics { dataset, generation, found: semantics })
}
