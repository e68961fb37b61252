//! What keeps a view's indices in order: those that are gone are indexed again, those that nobody counts on go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidemark_shared::error::chain;
use tidemark_shared::live::ViewId;
use tidemark_shared::position::LogPartition;

use crate::cluster::{Cluster, Handle};
use crate::failure::Failure;
use crate::identity::Identity;
use crate::names;
use crate::state::{IndexRef, PartitionState, Put};

/// Attempts against others who write the same.
const ATTEMPTS_MAX: u32 = 20;

impl Cluster {
    /// Finds out which indices of a partition are gone, and begins an epoch in which its position stands before the first of
    /// them: from there on it is indexed again. What was read of the rest stays right. Of those whose rows are curated, only the
    /// floor tells, and nothing is indexed again.
    pub(crate) async fn mend(&self, handle: &Arc<Handle>, partition: &LogPartition) -> Result<(), Failure> {
        for _ in 0..ATTEMPTS_MAX {
            let Some(state) = self.read_partition(handle, partition).await? else { return Ok(()) };
            let there = self.row_indices(&handle.view).await?;
            if let Some(end) = curated(&state, handle.range, handle.covered(partition), &there) {
                tracing::info!(view = %handle.view, %partition, to = end, "curated rows are gone; the floor follows them");
                // Whoever raised it further is read by the next attempt.
                let _either = self.put_floor(handle, partition, end).await?;
                continue;
            }
            let Some(next) = mended(&state, handle.range, &there) else { return Ok(()) };
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

    /// A view's row indices that are there, by name.
    pub(crate) async fn row_indices(&self, view: &ViewId) -> Result<BTreeMap<String, Identity>, Failure> {
        self.present(&names::row_indices(&self.prefix, view)).await
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
        let there = self.row_indices(&handle.view).await?;
        for (partition, state) in &states {
            let next = mended(state, handle.range, &there);
            if next.is_some() {
                let slot = handle.writer(partition);
                let mut writer = slot.lock().await;
                *writer = None;
                match self.mend(handle, partition).await {
                    // A view is looked at while nothing can be written: a look after that mends it.
                    Err(failure) if failure.is_read_only() => {
                        let error = chain(&failure);
                        tracing::warn!(view = %handle.view, %partition, error, "what is gone is made good later");
                    }
                    outcome => outcome?,
                }
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

    /// Removes the indices that are to go and that nobody reads. One that can't be removed is tried again the next time.
    pub(crate) async fn sweep(&self) -> Result<bool, Failure> {
        if !self.leases.has_doomed() {
            return Ok(false);
        }
        let _names = self.leases.names.write().await;
        let free = self.leases.take_free().await;
        let mut free = free.into_iter();
        let mut removed = false;
        while let Some(index) = free.next() {
            match self.remove_index(&index).await {
                Ok(()) => removed = true,
                Err(failure) => {
                    self.leases.doom(index);
                    free.for_each(|index| self.leases.doom(index));
                    return Err(failure);
                }
            }
        }
        Ok(removed)
    }
}

/// Where the indices of a partition begin that its position counts on and that are gone, or do not hold any more what was written to
/// them, in order.
fn gone(state: &PartitionState, range: u64, there: &BTreeMap<String, Identity>) -> Vec<u64> {
    let counts = |start: u64| start.saturating_add(range) > state.floor && start < state.visible;
    let is_gone = |index: &IndexRef| there.get(&index.name).is_none_or(|found| found.is_not(index));
    let gone = state.indices.iter().filter(|(start, index)| counts(**start) && is_gone(index));
    gone.map(|(start, _)| *start).collect()
}

/// Up to where indices are gone whose rows all lie below `covered`, and so are curated; `None` if there are none.
fn curated(state: &PartitionState, range: u64, covered: u64, there: &BTreeMap<String, Identity>) -> Option<u64> {
    let ends = gone(state, range, there).into_iter().map(|start| start.saturating_add(range));
    ends.filter(|end| *end <= covered).max()
}

/// A partition without the indices that are gone, in its next epoch; `None` if all are there.
fn mended(state: &PartitionState, range: u64, there: &BTreeMap<String, Identity>) -> Option<PartitionState> {
    let gone = *gone(state, range, there).first()?;
    let kept = state.indices.iter().filter(|(start, _)| **start < gone);
    let visible = state.floor.max(gone);
    let (mut rowless, mut sizes) = (state.rowless.clone(), state.sizes.clone());
    rowless.step_back(visible);
    sizes.step_back(visible);
    Some(PartitionState {
        epoch: state.epoch + 1,
        floor: state.floor,
        visible,
        indices: kept.map(|(start, index)| (*start, index.clone())).collect(),
        lost: state.lost.clone(),
        rowless,
        sizes,
    })
}

#[cfg(test)]
mod tests {
    use tidemark_testing::contract::live::{batch, partition};

    use super::*;

    #[test]
    fn a_position_steps_back_to_the_first_index_that_is_gone() {
        let indices = [(0, "a"), (10, "b"), (20, "c")].map(|(start, name)| (start, IndexRef::named(name))).into();
        let mut state = PartitionState { epoch: 3, visible: 25, indices, ..PartitionState::beginning(12) };
        state.rowless.take_in(&batch(&partition(0), 12..25), 12);
        state.sizes.take_in((12..25).map(|offset| (offset, 1)), 12);
        let found = |name: &str, history: Option<&str>| {
            let (uuid, history) = (format!("id {name}"), history.map(str::to_owned));
            (name.to_owned(), Identity { uuid, history })
        };
        let all: BTreeMap<String, Identity> =
            ["a", "b", "c"].map(|name| found(name, Some(&format!("history of {name}")))).into();
        let of = |there: &BTreeMap<String, Identity>| {
            mended(&state, 10, there).map(|next| {
                let bytes = next.bytes_in(&(0..u64::MAX));
                (next.epoch, next.visible, next.indices.len(), next.rows_in(&(12..25)), bytes)
            })
        };
        assert_eq!(of(&all), None);
        let without = |name: &str| {
            let mut there = all.clone();
            there.remove(name).expect("it is there");
            there
        };
        let with = |(name, identity): (String, Identity)| {
            let mut there = all.clone();
            there.insert(name, identity).expect("it is there");
            there
        };
        assert_eq!(of(&without("a")), None, "nothing counts on what is below the floor");
        let (second, third) = (Some((4, 12, 1, Some(0), 0)), Some((4, 20, 2, Some(5), 13)));
        assert_eq!(of(&without("b")), second);
        assert_eq!(of(&without("c")), third);
        let another = Identity { uuid: "another".to_owned(), history: None };
        assert_eq!(of(&with(("c".to_owned(), another))), third, "an index of the same name is not the same index");
        let restored = |name: &str| with(found(name, Some("another")));
        assert_eq!((of(&restored("a")), of(&restored("b")), of(&restored("c"))), (None, second, third));
        assert_eq!(of(&with(found("b", None))), None, "one that has no copy at this moment may have its rows");

        // Of those that are gone, rows below a coverage are curated.
        for (there, covered, wanted) in [
            (all.clone(), 20, None),
            (without("a"), 20, None),
            (without("b"), 19, None),
            (without("b"), 20, Some(20)),
            (restored("b"), 25, Some(20)),
            (without("c"), 25, None),
            (without("c"), 30, Some(30)),
            (BTreeMap::new(), 20, Some(20)),
            (BTreeMap::new(), 35, Some(30)),
        ] {
            assert_eq!(curated(&state, 10, covered, &there), wanted, "{:?} below {covered}", there.keys());
        }
    }
}
