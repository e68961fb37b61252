//! One partition's way into the view, a step at a time.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use tidemark_shared::counts::Counts;
use tidemark_shared::elsewhere::elsewhere;
use tidemark_shared::live::{LiveBatch, LiveError};
use tidemark_shared::lock;
use tidemark_shared::log::{Fetched, OffsetRecord};
use tidemark_shared::position::LogPartition;
use tidemark_shared::rows::MadeRows;
use tidemark_shared::telemetry::number;
use tracing::{Instrument as _, Span};

use super::source::Archived;
use super::{Indexer, IndexerError, IndexerStep, spans};

/// What is known of a partition between steps. All of it can be found again.
#[derive(Debug, Default)]
pub(super) struct Partition {
    /// The visible position: where the next batch begins.
    pub(super) next: u64,
    /// Offsets that were left in the log after the last read.
    lag: u64,
    archived: Archived,
    /// A batch that was made and found no room.
    waiting: Option<Made>,
}

impl Partition {
    /// One that is visible up to `next`.
    pub(super) fn at(next: u64) -> Self {
        Self { next, ..Self::default() }
    }

    /// Goes on from `next`, where the view is; what was read ahead is read again.
    pub(super) fn step_to(&mut self, next: u64) {
        (self.next, self.waiting, self.archived) = (next, None, Archived::default());
    }
}

/// A batch, and the times of its records.
#[derive(Debug, Clone)]
struct Made {
    batch: LiveBatch,
    counts: Counts,
    timestamps_ms: Arc<[i64]>,
    /// Its span, until it is visible.
    span: Span,
}

impl Indexer {
    /// Goes on with a partition where the view is: others may have kept it up since.
    pub(super) async fn resume(&self, name: &LogPartition) -> Result<(), IndexerError> {
        let slot = lock(&self.partitions).get(name).cloned();
        if let Some(slot) = slot {
            let mut partition = slot.lock().await;
            let visible = self.visible().await?.end(name);
            if visible != partition.next {
                partition.step_to(visible);
            }
        }
        lock(&self.resumed).insert(name.clone());
        Ok(())
    }

    pub(super) async fn step_inner(&self, name: &LogPartition) -> Result<IndexerStep, IndexerError> {
        let slot = lock(&self.partitions).get(name).cloned();
        let missing = || LiveError::Missing { view: self.parts.view.clone(), partition: Some(name.clone()) };
        let slot = slot.ok_or_else(missing)?;
        let mut partition = slot.lock().await;
        let stopped = |reason| IndexerError::Stopped { partition: name.clone(), reason };
        self.troubles.attempt(name, self.advance(name, &mut partition), stopped).await
    }

    async fn advance(&self, name: &LogPartition, partition: &mut Partition) -> Result<IndexerStep, IndexerError> {
        let made = match partition.waiting.clone() {
            Some(made) => made,
            None => {
                let (next, lag, begun) = (partition.next, partition.lag, Instant::now());
                let read = self.fetch(name, next, lag, &mut partition.archived).await?;
                partition.lag = read.bounds.end.saturating_sub(read.next);
                if read.next <= next {
                    return Ok(IndexerStep::Idle);
                }
                let lost = partition.archived.lost_in(&(next..read.next));
                let span = self.batch_span(name, next, &read, begun.elapsed());
                self.make(name, next, read, lost, span).await?
            }
        };
        self.apply(name, partition, made).await
    }

    /// Decodes and transforms; large batches where they keep nobody waiting.
    async fn make(
        &self,
        name: &LogPartition,
        from: u64,
        read: Fetched,
        lost: Vec<Range<u64>>,
        span: Span,
    ) -> Result<Made, IndexerError> {
        let Fetched { records, next, .. } = read;
        let timestamps_ms = records.iter().map(|read| read.record.timestamp_ms).collect();
        let bytes: usize = records.iter().map(|read| read.record.bytes()).sum();
        let given = records.len() as u64;
        let making = spans::make_span(&span, bytes);
        let made = if bytes <= self.settings.inline_bytes_max {
            making.in_scope(|| self.parts.rows.make(name, &records))
        } else {
            self.make_elsewhere(name, from, records).instrument(making.clone()).await?
        };
        let made = made.map_err(|source| IndexerError::Rows {
            view: self.parts.view.clone(),
            partition: name.clone(),
            from,
            source,
        })?;
        if !adds_up(given, &made) {
            let (view, partition, counts) = (self.parts.view.clone(), name.clone(), Box::new(made.counts));
            return Err(IndexerError::DoesNotAddUp { view, partition, range: from..next, given, counts });
        }
        spans::made(&making, &made);
        let MadeRows { batches, rejects, filtered, counts } = made;
        let batch = LiveBatch { partition: name.clone(), range: from..next, rows: batches, rejects, filtered, lost };
        Ok(Made { batch, counts, timestamps_ms, span })
    }

