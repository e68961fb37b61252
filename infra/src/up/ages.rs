//! When the records were appended that an answer does not cover yet: an answer is as old as the oldest of them.
//!
//! The time of a record never changes, and questions of one layer ask for the same ones again and again: those that were looked
//! up lately are kept, for a look at a log that is elsewhere takes longer than many a question.

use std::collections::BTreeMap;
use std::sync::Mutex;

use futures::{FutureExt as _, StreamExt as _, stream};
use tidemark_shared::error::AnyError;
use tidemark_shared::lock;
use tidemark_shared::log::{Log, LogError, ReadLimits};
use tidemark_shared::position::{Coverage, LogPartition};

use super::stream::Stream;

/// A record is looked at for its time alone.
const ONE_RECORD: ReadLimits = ReadLimits { records_max: 1, bytes_max: 1 };
/// Records of a partition whose times are kept.
const KEPT: usize = 8;
/// Partitions that are asked at once.
const AT_ONCE: usize = 16;

/// Times of records that were looked up lately, the last ones first.
#[derive(Debug, Default)]
pub(super) struct Ages(Mutex<BTreeMap<LogPartition, Vec<(u64, i64)>>>);

impl Ages {
    /// The milliseconds since 1970 at which the oldest record at or above `positions` and below `ends` was appended; `None` if
    /// there is none. Some partitions are asked side by side.
    pub(super) async fn oldest(
        &self,
        log: &dyn Log,
        of: &Stream,
        ends: &Coverage,
        positions: &Coverage,
    ) -> Result<Option<i64>, AnyError> {
        let beyond = ends.iter().map(|(partition, end)| (partition, positions.end(partition), end));
        let beyond = beyond.filter(|(_, from, end)| from < end);
        let asked: Vec<_> = beyond.map(|(at, from, _)| self.one(log, of, at, from).boxed()).collect();
        let mut asked = stream::iter(asked).buffer_unordered(AT_ONCE);
        let mut oldest: Option<i64> = None;
        while let Some(at) = asked.next().await {
            oldest = [oldest, at?].into_iter().flatten().min();
        }
        Ok(oldest)
    }

    async fn one(
        &self,
        log: &dyn Log,
        of: &Stream,
        partition: &LogPartition,
        from: u64,
    ) -> Result<Option<i64>, AnyError> {
        if let Some(known) = self.known(partition, from) {
            return Ok(Some(known));
        }
        let at = match log.read(&of.topic, partition.partition, from, ONE_RECORD).await {
            Ok(fetched) => fetched.records.first().map(|record| record.record.timestamp_ms),
            // What has left the log is archived.
            Err(LogError::Gone { .. }) => archived_at(of, partition, from).await?,
            Err(error) => return Err(AnyError::new(error)),
        };
        if let Some(at) = at {
            self.keep(partition, from, at);
        }
        Ok(at)
    }

    fn known(&self, partition: &LogPartition, from: u64) -> Option<i64> {
        let all = lock(&self.0);
        all.get(partition)?.iter().find(|(offset, _)| *offset == from).map(|(_, at)| *at)
    }

    fn keep(&self, partition: &LogPartition, from: u64, at: i64) {
        let mut all = lock(&self.0);
        let others = all.get(partition).into_iter().flatten().filter(|(offset, _)| *offset != from);
        let of_partition = std::iter::once(&(from, at)).chain(others).take(KEPT).copied().collect();
        all.insert(partition.clone(), of_partition);
    }
}

/// When the first archived record at or above `from` was appended.
async fn archived_at(of: &Stream, partition: &LogPartition, from: u64) -> Result<Option<i64>, AnyError> {
    let segments = of.archive.segments_over(partition, from).await.map_err(AnyError::new)?;
    for segment in segments {
        let segment = of.archive.read(partition, &segment).await.map_err(AnyError::new)?;
        if let Some(next) = segment.records.iter().find(|record| record.offset >= from) {
            return Ok(Some(next.record.timestamp_ms));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_that_were_looked_up_last_are_kept() {
        let ages = Ages::default();
        let [one, other]: [LogPartition; 2] = ["t/0", "t/1"].map(|name| name.parse().expect("a partition"));
        assert_eq!(ages.known(&one, 1), None);
        for offset in 1..=9 {
            ages.keep(&one, offset, 100 + i64::try_from(offset).expect("a small number"));
        }
        ages.keep(&one, 2, 102);
        assert_eq!(ages.known(&one, 1), None, "the one that was asked for longest ago has gone");
        assert_eq!((ages.known(&one, 2), ages.known(&one, 9)), (Some(102), Some(109)));
        assert_eq!(ages.known(&other, 2), None);
    }
}
