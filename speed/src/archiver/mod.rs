//! The archiver: log → segments of the raw zone (H1).
//!
//! How far a partition is archived is read from the store alone; nothing else is remembered (H10). Two archivers may work
//! on one topic: whoever loses a put goes on where the winner ended. Where several are to share the work, each has the
//! partitions of its [`Share`]; that one goes on with what others have had for long makes nothing wrong.

mod ending;
mod error;
mod partition;
mod run;
mod seal;

pub use error::ArchiverError;
pub use seal::{Gathered, Seal, seal};

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Serialize;
use tidemark_shared::ambient::Ambient;
use tidemark_shared::lock;
use tidemark_shared::log::{Bounds, Log, Partitions, ReadLimits, Retention, Topic};
use tidemark_shared::position::{Coverage, LogPartition, Source};
use tidemark_shared::segment::Archive;

use crate::trouble::{Said, Trouble, Troubles};
use partition::Partition;

/// How an [`Archiver`] behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchiverSettings {
    /// Bytes of records at which a segment is sealed.
    pub segment_bytes_max: usize,
    /// Records at which a segment is sealed.
    pub segment_records_max: usize,
    /// How long a record waits at most before its segment is sealed.
    pub segment_age_max: Duration,
    /// Bytes of records that are held for all partitions together before smaller segments are sealed.
    pub memory_bytes_max: usize,
    /// Bounds of one read of the log.
    pub read: ReadLimits,
    /// What the log keeps beyond what is not archived yet. With the default nothing leaves the log.
    pub retention: Retention,
    /// Longest time between two looks at how many partitions the topic has; and between two attempts to have a log let go of what
    /// is archived that did not.
    pub partitions_refresh: Duration,
}

impl Default for ArchiverSettings {
    /// Segments of 8 MiB, 100,000 records or 10 seconds; 64 MiB in memory; the log keeps everything.
    fn default() -> Self {
        Self {
            segment_bytes_max: 8 << 20,
            segment_records_max: 100_000,
            segment_age_max: Duration::from_secs(10),
            memory_bytes_max: 64 << 20,
            read: ReadLimits { records_max: 20_000, bytes_max: 4 << 20 },
            retention: Retention::default(),
            partitions_refresh: Duration::from_secs(10),
        }
    }
}

/// What a step did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArchiverStep {
    /// There is nothing to do before there are more records, or before the gathered ones are old enough.
    Idle {
        /// When that is, from now on, if any were gathered.
        due_in: Option<Duration>,
    },
    /// It read so many records, and no segment is due yet.
    Gathered(usize),
    /// It put a segment of these offsets.
    Sealed(Range<u64>, Seal),
    /// It put a segment that says that these offsets are lost.
    Lost(Range<u64>),
    /// Another archiver was first: it goes on from here.
    Followed(u64),
}

/// How far a partition is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ArchiverStatus {
    /// The exclusive end of what is archived, as far as it is known.
    pub archived: Option<u64>,
    /// Segments that this archiver has put.
    pub segments: u64,
    /// Offsets that left the log before they were archived, as far as this archiver met them.
    pub lost: Vec<Range<u64>>,
    /// What keeps the partition from going on; or, while nothing does, the log from letting go of what is archived.
    pub trouble: Option<Trouble>,
}

/// What is known of how far a partition is, beside what keeps it from going on.
#[derive(Debug, Default)]
struct Known {
    archived: Option<u64>,
    segments: u64,
    lost: Vec<Range<u64>>,
    /// Why the log did not let go of what is archived when it was to last.
    kept: Option<String>,
}

