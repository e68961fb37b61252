//! Why the process can't start, or a part of it can't go on.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tidemark_serving::http::{TokensError, Unguarded};
use tidemark_serving::merge::VersionError;
use tidemark_shared::curated::CuratedError;
use tidemark_shared::dataset::registry::RegistryError;
use tidemark_shared::error::{ErrorKind, Kind};
use tidemark_shared::live::LiveError;
use tidemark_shared::log::LogError;
use tidemark_shared::rows::StreamRowsError;
use tidemark_shared::sql::SqlError;
use tidemark_speed::archiver::ArchiverError;
use tidemark_speed::indexer::IndexerError;

use super::LogSettingsError;

/// Why the process can't start, or a part of it can't go on.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    /// The log can't be opened by its settings.
    #[error(transparent)]
    LogSettings(#[from] LogSettingsError),
    /// The real-time view's URL names no adapter of this build.
    #[error(
        "`live.url` is {url}: this build has `memory:`, `opensearch+http://host:9200` and \
         `opensearch+https://user:password@host:9200/prefix`"
    )]
    UnknownLive {
        /// The URL, without what may be secret in it.
        url: String,
    },
    /// The real-time view's URL is none of a cluster.
    #[error("`live.url` names no OpenSearch cluster")]
    LiveUrl(#[source] tidemark_opensearch::UrlError),
    /// The door's address can't be had.
    #[error("the HTTP door can't open at {address}")]
    Address {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The door would be open to everybody.
    #[error(transparent)]
    Unguarded(#[from] Unguarded),
    /// The tokens can't be had.
    #[error(transparent)]
    Tokens(#[from] TokensError),
    /// Another process runs on the same data.
    #[error("`tidemark up` already runs on {} (pid {pid}, {http})", data_dir.display())]
    Running {
        /// The data directory.
        data_dir: PathBuf,
        /// The other process.
        pid: u32,
        /// Its door.
        http: String,
        /// What is taken.
        #[source]
        source: LogError,
    },
    /// The endpoints file can't be written.
    #[error("can't write to {}", path.display())]
    Endpoints {
        /// The data directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A dataset's stream is not open yet.
    #[error("the stream of dataset `{dataset}` is not open yet")]
    Opening {
        /// The dataset.
        dataset: String,
    },
    /// A dataset's stream could not be opened, and is tried again.
    #[error("dataset `{dataset}` takes no records now, for its stream can't be opened: {reason}")]
    NotOpened {
        /// The dataset.
        dataset: String,
        /// What the last attempt failed for.
        reason: String,
    },
    /// What was read of a topic that was made again is not archived yet.
    #[error("what was read of the earlier topic of dataset `{dataset}` is not archived after {} s", after.as_secs())]
    StillEnding {
        /// The dataset.
        dataset: String,
        /// How long that was waited for.
        after: Duration,
    },
    /// A definition that a generation names is gone.
    #[error("dataset `{dataset}` has no definition {version}, which made its generation")]
    NoDefinition {
        /// The dataset.
        dataset: String,
        /// The version.
        version: String,
    },
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Definitions can't be read.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Curated versions can't be read.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// A pointer can't be read.
    #[error(transparent)]
    Curated(#[from] CuratedError),
    /// The archiver failed.
    #[error(transparent)]
    Archiver(#[from] ArchiverError),
    /// The indexer failed.
    #[error(transparent)]
    Indexer(#[from] IndexerError),
    /// The view failed.
    #[error(transparent)]
    Live(#[from] LiveError),
    /// A stream's definition makes no rows.
    #[error(transparent)]
    Rows(#[from] StreamRowsError),
    /// The engine can't be made.
    #[error(transparent)]
    Engine(Box<SqlError>),
    /// The door ended while it was to be open.
    #[error("the HTTP door failed")]
    Door,
    /// The batch layer failed.
    #[error(transparent)]
    Batch(Box<tidemark_batch::BatchError>),
}

impl From<tidemark_batch::BatchError> for UpError {
    fn from(error: tidemark_batch::BatchError) -> Self {
        Self::Batch(Box::new(error))
    }
}

impl ErrorKind for UpError {
    fn kind(&self) -> Kind {
        match self {
            Self::UnknownLive { .. } | Self::LiveUrl(_) | Self::Unguarded(_) | Self::Tokens(_) => Kind::Invalid,
            Self::LogSettings(error) => error.kind(),
            Self::Address { .. }
            | Self::Endpoints { .. }
            | Self::Opening { .. }
            | Self::NotOpened { .. }
            | Self::StillEnding { .. } => Kind::Retryable,
            Self::NoDefinition { .. } => Kind::Corrupt,
            Self::Door => Kind::Internal,
            Self::Log(error) | Self::Running { source: error, .. } => error.kind(),
            Self::Registry(error) => error.kind(),
            Self::Version(error) => error.kind(),
            Self::Curated(error) => error.kind(),
            Self::Archiver(error) => error.kind(),
            Self::Indexer(error) => error.kind(),
            Self::Live(error) => error.kind(),
            Self::Rows(error) => error.kind(),
            Self::Engine(error) => error.kind(),
            Self::Batch(error) => error.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Address { .. } => Some("give another one with --http; port 0 takes any free one".to_owned()),
            Self::Unguarded(_) => Some("name a file of tokens with --tokens-file, or bind to 127.0.0.1".to_owned()),
            Self::Running { .. } => Some(
                "use the running process, or stop it first; one of other roles takes a data directory of its own: --data-dir"
                    .to_owned(),
            ),
            Self::Log(error) => error.hint(),
            Self::LogSettings(error) => error.hint(),
            Self::Batch(error) => error.hint(),
            Self::Registry(error) => error.hint(),
            Self::Version(error) => error.hint(),
            Self::Curated(error) => error.hint(),
            Self::Archiver(error) => error.hint(),
            Self::Indexer(error) => error.hint(),
            Self::Live(error) => error.hint(),
            Self::Rows(error) => error.hint(),
            Self::Engine(error) => error.hint(),
            Self::Endpoints { .. } => Some("check that the data directory can be written".to_owned()),
            Self::UnknownLive { .. }
            | Self::LiveUrl(_)
            | Self::Tokens(_)
            | Self::Opening { .. }
            | Self::NotOpened { .. }
            | Self::StillEnding { .. }
            | Self::NoDefinition { .. }
            | Self::Door => None,
        }
    }
}
