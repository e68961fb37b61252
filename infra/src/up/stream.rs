//! One dataset's stream in this process: its topic, its archiver, and an indexer for each generation that may answer; with the
//! process's share of the work on each, as far as that is one of its roles.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::future::join_all;
use tidemark_serving::http::{IntakeError, Taken};
use tidemark_shared::curated::CurrentGeneration;
use tidemark_shared::dataset::registry::{self, Registered};
use tidemark_shared::error::{AnyError, ErrorKind as _, Kind, chain};
use tidemark_shared::live::ViewId;
use tidemark_shared::log::{
    Bounds, IdempotencyKey, LogError, MessageKeys, Partitioner, Partitions, Record, Routed, Share, Topic, TopicName,
};
use tidemark_shared::position::{Coverage, LogPartition, Source};
use tidemark_shared::rows::StreamRows;
use tidemark_shared::segment::Archive;
use tidemark_shared::telemetry::{TraceParent, name_origin};
use tidemark_speed::archiver::Archiver;
use tidemark_speed::indexer::{Indexer, IndexerParts, IndexerSettings};
use tokio_util::sync::CancellationToken;

use super::UpError;
use super::parts::Parts;
use crate::config::Role;

/// How long the log is asked for its ends before those are taken that it told last: an answer waits for no log that is away.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// For so long it is not asked again then.
const ASK_AGAIN: Duration = Duration::from_secs(1);

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
    heard: Mutex<Heard>,
    /// Where the log ended when the stream was opened, if its views are this process's alone: they were lost with the one before.
    pub(super) ends_at_open: Coverage,
    /// True once its views are known to have been as far as that.
    pub(super) has_caught_up: AtomicBool,
    /// When views that nobody here keeps up were looked at.
    views_looked_at: Mutex<Option<Instant>>,
    /// Stops its archiver and indexers.
    pub(super) stop: CancellationToken,
    /// Stops its batch runs.
    pub(super) stop_batch: CancellationToken,
    parts: Parts,
}