/// Archives one incarnation of a topic for a dataset.
pub struct Archiver {
    log: Arc<dyn Log>,
    archive: Archive,
    ambient: Arc<dyn Ambient>,
    topic: Topic,
    source: Source,
    settings: ArchiverSettings,
    partitions: Mutex<BTreeMap<u32, Arc<tokio::sync::Mutex<Partition>>>>,
    known: Mutex<BTreeMap<LogPartition, Known>>,
    troubles: Troubles,
    /// What was said of a log that keeps what is archived.
    said: Said,
    /// Bytes gathered for all partitions together.
    gathered: AtomicUsize,
    /// Those that nobody else is to archive.
    own: Mutex<Partitions>,
    /// How far partitions of the log were seen to reach.
    seen: Mutex<BTreeMap<u32, u64>>,
    /// True while the log says that the topic is gone.
    is_gone: AtomicBool,
}

impl Archiver {
    /// An archiver of `topic`. Enters the topic's incarnation among the dataset's sources, if it is new.
    ///
    /// # Errors
    /// [`ArchiverError::Archive`].
    pub async fn open(
        log: Arc<dyn Log>,
        archive: Archive,
        topic: Topic,
        ambient: Arc<dyn Ambient>,
        settings: ArchiverSettings,
    ) -> Result<Self, ArchiverError> {
        let source = archive.source(&topic).await?.source;
        let (partitions, known, troubles) = (Mutex::default(), Mutex::default(), Troubles::new("archiving".to_owned()));
        let (gathered, own, said) = (AtomicUsize::new(0), Mutex::new(Partitions::All), Said::default());
        let (seen, is_gone) = (Mutex::default(), AtomicBool::new(false));
        Ok(Self {
            log,
            archive,
            ambient,
            topic,
            source,
            settings,
            partitions,
            known,
            troubles,
            said,
            gathered,
            own,
            seen,
            is_gone,
        })
    }

    /// Leaves partitions to other archivers: what was gathered of them is theirs to read again, but where the topic is gone.
    /// [`Archiver::run`] does so by its share; one that does not run owns all, or what it is told here.
    pub async fn own(&self, partitions: Partitions) {
        *lock(&self.own) = partitions;
        self.let_go_of_others().await;
    }

    /// True if nobody else is to archive the partition.
    #[must_use]
    pub fn owns(&self, partition: u32) -> bool {
        lock(&self.own).has(partition)
    }

    /// Asks the store how far those of the topic's `count` partitions are that others archive, so that [`Archiver::status`]
    /// tells it. The log itself is not asked.
    ///
    /// # Errors
    /// [`ArchiverError`].
    pub async fn look_at_others(&self, count: u32) -> Result<(), ArchiverError> {
        for number in (0..count).filter(|number| !self.owns(*number)) {
            let name = self.log_partition(number);
            let known = lock(&self.known).get(&name).and_then(|known| known.archived);
            if let Some(end) = self.archive.end(&name, known.unwrap_or(0)).await? {
                self.set_archived(number, end);
            }
        }
        Ok(())
    }

    /// Takes note of offsets that are lost with an earlier incarnation of the topic, whose archive says so, as if this one had
    /// met them: [`Self::status`] tells them from now on.
    pub fn met_lost(&self, partition: &LogPartition, lost: Range<u64>) {
        let mut all = lock(&self.known);
        let known = all.entry(partition.clone()).or_default();
        known.archived = known.archived.max(Some(lost.end));
        known.lost.push(lost);
    }

    /// The source that the topic's incarnation is.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Reads once from the log and seals at most one segment of a partition. Dropping the call leaves nothing undone
    /// that the next one does not do.
    ///
    /// # Errors
    /// [`ArchiverError`]. After one that nothing heals, as [`ArchiverError::LogBehind`], the partition stays stopped.
    pub async fn step(&self, partition: u32) -> Result<ArchiverStep, ArchiverError> {
        let outcome = self.step_until(partition, None).await;
        self.note(partition, outcome)
    }

    /// Archives everything that is in the log now, whoever owns it, and tells how far the archive reaches.
    ///
    /// # Errors
    /// [`ArchiverError`] of the first partition that could not be archived; the others are. Where the topic is gone, what was
    /// gathered of it is archived first.
    pub async fn flush(&self) -> Result<Coverage, ArchiverError> {
        self.flush_those(|_| true).await
    }

