//! An answer: what it covers first, then its rows as they are made, then what it took.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::field::Empty;
use tracing::{Instrument as _, info_span};

use super::as_of::AsOf;
use super::error::{SqlError, is_of_a_file, one_line};
use super::meter::Meter;
use super::watch::{Refusal, Waiting};
use super::workers::Place;
use crate::telemetry::{self, SPANS};

/// What a statement took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Milliseconds since the statement was handed in.
    pub elapsed_ms: u64,
    /// Rows given out.
    pub rows: u64,
    /// Bytes read from data files.
    pub bytes_read: u64,
    /// Bytes of all files of the tables read.
    pub bytes_total: u64,
    /// Data files of which bytes were read.
    pub files_read: u64,
    /// Files of the tables read that were not touched: pruned, answered from the log, or behind a limit.
    pub files_pruned: u64,
    /// All files of the tables read.
    pub files_total: u64,
    /// Rows in the curated parts of the datasets read, as far as a server tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows_batch: Option<u64>,
    /// Rows in their real-time parts, where their views know them without a look.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows_live: Option<u64>,
}

/// Files and bytes of all tables that a statement reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// Rows of batch and speed layer, where a server tells them apart.
    pub(super) layers: Option<LayerRows>,
}

/// Rows of both sides of datasets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LayerRows {
    pub(super) batch: u64,
    /// `None` where one of the views does not know.
    pub(super) live: Option<u64>,
}

impl Default for LayerRows {
    /// No rows.
    fn default() -> Self {
        Self { batch: 0, live: Some(0) }
    }
}

impl LayerRows {
    /// With those that another table of the same dataset has: both are of one moment, and have a side or do not.
    pub(super) fn with(self, other: Self) -> Self {
        let live = self.live.zip(other.live).map(|(one, other)| one.max(other));
        Self { batch: self.batch.max(other.batch), live }
    }

    /// With those of another dataset.
    pub(super) fn plus(self, other: Self) -> Self {
        let live = self.live.zip(other.live).map(|(one, other)| one + other);
        Self { batch: self.batch + other.batch, live }
    }
}

/// The engine's limits on what a statement holds, in memory and on disk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Space {
    pub(super) memory_bytes_max: usize,
    pub(super) spill_bytes_max: u64,
}

/// When a statement must have ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    pub(super) started: Instant,
    pub(super) timeout: Option<Duration>,
}

impl Deadline {
    /// What is left of the time.
    pub(super) fn left(&self) -> Option<Duration> {
        self.timeout.map(|timeout| timeout.saturating_sub(self.started.elapsed()))
    }

    /// `future`'s output, unless the time is up first; it is dropped then.
    pub(super) async fn limit<F: Future>(&self, future: F) -> Result<F::Output, SqlError> {
        let Some(timeout) = self.timeout else { return Ok(future.await) };
        let at = tokio::time::Instant::from_std(self.started + timeout);
        tokio::time::timeout_at(at, future).await.map_err(|_| SqlError::TimedOut { limit_ms: timeout.as_millis() })
    }
}

/// Batches made ahead of who takes them.
const BATCHES_AHEAD: usize = 2;

/// A statement at work on a task of its own, so that its time limit does not wait for a computation that gives way
/// late. Dropping it ends the task at the next point where it gives way.
#[derive(Debug)]
pub(super) struct RowsMade {
    batches: mpsc::Receiver<Result<RecordBatch, DataFusionError>>,
    /// Owns the task.
    work: JoinSet<()>,
    /// Where it is at work.
    place: Place,
}

impl RowsMade {
    pub(super) fn start(mut stream: SendableRecordBatchStream, place: Place) -> Self {
        let (sender, batches) = mpsc::channel(BATCHES_AHEAD);
        let mut work = JoinSet::new();
        let span = info_span!(
            target: SPANS,
            "query.execute",
            tidemark.rows = Empty,
            error.type = Empty,
            otel.status_code = Empty
        );
        let told = span.clone();
        let making = async move {
            let mut rows = 0;
            while let Some(batch) = stream.next().await {
                let failed = batch.is_err();
                rows += batch.as_ref().map_or(0, RecordBatch::num_rows);
                if failed {
                    telemetry::failed(&told, "failed");
                }
                if sender.send(batch).await.is_err() || failed {
                    break;
                }
            }
            told.record("tidemark.rows", telemetry::number(rows));
        };
        let making = making.instrument(span);
        let _handle = match place.handle() {
            None => work.spawn(making),
            Some(workers) => work.spawn_on(making, workers),
        };
        Self { batches, work, place }
    }

