//! The port behind which a server answers for datasets: from the batch layer, the speed layer, or both. Without one, the
//! engine reads the curated tables in the store by itself.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::logical_expr::Expr;

use super::as_of::DatasetAsOf;
use super::engine::Limits;
use super::error::SqlError;
use crate::dataset::KeySpec;
use crate::error::{AnyError, ErrorKind, Kind};
use crate::position::{Coverage, LogPartition};

/// Which of a dataset's tables: `batch.<dataset>`, `merged.<dataset>`, `live.<dataset>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    /// Curated rows.
    Batch,
    /// Curated rows, and real-time rows above them.
    Merged,
    /// Real-time rows above the curated ones.
    Live,
}

impl Layer {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Batch, Self::Merged, Self::Live];

    /// The schema's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Batch => "batch",
            Self::Merged => "merged",
            Self::Live => "live",
        }
    }

    /// The layer whose schema is called so.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|layer| layer.name() == name)
    }
}

/// What a query asks of the moment that it is answered at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wants {
    /// Positions, by dataset, that the answer must cover; it is waited for, within a bound.
    pub at_least: BTreeMap<String, Coverage>,
    /// Longest time that a record may have been in the log without being in the answer.
    pub staleness_max: Option<Duration>,
    /// Positions, by dataset, of an earlier answer: exactly what lies below them counts.
    pub positions: BTreeMap<String, Coverage>,
}

/// A dataset's table at one moment, in parts that the engine puts together.
#[derive(Debug)]
pub struct OpenedDataset {
    /// Columns of the table. The parts have them by name, if not in this order or type.
    pub schema: SchemaRef,
    /// The rows; no two parts have a row of the same position.
    pub parts: Vec<Arc<dyn TableProvider>>,
    /// Only rows for which this is true count.
    pub only: Option<Expr>,
    /// The dataset's key, if it has one: of each key one row is shown.
    pub key: Option<KeySpec>,
    /// What the table covers.
    pub as_of: DatasetAsOf,
    /// Data files of the curated part.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Rows in the curated part, before keys are resolved, where its log says so; 0 if there is no such part.
    pub rows_batch: u64,
    /// Rows in the real-time part, before keys are resolved, where its view knows them without a look; 0 if there is no such part.
    pub rows_live: Option<u64>,
}

/// Datasets as a server answers for them.
pub trait DatasetTables: fmt::Debug + Send + Sync {
    /// The datasets as one statement sees them: each at one moment, however often and in whichever layer it is named. Of its
    /// time, `limits` has what is left now.
    fn statement(&self, wants: &Wants, limits: Limits) -> Arc<dyn StatementDatasets>;
}

/// The datasets of one statement.
#[async_trait]
pub trait StatementDatasets: fmt::Debug + Send + Sync {
    /// A dataset's table; `None` if there is no such dataset.
    ///
    /// # Errors
    /// [`SqlError`].
    async fn open(&self, layer: Layer, dataset: &str) -> Result<Option<OpenedDataset>, SqlError>;
}

/// Why a dataset has no moment that a query could be answered at.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CutError {
    /// Neither the curated table nor the real-time view has some offsets (H6).
    #[error("offsets {} to {} of `{partition}` are neither curated nor in the real-time view", missing.start, missing.end)]
    RealtimeGap {
        /// The partition.
        partition: LogPartition,
        /// The offsets.
        missing: Range<u64>,
    },
    /// The real-time view is not there (yet).
    #[error("the real-time view of generation {generation} is not there")]
    NoView {
        /// The generation.
        generation: String,
    },
    /// Another generation answers, whose real-time view has not come as far as answers of the one before.
    #[error("the real-time view of generation {generation} is not as far as answers were before")]
    ViewBehind {
        /// The generation.
        generation: String,
    },
    /// The answer does not come to cover what it must in time.
    #[error("the answer covers {} after {waited_ms} ms, not {} yet", text(reached), text(wanted))]
    NotReached {
        /// What it must cover.
        wanted: Coverage,
        /// What it covers.
        reached: Coverage,
        /// How long was waited.
        waited_ms: u64,
    },
    /// Positions of a partition that is not there are asked for: no answer comes to cover them.
    #[error("there is no partition `{partition}`; the dataset has {}", names(known))]
    UnknownPartition {
        /// The partition.
        partition: LogPartition,
        /// Those that there are.
        known: Vec<LogPartition>,
    },
    /// The answer would be older than allowed.
    #[error("the answer would lack records of the last {age_ms} ms; {limit_ms} ms are allowed")]
    TooStale {
        /// Age of the oldest record that it would lack.
        age_ms: u64,
        /// The most allowed.
        limit_ms: u64,
    },
    /// What an earlier answer was made of is not there any more.
    #[error("the answer at {} can't be given again: {reason}", text(positions))]
    PositionsGone {
        /// The positions asked for.
        positions: Coverage,
        /// Why.
        reason: String,
    },
    /// Something behind the cut failed.
    #[error(transparent)]
    Failed(Arc<AnyError>),
}

/// Partitions named in an error; there may be thousands.
const NAMED_MAX: usize = 8;

fn names(partitions: &[LogPartition]) -> String {
    let named: Vec<String> = partitions.iter().take(NAMED_MAX).map(|partition| format!("`{partition}`")).collect();
    let more = partitions.len().saturating_sub(NAMED_MAX);
    match (named.is_empty(), more) {
        (true, _) => "none".to_owned(),
        (false, 0) => named.join(", "),
        (false, _) => format!("{} and {more} more", named.join(", ")),
    }
}

fn text(coverage: &Coverage) -> String {
    let parts: Vec<String> = coverage.iter().map(|(partition, end)| format!("{partition}:{end}")).collect();
    if parts.is_empty() { "nothing".to_owned() } else { parts.join(" ") }
}

impl CutError {
    /// A failure of something behind the cut.
    pub fn failed(source: impl ErrorKind) -> Self {
        Self::Failed(Arc::new(AnyError::new(source)))
    }

    /// A stable name, for programs; `None` where the failure is somebody else's.
    #[must_use]
    pub fn code(&self) -> Option<&'static str> {
        Some(match self {
            Self::RealtimeGap { .. } => "realtime_gap",
            Self::NoView { .. } | Self::ViewBehind { .. } => "realtime_unavailable",
            Self::NotReached { .. } => "positions_not_reached",
            Self::UnknownPartition { .. } => "unknown_partition",
            Self::TooStale { .. } => "too_stale",
            Self::PositionsGone { .. } => "positions_gone",
            Self::Failed(_) => return None,
        })
    }
}

impl ErrorKind for CutError {
    fn kind(&self) -> Kind {
        match self {
            Self::RealtimeGap { .. }
            | Self::NoView { .. }
            | Self::ViewBehind { .. }
            | Self::NotReached { .. }
            | Self::TooStale { .. } => Kind::Retryable,
            Self::UnknownPartition { .. } => Kind::Invalid,
            Self::PositionsGone { .. } => Kind::NotFound,
            Self::Failed(source) => source.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::RealtimeGap { .. } | Self::NoView { .. } | Self::ViewBehind { .. } => {
                Some("`batch.<dataset>` answers for what is curated".to_owned())
            }
            Self::Failed(source) => source.hint(),
            _ => None,
        }
    }
}