/// What the log told of its ends.
#[derive(Default)]
struct Heard {
    /// The last that it told, and when.
    ends: Option<(Coverage, DateTime<Utc>)>,
    /// How many partitions it had then.
    partitions: u32,
    /// When it did not answer, if it has not since.
    failed: Option<Instant>,
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
    /// Makes the topic, if it is new, and its archiver; nothing runs yet.
    pub(super) async fn open(parts: &Parts, applied: Registered) -> Result<Self, UpError> {
        let dataset = applied.definition.name.clone();
        let spec = applied.definition.stream.clone().expect("only datasets with a stream come here");
        let name = TopicName::new(&spec.topic)?;
        let topic = match parts.log.topic(&name).await? {
            None => parts.log.create_topic(&name, spec.partitions).await?,
            Some(topic) if topic.partitions < spec.partitions => {
                parts.log.add_partitions(&topic, spec.partitions).await?
            }
            Some(topic) => topic,
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
        let ends = match parts.roles.has(Role::Indexer) && !parts.moved_elsewhere {
            true => parts.log.bounds(&topic).await?,
            false => Vec::new(),
        };
        let of = |(partition, bounds): (u32, Bounds)| {
            (LogPartition { source: archiver.source().clone(), partition }, bounds.end)
        };
        let ends_at_open: Coverage = (0..).zip(ends).map(of).collect();
        Ok(Self {
            dataset,
            source: archiver.source().clone(),
            // Where the first records without a key go, differs from start to start.
            partitioner: Mutex::new(Partitioner::new(topic.partitions, (parts.ambient.random() >> 32) as u32)),
            topic,
            archive,
            archiver: Arc::new(archiver),
            archivers: OnceLock::new(),
            runners: OnceLock::new(),
            definition: RwLock::new(Arc::new(applied)),
            indexers: Mutex::default(),
            heard: Mutex::default(),
            ends_at_open,
            has_caught_up: AtomicBool::new(false),
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
        Arc::clone(&self.definition.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn view(&self, generation: &str) -> ViewId {
        ViewId { dataset: self.dataset.clone(), generation: generation.to_owned() }
    }

    pub(super) fn indexer(&self, generation: &str) -> Option<Running> {
        self.indexers.lock().unwrap_or_else(PoisonError::into_inner).get(generation).cloned()
    }

    pub(super) fn all_indexers(&self) -> Vec<(String, Running)> {
        let indexers = self.indexers.lock().unwrap_or_else(PoisonError::into_inner);
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
        let mut indexers = self.indexers.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(indexers.entry(generation.generation.clone()).or_insert(running).clone())
    }

    /// Ends the indexer of a generation that answers no more, and lets its view go.
    pub(super) async fn close_indexer(&self, generation: &str) -> Result<(), UpError> {
        let gone = self.indexers.lock().unwrap_or_else(PoisonError::into_inner).remove(generation);
        let Some(running) = gone else { return Ok(()) };
        running.stop.cancel();
        running.share.leave().await;
        self.parts.live.close(&self.view(generation)).await?;
        self.parts.pressure.dropped(self.parts.live.as_ref());
        Ok(())
    }

    /// True if somebody has made the topic again. One that is deleted is not yet.
    pub(super) async fn is_replaced(&self) -> Result<bool, UpError> {
        let found = tokio::time::timeout(ANSWER_MAX, self.parts.log.topic(&self.topic.name)).await;
        let found = found.unwrap_or_else(|waited| Err(LogError::backend("describe a topic in time", waited)))?;
        Ok(found.is_some_and(|found| found.id != self.topic.id))
    }

    /// Ends the work on an incarnation that is gone. What was read of it is archived; views keep its rows.
    ///
    /// # Errors
    /// [`UpError::StillEnding`] if that takes longer than [`END_MAX`]. Nobody else has what was read, so it is to be called again,
    /// and goes on then with what is not archived yet.
    pub(super) async fn end(&self) -> Result<(), UpError> {
        self.end_within(END_MAX).await
    }

    pub(super) async fn end_within(&self, at_most: Duration) -> Result<(), UpError> {
        self.stop.cancel();
        self.stop_batch.cancel();
        // the topic is gone: it only seals what it has
        let sealed = tokio::time::timeout(at_most, self.archiver.flush_own()).await;
        let sealed = sealed.map_err(|_| UpError::StillEnding { dataset: self.dataset.clone(), after: at_most })?;
        if let Err(error) = sealed {
            let (dataset, error) = (&self.dataset, chain(&error));
            tracing::warn!(dataset, error, "the stream's topic was made again: the old one ends here");
        }
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

    /// True if views that nobody here keeps up were not looked at for so long; counts as a look.
    pub(super) fn is_time_for_views(&self, every: Duration) -> bool {
        let mut looked_at = self.views_looked_at.lock().unwrap_or_else(PoisonError::into_inner);
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

    /// Appends values, each to the partition that its key says, with the name of the span that they came from.
    pub(super) async fn append(
        &self,
        values: Vec<Bytes>,
        key: Option<&IdempotencyKey>,
        origin: Option<TraceParent>,
    ) -> Result<Taken, IntakeError> {
        let definition = self.definition();
        let keys = MessageKeys::new(&definition.definition);
        let timestamp_ms = self.parts.ambient.now().timestamp_millis();
        let keys = keys.of_all(&values);
        let records = values.into_iter().zip(keys).map(|(value, key)| Record {
            key,
            value: Some(value),
            headers: Vec::new(),
            timestamp_ms,
        });
        let mut records: Vec<Record> = records.collect();
        if let Some(origin) = origin {
            name_origin(&mut records, origin);
        }
        let records: Vec<Routed> = {
            let mut partitioner = self.partitioner.lock().unwrap_or_else(PoisonError::into_inner);
            records.into_iter().map(|record| Routed { partition: partitioner.next(&record), record }).collect()
        };
        let appended = self.parts.log.append(&self.topic, records, key).await?;
        if !appended.repeated {
            self.parts.metrics.appended(&self.dataset, appended.positions.len());
        }
        let position = |at: &tidemark_shared::log::Position| {
            (LogPartition { source: self.source.clone(), partition: at.partition }, at.offset)
        };
        Ok(Taken { positions: appended.positions.iter().map(position).collect(), repeated: appended.repeated })
    }

    /// The exclusive end of each partition of the log. While the log is away, those that it told last.
    pub(super) async fn log_ends(&self) -> Result<Coverage, AnyError> {
        self.heard().await.map(|(ends, _)| ends)
    }

    /// The ends of the log, and while it is away, when it told them.
    pub(super) async fn heard(&self) -> Result<(Coverage, Option<DateTime<Utc>>), AnyError> {
        let remembered = |heard: &Heard| heard.ends.clone().map(|(ends, at)| (ends, Some(at)));
        {
            let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            if heard.failed.is_some_and(|at| at.elapsed() < ASK_AGAIN)
                && let Some(known) = remembered(&heard)
            {
                return Ok(known);
            }
        }
        let at = self.parts.ambient.now();
        let asked = tokio::time::timeout(ANSWER_MAX, self.parts.log.bounds(&self.topic)).await;
        let asked = asked.unwrap_or_else(|waited| Err(LogError::backend("tell its ends in time", waited)));
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        match asked {
            Ok(bounds) => {
                let partitions = u32::try_from(bounds.len()).unwrap_or(u32::MAX);
                let of = |(number, bounds): (u32, Bounds)| (self.partition(number), bounds.end);
                let ends: Coverage = (0..).zip(bounds).map(of).collect();
                *heard = Heard { ends: Some((ends.clone(), at)), partitions, failed: None };
                Ok((ends, None))
            }
            // Away, deleted, or made again and not taken up yet: what was heard of it last is what is known.
            Err(error) if matches!(error.kind(), Kind::Retryable | Kind::NotFound | Kind::Conflict) => {
                heard.failed = Some(Instant::now());
                remembered(&heard).ok_or_else(|| AnyError::new(error))
            }
            Err(error) => Err(AnyError::new(error)),
        }
    }

    fn partition(&self, number: u32) -> LogPartition {
        LogPartition { source: self.source.clone(), partition: number }
    }

    /// The partitions of the log, as far as it was heard of.
    pub(super) fn known_partitions(&self) -> BTreeSet<u32> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        (0..heard.partitions).collect()
    }
}
