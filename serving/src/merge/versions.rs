//! Curated versions, kept open: a query looks whether there is a newer one, by a request for the one object that would
//! be there then, and replays a log only if so.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use datafusion::error::DataFusionError;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use tidemark_shared::curated::{
    CuratedError, CuratedTable, CuratedVersion, CurrentGeneration, Heads, Pointer, check_note, heads, pointer,
};
use tidemark_shared::error::{ErrorKind, Kind};
use tidemark_shared::{layout, lock};

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

/// Pointers that are looked at: so many recomputes may come before the view of any of them is built, and answers still go on
/// from the generation that gave the last one.
const POINTERS_MAX: usize = 8;

/// A dataset's generations at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Generations {
    /// The newest pointers, the newest first, and no more than are looked at; none if nothing was curated yet.
    pub pointers: Vec<Pointer>,
    /// The highest pointer with a note: its generation has answered, whichever process was asked (H9).
    pub noted: Option<u64>,
}

impl Generations {
    fn newest(&self) -> Option<u64> {
        self.pointers.first().map(|(n, _)| *n)
    }

    /// True if no note is to come before there is another pointer: the newest has one, or needs none, for it is the first.
    fn is_settled(&self) -> bool {
        self.newest().is_some_and(|newest| newest == 0 || self.noted == Some(newest))
    }

    /// Takes over what is newer in `seen`; true if it has other pointers. A slow look puts nothing older in the place of
    /// what a later one found.
    fn learn(&mut self, seen: Self) -> bool {
        self.noted = self.noted.max(seen.noted);
        let is_newer = self.newest() < seen.newest();
        if is_newer {
            self.pointers = seen.pointers;
        }
        is_newer
    }
}

/// Where a cut gets curated versions from.
#[async_trait]
pub trait Versions: fmt::Debug + Send + Sync {
    /// The newest pointers of a dataset, and which of them has answered. Whatever was noted before the call is seen.
    ///
    /// # Errors
    /// [`VersionError`].
    async fn generations(&self, dataset: &str) -> Result<Generations, VersionError>;

    /// The newest pointers alone, for those who are no statement or whose dataset has no view to wait for.
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
    generations: Mutex<BTreeMap<String, Generations>>,
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
        Self { objects, generations: Mutex::default(), versions: Mutex::default() }
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
        let mut versions = lock(&self.versions);
        versions.retain(|(of, generation), _| of != dataset || keeps(generation));
    }

    async fn pointers_up_to(&self, dataset: &str, newest: u64) -> Result<Vec<Pointer>, CuratedError> {
        let mut found = Vec::new();
        for n in (0..=newest).rev().take(POINTERS_MAX) {
            let Some(generation) = pointer(self.objects.as_ref(), dataset, n).await? else { break };
            found.push((n, generation));
        }
        Ok(found)
    }

    fn known(&self, dataset: &str) -> Generations {
        lock(&self.generations).get(dataset).cloned().unwrap_or_default()
    }

    /// True if there is a pointer after those of `known`.
    async fn has_next(&self, dataset: &str, known: &Generations) -> Result<bool, CuratedError> {
        match known.newest() {
            Some(newest) => self.exists(&layout::current(dataset, newest + 1)).await,
            None => Ok(false),
        }
    }

    /// Asks for what may be newer than `known`, and keeps it.
    async fn look(&self, dataset: &str, known: &Generations) -> Result<Generations, CuratedError> {
        let objects = self.objects.as_ref();
        let Heads { pointer, noted } = heads(objects, dataset, known.noted).await?;
        if let Some(n) = noted {
            check_note(objects, dataset, n).await?;
        }
        let pointers = match pointer.filter(|newest| Some(*newest) > known.newest()) {
            Some(newest) => self.pointers_up_to(dataset, newest).await?,
            None => known.pointers.clone(),
        };
        let seen = Generations { pointers, noted };
        if seen.pointers.is_empty() {
            return Ok(seen);
        }
        let (has_moved, kept) = {
            let mut all = lock(&self.generations);
            let kept = all.entry(dataset.to_owned()).or_default();
            (kept.learn(seen), kept.clone())
        };
        if has_moved {
            self.forget(dataset, &kept.pointers);
        }
        Ok(kept)
    }
}

#[async_trait]
impl Versions for VersionCache {
    async fn generations(&self, dataset: &str) -> Result<Generations, VersionError> {
        let known = self.known(dataset);
        // Either way one request tells that nothing moved.
        if known.is_settled() && !self.has_next(dataset, &known).await? {
            return Ok(known);
        }
        Ok(self.look(dataset, &known).await?)
    }

    async fn pointers(&self, dataset: &str) -> Result<Vec<Pointer>, VersionError> {
        let known = self.known(dataset);
        if known.newest().is_some() && !self.has_next(dataset, &known).await? {
            return Ok(known.pointers);
        }
        Ok(self.look(dataset, &known).await?.pointers)
    }

    async fn newest(&self, dataset: &str, generation: &CurrentGeneration) -> Result<Arc<CuratedTable>, VersionError> {
        let key = (dataset.to_owned(), generation.generation.clone());
        let slot = Arc::clone(lock(&self.versions).entry(key).or_default());
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
