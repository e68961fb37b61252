//! Applied definitions in the store: `definitions/<dataset>/<n>.json`, each written once by a conditional put.

use object_store::path::Path;
use serde::{Deserialize, Serialize};

use super::{
    Definition, DefinitionError, DefinitionVersion, SEMANTICS, Sources, definition_version, parse, surroundings_version,
};
use crate::error::{ErrorKind, Kind};
use crate::layout;
use crate::store::{Cause, Operation, PutNew, Store, StoreError};

/// Version of the stored JSON's own shape.
const FORMAT: u32 = 1;
/// Number of a dataset's first definition.
const FIRST: u64 = 1;
/// How often `apply` starts over because somebody else applied at the same moment.
const ATTEMPTS_MAX: u32 = 16;

/// One applied definition.
#[derive(Debug, Clone, PartialEq)]
pub struct Registered {
    /// Its number within the dataset, from 1.
    pub n: u64,
    /// Its version: what decides rows and rejects.
    pub version: DefinitionVersion,
    /// The semantics number it was applied with.
    pub semantics: u32,
    /// The definition.
    pub definition: Definition,
    /// Its files.
    pub sources: Sources,
}

/// What [`apply`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Number of the definition that is now the latest.
    pub n: u64,
    /// Its version.
    pub version: DefinitionVersion,
    /// False if the latest definition was the same already.
    pub changed: bool,
    /// False if the latest definition before yields the same rows and rejects, so that nothing need be recomputed.
    pub rows_changed: bool,
}

/// As stored. `format` and `semantics` are read before anything else is looked at.
#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    semantics: u32,
    dataset: String,
    version: DefinitionVersion,
    sources: Sources,
}

/// The part that every format has.
#[derive(Deserialize)]
struct Head {
    format: u32,
    semantics: u32,
}

