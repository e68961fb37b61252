//! Segments: the raw zone's part that comes from streams. A segment is one sealed object with a contiguous range of
//! offsets of one partition, bytes and all; it never changes (H1).
//!
//! A range that retention, or the end of its topic, took before it was archived is a *lost* segment: it has no record, and says
//! so. Several segments may be *packed* into one object; positions and bytes stay, and readers prefer the packed one.

mod archive;
mod format;

pub use archive::{Archive, PutSegment, SegmentRef, StreamSource};
pub use format::{read_header, read_segment, write_segment};

use std::ops::Range;

use archive::SOURCE_FORMAT;

use crate::error::{ErrorKind, Kind};
use crate::log::OffsetRecord;
use crate::position::{LogPartition, PositionError};
use crate::store::StoreError;

/// What a segment covers, without its records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The offsets: every record of the partition in it that there ever was.
    pub range: Range<u64>,
    /// Sub-ranges that left the log before they were archived.
    pub lost: Vec<Range<u64>>,
}

/// A segment with its records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// What it covers.
    pub header: SegmentHeader,
    /// Its records, in order of offset; there may be holes, and there may be none.
    pub records: Vec<OffsetRecord>,
}

impl Segment {
    /// A segment of records that were read from `range`.
    #[must_use]
    pub fn new(range: Range<u64>, records: Vec<OffsetRecord>) -> Self {
        Self { header: SegmentHeader { range, lost: Vec::new() }, records }
    }

    /// A segment that says that `range` is lost.
    #[must_use]
    pub fn lost(range: Range<u64>) -> Self {
        Self { header: SegmentHeader { lost: vec![range.clone()], range }, records: Vec::new() }
    }
}

/// Why the archive of a stream can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An object is not a segment, or not the one its key says.
    #[error("`{key}` is no segment: {reason}")]
    Corrupt {
        /// The object.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Written by a newer release.
    #[error("`{key}` has format {format}; this build reads up to {SOURCE_FORMAT}")]
    Newer {
        /// The object.
        key: String,
        /// Its format.
        format: u32,
    },
    /// Others kept winning.
    #[error("the sources of dataset `{dataset}` were changed by others {attempts} times in a row")]
    Contended {
        /// The dataset.
        dataset: String,
        /// Attempts made.
        attempts: u32,
    },
    /// Offsets are missing between two segments.
    #[error("the archive of `{partition}` of dataset `{dataset}` has a hole: offsets {} to {} are in no segment", missing.start, missing.end)]
    Hole {
        /// The dataset.
        dataset: String,
        /// The partition.
        partition: LogPartition,
        /// The offsets.
        missing: Range<u64>,
    },
    /// A topic's name can't be a source's.
    #[error("topic `{topic}` can't feed a dataset")]
    Source {
        /// The topic.
        topic: String,
        /// Why.
        #[source]
        source: PositionError,
    },
    /// A defect of ours.
    #[error("a segment can't be encoded: {reason}")]
    Encode {
        /// What the encoder said.
        reason: String,
    },
}

impl ErrorKind for SegmentError {
    fn kind(&self) -> Kind {
        match self {
            Self::Store(error) => error.kind(),
            Self::Corrupt { .. } | Self::Hole { .. } => Kind::Corrupt,
            Self::Newer { .. } => Kind::Unsupported,
            Self::Contended { .. } => Kind::Retryable,
            Self::Source { .. } => Kind::Invalid,
            Self::Encode { .. } => Kind::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            Self::Hole { .. } => Some("restore the missing objects of the raw zone from a backup".to_owned()),
            Self::Newer { .. } => Some("use a release at least as new as the one that wrote it".to_owned()),
            Self::Source { .. } => Some("give the stream another topic".to_owned()),
            _ => None,
        }
    }
}
