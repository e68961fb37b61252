//! The incarnations of a stream's topic that were there before, as far as they are gone. Nobody reads their logs any more: what
//! those were seen to have, or views show of one, and nobody archived, is lost, and the archive is to say so (H1). The decision is
//! [`Kept::is_lost`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tidemark_shared::error::chain;
use tidemark_shared::live::{LivePin, ViewId};
use tidemark_shared::lock;
use tidemark_shared::position::{LogPartition, Source};
use tidemark_speed::archiver::ArchiverError;
use tidemark_speed::keep::{Kept, Shown, is_topic_gone};

use super::{END_MAX, Stream};
use crate::up::UpError;

/// How far partitions are known to have been.
type AllShown = BTreeMap<LogPartition, Shown>;

/// The views of a dataset.
#[derive(Clone, Copy)]
pub(in crate::up) struct Views<'a> {
    /// The newest generation.
    pub(in crate::up) newest: &'a str,
    /// A moment of its view.
    pub(in crate::up) ahead: &'a dyn LivePin,
    /// All that are to be looked at.
    pub(in crate::up) all: &'a [ViewId],
}

/// When a look is, and for how long an archive must have stood still.
#[derive(Clone, Copy)]
struct Times {
    now: DateTime<Utc>,
    wait: Duration,
}

impl Stream {
    /// Takes over what was lost of earlier incarnations as far as this process met it, and goes on telling it; and how far their
    /// logs were seen to reach.
    pub(in crate::up) fn inherit(&self, old: &Self) {
        for (partition, status) in old.archiver.status() {
            for lost in status.lost {
                self.archiver.met_lost(&partition, lost);
            }
        }
        let mut seen = lock(&old.seen_before).clone();
        seen.extend(old.archiver.seen().into_iter().filter(|(_, end)| *end > 0));
        *lock(&self.seen_before) = seen;
    }

    /// True if this process saw logs of incarnations before this one: nobody else knows how far.
    pub(in crate::up) fn has_seen_earlier(&self) -> bool {
        !lock(&self.seen_before).is_empty()
    }

    /// Looks at the archives of earlier incarnations that are gone; without `views`, the process keeps none up. A failure is told;
    /// the next look tries again.
    pub(in crate::up) async fn look_at_earlier(&self, kept: &mut Kept, views: Option<Views<'_>>) {
        if let Err(error) = self.settle_earlier(kept, views).await {
            let (dataset, error) = (&self.dataset, chain(&error));
            tracing::warn!(dataset, error, "looking again at what was archived of earlier topics");
        }
    }

    async fn settle_earlier(&self, kept: &mut Kept, views: Option<Views<'_>>) -> Result<(), UpError> {
        // Where the log is this process's alone, so was the archiver, and it has ended. Others have as long as this one takes. In
        // the grace, somebody may see that the process was started on the wrong log.
        let wait = if self.parts.own_log { self.parts.grace } else { self.parts.grace.max(END_MAX) };
        let times = Times { now: self.parts.ambient.now(), wait };
        let gone = match self.gone(kept, views, times).await {
            Ok(gone) => gone,
            Err(error) => {
                kept.nobody_looked();
                return Err(error);
            }
        };
        let newest = views.map(|views| views.newest);
        let mut failure = None;
        for (partition, shown) in gone {
            if let Err(error) = self.settle(kept, newest, &partition, shown, times).await {
                failure.get_or_insert(error);
            }
        }
        failure.map_or(Ok(()), |error| Err(error.into()))
    }

    /// The partitions of earlier incarnations that are gone, as far as something may be left to do about them.
    async fn gone(&self, kept: &mut Kept, views: Option<Views<'_>>, times: Times) -> Result<AllShown, UpError> {
        let mut shown = self.shown_of_earlier(views).await?;
        shown.retain(|partition, shown| !kept.has_ended(partition, *shown, times.wait, times.now));
        let sources: BTreeSet<Source> = shown.keys().map(|partition| partition.source.clone()).collect();
        let gone = self.gone_of(&sources).await?;
        shown.retain(|partition, _| {
            let is_gone = gone.contains(&partition.source);
            if !is_gone {
                kept.is_there(partition);
            }
            is_gone
        });
        Ok(shown)
    }

