//! Where the next records of a partition come from: the log, or the archive where the log has let go of them.

use std::collections::VecDeque;
use std::ops::Range;

use tidemark_shared::log::{Bounds, Fetched, LogError, OffsetRecord};
use tidemark_shared::position::LogPartition;
use tidemark_shared::segment::{SegmentError, SegmentRef};

use super::{Indexer, IndexerError};

/// What was read ahead from the archive.
#[derive(Debug, Default)]
pub(super) struct Archived {
    /// Segments that are to be read next.
    segments: VecDeque<SegmentRef>,
    /// Records of the segment that was read, and its end.
    records: VecDeque<OffsetRecord>,
    end: u64,
    /// Its lost offsets.
    lost: Vec<Range<u64>>,
}

impl Archived {
    /// What is lost of offsets that were read past.
    pub(super) fn lost_in(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let within = |lost: &Range<u64>| lost.start.max(range.start)..lost.end.min(range.end);
        self.lost.iter().map(within).filter(|lost| !lost.is_empty()).collect()
    }
}

impl Indexer {
    /// Reads on from `from`.
    pub(super) async fn fetch(
        &self,
        partition: &LogPartition,
        from: u64,
        lag: u64,
        archived: &mut Archived,
    ) -> Result<Fetched, IndexerError> {
        if archived.end > from {
            return Ok(self.cut(from, archived, None));
        }
        if partition.source != self.source {
            return self.fetch_archived(partition, from, None, archived).await;
        }
        let limits = self.settings.limits(lag);
        match self.parts.log.read(&self.parts.topic, partition.partition, from, limits).await {
            Ok(read) => {
                // What was listed before says nothing of the archive that the next gap is read from.
                archived.segments.clear();
                Ok(read)
            }
            Err(LogError::Gone { start, .. }) => self.fetch_archived(partition, from, Some(start), archived).await,
            Err(LogError::BeyondEnd { from, end, .. }) => {
                Err(IndexerError::LogBehind { partition: partition.clone(), visible: from, log_end: end })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Reads on from the archive. `log_start` is where the log begins, of the current incarnation.
    async fn fetch_archived(
        &self,
        partition: &LogPartition,
        from: u64,
        log_start: Option<u64>,
        archived: &mut Archived,
    ) -> Result<Fetched, IndexerError> {
        let archive = &self.parts.archive;
        if archived.segments.front().is_none_or(|next| next.start > from || next.end.is_some_and(|end| end <= from)) {
            let origin = archive.origin(partition).await?;
            if let Some(origin) = origin.filter(|origin| *origin > from) {
                // nothing was ever known of what is below the origin
                return Ok(nothing(origin));
            }
            archived.segments = match origin {
                Some(_) => archive.segments_over(partition, from).await?.into(),
                None => VecDeque::new(),
            };
        }
        let segment = loop {
            let Some(next) = archived.segments.pop_front() else {
                return match log_start {
                    None => Ok(nothing(from)),
                    Some(start) => Err(IndexerError::Hole { partition: partition.clone(), missing: from..start }),
                };
            };
            match archive.read(partition, &next).await {
                // where the last one ends, only its footer tells
                Ok(segment) if segment.header.range.end <= from => {}
                Ok(segment) => break segment,
                Err(error) => {
                    // packed meanwhile, perhaps: the next attempt lists again
                    archived.segments.clear();
                    return Err(gone_for_now(error));
                }
            }
        };
        let first = segment.records.partition_point(|read| read.offset < from);
        archived.end = segment.header.range.end;
        archived.lost = segment.header.lost;
        archived.records = segment.records.into_iter().skip(first).collect();
        Ok(self.cut(from, archived, log_start))
    }

    /// The next batch of what was read ahead.
    fn cut(&self, from: u64, archived: &mut Archived, log_start: Option<u64>) -> Fetched {
        let limits = self.settings.behind;
        // a batch may have been applied in part, or by somebody else
        while archived.records.front().is_some_and(|read| read.offset < from) {
            archived.records.pop_front();
        }
        let mut bytes = 0;
        let fits = |read: &&OffsetRecord| {
            bytes += read.record.bytes();
            bytes <= limits.bytes_max
        };
        let count = archived.records.iter().take(limits.records_max).take_while(fits).count();
        // not drained: a step that is dropped, or a batch that is refused, reads them again
        let records: Vec<_> = archived.records.iter().take(count.max(1)).cloned().collect();
        let next = archived.records.get(records.len()).map_or(archived.end, |rest| rest.offset);
        let end = log_start.map_or(archived.end, |start| start.max(archived.end));
        Fetched { records, next, bounds: Bounds { start: from, end } }
    }
}

/// No records below `next`.
fn nothing(next: u64) -> Fetched {
    Fetched { records: Vec::new(), next, bounds: Bounds { start: next, end: next } }
}

/// An object that was listed and is not there is looked for once more by whoever tries again: it may be packed.
fn gone_for_now(error: SegmentError) -> IndexerError {
    match error {
        SegmentError::Hole { partition, missing, .. } => IndexerError::Hole { partition, missing },
        error => error.into(),
    }
}
