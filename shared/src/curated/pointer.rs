//! The pointer to a dataset's current generation: numbered objects, made by conditional put; the highest counts (H9).

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::CuratedError;
use crate::layout;
use crate::store::{PutNew, Store, StoreError};

/// Version of the pointer's JSON form.
const POINTER_FORMAT: u32 = 1;

/// Which generation of a dataset answers, and which definition made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CurrentGeneration {
    /// Version of its JSON form.
    pub format: u32,
    /// Name of the generation, as in its folder.
    pub generation: String,
    /// Version of the definition that made it.
    pub definition: String,
    /// The semantics number under which it was made.
    pub semantics: u32,
}

impl CurrentGeneration {
    /// A pointer of this release's form.
    #[must_use]
    pub fn new(generation: &str, definition: &str, semantics: u32) -> Self {
        Self { format: POINTER_FORMAT, generation: generation.to_owned(), definition: definition.to_owned(), semantics }
    }
}

/// The pointer to a generation, with its number.
pub type Pointer = (u64, CurrentGeneration);

/// Outcome of [`publish`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// The pointer is ours.
    Created,
    /// Somebody else made pointer `n` first; read it and decide anew.
    Exists,
}

/// The current generation of `dataset` with the number of its pointer, or `None` if there is none yet.
///
/// # Errors
/// [`CuratedError::Store`], [`CuratedError::BadPointer`], or [`CuratedError::Unsupported`] for a newer form.
pub async fn current(
    objects: &dyn ObjectStore,
    dataset: &str,
) -> Result<Option<(u64, CurrentGeneration)>, CuratedError> {
    let Some((n, key)) = newest(objects, dataset).await? else { return Ok(None) };
    Ok(Some((n, read(objects, &key).await?)))
}

/// Number and key of the pointer that counts.
pub(super) async fn newest(objects: &dyn ObjectStore, dataset: &str) -> Result<Option<(u64, Path)>, CuratedError> {
    let folder = layout::currents(dataset);
    let entries: Vec<_> =
        objects.list(Some(&folder)).try_collect().await.map_err(|source| store_error(&folder, source))?;
    Ok(entries.into_iter().filter_map(|entry| Some((layout::number_of(&entry.location)?, entry.location))).max())
}

/// The pointer at `key`.
pub(super) async fn read(objects: &dyn ObjectStore, key: &Path) -> Result<CurrentGeneration, CuratedError> {
    let read = async { objects.get(key).await?.bytes().await };
    let bytes = read.await.map_err(|source| store_error(key, source))?;
    parse(key, &bytes, POINTER_FORMAT, "the pointer")
}

/// Makes pointer `n` of `dataset` unless it exists. Whoever brings the very pointer that is there is told that it is
/// created: two processes that finish one switch bring the same.
///
/// # Errors
/// The store's.
pub async fn publish(
    store: &Store,
    dataset: &str,
    n: u64,
    pointer: &CurrentGeneration,
) -> Result<Published, StoreError> {
    let key = layout::current(dataset, n);
    let text = serde_json::to_vec(pointer).expect("a pointer is plain data");
    Ok(match store.put_new(&key, text.into()).await? {
        PutNew::Created => Published::Created,
        PutNew::Exists(_) => Published::Exists,
    })
}

/// An object that names a generation, in form `known` of `what`.
pub(super) fn parse<T: DeserializeOwned>(key: &Path, bytes: &[u8], known: u32, what: &str) -> Result<T, CuratedError> {
    /// Read first: a newer form may hold fields that this release does not know.
    #[derive(Deserialize)]
    struct Form {
        format: u32,
    }
    let bad = |source| CuratedError::BadPointer { key: key.to_string(), source };
    let form: Form = serde_json::from_slice(bytes).map_err(bad)?;
    if form.format != known {
        return Err(CuratedError::Unsupported {
            key: key.to_string(),
            what: format!("form {} of {what}", form.format),
        });
    }
    serde_json::from_slice(bytes).map_err(bad)
}

pub(super) fn store_error(key: &Path, source: object_store::Error) -> CuratedError {
    CuratedError::Store { key: key.to_string(), source }
}

/// Pointer `n` of `dataset`; `None` if nobody made it yet.
///
/// # Errors
/// As [`current`].
pub async fn pointer(
    objects: &dyn ObjectStore,
    dataset: &str,
    n: u64,
) -> Result<Option<CurrentGeneration>, CuratedError> {
    let key = layout::current(dataset, n);
    let read = async { objects.get(&key).await?.bytes().await };
    match read.await {
        Ok(bytes) => parse(&key, &bytes, POINTER_FORMAT, "the pointer").map(Some),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(source) => Err(store_error(&key, source)),
    }
}

/// True if a generation has its table, and no vacuum is about to take it away: that one puts a ban into the generation
/// before anything else goes.
///
/// # Errors
/// [`CuratedError::Store`].
pub async fn has_table(objects: &dyn ObjectStore, dataset: &str, generation: &str) -> Result<bool, CuratedError> {
    let (log, ban) = (layout::delta_log(dataset, generation), layout::ban(dataset, generation));
    match objects.head(&ban).await {
        Ok(_) => return Ok(false),
        Err(object_store::Error::NotFound { .. }) => {}
        Err(source) => return Err(store_error(&ban, source)),
    }
    let first = objects.list(Some(&log)).try_next().await;
    Ok(first.map_err(|source| store_error(&log, source))?.is_some())
}
