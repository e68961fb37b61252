//! Rejects of streams: which objects of a generation show them, and each position once.
//!
//! A commit's rejects of a log partition are one object, named by the range of offsets. A run that lost its race may have
//! left one of another range; it says the same of the same offsets, for both follow from the archive and the definition. So
//! every object is right as far as it goes, and readers go through them in order and never back.

use std::cmp::Reverse;
use std::ops::Range;

use futures::stream;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use tidemark_shared::layout;
use tidemark_shared::position::LogPartition;

use crate::curated::table::TableHead;
use crate::error::BatchError;
use crate::rejects::{FileRejects, Reading, StoredReject};
use crate::report::Counts;
use crate::service::Batch;

/// Which offsets to take from which object, in order: all below `covered`, none twice.
fn pieces(mut listed: Vec<(Range<u64>, Path)>, covered: u64) -> Vec<(Path, Range<u64>)> {
    listed.sort_by_key(|(range, _)| (range.start, Reverse(range.end)));
    let mut from = 0;
    let piece = |(range, key): (Range<u64>, Path)| {
        let piece = range.start.max(from)..range.end.min(covered);
        if piece.is_empty() {
            return None;
        }
        from = piece.end;
        Some((key, piece))
    };
    listed.into_iter().filter_map(piece).collect()
}

impl Batch {
    /// The rejects of a log partition below what `table` covers, in order of offset.
    pub(crate) async fn stream_rejects(
        &self,
        table: &TableHead,
        partition: &LogPartition,
    ) -> Result<Reading<StoredReject>, BatchError> {
        self.through(table, partition, FileRejects::rejects, |reject| reject.offset).await
    }

    /// Their offsets and reasons alone.
    pub(crate) async fn stream_reject_reasons(
        &self,
        table: &TableHead,
        partition: &LogPartition,
    ) -> Result<Reading<(u64, String)>, BatchError> {
        self.through(table, partition, FileRejects::reasons, |(offset, _)| *offset).await
    }

    async fn through<T: Send + 'static>(
        &self,
        table: &TableHead,
        partition: &LogPartition,
        read: fn(FileRejects) -> Result<Reading<T>, BatchError>,
        offset: fn(&T) -> u64,
    ) -> Result<Reading<T>, BatchError> {
        let folder = layout::stream_rejects(&table.dataset, &table.generation, partition);
        let listed = self.store.list(&folder).await?.into_iter();
        let named = listed.filter_map(|object| {
            let (start, end) = layout::packed_range(&object.location)?;
            Some((start..end, object.location))
        });
        let pieces = pieces(named.collect(), table.coverage().end(partition));
        let (store, dataset) = (self.store.clone(), table.dataset.clone());
        let opened = stream::iter(pieces).then(move |(key, range)| {
            let (store, dataset) = (store.clone(), dataset.clone());
            async move {
                let all = match FileRejects::open_at(&store, &dataset, key).await? {
                    Some(rejects) => read(rejects)?,
                    None => stream::empty().boxed(),
                };
                Ok::<_, BatchError>(all.try_filter(move |one| std::future::ready(range.contains(&offset(one)))))
            }
        });
        Ok(opened.try_flatten().boxed())
    }

    /// What all records of streams became, below what `table` covers.
    ///
    /// # Errors
    /// [`BatchError::Damaged`] if the rejects are not as many as the table says.
    pub(crate) async fn stream_counts(&self, table: &TableHead) -> Result<Counts, BatchError> {
        let mut counts = Counts::default();
        for (partition, end) in table.stream_coverage().iter() {
            let totals = table.totals(partition);
            counts.records += totals.records;
            counts.accepted += totals.accepted;
            counts.filtered += totals.filtered;
            if totals.rejected == 0 {
                continue;
            }
            let (mut reasons, mut found) = (self.stream_reject_reasons(table, partition).await?, 0);
            while let Some((_, reason)) = reasons.try_next().await? {
                *counts.rejected.entry(reason).or_default() += 1;
                found += 1;
            }
            if found != totals.rejected {
                let what = format!("{partition}: {found} rejects of {} below offset {end}", totals.rejected);
                return Err(BatchError::Damaged { dataset: table.dataset.clone(), what });
            }
        }
        Ok(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_position_is_shown_once_whoever_wrote_it() {
        for (listed, covered, wanted) in [
            (vec![], 9, vec![]),
            (vec![(0, 5), (5, 9)], 9, vec![(0, 5), (5, 9)]),
            (vec![(0, 5), (0, 9), (5, 9)], 9, vec![(0, 9)]),
            (vec![(0, 5), (3, 9)], 9, vec![(0, 5), (5, 9)]),
            (vec![(0, 5), (5, 9)], 7, vec![(0, 5), (5, 7)]),
            (vec![(0, 5), (5, 9)], 5, vec![(0, 5)]),
            (vec![(2, 4), (8, 9)], 20, vec![(2, 4), (8, 9)]),
            (vec![(0, 9), (2, 4), (9, 12)], 12, vec![(0, 9), (9, 12)]),
        ] {
            let objects = listed.iter().map(|(start, end)| (*start..*end, Path::from(format!("{start}-{end}"))));
            let shown = pieces(objects.collect(), covered).into_iter().map(|(_, range)| (range.start, range.end));
            let shown: Vec<(u64, u64)> = shown.collect();
            assert_eq!(shown, wanted, "{listed:?} below {covered}");
        }
    }
}
