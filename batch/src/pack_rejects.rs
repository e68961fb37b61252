//! Packing of a generation's rejects: every run leaves an object with those of its range, and they are to grow with bytes,
//! not with runs. A packed object says the same of the same offsets, and readers prefer the wider range; the small ones go
//! after `batch.grace`, when nobody reads by an older listing.

use std::cmp::Reverse;
use std::ops::Range;

use chrono::{DateTime, Utc};
use futures::TryStreamExt as _;
use object_store::path::Path;
use tidemark_shared::layout;
use tidemark_shared::position::LogPartition;

use crate::curate::plan_pack::{Link, PACKED_BYTES, runs};
use crate::curated::table::TableHead;
use crate::error::BatchError;
use crate::rejects::{FileRejects, RejectSpool};
use crate::report::{Counts, PackReport};
use crate::service::Batch;

/// An object with the rejects of a range.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    key: Path,
    range: Range<u64>,
    bytes: u64,
    put_at: DateTime<Utc>,
}

/// What is to be done with the objects of a partition.
#[derive(Debug, Default, PartialEq, Eq)]
struct Packing {
    /// Each becomes one.
    runs: Vec<Vec<Held>>,
    /// Wider ones have stood for them long enough.
    gone: Vec<Held>,
}

/// Decides over the objects of a partition. Those put up to `settled` are in every listing that is still read by.
fn decide(mut listed: Vec<Held>, covered: u64, settled: DateTime<Utc>) -> Packing {
    listed.sort_by_key(|held| (held.range.start, Reverse(held.range.end)));
    let (mut chain, mut gone): (Vec<Held>, Vec<Held>) = (Vec::new(), Vec::new());
    for held in listed {
        match chain.last() {
            Some(wide) if held.range.end <= wide.range.end => {
                if wide.put_at <= settled {
                    gone.push(held);
                }
            }
            // Left by a run that lost its race: it overlaps the winner's, and what it says of the rest is said again.
            Some(last) if held.range.start < last.range.end => {}
            _ => chain.push(held),
        }
    }
    let links: Vec<Link> = chain.iter().map(|held| Link { end: Some(held.range.end), bytes: held.bytes }).collect();
    let runs = runs(&links, covered, PACKED_BYTES).into_iter().map(|run| chain[run].to_vec()).collect();
    Packing { runs, gone }
}

impl Batch {
    /// Packs small objects with rejects of all streams of the generation, and removes those that were packed a grace ago.
    pub(crate) async fn pack_rejects(&self, table: &TableHead, report: &mut PackReport) -> Result<(), BatchError> {
        let grace = chrono::Duration::from_std(self.settings.grace).unwrap_or(chrono::Duration::MAX);
        let settled = self.ambient.now().checked_sub_signed(grace).unwrap_or(DateTime::<Utc>::MIN_UTC);
        for (partition, covered) in table.stream_coverage().iter() {
            let folder = layout::stream_rejects(&table.dataset, &table.generation, partition);
            let listed = self.store.list(&folder).await?.into_iter().filter_map(|object| {
                let (start, end) = layout::packed_range(&object.location)?;
                Some(Held { key: object.location, range: start..end, bytes: object.size, put_at: object.last_modified })
            });
            let packing = decide(listed.collect(), covered, settled);
            report.removed_rejects += packing.gone.len() as u64;
            self.store.delete_many(packing.gone.into_iter().map(|held| held.key).collect()).await?;
            for run in packing.runs {
                self.pack_rejects_of(table, partition, &run).await?;
                report.packed_rejects += 1;
            }
        }
        Ok(())
    }

    /// Puts the rejects of objects that follow each other into one. Between them there are none.
    async fn pack_rejects_of(
        &self,
        table: &TableHead,
        partition: &LogPartition,
        run: &[Held],
    ) -> Result<(), BatchError> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return Ok(()) };
        let (mut spool, mut counts) = (RejectSpool::new()?, Counts::default());
        for held in run {
            let gone = || BatchError::Damaged {
                dataset: table.dataset.clone(),
                what: format!("{}: it was listed and is gone; run it again", held.key),
            };
            let rejects =
                FileRejects::open_at(&self.store, &table.dataset, held.key.clone()).await?.ok_or_else(gone)?;
            counts.add(&rejects.counts);
            let mut stored = rejects.rejects()?;
            while let Some(reject) = stored.try_next().await? {
                // A newer release knows more reasons; what it wrote is left as it is.
                let Some(reject) = reject.known() else { return Ok(()) };
                spool.push([reject])?;
            }
        }
        let (start, end) = (first.range.start, last.range.end);
        let key = layout::range_rejects(&table.dataset, &table.generation, partition, start, end);
        spool.finish(&counts)?.publish(&self.store, &key).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(start: u64, end: u64, bytes: u64, put_at_s: i64) -> Held {
        let put_at = DateTime::from_timestamp(put_at_s, 0).expect("a time");
        Held { key: Path::from(format!("{start}-{end}")), range: start..end, bytes, put_at }
    }

    fn names(all: &[Held]) -> Vec<(u64, u64)> {
        all.iter().map(|held| (held.range.start, held.range.end)).collect()
    }

    #[test]
    fn small_neighbours_become_one_and_go_after_the_grace() {
        let small: Vec<Held> = (0..10).map(|n| held(n * 10, n * 10 + 7, 100, 50)).collect();
        let settled = DateTime::from_timestamp(100, 0).expect("a time");
        let packing = decide(small.clone(), 200, settled);
        assert_eq!(packing.runs.iter().map(|run| names(run)).collect::<Vec<_>>(), [names(&small)]);
        assert_eq!(packing.gone, []);
        // covered up to the eighth only
        assert_eq!(names(&decide(small.clone(), 80, settled).runs[0]), names(&small[..8]));
        let with = |wide: Held| [small.clone(), vec![wide]].concat();
        let fresh = decide(with(held(0, 97, 900, 101)), 200, settled);
        assert_eq!(fresh, Packing::default(), "somebody may read by an older listing");
        let old = decide(with(held(0, 97, 900, 100)), 200, settled);
        assert_eq!((old.runs, names(&old.gone)), (Vec::new(), names(&small)));
    }

    #[test]
    fn what_a_lost_race_left_is_not_packed() {
        let settled = DateTime::from_timestamp(100, 0).expect("a time");
        let mut listed: Vec<Held> = (0..9).map(|n| held(n * 10, n * 10 + 10, 100, 50)).collect();
        listed.push(held(15, 25, 100, 50));
        let packing = decide(listed, 200, settled);
        assert_eq!(packing.runs.len(), 1);
        assert!(!names(&packing.runs[0]).contains(&(15, 25)));
        assert_eq!(packing.gone, []);
    }
}
