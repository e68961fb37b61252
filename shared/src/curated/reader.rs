//! Versions kept between statements, so that a dataset's log is replayed once per commit and not once per statement.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use futures::TryStreamExt;
use object_store::ObjectStore;

use super::pointer::{newest, read};
use super::version::CuratedVersion;
use super::{CuratedError, ordered};
use crate::layout;
use crate::lock;

/// Opens the current generation of datasets and keeps the last version of each.
///
/// Every opening looks into the store whether the pointer or the table moved, so whoever opens sees every commit that
/// was made before; only the replay is saved. A version that is kept holds its list of files and their statistics.
pub struct CuratedReader {
    objects: Arc<dyn ObjectStore>,
    kept: Mutex<HashMap<String, Kept>>,
}

#[derive(Clone)]
struct Kept {
    /// Number of the pointer that names its generation.
    pointer: u64,
    version: Arc<CuratedVersion>,
}

impl Kept {
    /// Later ones are greater: a table's version never falls, nor does the pointer.
    fn age(&self) -> (u64, u64) {
        (self.pointer, self.version.table_version)
    }
}

impl fmt::Debug for CuratedReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CuratedReader").field("objects", &self.objects.to_string()).finish_non_exhaustive()
    }
}

impl CuratedReader {
    /// A reader of the curated tables in `objects`.
    #[must_use]
    pub fn new(objects: Arc<dyn ObjectStore>) -> Self {
        Self { objects, kept: Mutex::default() }
    }

    /// The newest version of the current generation of `dataset`; `None` if nothing was curated yet.
    ///
    /// # Errors
    /// As [`CuratedVersion::open`].
    pub async fn open(&self, dataset: &str) -> Result<Option<Arc<CuratedVersion>>, CuratedError> {
        let kept = lock(&self.kept).get(dataset).cloned();
        let newest_pointer = newest(self.objects.as_ref(), dataset);
        // Both are asked at once: most of the time neither moved.
        let (newest_pointer, unmoved) = match &kept {
            Some(kept) => futures::future::try_join(newest_pointer, is_newest(&kept.version)).await?,
            None => (newest_pointer.await?, false),
        };
        let Some((pointer, key)) = newest_pointer else { return Ok(None) };
        if let Some(kept) = kept.filter(|kept| unmoved && kept.pointer == pointer) {
            return Ok(Some(kept.version));
        }
        let generation = read(self.objects.as_ref(), &key).await?;
        let version = CuratedVersion::open_generation(Arc::clone(&self.objects), dataset, generation).await?;
        let version = Arc::new(version);
        self.keep(pointer, &version);
        Ok(Some(version))
    }

    /// Keeps `version`, which pointer `pointer` led to, unless another statement came by a later one meanwhile.
    pub(super) fn keep(&self, pointer: u64, version: &Arc<CuratedVersion>) {
        let opened = Kept { pointer, version: Arc::clone(version) };
        let mut kept = lock(&self.kept);
        if kept.get(&version.dataset).is_none_or(|kept| kept.age() < opened.age()) {
            let _earlier = kept.insert(version.dataset.clone(), opened);
        }
    }
}

/// True if the log has nothing later than `version`. A list rather than a look at the next commit's key: that one may
/// be gone again from the log, when a checkpoint stands for it.
async fn is_newest(version: &CuratedVersion) -> Result<bool, CuratedError> {
    let (dataset, generation) = (&version.dataset, &version.generation.generation);
    let log = layout::delta_log(dataset, generation);
    let own = layout::delta_commit(dataset, generation, version.table_version);
    let mut listed = version.objects.list_with_offset(Some(&log), &own);
    let failed = |source| CuratedError::Store { key: log.to_string(), source };
    while let Some(object) = listed.try_next().await.map_err(failed)? {
        if ordered::version_of(&object.location).is_some_and(|number| number > version.table_version) {
            return Ok(false);
        }
    }
    Ok(true)
}
