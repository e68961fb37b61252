//! Floors go up, and the indices that lie below them whole go (H7).
//!
//! They go, too, where the state index takes no writes: on a disk that is nearly full, only that makes room. Whoever counts on what
//! lies above such a floor finds all that he needs; whoever reads from the old floor on by an older version meets an index that is
//! gone, which is an error and never an answer of less. Nobody indexes those rows again: who finds the indices gone raises the
//! floor first ([`Cluster::mend`]). A cluster in that state is ailing, and whoever drops rows does so all the time: so a floor that
//! was refused is not tried again at once, and one tells for all of its view.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use tidemark_shared::live::LiveError;
use tidemark_shared::lock;
use tidemark_shared::position::LogPartition;

use crate::cluster::{Cluster, Handle};
use crate::failure::{Failure, failed};
use crate::names;
use crate::state::{OVERTAKEN_MAX, Put};

/// Milliseconds between two floors that are tried while a state index takes no writes.
const REFUSED_PAUSE_MS: i64 = 10_000;
/// What a failure is told for.
const OPERATION: &str = "drop rows";

/// That a state index took no write when a floor was last tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// When that was, in milliseconds.
    tried: i64,
    /// What the cluster said.
    reason: String,
}

impl Refusal {
    /// True if no floor is tried yet. A clock that was set back keeps nobody waiting.
    fn holds(&self, now: i64) -> bool {
        let pause: Range<i64> = self.tried..self.tried.saturating_add(REFUSED_PAUSE_MS);
        pause.contains(&now)
    }

    fn told(&self, handle: &Handle) -> Failure {
        Failure::ReadOnly { index: handle.state.clone(), reason: self.reason.clone() }
    }
}

/// What is found out once for all floors of a view that are raised together.
#[derive(Default)]
struct Round {
    /// What the cluster said of the floor that it refused.
    refused: Option<String>,
    /// Row indices that are there, once somebody needs to know.
    there: Option<BTreeSet<String>>,
}

impl Cluster {
    /// Raises floors of partitions to where they are curated, and dooms what lies below. What is returned is why floors could not be
    /// raised, though rows went all the same.
    pub(crate) async fn raise_floors(
        &self,
        handle: &Arc<Handle>,
        ends: &[(LogPartition, u64)],
    ) -> Result<Option<Failure>, LiveError> {
        ends.iter().for_each(|(partition, end)| handle.note_covered(partition, *end));
        let pending: Vec<&(LogPartition, u64)> = {
            let floors = lock(&handle.floors);
            let stands = |(partition, end): &(LogPartition, u64)| floors.get(partition).is_some_and(|at| at >= end);
            ends.iter().filter(|each| !stands(each)).collect()
        };
        if pending.is_empty() {
            return Ok(None);
        }
        let now = self.ambient.now().timestamp_millis();
        let refusal = lock(&handle.refused).clone();
        if let Some(refusal) = refusal.filter(|refusal| refusal.holds(now)) {
            return Ok(Some(refusal.told(handle)));
        }
        let mut round = Round::default();
        for (partition, end) in pending {
            self.raise_floor(handle, partition, *end, &mut round).await?;
        }
        let refusal = round.refused.map(|reason| Refusal { tried: now, reason });
        let told = refusal.as_ref().map(|refusal| refusal.told(handle));
        *lock(&handle.refused) = refusal;
        Ok(told)
    }

    /// Raises a partition's floor to `end`, unless one of the round was refused, and dooms the indices that lie below it whole.
    async fn raise_floor(
        &self,
        handle: &Arc<Handle>,
        partition: &LogPartition,
        end: u64,
        round: &mut Round,
    ) -> Result<(), LiveError> {
        let slot = handle.writer(partition);
        let mut writer = slot.lock().await;
        for _ in 0..OVERTAKEN_MAX {
            let gone = |failure| self.gone(handle, failure, OPERATION);
            // The coverage may know partitions that the view does not.
            let Some(mut state) = self.read_partition(handle, partition).await.map_err(gone)? else { return Ok(()) };
            *writer = None;
            if state.floor >= end {
                lock(&handle.floors).insert(partition.clone(), state.floor);
                *writer = Some(state);
                return Ok(());
            }
            let below = |start: &u64| start.saturating_add(handle.range) <= end;
            let dropped: Vec<String> =
                state.indices.iter().filter(|(start, _)| below(start)).map(|(_, index)| index.name.clone()).collect();
            if round.refused.is_none() {
                // The floor first: whoever looks after this counts on nothing below it.
                match self.put_floor(handle, partition, end).await {
                    Ok(Put::Done | Put::Overtaken) => {}
                    Err(failure) if failure.is_read_only() => round.refused = Some(failure.to_string()),
                    Err(failure) => return Err(gone(failure)),
                }
            }
            if round.refused.is_some() {
                return self.doom_there(handle, dropped, round).await.map_err(gone);
            }
            state.drop_indices_below(end, handle.range);
            let lags = state.visible < end;
            (state.floor, state.visible) = (end, state.visible.max(end));
            state.rowless.drop_below(end);
            state.sizes.drop_below(end);
            if lags && self.put_position(handle, partition, &state).await.map_err(gone)? == Put::Overtaken {
                continue;
            }
            dropped.into_iter().for_each(|index| self.leases.doom(index));
            lock(&handle.floors).insert(partition.clone(), end);
            *writer = Some(state);
            return Ok(());
        }
        Err(failed(OPERATION)(Failure::Contended { index: handle.state.clone() }))
    }

    /// Dooms those of some indices that are there: while no floor can be raised, the state lists those that went, too.
    async fn doom_there(&self, handle: &Handle, indices: Vec<String>, round: &mut Round) -> Result<(), Failure> {
        if indices.is_empty() {
            return Ok(());
        }
        let there = match round.there.take() {
            Some(there) => there,
            None => {
                let found = self.describe(&names::row_indices(&self.prefix, &handle.view)).await?;
                found.into_iter().map(|index| index.name).collect()
            }
        };
        indices.into_iter().filter(|index| there.contains(index)).for_each(|index| self.leases.doom(index));
        round.there = Some(there);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_that_was_refused_is_tried_again_after_a_pause() {
        let refusal = Refusal { tried: 50_000, reason: "the disk is full".to_owned() };
        for (now, holds) in
            [(50_000, true), (50_200, true), (59_999, true), (60_000, false), (90_000, false), (49_999, false)]
        {
            assert_eq!(refusal.holds(now), holds, "at {now}");
        }
    }
}
