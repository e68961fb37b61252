//! Which streams a process has, which views are kept up, what leaves them and when one goes: the decisions of whoever keeps
//! the speed layer in step with definitions and curated tables. Pure: time and observations come in, and what is done about
//! them is the caller's.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tidemark_shared::curated::{CurrentGeneration, Pointer};
use tidemark_shared::dataset::StreamSpec;
use tidemark_shared::live::{LiveRange, ViewId, is_behind};
use tidemark_shared::log::{Topic, TopicId, TopicName};
use tidemark_shared::position::{Coverage, LogPartition};

/// What becomes of a dataset's stream where its newest definition is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamTask {
    /// There is none, and none is asked for.
    Nothing,
    /// It is opened.
    Open,
    /// It goes on by the new definition.
    GoOn,
    /// It goes on by the new definition, on the topic that it has: another topic, or more partitions, take a restart.
    GoOnUntilRestart,
    /// The definition has it no more. It goes on until the process ends: its rows are still shown.
    GoOnWithout,
}

/// Decides about a stream. `spec` is what the newest definition says, `open` the topic of the stream that is open.
#[must_use]
pub fn stream_task(spec: Option<&StreamSpec>, open: Option<&Topic>) -> StreamTask {
    match (spec, open) {
        (None, None) => StreamTask::Nothing,
        (None, Some(_)) => StreamTask::GoOnWithout,
        (Some(_), None) => StreamTask::Open,
        (Some(spec), Some(topic)) if spec.topic != topic.name.as_str() || spec.partitions > topic.partitions => {
            StreamTask::GoOnUntilRestart
        }
        (Some(_), Some(_)) => StreamTask::GoOn,
    }
}

/// What is to be done about the generations of one dataset: first `keep`, in order, then `retire`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The one that answers, or will once its view is not behind.
    pub newest: String,
    /// Those whose views are kept up: the newest, then those before that still have an indexer. Until the newest's view is
    /// not behind theirs, one of them answers, and need not be the last but one.
    pub keep: Vec<Keep>,
    /// Those with an indexer that go as soon as [`Kept::retires`] says so.
    pub retire: Vec<String>,
}

/// A generation whose view is kept up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keep {
    /// Which.
    pub generation: CurrentGeneration,
    /// True if its indexer is to be opened first.
    pub opens: bool,
}

/// Decides about a dataset's generations. `pointers` are the newest first, `indexers` the generations that have one here. After
/// a start none has one: then only the newest is built. `None` if nothing was curated yet.
#[must_use]
pub fn plan(pointers: &[Pointer], indexers: &BTreeSet<String>) -> Option<Plan> {
    let ((_, first), before) = pointers.split_first()?;
    let newest = first.generation.clone();
    let keep = |generation: &CurrentGeneration| Keep {
        generation: generation.clone(),
        opens: !indexers.contains(&generation.generation),
    };
    let is_kept =
        |generation: &&CurrentGeneration| generation.generation != newest && indexers.contains(&generation.generation);
    let before = before.iter().map(|(_, generation)| generation).filter(is_kept);
    let keep = std::iter::once(first).chain(before).map(keep).collect();
    let retire = indexers.iter().filter(|generation| **generation != newest).cloned().collect();
    Some(Plan { newest, keep, retire })
}

impl Plan {
    /// Of all views, those that are the dataset's and that nobody here keeps up, to go as those of `retire` do: whoever kept
    /// them up is gone.
    #[must_use]
    pub fn left_behind(&self, dataset: &str, views: Vec<ViewId>) -> Vec<ViewId> {
        let is_left = |view: &ViewId| {
            let generation = &view.generation;
            view.dataset == dataset && *generation != self.newest && !self.retire.contains(generation)
        };
        views.into_iter().filter(is_left).collect()
    }
}

/// What follows from a look at a generation's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked {
    /// True if its coverage is another than at the last look.
    pub moved: bool,
    /// Rows of its view below this may go.
    pub drop_below: Option<Coverage>,
}

/// What is remembered of one dataset's generations from look to look.
#[derive(Debug)]
pub struct Kept {
    grace: TimeDelta,
    /// Coverages with the time from which on they were known; rows below the newest that is old enough may go.
    coverages: BTreeMap<String, Vec<(DateTime<Utc>, Coverage)>>,
    /// Generations that answer no more, since when.
    retired: BTreeMap<String, DateTime<Utc>>,
    /// Of partitions of topics that were gone at each look since, how far they are.
    endings: BTreeMap<LogPartition, Ending>,
}

/// Of a partition of a topic that is gone, what was so at the last look, and since when.
#[derive(Debug, Clone, Copy)]
struct Ending {
    archived: u64,
    most: u64,
    since: DateTime<Utc>,
}

/// How far a partition of a topic that is gone is known to have been.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shown {
    /// The newest generation's view shows it so far; [`u64::MAX`] where there is none to read on.
    pub newest: u64,
    /// The furthest that a view shows it, or that its log was seen to reach.
    pub most: u64,
}

