//! What can go wrong in the batch layer.

use arrow::error::ArrowError;
use deltalake::DeltaTableError;
use parquet::errors::ParquetError;
use tidemark_shared::catalog::CatalogError;
use tidemark_shared::dataset::SEMANTICS;
use tidemark_shared::error::{AnyError, ErrorKind, Kind};
use tidemark_shared::ledger::LedgerError;
use tidemark_shared::segment::SegmentError;
use tidemark_shared::store::{Cause, Operation, StoreError};

/// An error of the batch layer. Messages name the object; [`ErrorKind::hint`] says how to go on.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// No definition of this name was applied.
    #[error("dataset `{dataset}` is unknown")]
    UnknownDataset {
        /// The name asked for.
        dataset: String,
        /// The nearest known one.
        nearest: Option<String>,
    },
    /// The dataset has no `[files]` section.
    #[error("dataset `{dataset}` takes no files: its definition has no [files] section")]
    NoFiles {
        /// Dataset.
        dataset: String,
    },
    /// The table covers a stream that the newest definition does not read.
    #[error("dataset `{dataset}` has archived records of a stream, and its definition no [stream] section")]
    NoStream {
        /// Dataset.
        dataset: String,
    },
    /// A path given to ingest does not exist, or holds no file.
    #[error("no such file: {path}")]
    NoSuchFile {
        /// As given.
        path: String,
    },
    /// The request contradicts itself or lacks something.
    #[error("{message}")]
    BadRequest {
        /// What is wrong.
        message: String,
        /// How to go on.
        hint: Option<String>,
    },
    /// No file of that name counts or is held.
    #[error("dataset `{dataset}` has no file `{name}`")]
    UnknownFile {
        /// Dataset.
        dataset: String,
        /// Name asked for.
        name: String,
        /// The nearest known one.
        nearest: Option<String>,
    },
    /// The definition does not compile any more.
    #[error("definition {version} of `{dataset}` can't be used")]
    Definition {
        /// Dataset.
        dataset: String,
        /// Version.
        version: String,
        /// Why.
        #[source]
        source: AnyError,
    },
    /// Reading a local file failed.
    #[error("can't read {path}")]
    Read {
        /// Path or key.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Writing a temporary file failed.
    #[error("can't write {path}: {reason}")]
    Write {
        /// What, and where.
        path: String,
        /// Why, with the chain of causes.
        reason: String,
    },
    /// The definition asks of a file what its format can't give.
    #[error("file {name} can't be decoded")]
    Undecodable {
        /// Name in the ledger.
        name: String,
        /// Why.
        #[source]
        source: tidemark_shared::decode::OpenError,
    },
    /// The bytes of a file in the ledger are gone, or not all of them are there.
    #[error("the bytes of file {number} `{name}` of `{dataset}` are lost: {location}: {what} (SHA-256 {sha256})")]
    RawLost {
        /// Dataset.
        dataset: String,
        /// Number in the ledger.
        number: u64,
        /// Name in the ledger.
        name: String,
        /// Key in the store, or address and version.
        location: String,
        /// True if the file was taken in where it lay: its bytes can't be put back there.
        in_place: bool,
        /// Digest of the bytes.
        sha256: String,
        /// What is there instead.
        what: String,
    },
    /// A file was written while it was taken in.
    #[error("{name} changed while it was taken in: first it had SHA-256 {wanted}, when it was copied {found}")]
    SourceChanged {
        /// Name that it would have had in the ledger.
        name: String,
        /// Digest that was decided on.
        wanted: String,
        /// Digest of the bytes that were copied.
        found: String,
    },
    /// A file's copy in the raw zone was gone before the file was read: no ledger entry named it yet.
    #[error("the copy of {name} in the raw zone of `{dataset}` was gone before it was read: a vacuum took it for old")]
    CopyVacuumed {
        /// Dataset.
        dataset: String,
        /// Name that it would have had in the ledger.
        name: String,
    },
    /// A release with another semantics number made the generation: rows of ours would not be like those that are there.
    #[error("generation {generation} of `{dataset}` was made with semantics {found}; this release has {SEMANTICS}")]
    OtherSemantics {
        /// Dataset.
        dataset: String,
        /// Generation.
        generation: String,
        /// Its semantics number.
        found: u32,
    },
    /// A vacuum takes a generation in the making away.
    #[error("generation {generation} of `{dataset}`, in the making, was removed by a vacuum")]
    Abandoned {
        /// Dataset.
        dataset: String,
        /// Generation.
        generation: String,
    },
    /// Others kept changing the table.
    #[error("the curated table of `{dataset}` was changed by others {attempts} times in a row")]
    Contended {
        /// Dataset.
        dataset: String,
        /// Attempts made.
        attempts: u32,
    },
    /// The curated table is not what it must be.
    #[error("the curated table of `{dataset}` is damaged: {what}")]
    Damaged {
        /// Dataset.
        dataset: String,
        /// What is wrong.
        what: String,
    },
    /// The object of a file's rejects is gone.
    #[error("dataset `{dataset}` has lost the rejects of file `{name}`: {key} is missing")]
    RejectsLost {
        /// Dataset.
        dataset: String,
        /// Name in the ledger.
        name: String,
        /// Where they were.
        key: String,
    },
    /// Counting went wrong: a defect of ours, found before anything was published.
    #[error("file {name}: {records} records, but {accepted} accepted + {filtered} filtered + {rejected} rejected")]
    DoesNotAddUp {
        /// Name in the ledger.
        name: String,
        /// Records read.
        records: u64,
        /// Accepted among them.
        accepted: u64,
        /// Filtered among them.
        filtered: u64,
        /// Rejected among them.
        rejected: u64,
    },
    /// A gate expectation could not be evaluated.
    #[error("expectation `{name}` can't be evaluated")]
    Expectation {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: datafusion::error::DataFusionError,
    },
    /// A task of ours panicked.
    #[error("task `{task}` panicked")]
    Panicked {
        /// Task.
        task: &'static str,
        /// What it said.
        #[source]
        source: tokio::task::JoinError,
    },
    /// The work was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The registry of definitions failed.
    #[error(transparent)]
    Registry(#[from] tidemark_shared::dataset::registry::RegistryError),
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// Reading the curated table failed.
    #[error(transparent)]
    Curated(#[from] tidemark_shared::curated::CuratedError),
    /// The Delta log failed.
    #[error("delta table at {table}")]
    Delta {
        /// Root of the table.
        table: String,
        /// Why.
        #[source]
        source: Box<DeltaTableError>,
    },
    /// An object of ours can't be read as the Parquet that it must be.
    #[error("`{key}` can't be read")]
    Object {
        /// Its key.
        key: String,
        /// Why.
        #[source]
        source: ParquetError,
    },
    /// The archive of a stream refused or failed.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// Arrow failed on rows in memory.
    #[error("rows can't be processed")]
    Arrow(#[from] ArrowError),
    /// Parquet failed on rows in memory.
    #[error("rows can't be encoded as parquet")]
    Parquet(#[from] ParquetError),
}

impl BatchError {
    /// An error of the object store on `key`.
    pub(crate) fn store(operation: Operation, key: &object_store::path::Path, source: object_store::Error) -> Self {
        Self::Store(StoreError::of(operation, key, source))
    }

    /// An error of reading the Parquet object `key`.
    pub(crate) fn object(key: &object_store::path::Path, source: ParquetError) -> Self {
        Self::Object { key: key.to_string(), source }
    }

    /// Why the store failed, where a library told of it.
    fn cause(&self) -> Option<Cause> {
        match self {
            Self::Delta { source, .. } => Cause::behind(source.as_ref()),
            Self::Object { source, .. } => Cause::behind(source),
            _ => None,
        }
    }
}

/// How what is damaged at `at` comes back, if it is something curated.
fn made_anew(at: &str) -> Option<String> {
    let dataset = at.strip_prefix("curated/")?.split('/').next()?;
    Some(format!(
        "all of `curated/{dataset}` can be made again from the raw zone: stop `tidemark up`, move that folder of the store \
         away, then run `tidemark batch run {dataset}`"
    ))
}

impl ErrorKind for BatchError {
    fn kind(&self) -> Kind {
        match self {
            Self::UnknownDataset { .. } | Self::NoSuchFile { .. } | Self::UnknownFile { .. } => Kind::NotFound,
            Self::NoFiles { .. } | Self::NoStream { .. } | Self::BadRequest { .. } | Self::Expectation { .. } => {
                Kind::Invalid
            }
            Self::Definition { source, .. } => source.kind(),
            Self::Undecodable { source, .. } => source.kind(),
            Self::Read { .. } | Self::Write { .. } | Self::Contended { .. } => Kind::Retryable,
            Self::SourceChanged { .. } => Kind::Conflict,
            Self::CopyVacuumed { .. } | Self::Abandoned { .. } => Kind::Retryable,
            // What a log or a table names must be there, and be what it was.
            Self::Delta { .. } | Self::Object { .. } => match self.cause() {
                None | Some(Cause::NotFound) => Kind::Corrupt,
                Some(cause) => cause.kind(),
            },
            Self::OtherSemantics { .. } => Kind::Unsupported,
            Self::RawLost { .. } | Self::RejectsLost { .. } | Self::Damaged { .. } => Kind::Corrupt,
            Self::DoesNotAddUp { .. } | Self::Panicked { .. } | Self::Arrow(_) | Self::Parquet(_) => Kind::Internal,
            Self::Cancelled => Kind::Exhausted,
            Self::Store(error) => error.kind(),
            Self::Ledger(error) => error.kind(),
            Self::Segment(error) => error.kind(),
            Self::Registry(error) => error.kind(),
            Self::Catalog(error) => error.kind(),
            Self::Curated(error) => error.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownDataset { nearest: Some(nearest), .. } => Some(format!("did you mean `{nearest}`?")),
            Self::UnknownDataset { dataset, .. } => Some(format!(
                "`tidemark dataset apply datasets/{dataset}` registers one; `tidemark dataset list` shows all"
            )),
            Self::UnknownFile { nearest: Some(nearest), .. } => Some(format!("did you mean `{nearest}`?")),
            Self::BadRequest { hint, .. } => hint.clone(),
            Self::NoFiles { .. } => {
                Some("add a [files] section with a format, and apply the definition again".to_owned())
            }
            Self::NoStream { .. } => {
                Some("add a [stream] section with a topic and a format, and apply the definition again".to_owned())
            }
            Self::NoSuchFile { .. } => {
                Some("give a file, a folder or a URL such as s3://bucket/folder/ that there is".to_owned())
            }
            Self::Read { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                Some("let this user read it, or run as one who may".to_owned())
            }
            Self::Contended { .. } | Self::Write { .. } | Self::Read { .. } => {
                Some("run the same command again: what was done is kept, and nothing is counted twice".to_owned())
            }
            Self::RawLost { dataset, name, in_place: false, .. } => Some(format!(
                "`tidemark ingest {dataset} PATH --verify` with a file of this digest puts the bytes back and goes on; \
                 `tidemark ingest {dataset} --withdraw '{name}'` gives the file up"
            )),
            Self::RawLost { dataset, name, .. } => Some(format!(
                "restore that version, or give the file up: `tidemark ingest {dataset} --withdraw '{name}'`"
            )),
            Self::RejectsLost { dataset, .. } => {
                Some(format!("`tidemark batch recompute {dataset}` makes them again from the raw zone"))
            }
            Self::SourceChanged { .. } => Some("run the same command again once nobody writes the file".to_owned()),
            Self::CopyVacuumed { .. } | Self::Abandoned { .. } => {
                Some("run the same command again; let vacuums spare what is younger than the longest run".to_owned())
            }
            Self::OtherSemantics { dataset, found, .. } if *found < SEMANTICS => {
                Some(format!("`tidemark batch recompute {dataset}` builds a generation with this release"))
            }
            Self::OtherSemantics { dataset, .. } => Some(format!(
                "use the release that made it, or a later one; or `tidemark batch recompute {dataset}` with this one"
            )),
            Self::Delta { table: at, .. } | Self::Object { key: at, .. } => match self.cause() {
                Some(cause) => cause.hint(),
                None => made_anew(at),
            },
            Self::Definition { source, .. } => source.hint(),
            Self::Ledger(error) => error.hint(),
            Self::Segment(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::Registry(error) => error.hint(),
            Self::Catalog(error) => error.hint(),
            Self::Curated(error) => error.hint(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn store(kind: io::ErrorKind) -> object_store::Error {
        object_store::Error::Generic { store: "test", source: Box::new(io::Error::new(kind, "test")) }
    }

    #[test]
    fn what_a_part_says_to_do_is_handed_on() {
        let full = || StoreError::of(Operation::Put, "k", store(io::ErrorKind::StorageFull));
        let newer = || LedgerError::Newer { key: "k".to_owned(), format: 9 };
        let catalog = CatalogError::NewerFormat { catalog: "c".to_owned(), found: 9 };
        for (error, said) in [
            (BatchError::from(full()), "free some space"),
            (LedgerError::from(full()).into(), "free some space"),
            (SegmentError::from(full()).into(), "free some space"),
            (newer().into(), "at least as new"),
            (catalog.into(), "at least as new"),
            (BatchError::NoSuchFile { path: "p".to_owned() }, "give a file"),
            (
                BatchError::Read { path: "p".to_owned(), source: io::ErrorKind::PermissionDenied.into() },
                "let this user read",
            ),
            (BatchError::Read { path: "p".to_owned(), source: io::ErrorKind::TimedOut.into() }, "run the same command"),
        ] {
            assert!(error.hint().is_some_and(|hint| hint.contains(said)), "{error:?}: {:?}", error.hint());
        }
    }

    #[test]
    fn a_library_that_tells_of_the_store_does_not_hide_why() {
        let delta = |source| BatchError::Delta { table: "curated/t/g/table".to_owned(), source: Box::new(source) };
        let object = |source| BatchError::Object { key: "curated/t/g/rejects/0.parquet".to_owned(), source };
        let denied = object_store::Error::PermissionDenied { path: "p".to_owned(), source: "test".into() };
        let gone = object_store::Error::NotFound { path: "p".to_owned(), source: "test".into() };
        for (error, kind, hint) in [
            (delta(store(io::ErrorKind::StorageFull).into()), Kind::Exhausted, Some("free some space")),
            (delta(store(io::ErrorKind::ConnectionReset).into()), Kind::Retryable, None),
            (delta(denied.into()), Kind::Retryable, Some("check the permissions")),
            (delta(DeltaTableError::generic("no protocol")), Kind::Corrupt, Some("`tidemark batch run t`")),
            (object(ParquetError::EOF("cut".to_owned())), Kind::Corrupt, Some("`tidemark batch run t`")),
            (object(ParquetError::External(Box::new(gone))), Kind::Corrupt, None),
            (object(ParquetError::External(Box::new(store(io::ErrorKind::TimedOut)))), Kind::Retryable, None),
        ] {
            assert_eq!(error.kind(), kind, "{error:?}");
            let said = error.hint();
            assert!(
                hint.is_none_or(|hint| said.as_ref().is_some_and(|said| said.contains(hint))),
                "{error:?}: {said:?}"
            );
        }
    }
}
