//! Generations: one curated table with its rejects, all made by one definition version (H9).

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use tidemark_shared::curated::{self, CurrentGeneration, Published};
use tidemark_shared::dataset::registry::{self, Registered};
use tidemark_shared::dataset::{Gate, InputSpec, SEMANTICS, nearest};
use tidemark_shared::error::AnyError;
use tidemark_shared::transform::Transform;

use crate::curated::table::{TableHead, table_schema};
use crate::curated::writer::TableLayout;
use crate::error::BatchError;
use crate::failpoint;
use crate::service::Batch;

/// What makes a generation's rows: one definition version, compiled.
#[derive(Clone)]
pub(crate) struct Maker {
    pub(crate) dataset: String,
    pub(crate) version: String,
    pub(crate) spec: Arc<InputSpec>,
    pub(crate) transform: Arc<Transform>,
    pub(crate) schema: SchemaRef,
    pub(crate) partition_columns: Vec<String>,
    pub(crate) gate: Gate,
}

impl Maker {
    fn compile(applied: &Registered) -> Result<Self, BatchError> {
        let definition = &applied.definition;
        let failed = |error| BatchError::Definition {
            dataset: definition.name.clone(),
            version: applied.version.to_string(),
            source: AnyError::new(error),
        };
        let spec = definition.file_input().ok_or_else(|| BatchError::NoFiles { dataset: definition.name.clone() })?;
        let transform = Transform::compile(definition).map_err(failed)?;
        Ok(Self {
            dataset: definition.name.clone(),
            version: applied.version.to_string(),
            spec: Arc::new(spec),
            schema: table_schema(&transform.output_schema()),
            transform: Arc::new(transform),
            partition_columns: definition.partition_columns.clone(),
            gate: definition.gate.clone(),
        })
    }

    /// How this generation's data files are laid out.
    pub(crate) fn layout(&self, batch: &Batch, generation: &str) -> TableLayout {
        TableLayout {
            objects: batch.store.objects(),
            root: tidemark_shared::layout::table(&self.dataset, generation),
            schema: Arc::clone(&self.schema),
            partition_columns: self.partition_columns.clone(),
            buffer_bytes_max: batch.settings.buffer_bytes_max,
            file_bytes_target: batch.settings.file_bytes_target,
            encoders: batch.threads(),
        }
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

impl Batch {
    /// The newest applied definition.
    pub(crate) async fn latest_definition(&self, dataset: &str) -> Result<Registered, BatchError> {
        if let Some(applied) = registry::latest(&self.store.objects(), dataset).await? {
            return Ok(applied);
        }
        let known = registry::list(&self.store.objects()).await?;
        let nearest = nearest(dataset, known.iter().map(String::as_str)).map(str::to_owned);
        Err(BatchError::UnknownDataset { dataset: dataset.to_owned(), nearest })
    }

    /// What a generation made by definition `version` is made by. The gate is the newest definition's where that
    /// decides the same rows: gates are versioned apart.
    pub(crate) async fn maker(&self, dataset: &str, version: &str) -> Result<Maker, BatchError> {
        let latest = self.latest_definition(dataset).await?;
        if latest.version.to_string() == version {
            return Maker::compile(&latest);
        }
        let applied = registry::by_version(&self.store.objects(), dataset, version).await?;
        let missing = || BatchError::Damaged {
            dataset: dataset.to_owned(),
            what: format!("definition {version}, which made the current generation, is gone"),
        };
        Maker::compile(&applied.ok_or_else(missing)?)
    }

    /// The pointer to the generation that answers, as stored.
    pub(crate) async fn pointer(&self, dataset: &str) -> Result<Option<(u64, CurrentGeneration)>, BatchError> {
        Ok(curated::current(self.store.objects().as_ref(), dataset).await?)
    }

    /// The generation that answers; the first one is created here, by the newest definition.
    ///
    /// A sealed generation is finished on behalf of whoever sealed it: its successor catches up to the sealed coverage
    /// and takes over (H9). So a recompute that was killed between the two never blocks anybody.
    pub(crate) async fn current(&self, dataset: &str) -> Result<Current, BatchError> {
        loop {
            let Some((number, pointer)) = self.pointer(dataset).await? else {
                self.create_first(dataset).await?;
                continue;
            };
            let maker = self.maker(dataset, &pointer.definition).await?;
            let table = self.open_or_create(&maker, &pointer.generation).await?;
            let Some(successor) = table.successor().map(str::to_owned) else {
                return Ok(Current { number, generation: pointer.generation, maker, table });
            };
            self.hand_over(dataset, number, &table, &successor).await?;
        }
    }

    pub(crate) async fn open_or_create(&self, maker: &Maker, generation: &str) -> Result<TableHead, BatchError> {
        let objects = self.store.objects();
        if let Some(table) = TableHead::open(&objects, &maker.dataset, generation).await? {
            return Ok(table);
        }
        TableHead::create(&objects, &maker.dataset, generation, &maker.schema, &maker.partition_columns, &maker.version)
            .await
    }

    async fn create_first(&self, dataset: &str) -> Result<(), BatchError> {
        let latest = self.latest_definition(dataset).await?;
        let generation = self.new_generation_name(&latest.version.to_string());
        let maker = Maker::compile(&latest)?;
        self.open_or_create(&maker, &generation).await?;
        failpoint::pass("generation.after_create");
        self.publish(dataset, 0, &generation, &maker.version).await?;
        Ok(())
    }

    /// A folder name that no other attempt uses, and that tells people which definition made it.
    pub(crate) fn new_generation_name(&self, version: &str) -> String {
        format!("{}-{version}", self.ambient.unique_id())
    }

    /// Makes `generation` the `number`-th current one. False: another one is.
    pub(crate) async fn publish(
        &self,
        dataset: &str,
        number: u64,
        generation: &str,
        version: &str,
    ) -> Result<bool, BatchError> {
        let pointer = CurrentGeneration::new(generation, version, SEMANTICS);
        let published = curated::publish(&self.store, dataset, number, &pointer).await?;
        failpoint::pass("generation.after_publish");
        Ok(published == Published::Created)
    }

    /// Finishes the switch from a sealed table to its successor.
    pub(crate) async fn hand_over(
        &self,
        dataset: &str,
        number: u64,
        sealed: &TableHead,
        successor: &str,
    ) -> Result<(), BatchError> {
        let objects = self.store.objects();
        let missing = || BatchError::Damaged {
            dataset: dataset.to_owned(),
            what: format!("generation {successor}, which should take over, has no table"),
        };
        let table = TableHead::open(&objects, dataset, successor).await?.ok_or_else(missing)?;
        let version = table.definition().ok_or_else(missing)?.to_owned();
        if table.files_end() < sealed.files_end() {
            let maker = self.maker(dataset, &version).await?;
            // To the ledger's end, not only as far as the sealed one: what comes after may take out a file whose bytes
            // are lost.
            let to = self.ledger(dataset).state().await?.end();
            self.extend(&maker, table, to, None, &crate::report::quiet()).await?;
        }
        // Somebody else may have published it meanwhile; either way the pointer is not `number` any more.
        self.publish(dataset, number + 1, successor, &version).await?;
        Ok(())
    }
}
