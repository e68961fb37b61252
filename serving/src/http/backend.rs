//! The port behind which the door finds the rest of the process: the log that takes records, and what is known of its
//! health. Implemented where all layers are seen.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tidemark_shared::dataset::Format;
use tidemark_shared::error::{AnyError, ErrorKind, Kind};
use tidemark_shared::log::{IdempotencyKey, LogError};
use tidemark_shared::position::{Coverage, LogPartition};
use tidemark_shared::telemetry::TraceParent;

/// Where records went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The position of each record, in the order of the records.
    pub positions: Vec<(LogPartition, u64)>,
    /// True if the idempotency key had been used: nothing was appended now.
    pub repeated: bool,
}

/// Why records were not taken.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// There is no such dataset.
    #[error("there is no dataset `{dataset}`")]
    UnknownDataset {
        /// Its name.
        dataset: String,
    },
    /// The dataset takes files only.
    #[error("dataset `{dataset}` has no stream: it takes files only")]
    NoStream {
        /// Its name.
        dataset: String,
    },
    /// More comes than can be taken in.
    #[error("dataset `{dataset}` takes no records now: {reason}")]
    Busy {
        /// Its name.
        dataset: String,
        /// Why.
        reason: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// The log refused or failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Something else failed.
    #[error(transparent)]
    Failed(AnyError),
}

impl ErrorKind for IntakeError {
    fn kind(&self) -> Kind {
        match self {
            Self::UnknownDataset { .. } => Kind::NotFound,
            Self::NoStream { .. } => Kind::Invalid,
            Self::Busy { .. } => Kind::Exhausted,
            Self::Log(source) => source.kind(),
            Self::Failed(source) => source.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownDataset { .. } => Some("`GET /v1/datasets` lists them".to_owned()),
            Self::NoStream { .. } => Some("bring files by `tidemark ingest`".to_owned()),
            Self::Busy { .. } => None,
            Self::Log(source) => source.hint(),
            Self::Failed(source) => source.hint(),
        }
    }
}

/// Whether the process does its work, for `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It can't yet, or not any more.
    NotReady {
        /// Why.
        reason: String,
    },
    /// It does.
    Ready {
        /// Datasets that it does not do all its work for, with the reasons.
        degraded: BTreeMap<String, String>,
    },
}

/// The rest of the process, as the door sees it.
#[async_trait]
pub trait Backend: fmt::Debug + Send + Sync {
    /// The format of the records in a dataset's stream.
    ///
    /// # Errors
    /// [`IntakeError`].
    async fn stream_format(&self, dataset: &str) -> Result<Format, IntakeError>;

    /// Appends records to a dataset's stream, each given by its value, and returns when they are durable. `origin`: the span
    /// that they are to name as the one that they came from.
    ///
    /// # Errors
    /// [`IntakeError`].
    async fn append(
        &self,
        dataset: &str,
        values: Vec<Bytes>,
        key: Option<&IdempotencyKey>,
        origin: Option<TraceParent>,
    ) -> Result<Taken, IntakeError>;

    /// Archives all that is in the log of a dataset's stream now; tells how far the archive reaches.
    ///
    /// # Errors
    /// [`IntakeError`].
    async fn seal(&self, dataset: &str) -> Result<Coverage, IntakeError>;

    /// What `/v1/status` shows: per dataset and partition, log end, archived, visible, coverage and lag; per role, health.
    ///
    /// # Errors
    /// Whatever is asked reports.
    async fn status(&self) -> Result<serde_json::Value, AnyError>;

    /// Brings those metrics up to date that are not counted as it happens: positions, lags, fill. Called before they are
    /// shown, and bounded in time: what can't be had stays as it was.
    async fn measure(&self) {}

    /// Whether the process does its work.
    async fn readiness(&self) -> Readiness;
}
