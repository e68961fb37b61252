//! The store handle and what the layers do with it.

use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{Error, GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};

use super::read;
use super::{Operation, StoreError, StoreUrl, Upkeep};
use crate::backoff::{Attempts, Backoff};
use crate::decode::ReadAt;

/// A conditional put whose outcome the store leaves open: a conflict without a winner, for another is still under way.
const PUT_BACKOFF: Backoff = Backoff {
    first: Duration::from_millis(20),
    pause_max: Duration::from_secs(1),
    attempts_max: 8,
    time_max: Duration::from_secs(20),
    attempts_min: 2,
};

/// What became of [`Store::put_new`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutNew {
    /// The object is ours.
    Created,
    /// Somebody else's bytes are there; these are they.
    Exists(Bytes),
}

/// An open store: a cheap handle, cloned freely.
#[derive(Clone)]
pub struct Store {
    url: StoreUrl,
    objects: Arc<dyn ObjectStore>,
    upkeep: Arc<dyn Upkeep>,
    /// Where objects are plain files, their directory: reading goes to the files themselves.
    local_root: Option<PathBuf>,
}

impl Store {
    /// A store over an adapter whose keys are already relative to the address's prefix (see [`super::Rooted`]).
    #[must_use]
    pub fn new(url: StoreUrl, objects: Arc<dyn ObjectStore>, upkeep: Arc<dyn Upkeep>) -> Self {
        Self { url, objects, upkeep, local_root: None }
    }

    pub(super) fn with_local_root(mut self, root: PathBuf) -> Self {
        self.local_root = Some(root);
        self
    }

    /// The same store behind a decorator of its adapter; nothing bypasses the decorator.
    #[must_use]
    pub fn decorated(&self, decorate: impl FnOnce(Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore>) -> Self {
        let objects = decorate(Arc::clone(&self.objects));
        Self { url: self.url.clone(), objects, upkeep: Arc::clone(&self.upkeep), local_root: None }
    }

    /// The adapter, for libraries that speak `object_store`.
    #[must_use]
    pub fn objects(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.objects)
    }

    /// The address it was opened by.
    #[must_use]
    pub fn url(&self) -> &StoreUrl {
        &self.url
    }

    /// Remains of interrupted writes, and versioning.
    #[must_use]
    pub fn upkeep(&self) -> &dyn Upkeep {
        self.upkeep.as_ref()
    }

    /// Creates `path` with `bytes` if nothing is there: of any number of racing calls, one creates.
    ///
    /// A lost acknowledgement looks like a lost race, so whoever is told that the object exists compares: equal bytes
    /// count as created. That is right for objects whose bytes name their writer or follow from their key, as all of
    /// ours do; two writers of equal bytes would both be told `Created`.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails. The object may then exist or not; calling again settles it.
    pub async fn put_new(&self, path: &Path, bytes: Bytes) -> Result<PutNew, StoreError> {
        let mut attempts = Attempts::new(PUT_BACKOFF);
        loop {
            let options = PutOptions::from(PutMode::Create);
            let conflict = match self.objects.put_opts(path, PutPayload::from_bytes(bytes.clone()), options).await {
                Ok(_) => return Ok(PutNew::Created),
                Err(error @ (Error::AlreadyExists { .. } | Error::Precondition { .. })) => error,
                Err(error) => return Err(StoreError::of(Operation::Put, path, error)),
            };
            // S3 may answer 409 while another conditional put is still under way; then there may be no winner yet.
            match self.get(path).await? {
                Some(winner) if winner == bytes => return Ok(PutNew::Created),
                Some(winner) => return Ok(PutNew::Exists(winner)),
                None if attempts.again(draw(&bytes, attempts.failed())).await => {}
                None => return Err(StoreError::of(Operation::Put, path, conflict)),
            }
        }
    }

