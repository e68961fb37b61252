//! The indexer of one view: log → decode → transform → real-time view.
//!
//! Where it goes on is what the view itself says (H10). What the log has already let go of is read from the archive's
//! segments; a hole that nobody fills is an error that names it, never passed over. Several indexers may keep one view up, each
//! the partitions of its [`Share`](tidemark_shared::log::Share): where one of them goes on with a partition, the view says, too.

mod error;
mod partition;
mod run;
mod source;
mod spans;

pub use error::IndexerError;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::thread::available_parallelism;
use std::time::Duration;

use serde::Serialize;
use tidemark_shared::ambient::Ambient;
use tidemark_shared::counts::Totals;
use tidemark_shared::live::{LiveView, ViewId};
use tidemark_shared::lock;
use tidemark_shared::log::{Log, Partitions, ReadLimits, Topic};
use tidemark_shared::position::{Coverage, LogPartition, Source};
use tidemark_shared::rows::StreamRows;
use tidemark_shared::segment::Archive;
use tidemark_shared::telemetry::Traces;
use tokio::sync::Notify;

use crate::freshness::{Ages, Freshness};
use crate::pressure::Pressure;
use crate::trouble::{Trouble, Troubles};
use partition::Partition;

/// How an [`Indexer`] behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexerSettings {
    /// Bounds of a batch while the partition is behind.
    pub behind: ReadLimits,
    /// Most records of a batch once it has caught up: the first of them waits for the last.
    pub fresh_records_max: usize,
    /// Bytes of records from which on decoding leaves the runtime's threads.
    pub inline_bytes_max: usize,
    /// Batches that are made at the same time, of different partitions: while one waits for the view, another is made.
    pub parallel: usize,
    /// Longest time between two looks at how many partitions the topic has.
    pub partitions_refresh: Duration,
}

impl Default for IndexerSettings {
    /// 20,000 records or 4 MiB when behind, 2,000 records when not; as many side by side as there are processors, and two at
    /// least.
    fn default() -> Self {
        Self {
            behind: ReadLimits { records_max: 20_000, bytes_max: 4 << 20 },
            fresh_records_max: 2_000,
            inline_bytes_max: 64 << 10,
            parallel: available_parallelism().map_or(1, usize::from).max(2),
            partitions_refresh: Duration::from_secs(10),
        }
    }
}

impl IndexerSettings {
    /// Bounds of the next read of a partition that lags by so many offsets.
    #[must_use]
    pub fn limits(&self, lag: u64) -> ReadLimits {
        let fresh = self.fresh_records_max as u64;
        let records_max = if lag > fresh.saturating_mul(2) { self.behind.records_max } else { self.fresh_records_max };
        ReadLimits { records_max, ..self.behind }
    }
}

/// What an [`Indexer`] works on.
#[derive(Clone)]
pub struct IndexerParts {
    /// The log.
    pub log: Arc<dyn Log>,
    /// The incarnation of the topic that feeds the dataset.
    pub topic: Topic,
    /// The dataset's archived streams.
    pub archive: Archive,
    /// Where rows go.
    pub live: Arc<dyn LiveView>,
    /// Which view of it.
    pub view: ViewId,
    /// The generation's own definition, compiled.
    pub rows: Arc<StreamRows>,
    /// Time and chance.
    pub ambient: Arc<dyn Ambient>,
    /// Where the views' fill is told.
    pub pressure: Arc<Pressure>,
    /// Where batches say which spans their records came from.
    pub traces: Arc<dyn Traces>,
}

/// What a step did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IndexerStep {
    /// All that there is, is visible.
    Idle,
    /// So many records of these offsets became visible rows, rejects, or nothing.
    Applied(Range<u64>, usize),
    /// The view has no room; the batch is kept for the next step.
    Full,
}

