//! Curated versions, kept open: a query looks whether there is a newer one, by a request for the one object that would
//! be there then, and replays a log only if so.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use datafusion::error::DataFusionError;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use tidemark_shared::curated::{CuratedError, CuratedTable, CuratedVersion, CurrentGeneration, current, pointer};
use tidemark_shared::error::{ErrorKind, Kind};
use tidemark_shared::layout;

/// Why a curated version can't be had.
#[derive(Debug, thiserror::Error)]
pub enum VersionError {
    /// It can't be read.
    #[error(transparent)]
    Curated(#[from] CuratedError),
    /// Its columns make no table.
    #[error("generation {generation} makes no table")]
    Table {
        /// The generation.
        generation: String,
        /// Why.
        #[source]
        source: DataFusionError,
    },
}

impl ErrorKind for VersionError {
    fn kind(&self) -> Kind {
        match self {
            Self::Curated(source) => source.kind(),
            Self::Table { .. } => Kind::Corrupt,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Curated(source) => source.hint(),
            Self::Table { .. } => None,
        }
    }
}

/// The pointer to a generation, with its number.
pub type Pointer = (u64, CurrentGeneration);

/// Pointers that are looked at: so many recomputes may come before the view of any of them is built, and answers still go on
/// from the generation that gave the last one.
pub const POINTERS_MAX: usize = 8;

/// Where a cut gets curated versions from.
#[async_trait]
pub trait Versions: fmt::Debug + Send + Sync {
    /// The newest pointers of a dataset, the newest first, at most [`POINTERS_MAX`]; none if nothing was curated yet.
    ///
    /// # Errors
    /// [`VersionError`].
    async fn pointers(&self, dataset: &str) -> Result<Vec<Pointer>, VersionError>;

    /// The newest version of a generation.
    ///
    /// # Errors
    /// [`VersionError`].
    async fn newest(&self, dataset: &str, generation: &CurrentGeneration) -> Result<Arc<CuratedTable>, VersionError>;
}

/// A generation's newest version, once opened. Who opens a newer one holds the lock.
type Slot = Arc<tokio::sync::Mutex<Option<Arc<CuratedTable>>>>;

/// Keeps the newest versions of each dataset's newest generations.
pub struct VersionCache {
    objects: Arc<dyn ObjectStore>,
    pointers: Mutex<BTreeMap<String, Vec<Pointer>>>,
    versions: Mutex<BTreeMap<(String, String), Slot>>,
}

impl fmt::Debug for VersionCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VersionCache").finish_non_exhaustive()
    }
}

impl VersionCache {
    /// A cache that holds nothing yet.
    #[must_use]
    pub fn new(objects: Arc<dyn ObjectStore>) -> Self {
        Self { objects, pointers: Mutex::default(), versions: Mutex::default() }
    }

    async fn exists(&self, key: &Path) -> Result<bool, CuratedError> {
        match self.objects.head(key).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(source) => Err(CuratedError::Store { key: key.to_string(), source }),
        }
    }

    async fn is_newest(&self, table: &CuratedTable) -> Result<bool, CuratedError> {
        let version = table.version();
        let root = layout::table(&version.dataset, &version.generation.generation);
        let next = format!("{:0digits$}.json", version.table_version + 1, digits = layout::SEQUENCE_DIGITS);
        Ok(!self.exists(&root.join("_delta_log").join(next)).await?)
    }

    /// Lets go of generations that none of the newest pointers names.
    fn forget(&self, dataset: &str, kept: &[Pointer]) {
        let keeps = |generation: &str| kept.iter().any(|(_, kept)| kept.generation == generation);
        let mut versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        versions.retain(|(of, generation), _| of != dataset || keeps(generation));
    }
}

#[async_trait]
impl Versions for VersionCache {
    async fn pointers(&self, dataset: &str) -> Result<Vec<Pointer>, VersionError> {
        let known = self.pointers.lock().unwrap_or_else(PoisonError::into_inner).get(dataset).cloned();
        if let Some(known) = known
            && let Some((n, _)) = known.first()
            && !self.exists(&layout::current(dataset, n + 1)).await?
        {
            return Ok(known);
        }
        let Some((n, generation)) = current(self.objects.as_ref(), dataset).await? else { return Ok(Vec::new()) };
        let mut found = vec![(n, generation)];
        for before in (0..n).rev().take(POINTERS_MAX - 1) {
            let Some(generation) = pointer(self.objects.as_ref(), dataset, before).await? else { break };
            found.push((before, generation));
        }
        self.forget(dataset, &found);
        self.pointers.lock().unwrap_or_else(PoisonError::into_inner).insert(dataset.to_owned(), found.clone());
        Ok(found)
    }

    async fn newest(&self, dataset: &str, generation: &CurrentGeneration) -> Result<Arc<CuratedTable>, VersionError> {
        let key = (dataset.to_owned(), generation.generation.clone());
        let slot = Arc::clone(self.versions.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default());
        let known = slot.lock().await.clone();
        if let Some(known) = &known
            && self.is_newest(known).await?
        {
            return Ok(Arc::clone(known));
        }
        let mut slot = slot.lock().await;
        // Somebody else may have opened a newer one meanwhile: it was there after this call began.
        let version_of = |table: &Arc<CuratedTable>| table.version().table_version;
        if let Some(opened) = &*slot
            && known.as_ref().is_none_or(|known| version_of(known) < version_of(opened))
            && self.is_newest(opened).await?
        {
            return Ok(Arc::clone(opened));
        }
        let objects = Arc::clone(&self.objects);
        let version = CuratedVersion::open_generation(objects, dataset, generation.clone()).await?;
        let failed = |source| VersionError::Table { generation: generation.generation.clone(), source };
        let table = Arc::new(CuratedTable::try_new(Arc::new(version)).map_err(failed)?);
        *slot = Some(Arc::clone(&table));
        Ok(table)
    }
}
