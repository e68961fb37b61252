//! Takes segments of archived streams into a curated table: reads what lies above the coverage, makes rows of it by the
//! generation's definition, and commits rows, coverage and counts together (H2, H8). A loser of a race reads the table
//! again and plans anew.
//!
//! What the log lost before it was archived is remembered in the same commit, so that a version tells by itself which
//! records below its coverage nobody has.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use tidemark_shared::backoff::{Attempts, Backoff};
use tidemark_shared::elsewhere::elsewhere;
use tidemark_shared::layout;
use tidemark_shared::log::OffsetRecord;
use tidemark_shared::position::{Coverage, LogPartition};
use tidemark_shared::rows::StreamRows;
use tidemark_shared::segment::{Archive, Segment, SegmentError};
use tracing::Instrument as _;

use super::plan_streams::{Chain, Picked, next_piece};
use crate::curated::table::{Change, TableHead};
use crate::curated::writer::{StagedFile, TableWriter};
use crate::error::BatchError;
use crate::failpoint;
use crate::generation::{Maker, ours};
use crate::rejects::RejectSpool;
use crate::report::{Counts, Progress, StreamReport};
use crate::service::Batch;
use crate::spans;

/// Segments that are read at once, and about how many bytes of them.
const READ_AHEAD_MAX: u64 = 16;
const READ_AHEAD_BYTES: u64 = 64 << 20;
/// What one thread makes rows of at a time: so many records, and about so many bytes.
const CHUNK_RECORDS: usize = 16_384;
const CHUNK_BYTES: usize = 4 << 20;

/// Where a run goes, and what is known of the archive on the way there.
pub(crate) struct Route {
    archive: Archive,
    /// Every partition is taken in at least so far.
    targets: Coverage,
    origins: BTreeMap<LogPartition, u64>,
    chains: BTreeMap<LogPartition, Chain>,
}

impl Route {
    /// To `targets`; the archive was not looked at.
    pub(crate) fn to(archive: Archive, targets: Coverage) -> Self {
        Self { archive, targets, origins: BTreeMap::new(), chains: BTreeMap::new() }
    }

    pub(crate) fn targets(&self) -> &Coverage {
        &self.targets
    }

    /// Lists what lies between `coverage` and the targets, where that is not known. True if nothing was known before.
    async fn look(&mut self, coverage: &Coverage) -> Result<bool, SegmentError> {
        let mut fresh = true;
        // Of what somebody else took in, no listing is left to be taken for the next piece.
        self.chains.retain(|partition, _| coverage.end(partition) < self.targets.end(partition));
        for (partition, _) in self.targets.iter().filter(|(partition, end)| coverage.end(partition) < *end) {
            let origin = match self.origins.get(partition) {
                Some(origin) => *origin,
                None => self.archive.origin(partition).await?.unwrap_or(0),
            };
            self.origins.insert(partition.clone(), origin);
            let from = coverage.end(partition).max(origin);
            if self.chains.get(partition).is_some_and(|chain| chain.from == from) {
                fresh = false;
                continue;
            }
            let segments = self.archive.segments_from(partition, from).await?;
            self.chains.insert(partition.clone(), Chain { from, segments });
        }
        Ok(fresh)
    }

    /// What was taken in needs no second listing.
    fn passed(&mut self, parts: &[Part]) {
        for part in parts {
            if let Some(chain) = self.chains.get_mut(&part.partition) {
                chain.from = part.range.end;
                chain.segments.drain(..part.segments.min(chain.segments.len()));
            }
        }
    }

    /// The first offsets that should be in the archive and are not.
    fn missing(&self, coverage: &Coverage) -> BatchError {
        let behind = self.targets.iter().find(|(partition, end)| coverage.end(partition) < *end);
        let (partition, end) = behind.expect("asked only while a target is not reached");
        let missing = coverage.end(partition).max(self.origins.get(partition).copied().unwrap_or(0))..end;
        let (dataset, partition) = (self.archive.dataset().to_owned(), partition.clone());
        SegmentError::Hole { dataset, partition, missing }.into()
    }
}