    /// Like [`Archiver::flush`], of the partitions that this archiver owns.
    ///
    /// # Errors
    /// Those of [`Archiver::flush`].
    pub async fn flush_own(&self) -> Result<Coverage, ArchiverError> {
        self.flush_those(|partition| self.owns(partition)).await
    }

    async fn flush_those(&self, wanted: impl Fn(u32) -> bool) -> Result<Coverage, ArchiverError> {
        let (mut archived, mut failure) = (Coverage::new(), None);
        let bounds = match self.log.bounds(&self.topic).await {
            Ok(bounds) => bounds,
            Err(error) => {
                let error = error.into();
                if self.notes_gone(&error) {
                    self.seal_gathered().await?;
                }
                return Err(error);
            }
        };
        self.saw(&bounds);
        for (partition, bounds) in (0..).zip(bounds).filter(|(partition, _)| wanted(*partition)) {
            match self.flush_partition(partition, bounds.end).await {
                Ok(end) => archived.set(self.log_partition(partition), end),
                Err(error) => drop(failure.get_or_insert(error)),
            }
        }
        failure.map_or(Ok(archived), Err)
    }

    async fn flush_partition(&self, partition: u32, to: u64) -> Result<u64, ArchiverError> {
        if !self.owns(partition) {
            // what others put since is not read and put again
            self.look_again(partition).await?;
        }
        loop {
            if let Some(end) = self.known_end(partition).await.filter(|end| *end >= to) {
                return Ok(end);
            }
            let outcome = self.step_until(partition, Some(to)).await;
            let _done = self.note(partition, outcome)?;
        }
    }

    /// How far each partition is that was looked at.
    #[must_use]
    pub fn status(&self) -> BTreeMap<LogPartition, ArchiverStatus> {
        let status = |(partition, known): (&LogPartition, &Known)| {
            let kept = || known.kept.clone().map(|error| Trouble { error, stopped: false });
            let (archived, segments, lost) = (known.archived, known.segments, known.lost.clone());
            let trouble = self.troubles.of(partition).or_else(kept);
            (partition.clone(), ArchiverStatus { archived, segments, lost, trouble })
        };
        lock(&self.known).iter().map(status).collect()
    }

    /// Takes note of how far the log reaches: see [`Self::seen`].
    pub fn saw(&self, bounds: &[Bounds]) {
        for (partition, bounds) in (0..).zip(bounds) {
            self.saw_end(partition, bounds.end);
        }
    }

    fn saw_end(&self, partition: u32, end: u64) {
        let mut seen = lock(&self.seen);
        let known = seen.entry(partition).or_default();
        *known = end.max(*known);
    }

    fn log_partition(&self, partition: u32) -> LogPartition {
        LogPartition { source: self.source.clone(), partition }
    }

    fn partition(&self, partition: u32) -> Arc<tokio::sync::Mutex<Partition>> {
        let mut partitions = lock(&self.partitions);
        Arc::clone(partitions.entry(partition).or_default())
    }

    async fn known_end(&self, partition: u32) -> Option<u64> {
        self.partition(partition).lock().await.archived
    }

    /// Takes note of what a step came to.
    fn note(
        &self,
        partition: u32,
        outcome: Result<ArchiverStep, ArchiverError>,
    ) -> Result<ArchiverStep, ArchiverError> {
        let partition = self.log_partition(partition);
        self.troubles.note(&partition, &outcome);
        let mut all = lock(&self.known);
        let known = all.entry(partition).or_default();
        match &outcome {
            Ok(ArchiverStep::Lost(range)) => known.lost.push(range.clone()),
            Ok(ArchiverStep::Sealed(..)) => known.segments += 1,
            Ok(_) | Err(_) => {}
        }
        outcome
    }

    fn gathered_bytes(&self) -> usize {
        self.gathered.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Archiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Archiver").field("topic", &self.topic).field("source", &self.source).finish_non_exhaustive()
    }
}
