//! Why records can't be indexed.

use std::ops::Range;

use arrow::error::ArrowError;
use tidemark_shared::counts::Counts;
use tidemark_shared::error::{ErrorKind, Kind};
use tidemark_shared::live::{LiveError, ViewId};
use tidemark_shared::log::LogError;
use tidemark_shared::position::LogPartition;
use tidemark_shared::segment::SegmentError;

use crate::retry::{LOG_BEHIND, STOPPED};

/// A failure of an indexer.
#[derive(Debug, thiserror::Error)]
pub enum IndexerError {
    /// The log refused or failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The archive refused or failed.
    #[error(transparent)]
    Archive(#[from] SegmentError),
    /// The view refused or failed.
    #[error(transparent)]
    Live(#[from] LiveError),
    /// Records have left the log and are in no segment.
    #[error("offsets {} to {} of `{partition}` are neither in the log nor in the archive", missing.start, missing.end)]
    Hole {
        /// The partition.
        partition: LogPartition,
        /// The offsets.
        missing: Range<u64>,
    },
    /// The log ends below what is visible.
    #[error("`{partition}` is visible up to offset {visible}, but its log ends at {log_end}: the log has lost records")]
    LogBehind {
        /// The partition.
        partition: LogPartition,
        /// How far it is visible.
        visible: u64,
        /// Where the log ends.
        log_end: u64,
    },
    /// The rows could not be made: a defect of ours.
    #[error("records of `{partition}` from offset {from} on could not be made rows of {view}")]
    Rows {
        /// The view.
        view: ViewId,
        /// The partition.
        partition: LogPartition,
        /// The first offset.
        from: u64,
        /// Why.
        #[source]
        source: ArrowError,
    },
    /// Rows, filtered records and rejects are not as many as the records (H8): a defect of ours.
    #[error(
        "{given} records of `{partition}`, offsets {} to {}, became {} rows, {} filtered and {} rejects of {view}",
        range.start, range.end, counts.accepted, counts.filtered, counts.rejected_total()
    )]
    DoesNotAddUp {
        /// The view.
        view: ViewId,
        /// The partition.
        partition: LogPartition,
        /// The offsets.
        range: Range<u64>,
        /// How many records there were.
        given: u64,
        /// What they became.
        counts: Box<Counts>,
    },
    /// The thread that made the rows broke down: a defect of ours.
    #[error("records of `{partition}` from offset {from} on could not be made rows: {reason}")]
    Panicked {
        /// The partition.
        partition: LogPartition,
        /// The first offset.
        from: u64,
        /// What the thread left.
        reason: String,
    },
    /// The view has gone.
    #[error("the real-time view of {view} is gone")]
    ViewGone {
        /// The view.
        view: ViewId,
    },
    /// The partition was stopped by an earlier failure.
    #[error("indexing of `{partition}` has stopped: {reason}")]
    Stopped {
        /// The partition.
        partition: LogPartition,
        /// The earlier failure.
        reason: String,
    },
}

impl ErrorKind for IndexerError {
    fn kind(&self) -> Kind {
        match self {
            Self::Log(error) => error.kind(),
            Self::Archive(error) => error.kind(),
            Self::Live(error) => error.kind(),
            // the archiver may be about to say that they are lost, or a backup to bring them back
            Self::Hole { .. } | Self::ViewGone { .. } => Kind::NotFound,
            Self::LogBehind { .. } | Self::Stopped { .. } => Kind::Corrupt,
            Self::Rows { .. } | Self::DoesNotAddUp { .. } | Self::Panicked { .. } => Kind::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Log(error) => error.hint(),
            Self::Archive(error) => error.hint(),
            Self::Live(error) => error.hint(),
            Self::Hole { .. } => Some("start the archiver: it marks what is lost, or restore the raw zone".to_owned()),
            Self::LogBehind { .. } => Some(LOG_BEHIND.to_owned()),
            Self::Stopped { .. } => Some(STOPPED.to_owned()),
            Self::DoesNotAddUp { .. } | Self::Rows { .. } | Self::Panicked { .. } | Self::ViewGone { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retry::may_heal;

    #[derive(Debug, thiserror::Error)]
    #[error("it is {0:?}")]
    struct Failure(Kind);

    impl ErrorKind for Failure {
        fn kind(&self) -> Kind {
            self.0
        }

        fn hint(&self) -> Option<String> {
            Some("see to it".to_owned())
        }
    }

    #[test]
    fn what_a_view_can_not_get_over_is_not_tried_again() {
        for (kind, heals) in [
            (Kind::Retryable, true),
            (Kind::Exhausted, true),
            (Kind::Corrupt, false),
            (Kind::Unsupported, false),
            (Kind::Internal, false),
        ] {
            let error = IndexerError::from(LiveError::of("take rows in", Failure(kind)));
            assert_eq!((may_heal(error.kind()), error.hint().as_deref()), (heals, Some("see to it")), "{kind:?}");
        }
    }
}