/// What taking segments in did.
#[derive(Default)]
pub(crate) struct TakenIn {
    pub(crate) reports: BTreeMap<LogPartition, StreamReport>,
    pub(crate) raw_bytes: u64,
    pub(crate) curated_bytes: u64,
    pub(crate) table_version: u64,
    /// True if anything was committed.
    pub(crate) committed: bool,
    /// True if the table was frozen before the targets were reached: another generation takes over.
    pub(crate) frozen: bool,
}

/// One partition's part of a commit.
struct Part {
    partition: LogPartition,
    range: Range<u64>,
    segments: usize,
    lost: Vec<Range<u64>>,
    counts: Counts,
}

#[derive(Default)]
struct Work {
    change: Change,
    written: Vec<StagedFile>,
    parts: Vec<Part>,
    raw_bytes: u64,
}

impl Batch {
    pub(crate) fn archive(&self, dataset: &str) -> Archive {
        Archive::new(self.store.clone(), dataset)
    }

    /// The way from `coverage` to the archive's end as it is now.
    pub(crate) async fn route_to_end(&self, dataset: &str, coverage: &Coverage) -> Result<Route, BatchError> {
        let archive = self.archive(dataset);
        let mut route = Route::to(archive.clone(), Coverage::new());
        for source in archive.sources().await? {
            for partition in archive.partitions(&source.source).await? {
                let Some(origin) = archive.origin(&partition).await? else { continue };
                let from = coverage.end(&partition).max(origin);
                let chain = Chain { from, segments: archive.segments_from(&partition, from).await? };
                route.origins.insert(partition.clone(), origin);
                // An archive that has only begun, at whatever offset, has nothing to take in.
                if !chain.segments.is_empty() {
                    route.targets.set(partition.clone(), chain.least_end());
                    route.chains.insert(partition, chain);
                }
            }
        }
        Ok(route)
    }

    /// Brings `table` up to the targets of `route`. A generation whose definition has no stream stays as it is.
    pub(crate) async fn extend_streams(
        &self,
        maker: &Maker,
        table: TableHead,
        route: &mut Route,
        progress: &Arc<dyn Progress>,
    ) -> Result<TakenIn, BatchError> {
        let mut done = TakenIn { table_version: table.version(), ..TakenIn::default() };
        let Some(rows) = &maker.streams else { return Ok(done) };
        let (mut table, mut attempts) = (table, Attempts::new(Backoff::RACE));
        loop {
            let coverage = table.coverage();
            done.table_version = table.version();
            if coverage.includes(&route.targets) {
                return Ok(done);
            }
            if table.successor().is_some() {
                done.frozen = true;
                return Ok(done);
            }
            ours(&maker.dataset, &table.generation, table.semantics()?)?;
            let plan = spans::plan(&table);
            let fresh = route.look(&coverage).instrument(plan.clone()).await?;
            let piece = next_piece(&route.chains, &route.targets, self.settings.commit_bytes);
            spans::planned(&plan, &coverage, piece.iter().map(|picked| picked.segments.len()).sum());
            drop(plan);
            if piece.is_empty() {
                return Err(route.missing(&coverage));
            }
            let read = spans::read();
            let working = self.segments_work(maker, rows, &table, &route.archive, piece, progress);
            let work = match working.instrument(read.clone()).await {
                Ok(work) => work,
                Err(BatchError::Segment(SegmentError::Hole { .. })) if !fresh => {
                    // Packed since they were listed, and gone.
                    route.chains.clear();
                    continue;
                }
                Err(error) => return Err(error),
            };
            spans::was_read(&read, work.raw_bytes, work.written.len());
            failpoint::pass("streams.before_commit");
            if self.commit(&table, &work.change).await?.is_some() {
                failpoint::pass("streams.after_commit");
                attempts = Attempts::new(Backoff::RACE);
                route.passed(&work.parts);
                done.take(work);
            } else {
                self.lost_race(&table, &work.written, &mut attempts, progress).await?;
            }
            table = self.open_again(&table).await?;
        }
    }