    async fn next(&mut self) -> Option<Result<RecordBatch, DataFusionError>> {
        if let Some(batch) = self.batches.recv().await {
            return Some(batch);
        }
        // The task is over; had it panicked, the rows so far would look like all of them.
        match self.work.join_next().await {
            Some(Err(error)) => Some(Err(DataFusionError::ExecutionJoin(Box::new(error)))),
            Some(Ok(())) | None => {
                self.place.done();
                None
            }
        }
    }
}

/// The rows of one statement, made while they are taken. Dropping it cancels the statement.
pub struct Answer {
    /// Columns of the rows.
    pub schema: SchemaRef,
    /// What the answer covers.
    pub as_of: AsOf,
    /// What whoever asked should know beside it, a line each.
    pub notes: Vec<String>,
    /// False for a statement that is no question, such as `CREATE EXTERNAL TABLE`.
    pub is_query: bool,
    pub(super) rows_made: RowsMade,
    pub(super) deadline: Deadline,
    pub(super) meter: Arc<Meter>,
    pub(super) space: Space,
    pub(super) totals: Totals,
    pub(super) rows: u64,
    pub(super) _waiting: Waiting,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer").field("schema", &self.schema).field("as_of", &self.as_of).finish_non_exhaustive()
    }
}

impl Answer {
    /// The next rows; `None` at the end. Batches without rows are left out.
    ///
    /// # Errors
    /// [`SqlError`]; the answer is then incomplete and gives no further rows that count.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>, SqlError> {
        loop {
            match self.deadline.limit(self.rows_made.next()).await? {
                None => return Ok(None),
                Some(Ok(batch)) if batch.num_rows() == 0 => {}
                Some(Ok(batch)) => {
                    self.rows += batch.num_rows() as u64;
                    return Ok(Some(batch));
                }
                Some(Err(error)) => return Err(self.failed(error)),
            }
        }
    }

    fn failed(&self, error: DataFusionError) -> SqlError {
        let in_a_file = is_of_a_file(&error);
        let mut failed = running_error(error, &self.meter, self.space);
        if let SqlError::Execution { message, read, .. } = &mut failed
            && in_a_file
            && !message.contains(".parquet")
        {
            read.extend(self.as_of.datasets.keys().chain(self.as_of.tables.keys()).cloned());
        }
        failed
    }

    /// What the statement took so far; all of it once [`Self::next`] gave `None`.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let files_read = self.meter.objects() as u64;
        Stats {
            elapsed_ms: u64::try_from(self.deadline.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            rows: self.rows,
            bytes_read: self.meter.bytes(),
            bytes_total: self.totals.bytes,
            files_read,
            files_pruned: self.totals.files.saturating_sub(files_read),
            files_total: self.totals.files,
            rows_batch: self.totals.layers.map(|layers| layers.batch),
            rows_live: self.totals.layers.and_then(|layers| layers.live),
        }
    }
}

/// How DataFusion says that the disk space for spilling is used up; it has no error of its own for that.
const SPILL_LIMIT: &str = "datafusion.runtime.max_temp_directory_size";

/// The error of a statement that failed while it ran.
pub(super) fn running_error(error: DataFusionError, meter: &Meter, space: Space) -> SqlError {
    if let Some(limit_bytes) = meter.exceeded() {
        return SqlError::TooManyBytes { limit_bytes };
    }
    if let Some(refusal) = Refusal::of(&error) {
        return SqlError::of_refusal(refusal);
    }
    match error.find_root() {
        DataFusionError::ResourcesExhausted(_) => {
            SqlError::OutOfMemory { limit_bytes: space.memory_bytes_max, source: Box::new(error) }
        }
        root => {
            let message = one_line(root);
            if message.contains(SPILL_LIMIT) {
                return SqlError::OutOfSpillSpace { limit_bytes: space.spill_bytes_max };
            }
            SqlError::Execution { message, read: Vec::new(), source: Box::new(error) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_one_view_does_not_know_are_known_of_none() {
        let rows = |batch, live| LayerRows { batch, live };
        let none = LayerRows::default();
        for (one, other, with, plus) in [
            (none, none, none, none),
            // `merged` beside `batch` of a dataset, in either order
            (rows(5, Some(3)), rows(5, Some(0)), rows(5, Some(3)), rows(10, Some(3))),
            (rows(5, Some(0)), rows(0, Some(3)), rows(5, Some(3)), rows(5, Some(3))),
            (rows(5, None), rows(5, Some(0)), rows(5, None), rows(10, None)),
            (none, rows(0, None), rows(0, None), rows(0, None)),
        ] {
            assert_eq!((one.with(other), one.plus(other)), (with, plus), "{one:?} {other:?}");
            assert_eq!((other.with(one), other.plus(one)), (with, plus), "{other:?} {one:?}");
        }
    }
}