    /// The bytes of an object, or `None` if there is none. For small objects: the whole is held in memory.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails.
    pub async fn get(&self, path: &Path) -> Result<Option<Bytes>, StoreError> {
        let read = async { self.objects.get(path).await?.bytes().await };
        match read.await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(StoreError::of(Operation::Read, path, error)),
        }
    }

    /// Makes an object that was acknowledged survive a power cut, too (see [`Upkeep::sync`]).
    ///
    /// # Errors
    /// [`StoreError`] with [`super::Cause::NotFound`] if there is no such object; nothing is promised then.
    pub async fn sync(&self, path: &Path) -> Result<(), StoreError> {
        self.upkeep.sync(path).await
    }

    /// Size, time and (in a versioned bucket) version of an object, or `None` if there is none. `version` asks for an
    /// older one.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails.
    pub async fn head(&self, path: &Path, version: Option<&str>) -> Result<Option<ObjectMeta>, StoreError> {
        let options = GetOptions { head: true, version: version.map(str::to_owned), ..GetOptions::default() };
        match self.objects.get_opts(path, options).await {
            Ok(result) => Ok(Some(result.meta)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(StoreError::of(Operation::Read, path, error)),
        }
    }

    /// Size of an object in bytes, or `None` if there is none.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails.
    pub async fn size(&self, path: &Path) -> Result<Option<u64>, StoreError> {
        Ok(self.head(path, None).await?.map(|meta| meta.size))
    }

    /// All objects in the folder `prefix`, at any depth, in order of key. Holds the whole list in memory.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails.
    pub async fn list(&self, prefix: &Path) -> Result<Vec<ObjectMeta>, StoreError> {
        sorted(self.objects.list(Some(prefix)).try_collect().await, prefix)
    }

    /// Like [`Self::list`], of the keys after `offset` (exclusive). S3 skips to it; a directory is read whole.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails.
    pub async fn list_after(&self, prefix: &Path, offset: &Path) -> Result<Vec<ObjectMeta>, StoreError> {
        sorted(self.objects.list_with_offset(Some(prefix), offset).try_collect().await, prefix)
    }

    /// Deletes objects, a thousand in a request where the store can. One that is not there counts as deleted.
    ///
    /// # Errors
    /// [`StoreError`] of the first object that could not be deleted; others may be gone.
    pub async fn delete_many(&self, paths: Vec<Path>) -> Result<(), StoreError> {
        let deleted = self.objects.delete_stream(stream::iter(paths.into_iter().map(Ok)).boxed());
        let failed = deleted.filter_map(|result| async move {
            match result {
                Ok(_) | Err(Error::NotFound { .. }) => None,
                Err(error) => Some(error),
            }
        });
        match Box::pin(failed).next().await {
            Some(error) => Err(StoreError::of(Operation::Delete, &self.url, error)),
            None => Ok(()),
        }
    }

    /// Random access to one object, for decoders. A local object is read as the file it is; others in blocks of a few
    /// MiB with one read ahead. The object that was opened is the one read: if it is replaced meanwhile, reads fail
    /// with [`super::Cause::Changed`], or, with `version`, go on reading that version.
    ///
    /// Must be called on a Tokio runtime; the reads themselves block and belong on other threads.
    ///
    /// # Errors
    /// [`StoreError`] if there is no such object or the store fails.
    pub async fn read_at(&self, path: &Path, version: Option<&str>) -> Result<Arc<dyn ReadAt>, StoreError> {
        if let Some(root) = &self.local_root {
            let file = root.join(path.as_ref());
            let opened = tokio::task::spawn_blocking(move || read::open_file(&file)).await;
            return opened
                .unwrap_or_else(|join| Err(std::io::Error::other(join)))
                .map_err(|source| StoreError::of_io(Operation::Read, path, source));
        }
        let missing =
            || StoreError::because(Operation::Read, path, super::Cause::NotFound, "the store has no such object");
        let meta = self.head(path, version).await?.ok_or_else(missing)?;
        Ok(Arc::new(read::ObjectReader::new(self.objects(), path.clone(), version.map(str::to_owned), &meta)))
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&format_args!("{}", self.url)).finish()
    }
}

/// Rivals for one key bring bytes that name them, so their bytes tell their pauses apart; no other chance is needed.
fn draw(bytes: &Bytes, failed: u32) -> u64 {
    let mut hasher = DefaultHasher::new();
    (bytes, failed).hash(&mut hasher);
    hasher.finish()
}

fn sorted(listed: Result<Vec<ObjectMeta>, Error>, prefix: &Path) -> Result<Vec<ObjectMeta>, StoreError> {
    let mut listed = listed.map_err(|error| StoreError::of(Operation::List, prefix, error))?;
    // S3 lists in order, a directory does not.
    listed.sort_by(|a, b| a.location.cmp(&b.location));
    Ok(listed)
}