    async fn segments_work(
        &self,
        maker: &Maker,
        rows: &Arc<StreamRows>,
        table: &TableHead,
        archive: &Archive,
        piece: Vec<Picked>,
        progress: &Arc<dyn Progress>,
    ) -> Result<Work, BatchError> {
        let mut work = Work::default();
        let segments = || piece.iter().flat_map(|picked| &picked.segments);
        work.raw_bytes = segments().map(|segment| segment.bytes).sum();
        progress.phase("segments", Some(work.raw_bytes));
        let mut writer = TableWriter::new(maker.table_layout(self, &table.generation));
        for picked in piece {
            let part = self.read_segments(rows, table, archive, picked, &mut writer, progress).await?;
            let totals = table.totals(&part.partition).with(&part.counts);
            if !totals.adds_up() {
                return Err(does_not_add_up(&part.partition, &part.range, totals.records, &part.counts));
            }
            let named = |lost: &Range<u64>| (part.partition.clone(), lost.clone());
            work.change.lost.extend(part.lost.iter().map(named));
            work.change.coverage.push((part.partition.clone(), part.range.end));
            work.change.counts.push((part.partition.clone(), totals));
            work.parts.push(part);
        }
        work.written = writer.finish().await?;
        work.change.adds.clone_from(&work.written);
        Ok(work)
    }

    /// Reads the segments of one partition, one after the other, makes rows of each on several threads, and puts its rejects,
    /// if there are any, where the generation keeps those of the range.
    async fn read_segments(
        &self,
        rows: &Arc<StreamRows>,
        table: &TableHead,
        archive: &Archive,
        picked: Picked,
        writer: &mut TableWriter,
        progress: &Arc<dyn Progress>,
    ) -> Result<Part, BatchError> {
        let Picked { partition, from, segments } = picked;
        let mut part = Part {
            partition: partition.clone(),
            range: from..from,
            segments: segments.len(),
            lost: Vec::new(),
            counts: Counts::default(),
        };
        let (mut given, mut spool) = (0, RejectSpool::new()?);
        let (reading, of) = (archive.clone(), partition.clone());
        let largest = segments.iter().map(|segment| segment.bytes).max().unwrap_or(0).max(1);
        let ahead = (READ_AHEAD_BYTES / largest).clamp(1, READ_AHEAD_MAX) as usize;
        // Small ones are read several at a time; the others would not gain by it.
        let mut reads = stream::iter(segments)
            .map(move |segment| {
                let (archive, partition) = (reading.clone(), of.clone());
                async move { archive.read(&partition, &segment).await.map(|read| (segment.bytes, read)) }
            })
            .buffered(ahead);
        while let Some((bytes, segment)) = reads.try_next().await? {
            let at = part.range.end;
            if segment.header.range.start > at {
                let (dataset, missing) = (archive.dataset().to_owned(), at..segment.header.range.start);
                return Err(SegmentError::Hole { dataset, partition, missing }.into());
            }
            let Segment { header, records } = segment;
            part.range.end = header.range.end.max(at);
            let lost = header.lost.iter().map(|lost| lost.start.max(at)..lost.end);
            part.lost.extend(lost.filter(|lost| !lost.is_empty()));
            let first = records.partition_point(|record| record.offset < at);
            given += (records.len() - first) as u64;
            let mut made = made_rows(rows, &partition, records, first, self.threads());
            while let Some(made) = made.try_next().await? {
                part.counts.add(&made.counts);
                spool.push(made.rejects)?;
                for batch in &made.batches {
                    writer.write(batch).await?;
                }
            }
            progress.advance(bytes);
        }
        if part.counts.records != given || !part.counts.adds_up() {
            return Err(does_not_add_up(&partition, &part.range, given, &part.counts));
        }
        if part.counts.rejected_total() > 0 {
            let Range { start, end } = part.range;
            let key = layout::range_rejects(&table.dataset, &table.generation, &partition, start, end);
            spool.finish(&part.counts)?.publish(&self.store, &key).await?;
        }
        Ok(part)
    }
}

