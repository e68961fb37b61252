//! Where the next records of a partition come from: the log, or the archive where the log has let go of them.

use std::collections::VecDeque;
use std::ops::Range;

use tidemark_shared::log::{Bounds, Fetched, LogError, OffsetRecord, ReadLimits};
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
                if self.settings.is_behind(lag) {
                    return Ok(self.gather(partition, read).await);
                }
                Ok(read)
            }
            Err(LogError::Gone { start, .. }) => self.fetch_archived(partition, from, Some(start), archived).await,
            Err(LogError::BeyondEnd { from, end, .. }) => {
                Err(IndexerError::LogBehind { partition: partition.clone(), visible: from, log_end: end })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Reads on until a batch is nearly full or has all that the log has: a log gives what is at hand, and a view has as much
    /// trouble with a small batch as with a large one. What can't be read is met again by the next step, which says so. A read
    /// past offsets without records, as of transactions that were given up, ends the batch: it counts for none of its bounds,
    /// and what was read past is to be kept.
    async fn gather(&self, partition: &LogPartition, mut read: Fetched) -> Fetched {
        let mut bytes = bytes_of(&read.records);
        while let Some(limits) = left(self.settings.behind, &read, bytes) {
            let more = self.parts.log.read(&self.parts.topic, partition.partition, read.next, limits).await;
            let Ok(more) = more else { break };
            if more.next <= read.next {
                break;
            }
            let is_empty = more.records.is_empty();
            bytes += bytes_of(&more.records);
            read.records.extend(more.records);
            (read.next, read.bounds) = (more.next, more.bounds);
            if is_empty {
                break;
            }
        }
        read
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

fn bytes_of(records: &[OffsetRecord]) -> usize {
    records.iter().map(|read| read.record.bytes()).sum()
}

/// Bounds of a further read into a batch that has so much; `None` if the log has no more, or the batch little room.
fn left(limits: ReadLimits, read: &Fetched, bytes: usize) -> Option<ReadLimits> {
    let left = ReadLimits {
        records_max: limits.records_max.saturating_sub(read.records.len()),
        bytes_max: limits.bytes_max.saturating_sub(bytes),
    };
    let has_room = left.records_max > limits.records_max / 4 && left.bytes_max > limits.bytes_max / 4;
    (has_room && read.next < read.bounds.end).then_some(left)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_read_on_for_while_it_has_room_and_the_log_has_more() {
        let limits = ReadLimits { records_max: 40, bytes_max: 1_000 };
        let read = |count: usize, end| {
            let records = (0..count as u64).map(|offset| OffsetRecord { offset, record: Default::default() }).collect();
            Fetched { records, next: count as u64, bounds: Bounds { start: 0, end } }
        };
        let more = |records_max, bytes_max| Some(ReadLimits { records_max, bytes_max });
        for (count, bytes, end, wanted) in [
            (7, 100, 100, more(33, 900)),
            (29, 100, 100, more(11, 900)),
            (30, 100, 100, None),
            (7, 749, 100, more(33, 251)),
            (7, 750, 100, None),
            (7, 2_000, 100, None),
            (50, 100, 100, None),
            (7, 100, 7, None),
        ] {
            let found = left(limits, &read(count, end), bytes);
            assert_eq!(found, wanted, "{count} records of {bytes} bytes, the log ends at {end}");
        }
    }
}
