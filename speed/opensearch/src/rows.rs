//! What a writer does: rows in, positions forward, floors up, and what is to be done where an index was lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use tidemark_shared::elsewhere::elsewhere;
use tidemark_shared::live::{LiveBatch, LiveError, LiveUsage, ViewId, lost_with};
use tidemark_shared::position::LogPartition;

use crate::bulk::BulkError;
use crate::cluster::{Cluster, Handle, lock};
use crate::document::{Document, documents};
use crate::failure::{Failure, failed};
use crate::names;
use crate::state::{PartitionState, Put};

/// Rows above which making documents of them leaves the runtime's threads.
const INLINE_ROWS_MAX: usize = 512;
/// Attempts against others who write the same.
const ATTEMPTS_MAX: u32 = 20;

impl Cluster {
    /// Takes a batch in. See the port.
    pub(crate) async fn take(&self, handle: &Arc<Handle>, batch: &Arc<LiveBatch>) -> Result<(), LiveError> {
        let (partition, operation) = (&batch.partition, "take rows in");
        let slot = handle.writer(partition);
        let mut writer = slot.lock().await;
        for _ in 0..ATTEMPTS_MAX {
            // Taken out: whoever is cut off in between reads it again.
            let state = match writer.take() {
                Some(state) => state,
                None => self.current(handle, partition, operation).await?,
            };
            let visible = state.visible;
            if batch.range.start > visible {
                *writer = Some(state);
                let (view, partition, start) = (handle.view.clone(), partition.clone(), batch.range.start);
                return Err(LiveError::Gap { view, partition, visible, start });
            }
            if batch.range.end <= visible {
                *writer = Some(state);
                return Ok(());
            }
            match self.write(handle, batch, state).await {
                Ok(Some(next)) => {
                    *writer = Some(next);
                    return Ok(());
                }
                Ok(None) => {}
                Err(BulkError::Failed(Failure::Lost { index })) if index != handle.state => {
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
            Failure::Lost { index } if index == handle.state => {
                self.forget(handle);
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
                None => self.ensure_row_index(handle, partition, start).await?,
            };
            usage.bytes += self.write_documents(&index, partition, documents).await?;
            // Only then are all rows below the new position found (H4).
            self.refresh(&index).await?;
            state.indices.insert(start, index);
        }
        let floor = state.floor;
        state.indices.retain(|start, _| start + handle.range > floor);
        state.visible = batch.range.end;
        state.lost = lost_with(&state.lost, &batch.lost, floor);
        match self.put_position(handle, partition, &state).await? {
            Put::Overtaken => Ok(None),
            Put::Done => {
                self.note_usage(&handle.view, usage);
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

    /// Finds out which indices of a partition are gone, and begins an epoch in which its position stands before the first of
    /// them: from there on it is indexed again. What was read of the rest stays right.
    pub(crate) async fn mend(&self, handle: &Arc<Handle>, partition: &LogPartition) -> Result<(), Failure> {
        for _ in 0..ATTEMPTS_MAX {
            let Some(state) = self.read_partition(handle, partition).await? else { return Ok(()) };
            let there = self.uuids(&handle.view).await?;
            let Some(next) = mended(&state, handle.range, |name| there.get(name).map(String::as_str)) else {
                return Ok(());
            };
            tracing::warn!(
                view = %handle.view, %partition, from = next.visible, to = state.visible,
                "rows were lost with their index; they are indexed again"
            );
            if self.put_position(handle, partition, &next).await? == Put::Done {
                return Ok(());
            }
        }
        Err(Failure::Contended { index: handle.state.clone() })
    }

    /// A view's row indices and their ids.
    async fn uuids(&self, view: &ViewId) -> Result<BTreeMap<String, String>, Failure> {
        let found = self.describe(&names::row_indices(&self.prefix, view)).await?;
        Ok(found.into_iter().map(|index| (index.name, index.uuid)).collect())
    }

    /// Removes row indices of a dataset's views that have no state index: what a writer made that came late, or a process left
    /// that ended while it let a view go.
    pub(crate) async fn remove_orphans(&self, dataset: &str) -> Result<(), Failure> {
        let found = self.describe(&names::dataset_indices(&self.prefix, dataset)).await?;
        let all: BTreeSet<String> = found.iter().map(|index| index.name.clone()).collect();
        for index in found {
            let text = |name: &str| index.meta[name].as_str().unwrap_or_default().to_owned();
            let view = ViewId { dataset: text("dataset"), generation: text("generation") };
            if !view.generation.is_empty() && !all.contains(&names::state_index(&self.prefix, &view)) {
                tracing::info!(index = index.name, "the rows of a view that is gone are removed");
                self.leases.doom(index.name);
            }
        }
        self.sweep().await.map(drop)
    }

    /// Looks whether all indices of a view are there that its positions count on, mends what is not, and dooms those that
    /// no position will ever count on again.
    pub(crate) async fn look_over(&self, handle: &Arc<Handle>) -> Result<(), Failure> {
        let states = self.read_state(handle).await?;
        let there = self.uuids(&handle.view).await?;
        for (partition, state) in &states {
            let lost = mended(state, handle.range, |name| there.get(name).map(String::as_str));
            if lost.is_some() {
                let slot = handle.writer(partition);
                let mut writer = slot.lock().await;
                *writer = None;
                self.mend(handle, partition).await?;
            }
            let first = names::row_index(&self.prefix, &handle.view, partition, 0);
            let of_partition = &first[..first.len() - 20];
            for name in there.keys().filter(|name| name.starts_with(of_partition)) {
                let start: Option<u64> = name[of_partition.len()..].parse().ok();
                if start.is_some_and(|start| start.saturating_add(handle.range) <= state.floor) {
                    self.leases.doom(name.clone());
                }
            }
        }
        self.sweep().await?;
        self.measure(&handle.view).await
    }

    /// Raises a partition's floor to `end` and dooms the indices that lie below it whole (H7).
    pub(crate) async fn raise_floor(
        &self,
        handle: &Arc<Handle>,
        partition: &LogPartition,
        end: u64,
    ) -> Result<(), LiveError> {
        let operation = "drop rows";
        if lock(&handle.floors).get(partition).is_some_and(|floor| *floor >= end) {
            return Ok(());
        }
        let slot = handle.writer(partition);
        let mut writer = slot.lock().await;
        for _ in 0..ATTEMPTS_MAX {
            let read = self.read_partition(handle, partition).await;
            // The coverage may know partitions that the view does not.
            let Some(mut state) = read.map_err(|failure| self.gone(handle, failure, operation))? else { return Ok(()) };
            *writer = None;
            if state.floor >= end {
                lock(&handle.floors).insert(partition.clone(), state.floor);
                *writer = Some(state);
                return Ok(());
            }
            let gone = |failure| self.gone(handle, failure, operation);
            // The floor first: whoever looks after this counts on nothing below it.
            let _done = self.put_floor(handle, partition, end).await.map_err(gone)?;
            let below = |start: &u64| start + handle.range <= end;
            let dropped: Vec<String> =
                state.indices.iter().filter(|(start, _)| below(start)).map(|(_, index)| index.name.clone()).collect();
            state.indices.retain(|start, _| !below(start));
            let lags = state.visible < end;
            (state.floor, state.visible) = (end, state.visible.max(end));
            if lags && self.put_position(handle, partition, &state).await.map_err(gone)? == Put::Overtaken {
                continue;
            }
            dropped.into_iter().for_each(|index| self.leases.doom(index));
            lock(&handle.floors).insert(partition.clone(), end);
            *writer = Some(state);
            return Ok(());
        }
        Err(failed(operation)(Failure::Contended { index: handle.state.clone() }))
    }
}

/// A partition without the indices that are gone, in its next epoch; `None` if all are there.
fn mended<'a>(state: &PartitionState, range: u64, uuid: impl Fn(&str) -> Option<&'a str>) -> Option<PartitionState> {
    let counts = |start: u64| start.saturating_add(range) > state.floor && start < state.visible;
    let mut indices = state.indices.iter().filter(|(start, _)| counts(**start));
    let (lost, _) = indices.find(|(_, index)| uuid(&index.name) != Some(index.uuid.as_str()))?;
    let kept = state.indices.iter().filter(|(start, _)| *start < lost);
    Some(PartitionState {
        epoch: state.epoch + 1,
        floor: state.floor,
        visible: state.floor.max(*lost),
        indices: kept.map(|(start, index)| (*start, index.clone())).collect(),
        lost: state.lost.clone(),
    })
}

/// What so many documents are that were made of a batch from offset `from` on; their bytes are not known yet.
fn taken(batch: &LiveBatch, from: u64, documents: usize) -> LiveUsage {
    let rejects = batch.rejects.iter().filter(|reject| reject.offset >= from).count();
    let filtered = batch.filtered.iter().filter(|offset| **offset >= from).count();
    let rows = documents.saturating_sub(rejects + filtered);
    LiveUsage { rows: rows as u64, rejects: rejects as u64, bytes: 0 }
}

/// Documents in order of offset, by the offset from which on their index holds rows.
fn by_index(handle: &Handle, documents: Vec<Document>) -> BTreeMap<u64, Vec<Document>> {
    let mut all: BTreeMap<u64, Vec<Document>> = BTreeMap::new();
    for document in documents {
        all.entry(handle.start_of(document.offset)).or_default().push(document);
    }
    all
}

#[cfg(test)]
mod tests {
    use tidemark_shared::reject::{Reason, Reject};

    use super::*;
    use crate::state::IndexRef;

    #[test]
    fn rejects_are_no_rows() {
        let offsets = |range: std::ops::Range<u64>| {
            range.map(|offset| Reject {
                offset,
                reason: Reason::BadJson,
                column: None,
                message: String::new(),
                bytes: Default::default(),
            })
        };
        let batch = LiveBatch {
            partition: "t/0".parse().unwrap(),
            range: 0..20,
            rows: Vec::new(),
            rejects: offsets(3..9).collect(),
            filtered: vec![9, 12],
            lost: Vec::new(),
        };
        assert_eq!(taken(&batch, 0, 20), LiveUsage { rows: 12, rejects: 6, bytes: 0 });
        assert_eq!(taken(&batch, 8, 12), LiveUsage { rows: 9, rejects: 1, bytes: 0 });
        assert_eq!(taken(&batch, 13, 7), LiveUsage { rows: 7, rejects: 0, bytes: 0 });
    }

    #[test]
    fn a_position_steps_back_to_the_first_index_that_is_lost() {
        let index =
            |name: &str| IndexRef { name: name.to_owned(), alias: format!("{name}.1"), uuid: format!("id {name}") };
        let indices = [(0, index("a")), (10, index("b")), (20, index("c"))].into_iter().collect();
        let state = PartitionState { epoch: 3, floor: 12, visible: 25, indices, lost: Vec::new() };
        let all = BTreeMap::from([("a", "id a"), ("b", "id b"), ("c", "id c")]);
        let of = |there: &BTreeMap<&'static str, &'static str>| {
            let there = there.clone();
            mended(&state, 10, move |name| there.get(name).copied())
                .map(|next| (next.epoch, next.visible, next.indices.len()))
        };
        assert_eq!(of(&all), None);
        let without = |name: &str| all.iter().filter(|(of, _)| **of != name).map(|(a, b)| (*a, *b)).collect();
        assert_eq!(of(&without("a")), None, "nothing counts on what is below the floor");
        assert_eq!(of(&without("b")), Some((4, 12, 1)));
        assert_eq!(of(&without("c")), Some((4, 20, 2)));
        let replaced = BTreeMap::from([("b", "id b"), ("c", "another")]);
        assert_eq!(of(&replaced), Some((4, 20, 2)), "an index of the same name is not the same index");
    }
}