/// Makes rows of `records` from the `first` one on, chunk by chunk, on `width` blocking threads, and gives them in order.
fn made_rows(
    rows: &Arc<StreamRows>,
    partition: &LogPartition,
    records: Vec<OffsetRecord>,
    first: usize,
    width: usize,
) -> impl futures::Stream<Item = Result<tidemark_shared::rows::MadeRows, BatchError>> + Unpin + Send + use<> {
    let chunks = chunks(&records, first);
    let (rows, partition, records) = (Arc::clone(rows), partition.clone(), Arc::new(records));
    let making = stream::iter(chunks).map(move |chunk| {
        let (rows, partition, records) = (Arc::clone(&rows), partition.clone(), Arc::clone(&records));
        async move {
            let making = elsewhere(move || rows.make(&partition, &records[chunk]));
            let made = making.await.map_err(|source| BatchError::Panicked { task: "make rows", source })?;
            Ok(made?)
        }
    });
    making.buffered(width.max(1))
}

/// Runs of records that one thread makes rows of.
fn chunks(records: &[OffsetRecord], first: usize) -> Vec<Range<usize>> {
    let (mut chunks, mut start, mut bytes) = (Vec::new(), first, 0);
    for (at, record) in records.iter().enumerate().skip(first) {
        let more = record.record.bytes();
        if at > start && (at - start >= CHUNK_RECORDS || bytes + more > CHUNK_BYTES) {
            chunks.push(start..at);
            (start, bytes) = (at, 0);
        }
        bytes += more;
    }
    if start < records.len() {
        chunks.push(start..records.len());
    }
    chunks
}

fn does_not_add_up(partition: &LogPartition, range: &Range<u64>, records: u64, counts: &Counts) -> BatchError {
    BatchError::DoesNotAddUp {
        name: format!("{partition}, offsets {} to {}", range.start, range.end),
        records,
        accepted: counts.accepted,
        filtered: counts.filtered,
        rejected: counts.rejected_total(),
    }
}

impl TakenIn {
    fn take(&mut self, work: Work) {
        self.committed = true;
        self.raw_bytes += work.raw_bytes;
        self.curated_bytes += work.written.iter().map(|file| u64::try_from(file.add.size).unwrap_or(0)).sum::<u64>();
        for part in work.parts {
            let lost = part.lost.iter().map(|lost| lost.end - lost.start).sum::<u64>();
            let report = self.reports.entry(part.partition.clone()).or_insert_with(|| StreamReport {
                partition: part.partition.to_string(),
                start: part.range.start,
                ..StreamReport::default()
            });
            report.end = part.range.end;
            report.lost += lost;
            report.counts.add(&part.counts);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tidemark_shared::log::Record;

    use super::*;

    #[test]
    fn chunks_are_bounded_and_leave_nothing_out() {
        let record = |offset: u64, bytes: usize| OffsetRecord {
            offset,
            record: Record { value: Some(Bytes::from(vec![0; bytes])), ..Record::default() },
        };
        for (sizes, first, wanted) in [
            (vec![], 0, vec![]),
            (vec![1, 1, 1], 1, vec![(1, 3)]),
            (vec![1, 1], 2, vec![]),
            (vec![CHUNK_BYTES + 1, 1], 0, vec![(0, 1), (1, 2)]),
            (vec![CHUNK_BYTES / 2, CHUNK_BYTES / 2, 1], 0, vec![(0, 2), (2, 3)]),
            (vec![0; CHUNK_RECORDS + 1], 0, vec![(0, CHUNK_RECORDS), (CHUNK_RECORDS, CHUNK_RECORDS + 1)]),
        ] {
            let records: Vec<_> = (0..).zip(&sizes).map(|(offset, bytes)| record(offset, *bytes)).collect();
            let found = chunks(&records, first).into_iter().map(|chunk| (chunk.start, chunk.end));
            assert_eq!(found.collect::<Vec<_>>(), wanted, "{} records from {first}", sizes.len());
        }
    }
}