    async fn make_elsewhere(
        &self,
        name: &LogPartition,
        from: u64,
        records: Vec<OffsetRecord>,
    ) -> Result<Result<MadeRows, arrow::error::ArrowError>, IndexerError> {
        let (rows, partition) = (Arc::clone(&self.parts.rows), name.clone());
        let making = elsewhere(move || rows.make(&partition, &records)).await;
        let panicked = |error: tokio::task::JoinError| error.to_string();
        making.map_err(|error| IndexerError::Panicked { partition: name.clone(), from, reason: panicked(error) })
    }

    async fn apply(
        &self,
        name: &LogPartition,
        partition: &mut Partition,
        made: Made,
    ) -> Result<IndexerStep, IndexerError> {
        let (range, live) = (made.batch.range.clone(), &self.parts.live);
        let applying = spans::apply_span(&made.span);
        let applied = live.apply(&self.parts.view, made.batch.clone()).instrument(applying.clone()).await;
        if let Err(error) = &applied {
            spans::not_applied(&applying, error);
        }
        match applied {
            Ok(()) => {}
            Err(LiveError::Full { .. }) => {
                partition.waiting = Some(made);
                self.parts.pressure.refused();
                return Ok(IndexerStep::Full);
            }
            Err(LiveError::Gap { visible, .. }) => {
                // the view was lost and opened anew: it says itself where it goes on
                partition.step_to(visible);
                return Ok(IndexerStep::Applied(visible..visible, 0));
            }
            Err(LiveError::Missing { .. }) => return Err(IndexerError::ViewGone { view: self.parts.view.clone() }),
            Err(error) => {
                partition.waiting = Some(made);
                return Err(error.into());
            }
        }
        (partition.next, partition.waiting) = (range.end, None);
        made.span.record("tidemark.visible", number(range.end));
        self.parts.pressure.observe(live.as_ref());
        self.note_ages(name, &made.timestamps_ms);
        self.note_totals(&made);
        Ok(IndexerStep::Applied(range, made.timestamps_ms.len()))
    }

    /// Counts what the records became that have become visible now.
    fn note_totals(&self, made: &Made) {
        let mut totals = lock(&self.totals);
        *totals = totals.with(&made.counts);
    }

    /// Records how old the records were that have become visible now.
    fn note_ages(&self, name: &LogPartition, timestamps_ms: &[i64]) {
        let Some(newest) = timestamps_ms.iter().max() else { return };
        lock(&self.newest_ms).insert(name.clone(), *newest);
        let now = self.parts.ambient.now();
        let mut ages = lock(&self.ages);
        for timestamp_ms in timestamps_ms {
            ages.record(now, now.timestamp_millis().saturating_sub(*timestamp_ms));
        }
    }
}

/// H8: every record that was given is a row, filtered or a reject, and as many are there as are counted.
fn adds_up(given: u64, made: &MadeRows) -> bool {
    let rows: u64 = made.batches.iter().map(|rows| rows.num_rows() as u64).sum();
    let counts = &made.counts;
    counts.records == given
        && counts.adds_up()
        && (counts.accepted, counts.filtered, counts.rejected_total())
            == (rows, made.filtered.len() as u64, made.rejects.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(counts: Counts, filtered: Vec<u64>) -> MadeRows {
        MadeRows { batches: Vec::new(), rejects: Vec::new(), filtered, counts }
    }

    #[test]
    fn what_is_counted_is_what_there_is() {
        let filtered = |records, filtered| Counts { records, filtered, ..Counts::default() };
        assert!(adds_up(0, &made(Counts::default(), vec![])));
        assert!(adds_up(2, &made(filtered(2, 2), vec![4, 9])));
        assert!(!adds_up(3, &made(filtered(2, 2), vec![4, 9])), "a record is nowhere");
        assert!(!adds_up(2, &made(filtered(2, 2), vec![4])), "one is counted that is not there");
        assert!(!adds_up(2, &made(filtered(2, 1), vec![4])), "the counts do not add up");
    }
}
