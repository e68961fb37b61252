//! Why records can't be archived.

use tidemark_shared::error::{ErrorKind, Kind};
use tidemark_shared::log::LogError;
use tidemark_shared::position::LogPartition;
use tidemark_shared::segment::SegmentError;

use crate::retry::{LOG_BEHIND, STOPPED};

/// A failure of the archiver.
#[derive(Debug, thiserror::Error)]
pub enum ArchiverError {
    /// The log refused or failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The archive refused or failed.
    #[error(transparent)]
    Archive(#[from] SegmentError),
    /// The log ends below what was archived from it.
    #[error(
        "the archive of `{partition}` reaches offset {archived}, but its log ends at {log_end}: the log has lost records"
    )]
    LogBehind {
        /// The partition.
        partition: LogPartition,
        /// How far it is archived, or was read.
        archived: u64,
        /// Where the log ends.
        log_end: u64,
    },
    /// The partition was stopped by an earlier failure.
    #[error("archiving of `{partition}` has stopped: {reason}")]
    Stopped {
        /// The partition.
        partition: LogPartition,
        /// The earlier failure.
        reason: String,
    },
}

impl ErrorKind for ArchiverError {
    fn kind(&self) -> Kind {
        match self {
            Self::Log(error) => error.kind(),
            Self::Archive(error) => error.kind(),
            Self::LogBehind { .. } | Self::Stopped { .. } => Kind::Corrupt,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Log(error) => error.hint(),
            Self::Archive(error) => error.hint(),
            Self::LogBehind { .. } => Some(LOG_BEHIND.to_owned()),
            Self::Stopped { .. } => Some(STOPPED.to_owned()),
        }
    }
}