/// How far a partition is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct IndexerStatus {
    /// Where the log ends, as far as whoever asked knows, or what is visible does; an earlier incarnation of the topic has none.
    pub log_end: u64,
    /// The visible position.
    pub visible: u64,
    /// Offsets between the two.
    pub lag: u64,
    /// Age of the newest visible record if there is a lag, in milliseconds; 0 otherwise.
    pub lag_ms: u64,
    /// What keeps it from going on.
    pub trouble: Option<Trouble>,
    /// True if this indexer keeps it up.
    pub own: bool,
}

/// How far a view is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ViewStatus {
    /// By partition (`trips/0`).
    pub partitions: BTreeMap<String, IndexerStatus>,
    /// Ages of records when they became visible, over the last minute.
    pub freshness: Freshness,
    /// What the records became that this indexer has made visible.
    pub totals: Totals,
}

/// Keeps one view up with the log.
pub struct Indexer {
    parts: IndexerParts,
    settings: IndexerSettings,
    source: Source,
    coverage: Coverage,
    partitions: Mutex<BTreeMap<LogPartition, Arc<tokio::sync::Mutex<Partition>>>>,
    /// Those that it works on, from where the view is.
    resumed: Mutex<BTreeSet<LogPartition>>,
    /// Those of earlier incarnations that the next look begins on again.
    to_read: Mutex<BTreeSet<LogPartition>>,
    troubles: Troubles,
    newest_ms: Mutex<BTreeMap<LogPartition, i64>>,
    /// Told when a view stands further back than a partition that may be waiting for more.
    stepped_back: Notify,
    ages: Mutex<Ages>,
    totals: Mutex<Totals>,
}

impl Indexer {
    /// Opens the view, or finds it as it is, with the partitions of the log and of the archive; those that are new to it
    /// begin at `coverage`, that of the generation's table.
    ///
    /// # Errors
    /// [`IndexerError`].
    pub async fn open(
        parts: IndexerParts,
        coverage: Coverage,
        settings: IndexerSettings,
    ) -> Result<Self, IndexerError> {
        let source = parts.archive.source(&parts.topic).await?.source;
        let troubles = Troubles::new(format!("indexing of {}", parts.view));
        let indexer = Self {
            parts,
            settings,
            source,
            coverage,
            partitions: Mutex::default(),
            resumed: Mutex::default(),
            to_read: Mutex::default(),
            troubles,
            newest_ms: Mutex::default(),
            stepped_back: Notify::new(),
            ages: Mutex::default(),
            totals: Mutex::default(),
        };
        let mut known = Vec::new();
        for source in indexer.parts.archive.sources().await? {
            known.extend(indexer.parts.archive.partitions(&source.source).await?);
        }
        let _none = indexer.open_partitions(known).await?;
        indexer.open_log_partitions().await?;
        Ok(indexer)
    }

    /// The view.
    #[must_use]
    pub fn view(&self) -> &ViewId {
        &self.parts.view
    }

    /// The partitions that it keeps up.
    #[must_use]
    pub fn partitions(&self) -> Vec<LogPartition> {
        lock(&self.partitions).keys().cloned().collect()
    }

    /// True if the partition is this indexer's, by its share of the topic's: earlier incarnations of the topic go with partition 0.
    fn owns(&self, share: &Partitions, partition: &LogPartition) -> bool {
        share.has(if partition.source == self.source { partition.partition } else { 0 })
    }

    /// True if it works on all the partitions of its share that it knows of.
    #[must_use]
    pub fn has_resumed(&self, share: &Partitions) -> bool {
        let resumed = lock(&self.resumed);
        self.partitions().iter().all(|partition| !self.owns(share, partition) || resumed.contains(partition))
    }

    /// Has a partition of an earlier incarnation of the topic read on, whose archive is further than its end was: [`Self::run`]
    /// begins on it at its next look. Of the topic itself, the log tells.
    pub fn read_on(&self, partition: &LogPartition) {
        lock(&self.to_read).insert(partition.clone());
    }

    /// Opens the view with all partitions that are kept up: one that was lost is made anew, and what stands further back than
    /// it did is read again. Tells which do.
    pub(crate) async fn reopen(&self) -> Result<Vec<LogPartition>, IndexerError> {
        self.open_partitions(self.partitions()).await
    }