    /// How far partitions of other incarnations are known to have been.
    async fn shown_of_earlier(&self, views: Option<Views<'_>>) -> Result<AllShown, UpError> {
        let mut all = AllShown::new();
        if let Some(Views { newest, ahead, all: views }) = views {
            for (partition, range) in ahead.ranges().iter().filter(|(partition, _)| partition.source != self.source) {
                all.insert(partition.clone(), Shown { newest: range.visible, most: range.visible });
            }
            let is_other = |view: &&ViewId| view.dataset == self.dataset && view.generation != newest;
            for view in views.iter().filter(is_other) {
                let Some(pin) = self.parts.live.pin(view).await? else { continue };
                for (partition, range) in pin.ranges().iter().filter(|(partition, _)| partition.source != self.source) {
                    let shown = all.entry(partition.clone()).or_default();
                    shown.most = shown.most.max(range.visible);
                }
            }
        }
        // Where no view is kept up, there is none that has to read on.
        let unseen = Shown { newest: if views.is_some() { 0 } else { u64::MAX }, most: 0 };
        for (partition, end) in lock(&self.seen_before).iter().filter(|(known, _)| known.source != self.source) {
            let shown = all.entry(partition.clone()).or_insert(unseen);
            shown.most = shown.most.max(*end);
        }
        Ok(all)
    }

    /// Those of `sources` that were met before the stream's own, and whose topics are gone. One that the dataset does not follow
    /// any more may be there all the same; and one that was met later is what a broker told that lagged behind, or this one is.
    async fn gone_of(&self, sources: &BTreeSet<Source>) -> Result<BTreeSet<Source>, UpError> {
        let mut gone = BTreeSet::new();
        if sources.is_empty() {
            return Ok(gone);
        }
        let earlier = self.archive.sources_before(&self.source).await.map_err(ArchiverError::from)?;
        for known in earlier.into_iter().filter(|known| sources.contains(&known.source)) {
            let found = self.topic_now(&known.topic).await?;
            if is_topic_gone(&known.topic, &known.id, &self.topic.name, found.as_ref()) {
                gone.insert(known.source);
            }
        }
        Ok(gone)
    }

    /// Looks at the archive of one partition; has the newest view read on where it is further than that.
    async fn settle(
        &self,
        kept: &mut Kept,
        newest: Option<&str>,
        partition: &LogPartition,
        shown: Shown,
        times: Times,
    ) -> Result<(), ArchiverError> {
        let known = kept.ended_at(partition);
        let end = self.archive.end(partition, known.unwrap_or(0)).await?;
        let mut archived = end.unwrap_or(0);
        // Others told it, or this process did, and the store had no answer.
        if let Some(known) = known.filter(|known| *known < archived) {
            for lost in self.archive.lost_from(partition, known).await? {
                self.archiver.met_lost(partition, lost);
            }
        }
        if kept.is_lost(partition, archived, shown, times.wait, times.now) {
            if end.is_none() {
                let _origin = self.archive.begin(partition, 0).await?;
            }
            if let Some(lost) = self.archive.lose(partition, shown.most).await? {
                let (dataset, start, end) = (&self.dataset, lost.start, lost.end);
                tracing::error!(dataset, %partition, start, end, "records went with their topic before they were archived");
                kept.archived_to(partition, lost.end, times.now);
                self.archiver.met_lost(partition, lost);
            }
            archived = shown.most;
        }
        // Whoever has the topic's partition 0 keeps these up, too.
        if archived > shown.newest
            && let Some(running) =
                newest.filter(|newest| self.clears_up(newest)).and_then(|newest| self.indexer(newest))
        {
            running.indexer.read_on(partition);
        }
        Ok(())
    }
}
