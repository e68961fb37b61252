//! One dataset's stream in this process: its topic, its archiver, and an indexer for each generation that may answer; with the
//! process's share of the work on each, as far as that is one of its roles. Beside it: `intake`, the way in for records, `heard`,
//! what the log told of its ends, and `earlier`, what is left to do about the topics that were there before.

mod earlier;
mod heard;
mod intake;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock};
use std::time::{Duration, Instant};

use futures::future::join_all;
use tidemark_shared::curated::CurrentGeneration;
use tidemark_shared::dataset::registry::{self, Registered};
use tidemark_shared::error::AnyError;
use tidemark_shared::live::ViewId;
use tidemark_shared::log::{LogError, Partitioner, Partitions, Share, Topic, TopicName};
use tidemark_shared::position::{Coverage, LogPartition, Source};
use tidemark_shared::rows::StreamRows;
use tidemark_shared::segment::Archive;
use tidemark_shared::{lock, read};
use tidemark_speed::archiver::Archiver;
use tidemark_speed::indexer::{Indexer, IndexerParts, IndexerSettings};
use tokio_util::sync::CancellationToken;

use super::UpError;
use super::parts::Parts;
use super::ready::MadeAnew;
use crate::config::Role;
pub(super) use earlier::Views;
use heard::{ANSWER_MAX, Heard, ends_of};

/// Longest time that what was read of a topic that is gone may take into the archive, before that is tried again.
const END_MAX: Duration = Duration::from_secs(60);
/// Longest wait for groups to let the process go.
const LEAVE_MAX: Duration = Duration::from_secs(10);

/// See the module's text.
pub(super) struct Stream {
    pub(super) dataset: String,
    pub(super) topic: Topic,
    pub(super) source: Source,
    pub(super) archive: Archive,
    pub(super) archiver: Arc<Archiver>,
    /// Which partitions it archives; none yet, or that is no role of the process.
    pub(super) archivers: OnceLock<Share>,
    /// Whether it runs the batch layer now: where it has partition 0. Likewise.
    pub(super) runners: OnceLock<Share>,
    /// The newest definition: it says how records find their partition.
    pub(super) definition: RwLock<Arc<Registered>>,
    partitioner: Mutex<Partitioner>,
    pub(super) indexers: Mutex<BTreeMap<String, Running>>,
    pub(super) heard: Heard,
    /// Its views, as far as readiness waits for them.
    pub(super) anew: MadeAnew,
    /// How far logs of earlier incarnations were seen to reach.
    seen_before: Mutex<BTreeMap<LogPartition, u64>>,
    /// True once its end has begun. Whatever the log tells then, nothing works on it any more.
    is_ending: AtomicBool,
    /// When views that nobody here keeps up were looked at.
    views_looked_at: Mutex<Option<Instant>>,
    /// Stops its archiver and indexers.
    pub(super) stop: CancellationToken,
    /// Stops its batch runs.
    pub(super) stop_batch: CancellationToken,
    parts: Parts,
}

/// An indexer at work.
#[derive(Clone)]
pub(super) struct Running {
    pub(super) indexer: Arc<Indexer>,
    /// Which partitions it keeps up.
    pub(super) share: Share,
    pub(super) stop: CancellationToken,
}

impl Stream {
    /// Makes the topic, if it is new, and its archiver; nothing runs yet. A topic that can't be followed is refused here, and nowhere
    /// later: who looks which topic is there asks nothing else.
    pub(super) async fn open(parts: &Parts, applied: Registered) -> Result<Self, UpError> {
        let dataset = applied.definition.name.clone();
        let spec = applied.definition.stream.clone().expect("only datasets with a stream come here");
        let name = TopicName::new(&spec.topic)?;
        let topic = match parts.log.topic(&name).await? {
            None => parts.log.create_topic(&name, spec.partitions).await?,
            Some(topic) => topic,
        };
        // Also of one that another made at the same time.
        parts.log.check_topic(&topic).await?;
        let topic = match topic.partitions < spec.partitions {
            true => parts.log.add_partitions(&topic, spec.partitions).await?,
            false => topic,
        };
        let archive = Archive::new(parts.store.clone(), &dataset);
        let archiver = Archiver::open(
            Arc::clone(&parts.log),
            archive.clone(),
            topic.clone(),
            Arc::clone(&parts.ambient),
            parts.archiver,
        );
        let archiver = archiver.await?;
        if !parts.roles.has(Role::Archiver) {
            // others archive; it may be asked for what is in the log now all the same
            archiver.own(Partitions::none()).await;
        }
        let source = archiver.source().clone();
        // Views that are this process's alone were lost with the one before.
        let ends_at_open = match parts.roles.has(Role::Indexer) && parts.own_views {
            true => ends_of(&source, &parts.log.bounds(&topic).await?),
            false => Coverage::new(),
        };
        Ok(Self {
            dataset,
            heard: Heard::new(Arc::clone(&parts.log), Arc::clone(&parts.ambient), topic.clone(), source.clone()),
            source,
            // Where the first records without a key go, differs from start to start.
            partitioner: Mutex::new(Partitioner::new(topic.partitions, (parts.ambient.random() >> 32) as u32)),
            topic,
            archive,
            archiver: Arc::new(archiver),
            archivers: OnceLock::new(),
            runners: OnceLock::new(),
            definition: RwLock::new(Arc::new(applied)),
            indexers: Mutex::default(),
            anew: MadeAnew::up_to(ends_at_open),
            seen_before: Mutex::default(),
            is_ending: AtomicBool::new(false),
            views_looked_at: Mutex::default(),
            stop: parts.stop_speed.child_token(),
            stop_batch: parts.stop_batch.child_token(),
            parts: parts.clone(),
        })
    }