/// Why a definition could not be applied or read.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The definition is not valid.
    #[error("the definition is not valid:\n{0}")]
    Invalid(DefinitionError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The stored object is not what it must be.
    #[error("`{key}` is damaged: {problem}")]
    Corrupt {
        /// The object.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// An applied definition that another release took for valid.
    #[error("definition {n} of `{dataset}` is not valid in this release:\n{problems}")]
    NoLongerValid {
        /// The dataset.
        dataset: String,
        /// The definition's number.
        n: u64,
        /// What is wrong with it.
        problems: DefinitionError,
    },
    /// A newer release wrote it.
    #[error("`{key}` has {what} {found}; this build knows up to {supported}")]
    Newer {
        /// The object.
        key: String,
        /// `format` or `semantics`.
        what: &'static str,
        /// The number found.
        found: u32,
        /// The highest number this build can read.
        supported: u32,
    },
    /// Others applied definitions of the dataset again and again at the same time.
    #[error("definitions of `{dataset}` are being applied by others all the time")]
    Contended {
        /// The dataset.
        dataset: String,
    },
}

impl ErrorKind for RegistryError {
    fn kind(&self) -> Kind {
        match self {
            Self::Invalid(_) | Self::NoLongerValid { .. } => Kind::Invalid,
            Self::Store(error) => error.kind(),
            Self::Corrupt { .. } => Kind::Corrupt,
            Self::Newer { .. } => Kind::Unsupported,
            Self::Contended { .. } => Kind::Conflict,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Newer { .. } => Some("use the release that wrote it, or a later one".to_owned()),
            Self::NoLongerValid { dataset, .. } => Some(format!(
                "put it right and apply it: `tidemark dataset apply DIR`; then `tidemark batch recompute {dataset}`, \
                 where something was curated by it"
            )),
            Self::Store(error) => error.hint(),
            _ => None,
        }
    }
}

/// Validates `sources` and makes them the dataset's latest definition, unless they are that already. Safe against
/// others that apply at the same time: one of them is first, and the others follow with the next number.
///
/// # Errors
/// [`RegistryError`]; nothing was changed then.
pub async fn apply(store: &Store, sources: &Sources) -> Result<Applied, RegistryError> {
    let definition = parse(sources).map_err(RegistryError::Invalid)?;
    let version = definition_version(&definition);
    for _ in 0..ATTEMPTS_MAX {
        let (before, last) = match latest(store, &definition.name).await {
            // What can't be used any more is there to be replaced.
            Err(RegistryError::NoLongerValid { n, .. }) => (None, n),
            before => {
                let before = before?;
                let last = before.as_ref().map_or(FIRST - 1, |before| before.n);
                (before, last)
            }
        };
        if let Some(before) = &before
            && before.version == version
            && surroundings_version(&before.definition) == surroundings_version(&definition)
        {
            return Ok(Applied { n: before.n, version, changed: false, rows_changed: false });
        }
        let n = last + 1;
        if put(store, n, &definition.name, &version, sources).await? {
            let rows_changed = before.is_none_or(|before| before.version != version);
            return Ok(Applied { n, version, changed: true, rows_changed });
        }
    }
    Err(RegistryError::Contended { dataset: definition.name })
}

/// Creates the `n`-th definition; false if somebody else made another (H1).
async fn put(
    store: &Store,
    n: u64,
    dataset: &str,
    version: &DefinitionVersion,
    sources: &Sources,
) -> Result<bool, RegistryError> {
    let key = layout::definition(dataset, n);
    let stored = Stored {
        format: FORMAT,
        semantics: SEMANTICS,
        dataset: dataset.to_owned(),
        version: version.clone(),
        sources: sources.clone(),
    };
    let bytes = serde_json::to_vec_pretty(&stored).expect("strings and numbers always serialise");
    Ok(matches!(store.put_new(&key, bytes.into()).await?, PutNew::Created))
}

/// The dataset's latest definition; `None` if none was applied.
///
/// # Errors
/// [`RegistryError`].
pub async fn latest(store: &Store, dataset: &str) -> Result<Option<Registered>, RegistryError> {
    match numbers(store, dataset).await?.last() {
        Some(n) => get(store, dataset, *n).await.map(Some),
        None => Ok(None),
    }
}

/// The newest of the dataset's definitions with this version; `None` if none has it.
///
/// # Errors
/// [`RegistryError`].
pub async fn by_version(store: &Store, dataset: &str, version: &str) -> Result<Option<Registered>, RegistryError> {
    for n in numbers(store, dataset).await?.into_iter().rev() {
        let (key, stored) = get_stored(store, dataset, n).await?;
        if stored.version.as_str() == version {
            return validated(key.as_ref(), n, stored).map(Some);
        }
    }
    Ok(None)
}

/// Names of the datasets that have a definition, in order.
///
/// # Errors
/// [`RegistryError::Store`].
pub async fn list(store: &Store) -> Result<Vec<String>, RegistryError> {
    let root = layout::all_definitions();
    let listed = store.objects().list_with_delimiter(Some(&root)).await;
    let listed = listed.map_err(|source| StoreError::of(Operation::List, &root, source))?;
    let mut names: Vec<String> =
        listed.common_prefixes.iter().filter_map(|prefix| prefix.filename().map(str::to_owned)).collect();
    names.sort();
    Ok(names)
}

/// Numbers of the dataset's definitions, ascending.
///
/// # Errors
/// [`RegistryError::Store`].
pub async fn numbers(store: &Store, dataset: &str) -> Result<Vec<u64>, RegistryError> {
    let folder = layout::definitions(dataset);
    let listed = store.list(&folder).await?;
    let mut numbers: Vec<u64> = listed.iter().filter_map(|meta| layout::number_of(&meta.location)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// True if the dataset has an `n`-th definition. Numbers follow each other, so whoever knows the latest sees by this one
/// request whether there is a later one.
///
/// # Errors
/// [`RegistryError::Store`].
pub async fn is_there(store: &Store, dataset: &str, n: u64) -> Result<bool, RegistryError> {
    Ok(store.size(&layout::definition(dataset, n)).await?.is_some())
}

/// The dataset's `n`-th definition.
///
/// # Errors
/// [`RegistryError`]; [`RegistryError::Newer`] for one that a newer release wrote, and [`RegistryError::NoLongerValid`] for
/// one that an older release let pass.
pub async fn get(store: &Store, dataset: &str, n: u64) -> Result<Registered, RegistryError> {
    let (key, stored) = get_stored(store, dataset, n).await?;
    validated(key.as_ref(), n, stored)
}

/// The version of the dataset's `n`-th definition, whether or not it is valid in this release.
///
/// # Errors
/// [`RegistryError`].
pub async fn version_of(store: &Store, dataset: &str, n: u64) -> Result<DefinitionVersion, RegistryError> {
    Ok(get_stored(store, dataset, n).await?.1.version)
}

async fn get_stored(store: &Store, dataset: &str, n: u64) -> Result<(Path, Stored), RegistryError> {
    let key = layout::definition(dataset, n);
    let missing = || StoreError::because(Operation::Read, &key, Cause::NotFound, "the store has no such object");
    let bytes = store.get(&key).await?.ok_or_else(missing)?;
    let stored = read(key.as_ref(), &bytes)?;
    Ok((key, stored))
}

fn read(key: &str, bytes: &[u8]) -> Result<Stored, RegistryError> {
    let corrupt = |error: serde_json::Error| RegistryError::Corrupt { key: key.to_owned(), problem: error.to_string() };
    let head: Head = serde_json::from_slice(bytes).map_err(corrupt)?;
    let newer = |what, found, supported| RegistryError::Newer { key: key.to_owned(), what, found, supported };
    if head.format > FORMAT {
        return Err(newer("format", head.format, FORMAT));
    }
    if head.semantics > SEMANTICS {
        return Err(newer("semantics", head.semantics, SEMANTICS));
    }
    serde_json::from_slice(bytes).map_err(corrupt)
}

fn validated(key: &str, n: u64, stored: Stored) -> Result<Registered, RegistryError> {
    let Stored { version, semantics, sources, dataset, .. } = stored;
    let definition = parse(&sources).map_err(|problems| RegistryError::NoLongerValid { dataset, n, problems })?;
    if semantics == SEMANTICS && definition_version(&definition) != version {
        let problem = format!("its texts are not those of version {version}");
        return Err(RegistryError::Corrupt { key: key.to_owned(), problem });
    }
    Ok(Registered { n, version, semantics, definition, sources })
}
