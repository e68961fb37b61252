//! Why an audit can't be made. That an answer is wrong is no error of the audit: it is its result.

use datafusion::error::DataFusionError;
use tidemark_shared::dataset::registry::RegistryError;
use tidemark_shared::error::{ErrorKind, Kind};
use tidemark_shared::ledger::LedgerError;
use tidemark_shared::position::LogPartition;
use tidemark_shared::rows::StreamRowsError;
use tidemark_shared::segment::SegmentError;
use tidemark_shared::store::StoreError;
use tidemark_shared::transform::TransformError;

/// An audit that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file ledger can't be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The archive can't be read.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// The definitions can't be read.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The stream can't be decoded.
    #[error(transparent)]
    Rows(#[from] StreamRowsError),
    /// The transform can't be compiled.
    #[error(transparent)]
    Transform(#[from] TransformError),
    /// A definition that answers name is not there.
    #[error("dataset `{dataset}` has no definition {version}")]
    NoDefinition {
        /// The dataset.
        dataset: String,
        /// The version.
        version: String,
    },
    /// An answer covers records that neither the archive nor the log has.
    #[error(
        "`{partition}` of dataset `{dataset}` can be read up to offset {end} only, and an answer covers it up to {claimed}"
    )]
    Unreachable {
        /// The dataset.
        dataset: String,
        /// The partition.
        partition: LogPartition,
        /// How far it can be read.
        end: u64,
        /// How far the answer covers it.
        claimed: u64,
    },
    /// A raw file can't be read.
    #[error("raw file `{name}` of dataset `{dataset}` can't be read: {reason}")]
    File {
        /// The dataset.
        dataset: String,
        /// Its name in the ledger.
        name: String,
        /// Why.
        reason: String,
    },
    /// Rows can't be kept or asked.
    #[error("the rows can't be derived: {reason}")]
    Derive {
        /// Why.
        reason: String,
    },
}

impl From<DataFusionError> for AuditError {
    fn from(error: DataFusionError) -> Self {
        Self::Derive { reason: error.strip_backtrace() }
    }
}

impl From<arrow::error::ArrowError> for AuditError {
    fn from(error: arrow::error::ArrowError) -> Self {
        Self::Derive { reason: error.to_string() }
    }
}

impl From<std::io::Error> for AuditError {
    fn from(error: std::io::Error) -> Self {
        Self::Derive { reason: error.to_string() }
    }
}

impl ErrorKind for AuditError {
    fn kind(&self) -> Kind {
        match self {
            Self::Store(error) => error.kind(),
            Self::Ledger(error) => error.kind(),
            Self::Segment(error) => error.kind(),
            Self::Registry(error) => error.kind(),
            Self::Rows(error) => error.kind(),
            Self::Transform(error) => error.kind(),
            Self::NoDefinition { .. } => Kind::NotFound,
            Self::Unreachable { .. } | Self::File { .. } => Kind::Corrupt,
            Self::Derive { .. } => Kind::Retryable,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Unreachable { .. } => Some(
                "start the running process again, and audit while it runs: it seals what its log has first".to_owned(),
            ),
            _ => None,
        }
    }
}