/// True if the incarnation `id` of topic `name` is gone, where the log tells that `found` has that name now. `followed` is the topic
/// of the stream: that one is there, in another incarnation, so nothing under its name is what a broker tells that lags behind.
#[must_use]
pub fn is_topic_gone(name: &TopicName, id: &TopicId, followed: &TopicName, found: Option<&Topic>) -> bool {
    found.map_or(name != followed, |found| found.id != *id)
}

impl Kept {
    /// Nothing was seen yet. Rows below the coverage stay for `grace`, and so does a view whose generation answers no more:
    /// a query that read an older version before finds them, and needs no second try (H7; which rows an answer has does
    /// not depend on it).
    #[must_use]
    pub fn new(grace: Duration) -> Self {
        let grace = TimeDelta::from_std(grace).unwrap_or(TimeDelta::MAX);
        Self { grace, coverages: BTreeMap::new(), retired: BTreeMap::new(), endings: BTreeMap::new() }
    }

    /// Takes note of a generation's coverage. Rows go below the newest one that was known for the grace time.
    pub fn looked(&mut self, generation: &str, coverage: &Coverage, now: DateTime<Utc>) -> Looked {
        let known = self.coverages.entry(generation.to_owned()).or_default();
        let moved = known.last().is_none_or(|(_, last)| last != coverage);
        if moved {
            known.push((now, coverage.clone()));
        }
        let count = known.iter().take_while(|(since, _)| now - *since >= self.grace).count();
        let Some(dropped) = count.checked_sub(1) else { return Looked { moved, drop_below: None } };
        let drop_below = Some(known[dropped].1.clone());
        // The newest stays, so that it is known again.
        let keep_from = if count == known.len() { dropped } else { count };
        known.drain(..keep_from);
        Looked { moved, drop_below }
    }

    /// True if the view of a generation before the newest may go: the newest one's, which is `ahead`, is not behind it, and was
    /// not for the first time the grace time ago. Who moved to the newest then does not go back, so it does not matter
    /// whether it was behind meanwhile. `old` is `None` if there is no such view (any more): what is left of it may go.
    pub fn retires(
        &mut self,
        generation: &str,
        ahead: &BTreeMap<LogPartition, LiveRange>,
        old: Option<&BTreeMap<LogPartition, LiveRange>>,
        now: DateTime<Utc>,
    ) -> bool {
        if old.is_some_and(|old| is_behind(ahead, old)) {
            return false;
        }
        now - *self.retired.entry(generation.to_owned()).or_insert(now) >= self.grace
    }

    /// True if nothing is left to do about a partition of a topic that is gone: its archive has stood still for as long as
    /// [`Self::is_lost`] waits, holds what views show, and the newest view has all of that.
    #[must_use]
    pub fn has_ended(&self, partition: &LogPartition, shown: Shown, wait: Duration, now: DateTime<Utc>) -> bool {
        self.endings.get(partition).is_some_and(|ending| {
            let Ending { archived, since, .. } = *ending;
            passed(since, wait, now) && shown.most <= archived && archived <= shown.newest
        })
    }

    /// How far the archive of a partition of a topic that is gone was at the last look.
    #[must_use]
    pub fn ended_at(&self, partition: &LogPartition) -> Option<u64> {
        self.endings.get(partition).map(|ending| ending.archived)
    }

    /// The archive of a partition of a topic that is gone reaches so far now, by what was told as lost.
    pub fn archived_to(&mut self, partition: &LogPartition, end: u64, now: DateTime<Utc>) {
        if let Some(ending) = self.endings.get_mut(partition) {
            *ending = Ending { archived: end, since: now, ..*ending };
        }
    }

    /// Its topic was not gone at a look: what is waited for begins anew.
    pub fn is_there(&mut self, partition: &LogPartition) {
        self.endings.remove(partition);
    }

    /// A look failed before it could tell which topics are gone: so for all.
    pub fn nobody_looked(&mut self) {
        self.endings.clear();
    }

    /// True if what is known to have been in a partition of a topic that is gone at this look, too, and is not archived, never will
    /// be: it is to be told as lost. Other processes may still be about to archive what they have read of it, and brokers that
    /// lag behind tell of other topics, so for `wait` its topic must have been gone at each look, its archive have stood still,
    /// and no more of it have come to be known.
    ///
    /// Untold, it would be in those views alone: no recomputation has it, and no view of a later generation would ever be as
    /// far as they are, and answer.
    pub fn is_lost(
        &mut self,
        partition: &LogPartition,
        archived: u64,
        shown: Shown,
        wait: Duration,
        now: DateTime<Utc>,
    ) -> bool {
        let new = Ending { archived, most: shown.most, since: now };
        let known = self.endings.entry(partition.clone()).or_insert(new);
        if (known.archived, known.most) != (archived, shown.most) {
            *known = new;
        }
        archived < shown.most && passed(known.since, wait, now)
    }

    /// Its view has gone.
    pub fn gone(&mut self, generation: &str) {
        self.retired.remove(generation);
        self.coverages.remove(generation);
    }
}

fn passed(since: DateTime<Utc>, wait: Duration, now: DateTime<Utc>) -> bool {
    now - since >= TimeDelta::from_std(wait).unwrap_or(TimeDelta::MAX)
}

#[cfg(test)]
mod tests;
