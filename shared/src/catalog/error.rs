//! Why a catalog refused or failed.

use std::error::Error as StdError;

use crate::error::{ErrorKind, Kind};

/// A failure of a catalog.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// A name, value or token that can't be.
    #[error("`{what}` is refused by the catalog: {reason}")]
    Invalid {
        /// The refused text.
        what: String,
        /// Why.
        reason: String,
    },
    /// There is no such thing.
    #[error("{what} does not exist")]
    NotFound {
        /// Kind and name: "table `lake.trips`".
        what: String,
    },
    /// There is one already.
    #[error("{what} already exists")]
    AlreadyExists {
        /// Kind and name.
        what: String,
    },
    /// Another update was faster.
    #[error("{what} is at version {actual}, not {expected}: it was changed meanwhile")]
    Conflict {
        /// Kind and name.
        what: String,
        /// The version that the caller had read.
        expected: u64,
        /// The newest version.
        actual: u64,
    },
    /// The stored catalog was written by a newer release.
    #[error("the format {found} of the catalog at {catalog} is newer than this release knows")]
    NewerFormat {
        /// Its address, without a password.
        catalog: String,
        /// Number of the newest format step found.
        found: i64,
    },
    /// The stored catalog was written by an older release, and was opened as it is.
    #[error("the format {found} of the catalog at {catalog} is older than {needed}, which this release reads")]
    OlderFormat {
        /// Its address, without a password.
        catalog: String,
        /// Number of the newest format step found.
        found: i64,
        /// Number of the format step that is needed.
        needed: i64,
    },
    /// A stored entry is not what it must be.
    #[error("the catalog's entry of {what} can't be read")]
    Corrupt {
        /// Kind and name.
        what: String,
        /// What is wrong with it.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The database behind the catalog failed.
    #[error("the catalog at {catalog} failed to {operation}")]
    Backend {
        /// Its address, without a password.
        catalog: String,
        /// What was tried.
        operation: &'static str,
        /// What to do about it, where that can be told.
        hint: Option<&'static str>,
        /// Why, in the database's words.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
}

impl ErrorKind for CatalogError {
    fn kind(&self) -> Kind {
        match self {
            Self::Invalid { .. } | Self::AlreadyExists { .. } => Kind::Invalid,
            Self::NotFound { .. } => Kind::NotFound,
            Self::Conflict { .. } => Kind::Conflict,
            Self::NewerFormat { .. } | Self::OlderFormat { .. } => Kind::Unsupported,
            Self::Corrupt { .. } => Kind::Corrupt,
            Self::Backend { .. } => Kind::Retryable,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Conflict { .. } => Some("read it again and repeat the change".to_owned()),
            Self::OlderFormat { .. } => {
                Some("a command that writes, such as `tidemark batch run`, brings it up to date".to_owned())
            }
            Self::Backend { hint, .. } => hint.map(str::to_owned),
            Self::NewerFormat { .. } => Some("use a release at least as new as the one that wrote it".to_owned()),
            _ => None,
        }
    }
}
