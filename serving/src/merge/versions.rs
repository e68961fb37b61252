//! Curated versions, kept open: a query looks whether there is a newer one, by a request for the one object that would
//! be there then, and replays a log only if so.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

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

/// A version is opened anew after so long, whether or not a newer one shows: the commit after it may have left the log
/// again, when a checkpoint stands for it, and the key that is looked for is gone.
const KEPT_MAX: Duration = Duration::from_secs(600);

/// An opened version, and since when.
#[derive(Clone)]
struct Kept {
    table: Arc<CuratedTable>,
    since: Instant,
}

/// A generation's newest version, once opened. Who opens a newer one holds the lock.
type Slot = Arc<tokio::sync::Mutex<Option<Kept>>>;

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
        let (dataset, generation) = (&version.dataset, &version.generation.generation);
        let next = layout::delta_commit(dataset, generation, version.table_version + 1);
        Ok(!self.exists(&next).await?)
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
        let mut pointers = self.pointers.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = |pointers: &Vec<Pointer>| pointers.first().map(|(n, _)| *n);
        // A slow look puts nothing older in the place of what a later one found.
        if pointers.get(dataset).is_none_or(|known| newest(known) < newest(&found)) {
            pointers.insert(dataset.to_owned(), found.clone());
            drop(pointers);
            self.forget(dataset, &found);
        }
        Ok(found)
    }

    async fn newest(&self, dataset: &str, generation: &CurrentGeneration) -> Result<Arc<CuratedTable>, VersionError> {
        let key = (dataset.to_owned(), generation.generation.clone());
        let slot = Arc::clone(self.versions.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default());
        let known = slot.lock().await.clone();
        if let Some(known) = known.as_ref().filter(|known| known.since.elapsed() < KEPT_MAX)
            && self.is_newest(&known.table).await?
        {
            return Ok(Arc::clone(&known.table));
        }
        let mut slot = slot.lock().await;
        // Somebody else may have opened a newer one meanwhile: it was there after this call began.
        if let Some(opened) = &*slot
            && known.as_ref().is_none_or(|known| known.since < opened.since)
            && self.is_newest(&opened.table).await?
        {
            return Ok(Arc::clone(&opened.table));
        }
        let objects = Arc::clone(&self.objects);
        let version = CuratedVersion::open_generation(objects, dataset, generation.clone()).await?;
        let failed = |source| VersionError::Table { generation: generation.generation.clone(), source };
        let table = Arc::new(CuratedTable::try_new(Arc::new(version)).map_err(failed)?);
        *slot = Some(Kept { table: Arc::clone(&table), since: Instant::now() });
        Ok(table)
    }
}