    /// Joins those who do the same on the stream, as far as the process has the role. Last, when all else is open: members that
    /// come and go make others wait.
    pub(super) async fn join(&self) -> Result<(), UpError> {
        let Parts { roles, groups, log, .. } = &self.parts;
        if roles.has(Role::Archiver) && self.archivers.get().is_none() {
            let share = groups.archivers(log, &self.topic, &self.dataset).await?;
            let _first = self.archivers.set(share);
        }
        if roles.has(Role::Batch) && self.runners.get().is_none() {
            let share = groups.runners(log, &self.topic, &self.dataset).await?;
            let _first = self.runners.set(share);
        }
        Ok(())
    }

    pub(super) fn definition(&self) -> Arc<Registered> {
        Arc::clone(&read(&self.definition))
    }

    pub(super) fn view(&self, generation: &str) -> ViewId {
        ViewId { dataset: self.dataset.clone(), generation: generation.to_owned() }
    }

    pub(super) fn indexer(&self, generation: &str) -> Option<Running> {
        lock(&self.indexers).get(generation).cloned()
    }

    pub(super) fn all_indexers(&self) -> Vec<(String, Running)> {
        let indexers = lock(&self.indexers);
        indexers.iter().map(|(generation, running)| (generation.clone(), running.clone())).collect()
    }

    /// An indexer for a generation, by its own definition; it begins at `coverage`, and nothing runs yet.
    pub(super) async fn open_indexer(
        &self,
        generation: &CurrentGeneration,
        coverage: Coverage,
    ) -> Result<Running, UpError> {
        let version = &generation.definition;
        let applied = registry::by_version(&self.parts.store, &self.dataset, version).await?;
        let missing = || UpError::NoDefinition { dataset: self.dataset.clone(), version: version.clone() };
        let rows = StreamRows::compile(&applied.ok_or_else(missing)?.definition)?;
        let parts = IndexerParts {
            log: Arc::clone(&self.parts.log),
            topic: self.topic.clone(),
            archive: self.archive.clone(),
            live: Arc::clone(&self.parts.live),
            view: self.view(&generation.generation),
            rows: Arc::new(rows),
            ambient: Arc::clone(&self.parts.ambient),
            pressure: Arc::clone(&self.parts.pressure),
            traces: Arc::clone(&self.parts.traces),
        };
        let indexer = Arc::new(Indexer::open(parts, coverage, IndexerSettings::default()).await?);
        let Parts { groups, log, .. } = &self.parts;
        let share = groups.indexers(log, &self.topic, &self.dataset, &generation.generation).await?;
        let running = Running { indexer, share, stop: self.stop.child_token() };
        let mut indexers = lock(&self.indexers);
        Ok(indexers.entry(generation.generation.clone()).or_insert(running).clone())
    }

    /// Ends the indexer of a generation that answers no more, and lets its view go.
    pub(super) async fn close_indexer(&self, generation: &str) -> Result<(), UpError> {
        let gone = lock(&self.indexers).remove(generation);
        let Some(running) = gone else { return Ok(()) };
        running.stop.cancel();
        running.share.leave().await;
        self.parts.live.close(&self.view(generation)).await?;
        self.parts.pressure.dropped(self.parts.live.as_ref());
        Ok(())
    }

