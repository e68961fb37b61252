//! What keeps a view's indices in order: those that are gone are indexed again, those that nobody counts on go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidemark_shared::error::chain;
use tidemark_shared::live::ViewId;
use tidemark_shared::position::LogPartition;

use crate::cluster::{Cluster, Handle};
use crate::failure::Failure;
use crate::identity::Present;
use crate::indices::{Removal, removal};
use crate::names;
use crate::state::{IndexRef, OVERTAKEN_MAX, PartitionState, Put};

impl Cluster {
    /// Finds out which indices of a partition are gone, and begins an epoch in which its position stands before the first of
    /// them: from there on it is indexed again. What was read of the rest stays right. Of those whose rows are curated, only the
    /// floor tells, and nothing is indexed again.
    pub(crate) async fn mend(&self, handle: &Arc<Handle>, partition: &LogPartition) -> Result<(), Failure> {
        for _ in 0..OVERTAKEN_MAX {
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
    pub(crate) async fn row_indices(&self, view: &ViewId) -> Result<BTreeMap<String, Present>, Failure> {
        self.present(&names::row_indices(&self.prefix, view)).await
    }

    /// Removes row indices of a dataset's views that have no state index: what a writer made that came late, or a process left
    /// that ended while it let a view go.
    pub(crate) async fn remove_orphans(&self, dataset: &str) -> Result<(), Failure> {
        let found = self.describe(&names::dataset_indices(&self.prefix, dataset)).await?;
        let all: BTreeSet<String> = found.iter().map(|index| index.name.clone()).collect();
        for index in found {
            let is_orphan = |view: &ViewId| !all.contains(&names::state_index(&self.prefix, view));
            if index.view().is_some_and(|view| is_orphan(&view)) {
                tracing::info!(index = index.name, "the rows of a view that is gone are removed");
                self.leases.doom(index.name);
            }
        }
        self.sweep_if_possible().await;
        Ok(())
    }

    /// Looks whether all indices of a view are there that its positions count on, mends what is not, and dooms those that
    /// no position will ever count on again.
    pub(crate) async fn look_over(&self, handle: &Arc<Handle>) -> Result<(), Failure> {
        let states = self.read_state(handle).await?;
        let there = self.row_indices(&handle.view).await?;
        for (partition, state) in &states {
            if !gone(state, handle.range, &there).is_empty() {
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
            let of_partition = names::partition_prefix(&self.prefix, &handle.view, partition);
            for name in there.keys() {
                let start = names::start_of(&of_partition, name);
                if start.is_some_and(|start| start.saturating_add(handle.range) <= state.floor) {
                    self.leases.doom(name.clone());
                }
            }
        }
        self.sweep_if_possible().await;
        self.measure(&handle.view).await
    }

    /// Removes what can be removed: whether something goes that nobody counts on is no condition for a view's opening.
    pub(crate) async fn sweep_if_possible(&self) {
        if let Err(failure) = self.sweep().await {
            tracing::warn!(error = %chain(&failure), "indices are removed later");
        }
    }

    /// Removes the indices that are to go and that nobody reads. One that can't be removed is tried again the next time; so is one
    /// of which a snapshot is being made, which is no failure.
    pub(crate) async fn sweep(&self) -> Result<bool, Failure> {
        if !self.leases.has_doomed() {
            return Ok(false);
        }
        let _names = self.leases.names.write().await;
        let free = self.leases.take_free().await;
        let (mut free, mut kept) = (free.into_iter(), Vec::new());
        let mut swept = Ok(false);
        for index in free.by_ref() {
            match self.remove_index(&index).await {
                Ok(()) => swept = Ok(true),
                Err(failure) if removal(&failure) == Removal::Kept => kept.push(index),
                Err(failure) => {
                    kept.push(index);
                    swept = Err(failure);
                    break;
                }
            }
        }
        kept.into_iter().chain(free).for_each(|index| self.leases.doom(index));
        swept
    }
}

/// Where the indices of a partition begin that its position counts on and that are gone, in order: they are not there, or not as they
/// were written down ([`Present::is_as`]).
fn gone(state: &PartitionState, range: u64, there: &BTreeMap<String, Present>) -> Vec<u64> {
    let counts = |start: u64| start.saturating_add(range) > state.floor && start < state.visible;
    let is_there = |index: &IndexRef| there.get(&index.name).is_some_and(|found| found.is_as(index));
    let gone = state.indices.iter().filter(|(start, index)| counts(**start) && !is_there(index));
    gone.map(|(start, _)| *start).collect()
}

/// Up to where indices are gone whose rows all lie below `covered`, and so are curated; `None` if there are none.
fn curated(state: &PartitionState, range: u64, covered: u64, there: &BTreeMap<String, Present>) -> Option<u64> {
    let ends = gone(state, range, there).into_iter().map(|start| start.saturating_add(range));
    ends.filter(|end| *end <= covered).max()
}

/// A partition without the indices that are gone, in its next epoch; `None` if all are there. Those that come after the first that is
/// gone are taken off the list, too; whatever is there under their names is stale from now on.
fn mended(state: &PartitionState, range: u64, there: &BTreeMap<String, Present>) -> Option<PartitionState> {
    let gone = *gone(state, range, there).first()?;
    let mut indices = state.indices.clone();
    let dropped = indices.split_off(&gone);
    let mut stale = state.stale.clone();
    let found = |index: &IndexRef| there.get(&index.name).map(|found| found.identity.uuid.clone());
    stale.extend(dropped.iter().filter_map(|(start, index)| Some((*start, found(index)?))));
    let visible = state.floor.max(gone);
    let (mut rowless, mut sizes) = (state.rowless.clone(), state.sizes.clone());
    rowless.step_back(visible);
    sizes.step_back(visible);
    let (epoch, floor, lost) = (state.epoch + 1, state.floor, state.lost.clone());
    Some(PartitionState { epoch, floor, visible, indices, stale, lost, rowless, sizes })
}

#[cfg(test)]
mod tests {
    use tidemark_testing::contract::live::{batch, partition};

    use super::*;
    use crate::identity::Identity;

    /// A partition whose floor is 12 and whose position is 25, in indices of ten offsets.
    fn state() -> PartitionState {
        let indices = [(0, "a"), (10, "b"), (20, "c")].map(|(start, name)| (start, IndexRef::named(name))).into();
        let mut state = PartitionState { epoch: 3, visible: 25, indices, ..PartitionState::beginning(12) };
        state.rowless.take_in(&batch(&partition(0), 12..25), 12);
        state.sizes.take_in((12..25).map(|offset| (offset, 1)), 12);
        state
    }

    /// An index as [`IndexRef::named`] has it, but for its history.
    fn found(name: &str, history: Option<&str>) -> (String, Present) {
        let identity = Identity { uuid: format!("id {name}"), history: history.map(str::to_owned) };
        (name.to_owned(), Present { identity, aliases: vec![format!("{name}.1")] })
    }

    /// The indices of [`state`].
    fn all() -> BTreeMap<String, Present> {
        ["a", "b", "c"].map(|name| found(name, Some(&format!("history of {name}")))).into()
    }

    #[test]
    fn a_position_steps_back_to_the_first_index_that_is_gone() {
        let (state, all) = (state(), all());
        let of = |there: &BTreeMap<String, Present>| {
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
        let with = |(name, found): (String, Present)| {
            let mut there = all.clone();
            there.insert(name, found).expect("it is there");
            there
        };
        assert_eq!(of(&without("a")), None, "nothing counts on what is below the floor");
        let (second, third) = (Some((4, 12, 1, Some(0), 0)), Some((4, 20, 2, Some(5), 13)));
        assert_eq!(of(&without("b")), second);
        assert_eq!(of(&without("c")), third);
        let mut another = all["c"].clone();
        another.identity = Identity { uuid: "another".to_owned(), history: None };
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

    #[test]
    fn what_a_step_back_leaves_is_stale() {
        let stale = |state: &PartitionState, there: &BTreeMap<String, Present>| {
            mended(state, 10, there).map(|next| next.stale.into_iter().collect::<Vec<_>>())
        };
        let id = |start: u64, name: &str| (start, format!("id {name}"));
        let (mut state, mut there) = (state(), all());
        assert_eq!(stale(&state, &there), None);
        there.remove("c");
        assert_eq!(stale(&state, &there), Some(vec![]), "it is not there, and nothing comes after it");
        there = all();
        there.remove("b");
        assert_eq!(stale(&state, &there), Some(vec![id(20, "c")]));
        // One that lost what it held still has some of it, and so may one that has another's name.
        there.extend([found("b", Some("another"))]);
        assert_eq!(stale(&state, &there), Some(vec![id(10, "b"), id(20, "c")]));
        there.get_mut("b").expect("it is there").identity.uuid = "another".to_owned();
        assert_eq!(stale(&state, &there), Some(vec![(10, "another".to_owned()), id(20, "c")]));
        // Of an earlier step back, until it is written anew.
        state.stale = [id(20, "before"), id(30, "d")].into();
        assert_eq!(stale(&state, &there), Some(vec![(10, "another".to_owned()), id(20, "c"), id(30, "d")]));
    }

    #[test]
    fn an_index_without_its_alias_is_gone_and_what_it_holds_is_stale() {
        let state = state();
        let id = |start: u64, name: &str| (start, format!("id {name}"));
        for (name, aliases, wanted) in [
            ("b", vec![], Some((12, vec![id(10, "b"), id(20, "c")]))),
            // It was given another since.
            ("c", vec!["c.2"], Some((20, vec![id(20, "c")]))),
            ("c", vec!["c.0", "c.1"], None),
            // Nothing counts on what is below the floor.
            ("a", vec![], None),
        ] {
            let mut there = all();
            there.get_mut(name).expect("it is there").aliases =
                aliases.iter().map(|alias| (*alias).to_owned()).collect();
            let next = mended(&state, 10, &there);
            let found = next.map(|next| (next.visible, next.stale.into_iter().collect::<Vec<_>>()));
            assert_eq!(found, wanted, "{name} has {aliases:?}");
            assert_eq!(curated(&state, 10, 30, &there).is_some(), wanted.is_some(), "{name} has {aliases:?}");
        }
    }
}
