//! What a writer does: rows in, positions forward.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use tidemark_shared::elsewhere::elsewhere;
use tidemark_shared::live::{LiveBatch, LiveError, lost_with};
use tidemark_shared::position::LogPartition;

use crate::bulk::BulkError;
use crate::cluster::{Cluster, Handle};
use crate::document::{Document, documents};
use crate::failure::{Failure, failed};
use crate::state::{OVERTAKEN_MAX, PartitionState, Put};
use crate::usage::taken;

/// Rows above which making documents of them leaves the runtime's threads.
const INLINE_ROWS_MAX: usize = 512;

impl Cluster {
    /// Takes a batch in. See the port.
    pub(crate) async fn take(&self, handle: &Arc<Handle>, batch: &Arc<LiveBatch>) -> Result<(), LiveError> {
        let (partition, operation) = (&batch.partition, "take rows in");
        let slot = handle.writer(partition);
        let mut writer = slot.lock().await;
        for _ in 0..OVERTAKEN_MAX {
            // Taken out: whoever is cut off in between reads it again.
            let (state, remembered) = match writer.take() {
                // Of what is stale only the cluster tells: a release that knows nothing of that may have taken it up meanwhile.
                Some(state) if state.stale.is_empty() => (state, true),
                _ => (self.current(handle, partition, operation).await?, false),
            };
            let visible = state.visible;
            if batch.range.start > visible {
                // Another process may have gone further.
                if remembered {
                    continue;
                }
                *writer = Some(state);
                let (view, partition, start) = (handle.view.clone(), partition.clone(), batch.range.start);
                return Err(LiveError::Gap { view, partition, visible, start });
            }
            if batch.range.end <= visible {
                // Who gives it again may do so because another process found rows gone, and the position has stepped back.
                if remembered {
                    continue;
                }
                *writer = Some(state);
                return Ok(());
            }
            match self.write(handle, batch, state).await {
                Ok(Some(next)) => {
                    *writer = Some(next);
                    return Ok(());
                }
                Ok(None) => {}
                Err(BulkError::Failed(Failure::IndexGone { index })) if index != handle.state => {
                    tracing::warn!(index, %partition, "an index is gone; its rows are indexed again");
                    self.mend(handle, partition).await.map_err(|failure| self.gone(handle, failure, operation))?;
                }
                Err(BulkError::Failed(failure)) => return Err(self.gone(handle, failure, operation)),
                Err(BulkError::Refused { offset, reason }) => {
                    let (view, partition) = (handle.view.clone(), partition.clone());
                    return Err(LiveError::Refused { view, partition, offset, reason });
                }
            }
        }
        Err(failed(operation)(Failure::Contended { index: handle.state.clone() }))
    }

    /// A partition as it is in the cluster.
    async fn current(
        &self,
        handle: &Arc<Handle>,
        partition: &LogPartition,
        operation: &'static str,
    ) -> Result<PartitionState, LiveError> {
        let read = self.read_partition(handle, partition).await;
        let read = read.map_err(|failure| self.gone(handle, failure, operation))?;
        read.ok_or_else(|| LiveError::Missing { view: handle.view.clone(), partition: Some(partition.clone()) })
    }

    /// A failure as one of the port. If the state index is gone, so is the view.
    pub(crate) fn gone(&self, handle: &Arc<Handle>, failure: Failure, operation: &'static str) -> LiveError {
        match failure {
            Failure::IndexGone { index } if index == handle.state => {
                self.views.forget(handle);
                LiveError::Missing { view: handle.view.clone(), partition: None }
            }
            failure => failed(operation)(failure),
        }
    }

    /// Writes what is new in a batch, makes it searchable and moves the position; the state after it. `None` if somebody else
    /// was faster.
    async fn write(
        &self,
        handle: &Arc<Handle>,
        batch: &Arc<LiveBatch>,
        mut state: PartitionState,
    ) -> Result<Option<PartitionState>, BulkError> {
        let partition = &batch.partition;
        let made = self.made(handle, batch, state.visible).await?;
        let mut usage = taken(batch, state.visible, made.len());
        for (start, documents) in by_index(handle, made) {
            let index = match state.indices.get(&start) {
                Some(index) => index.clone(),
                None => {
                    let stale = state.stale.get(&start).map(String::as_str);
                    self.ensure_row_index(handle, partition, start, stale).await?
                }
            };
            let rows = documents.iter().filter_map(|document| Some((document.offset, document.row_bytes()?)));
            state.sizes.take_in(rows, state.floor);
            usage.bytes += self.write_documents(&index, partition, documents).await?;
            // Only then are all rows below the new position found (H4).
            self.refresh(&index).await?;
            state.indices.insert(start, index);
            state.stale.remove(&start);
        }
        let floor = state.floor;
        state.drop_indices_below(floor, handle.range);
        state.rowless.take_in(batch, state.visible);
        state.rowless.drop_below(floor);
        state.visible = batch.range.end;
        state.lost = lost_with(&state.lost, &batch.lost, floor);
        match self.put_position(handle, partition, &state).await? {
            Put::Overtaken => Ok(None),
            Put::Done => {
                self.views.change_usage(&handle.view, |known| known.plus(usage));
                Ok(Some(state))
            }
        }
    }

    /// The documents of a batch from offset `from` on.
    async fn made(&self, handle: &Arc<Handle>, batch: &Arc<LiveBatch>, from: u64) -> Result<Vec<Document>, Failure> {
        let unmade = |reason: String| {
            let (partition, end) = (batch.partition.clone(), batch.range.end);
            Failure::Unmade { partition, start: from, end, reason }
        };
        let records: usize = batch.rows.iter().map(RecordBatch::num_rows).sum();
        let made = if records <= INLINE_ROWS_MAX {
            documents(batch, from, &handle.exact, &handle.mapping)
        } else {
            let (handle, batch) = (Arc::clone(handle), Arc::clone(batch));
            let making = elsewhere(move || documents(&batch, from, &handle.exact, &handle.mapping));
            making.await.map_err(|panicked| unmade(panicked.to_string()))?
        };
        made.map_err(|error| unmade(error.to_string()))
    }
}

/// Documents in order of offset, by the offset from which on their index holds rows.
fn by_index(handle: &Handle, documents: Vec<Document>) -> BTreeMap<u64, Vec<Document>> {
    let mut all: BTreeMap<u64, Vec<Document>> = BTreeMap::new();
    for document in documents {
        all.entry(handle.start_of(document.offset)).or_default().push(document);
    }
    all
}
