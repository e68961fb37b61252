//! Why a real-time view refused or failed.

use std::error::Error as StdError;

use super::ViewId;
use crate::error::{ErrorKind, Kind};
use crate::position::LogPartition;

/// A failure of a real-time view.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// Nobody opened the view, or this partition of it.
    #[error("the real-time view of {view} is not open{}", partition_text(partition.as_ref()))]
    Missing {
        /// The view.
        view: ViewId,
        /// The partition, if the view itself is there.
        partition: Option<LogPartition>,
    },
    /// The view is there with other columns.
    #[error("the real-time view of {view} has other columns")]
    Schema {
        /// The view.
        view: ViewId,
    },
    /// Offsets before the batch have not come yet.
    #[error("the real-time view of {view} holds `{partition}` up to offset {visible}, not up to {start}")]
    Gap {
        /// The view.
        view: ViewId,
        /// The partition.
        partition: LogPartition,
        /// How far it holds it.
        visible: u64,
        /// Where the batch begins.
        start: u64,
    },
    /// There is no room.
    #[error("the real-time views are full: {used} of {max} bytes")]
    Full {
        /// Bytes taken.
        used: u64,
        /// Most bytes.
        max: u64,
    },
    /// A row that decode and transform accepted is refused by what is behind the view: a defect, here or there.
    #[error("the real-time view of {view} can't take the row at offset {offset} of `{partition}`: {reason}")]
    Refused {
        /// The view.
        view: ViewId,
        /// The partition.
        partition: LogPartition,
        /// The row.
        offset: u64,
        /// What was said against it.
        reason: String,
    },
    /// The view is kept in a form that this build does not know.
    #[error("the real-time view of {view} is kept in the form `{found}`; this build reads `{known}`")]
    Format {
        /// The view.
        view: ViewId,
        /// Its form.
        found: String,
        /// That of this build.
        known: &'static str,
    },
    /// What is behind the view failed.
    #[error("the real-time view failed to {operation}")]
    Backend {
        /// What was tried.
        operation: &'static str,
        /// What a caller can do about it.
        kind: Kind,
        /// What people can do about it.
        hint: Option<String>,
        /// Why, in its words.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
}

fn partition_text(partition: Option<&LogPartition>) -> String {
    partition.map_or_else(String::new, |partition| format!(" for `{partition}`"))
}

impl LiveError {
    /// A failure of what is behind the view that may pass.
    pub fn backend(operation: &'static str, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Backend { operation, kind: Kind::Retryable, hint: None, source: source.into() }
    }

    /// A failure of what is behind the view that says itself what can be done about it.
    pub fn of(operation: &'static str, source: impl ErrorKind) -> Self {
        Self::Backend { operation, kind: source.kind(), hint: source.hint(), source: Box::new(source) }
    }
}

impl ErrorKind for LiveError {
    fn kind(&self) -> Kind {
        match self {
            Self::Missing { .. } => Kind::NotFound,
            Self::Schema { .. } => Kind::Conflict,
            Self::Gap { .. } | Self::Refused { .. } => Kind::Internal,
            Self::Format { .. } => Kind::Unsupported,
            Self::Full { .. } => Kind::Exhausted,
            Self::Backend { kind, .. } => *kind,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Full { .. } => Some("a batch run makes room; raise `live.bytes_max` if it happens often".to_owned()),
            Self::Format { .. } => Some(
                "run the build that made it, or remove its indices: views are made again from log and archive"
                    .to_owned(),
            ),
            Self::Backend { hint, .. } => hint.clone(),
            _ => None,
        }
    }
}