    /// What is to become of the stream, by what the log tells of its topic now.
    pub(super) async fn what_next(&self) -> Result<Next, UpError> {
        let found = self.topic_now(&self.topic.name).await?;
        Ok(next(&self.topic, found.as_ref(), self.is_ending.load(Ordering::Relaxed)))
    }

    /// The topic of that name, if the log tells in time.
    async fn topic_now(&self, name: &TopicName) -> Result<Option<Topic>, UpError> {
        let found = tokio::time::timeout(ANSWER_MAX, self.parts.log.topic(name)).await;
        Ok(found.unwrap_or_else(|waited| Err(LogError::backend("describe a topic in time", waited)))?)
    }

    /// Ends the work on an incarnation that is gone, for there is another instead. What was read of it is archived; its log is not
    /// asked. What it had beyond that is lost later, once it is sure that it is gone: see [`Self::look_at_earlier`].
    ///
    /// # Errors
    /// [`UpError::StillEnding`] if that takes longer than [`END_MAX`], and what may pass. Nobody else has what was read, so it is
    /// to be called again, and goes on then with what is not archived yet.
    pub(super) async fn end(&self) -> Result<(), UpError> {
        self.end_within(END_MAX).await
    }

    pub(super) async fn end_within(&self, at_most: Duration) -> Result<(), UpError> {
        self.is_ending.store(true, Ordering::Relaxed);
        self.stop.cancel();
        self.stop_batch.cancel();
        let ended = tokio::time::timeout(at_most, self.archiver.seal_gathered()).await;
        ended.map_err(|_| UpError::StillEnding { dataset: self.dataset.clone(), after: at_most })??;
        self.leave().await;
        Ok(())
    }

    /// Leaves all groups: nothing is done any more on what the process had of the work. A group that does not answer takes the
    /// place away by itself, once it has not heard of the member for long enough.
    pub(super) async fn leave(&self) {
        let indexers = self.all_indexers().into_iter().map(|(_, running)| running.share);
        let others = [&self.archivers, &self.runners].into_iter().filter_map(|share| share.get().cloned());
        let shares: Vec<Share> = indexers.chain(others).collect();
        if tokio::time::timeout(LEAVE_MAX, join_all(shares.iter().map(Share::leave))).await.is_err() {
            tracing::warn!(dataset = self.dataset, "not all groups let go of the process in time");
        }
    }

    /// Archives what the log has of the process's own share; of the rest others see to that.
    pub(super) async fn seal_own(&self) -> Result<(), UpError> {
        if self.archivers.get().is_some() {
            self.archiver.flush_own().await?;
        }
        Ok(())
    }

    /// True if no other process is to run the batch layer on it now. Where nobody can tell, several may: then all but the first
    /// work in vain, and no more than that.
    pub(super) fn runs_batch(&self) -> bool {
        let now = self.runners.get().map(Share::assignment);
        now.is_some_and(|now| !now.joined || now.partitions.has(0))
    }

    /// Begins a look at views that nobody here keeps up; false if the last one began less than `every` ago.
    pub(super) fn begins_look_at_views(&self, every: Duration) -> bool {
        let mut looked_at = lock(&self.views_looked_at);
        let is_time = looked_at.is_none_or(|at| at.elapsed() >= every);
        if is_time {
            *looked_at = Some(Instant::now());
        }
        is_time
    }

    /// True if it is for this process to clear up after others who kept views of the dataset up.
    pub(super) fn clears_up(&self, newest: &str) -> bool {
        self.indexer(newest).is_some_and(|running| running.share.assignment().partitions.has(0))
    }

    /// The exclusive end of each partition of the log. While the log is away, those that it told last.
    pub(super) async fn log_ends(&self) -> Result<Coverage, AnyError> {
        self.heard.ends().await.map(|(ends, _)| ends)
    }
}

/// What is to become of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// It goes on; a topic that is deleted is waited for.
    GoesOn,
    /// It ends, and begins anew with the incarnation that is there.
    MadeAgain,
    /// It begins anew with the same one: its end began, for a broker told of another that has gone again, or that never was.
    TakenUpAgain,
}

/// Decides about a stream of `topic`, where the log tells that `found` has that name now.
fn next(topic: &Topic, found: Option<&Topic>, is_ending: bool) -> Next {
    match found {
        Some(found) if found.id != topic.id => Next::MadeAgain,
        Some(_) if is_ending => Next::TakenUpAgain,
        Some(_) | None => Next::GoesOn,
    }
}

/// A partition of the topic whose records have this source.
fn partition_of(source: &Source, number: u32) -> LogPartition {
    LogPartition { source: source.clone(), partition: number }
}

#[cfg(test)]
mod tests;