    /// Takes up the partitions that the topic has got since; tells which.
    pub(crate) async fn open_log_partitions(&self) -> Result<Vec<LogPartition>, IndexerError> {
        let count = self.parts.log.bounds(&self.parts.topic).await?.len();
        let all = (0..u32::try_from(count).unwrap_or(u32::MAX))
            .map(|partition| LogPartition { source: self.source.clone(), partition });
        let new: Vec<LogPartition> = {
            let known = lock(&self.partitions);
            all.filter(|partition| !known.contains_key(partition)).collect()
        };
        if new.is_empty() {
            return Ok(new);
        }
        let _none = self.open_partitions(new.clone()).await?;
        Ok(new)
    }

    async fn open_partitions(&self, partitions: Vec<LogPartition>) -> Result<Vec<LogPartition>, IndexerError> {
        let floors = partitions.iter().map(|partition| (partition.clone(), self.coverage.end(partition))).collect();
        let IndexerParts { live, view, rows, .. } = &self.parts;
        live.open(view, rows.schema(), &floors).await?;
        let visible = self.visible().await?;
        let mut stepped_back = Vec::new();
        for partition in partitions {
            let next = visible.end(&partition);
            let state = Arc::new(tokio::sync::Mutex::new(Partition::at(next)));
            let slot =
                Arc::clone(lock(&self.partitions).entry(partition.clone()).or_insert_with(|| Arc::clone(&state)));
            if Arc::ptr_eq(&slot, &state) {
                continue;
            }
            let mut known = slot.lock().await;
            // A step may have moved both meanwhile: looked at again while there is none.
            if next < known.next && self.visible().await?.end(&partition) < known.next {
                tracing::warn!(view = %self.parts.view, %partition, from = next, "the view has lost rows: reading again");
                known.step_to(next);
                self.stepped_back.notify_waiters();
                stepped_back.push(partition);
            }
        }
        Ok(stepped_back)
    }

    /// The view's visible positions.
    async fn visible(&self) -> Result<Coverage, IndexerError> {
        let IndexerParts { live, view, .. } = &self.parts;
        let pin = live.pin(view).await?.ok_or_else(|| IndexerError::ViewGone { view: view.clone() })?;
        Ok(pin.ranges().iter().map(|(partition, live)| (partition.clone(), live.visible)).collect())
    }

    /// Reads, makes and applies one batch of a partition. Dropping the call leaves nothing undone that the next one does
    /// not do.
    ///
    /// # Errors
    /// [`IndexerError`]. After one that nothing heals, as [`IndexerError::LogBehind`], the partition stays stopped.
    pub async fn step(&self, partition: &LogPartition) -> Result<IndexerStep, IndexerError> {
        let outcome = self.step_inner(partition).await;
        self.troubles.note(partition, &outcome);
        outcome
    }

    /// How far the view is now, where the log ends at `ends`: the log itself is not asked.
    ///
    /// # Errors
    /// [`IndexerError`].
    pub async fn status(&self, ends: &Coverage) -> Result<ViewStatus, IndexerError> {
        let visible = self.visible().await?;
        let now = self.parts.ambient.now();
        let mut partitions = BTreeMap::new();
        for partition in self.partitions() {
            let visible = visible.end(&partition);
            let log_end = ends.end(&partition).max(visible);
            let lag = log_end - visible;
            let newest = lock(&self.newest_ms).get(&partition).copied().filter(|_| lag > 0);
            let lag_ms = newest.map_or(0, |newest| u64::try_from(now.timestamp_millis() - newest).unwrap_or(0));
            let status = IndexerStatus {
                log_end,
                visible,
                lag,
                lag_ms,
                trouble: self.troubles.of(&partition),
                own: lock(&self.resumed).contains(&partition),
            };
            partitions.insert(partition.to_string(), status);
        }
        Ok(ViewStatus { partitions, freshness: lock(&self.ages).freshness(now), totals: *lock(&self.totals) })
    }
}

impl fmt::Debug for Indexer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Indexer").field("view", &self.parts.view).field("source", &self.source).finish_non_exhaustive()
    }
}
