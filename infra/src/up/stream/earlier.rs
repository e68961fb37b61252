//! The incarnations of a stream's topic that were there before, as far as they are gone. Nobody reads their logs any more: what
//! views show of one, and nobody archived, is lost, and the archive is to say so (H1). The decision is
//! [`Kept::is_lost`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tidemark_shared::error::chain;
use tidemark_shared::live::{LivePin, ViewId};
use tidemark_shared::position::{LogPartition, Source};
use tidemark_shared::segment::StreamSource;
use tidemark_speed::archiver::ArchiverError;
use tidemark_speed::keep::{Kept, Shown};

use super::{END_MAX, Stream};
use crate::up::UpError;

/// How far views show partitions.
type AllShown = BTreeMap<LogPartition, Shown>;

/// When a look is, and for how long an archive must have stood still.
#[derive(Clone, Copy)]
struct Times {
    now: DateTime<Utc>,
    wait: Duration,
}

impl Stream {
    /// Takes over what was lost of an earlier incarnation as far as this process met it, and goes on telling it.
    pub(in crate::up) fn inherit(&self, old: &Self) {
        for (partition, status) in old.archiver.status() {
            for lost in status.lost {
                self.archiver.met_lost(&partition, lost);
            }
        }
    }

    /// Looks at the archives of earlier incarnations that are gone. `ahead` is a moment of the view of `newest`, and `views` are
    /// all that there are. A failure is told; the next look tries again.
    pub(in crate::up) async fn look_at_earlier(
        &self,
        kept: &mut Kept,
        newest: &str,
        ahead: &dyn LivePin,
        views: &[ViewId],
    ) {
        if let Err(error) = self.settle_earlier(kept, newest, ahead, views).await {
            let (dataset, error) = (&self.dataset, chain(&error));
            tracing::warn!(dataset, error, "looking again at what was archived of earlier topics");
        }
    }

    async fn settle_earlier(
        &self,
        kept: &mut Kept,
        newest: &str,
        ahead: &dyn LivePin,
        views: &[ViewId],
    ) -> Result<(), UpError> {
        // Where the log is this process's alone, so was the archiver, and it has ended. Others have as long as this one takes. In
        // the grace, somebody may see that the process was started on the wrong log.
        let wait = if self.parts.own_log { self.parts.grace } else { self.parts.grace.max(END_MAX) };
        let times = Times { now: self.parts.ambient.now(), wait };
        let mut shown = self.shown_of_earlier(newest, ahead, views).await?;
        shown.retain(|partition, shown| !kept.has_ended(partition, *shown, times.wait, times.now));
        let sources: BTreeSet<Source> = shown.keys().map(|partition| partition.source.clone()).collect();
        let gone = self.gone(&sources).await?;
        let mut failure = None;
        for (partition, shown) in shown.into_iter().filter(|(partition, _)| gone.contains(&partition.source)) {
            if let Err(error) = self.settle(kept, newest, &partition, shown, times).await {
                failure.get_or_insert(error);
            }
        }
        failure.map_or(Ok(()), |error| Err(error.into()))
    }

    /// How far views show partitions of earlier incarnations.
    async fn shown_of_earlier(&self, newest: &str, ahead: &dyn LivePin, views: &[ViewId]) -> Result<AllShown, UpError> {
        let mut all = AllShown::new();
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
        Ok(all)
    }

    /// Those of `sources` whose topics are gone. One that the dataset does not follow any more may be there all the same.
    async fn gone(&self, sources: &BTreeSet<Source>) -> Result<BTreeSet<Source>, UpError> {
        let mut gone = BTreeSet::new();
        if sources.is_empty() {
            return Ok(gone);
        }
        for known in self.archive.sources().await.map_err(ArchiverError::from)? {
            if sources.contains(&known.source) && self.is_gone(&known).await? {
                gone.insert(known.source);
            }
        }
        Ok(gone)
    }

    async fn is_gone(&self, source: &StreamSource) -> Result<bool, UpError> {
        Ok(self.topic_now(&source.topic).await?.is_none_or(|found| found.id != source.id))
    }

    /// Looks at the archive of one partition; has the newest view read on where it is further than that.
    async fn settle(
        &self,
        kept: &mut Kept,
        newest: &str,
        partition: &LogPartition,
        shown: Shown,
        times: Times,
    ) -> Result<(), ArchiverError> {
        let end = self.archive.end(partition, 0).await?;
        let mut archived = end.unwrap_or(0);
        if kept.is_lost(partition, archived, shown, times.wait, times.now) {
            if end.is_none() {
                let _origin = self.archive.begin(partition, 0).await?;
            }
            if let Some(lost) = self.archive.lose(partition, shown.most).await? {
                let (dataset, start, end) = (&self.dataset, lost.start, lost.end);
                tracing::error!(dataset, %partition, start, end, "records went with their topic before they were archived");
                self.archiver.met_lost(partition, lost);
            }
            archived = shown.most;
        }
        if archived > shown.newest
            && let Some(running) = self.indexer(newest)
        {
            running.indexer.read_on(partition);
        }
        Ok(())
    }
}
