//! One partition's way into the archive, a step at a time.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tidemark_shared::error::{ErrorKind as _, chain};
use tidemark_shared::lock;
use tidemark_shared::log::{Fetched, LogError, OffsetRecord, Retention, check_partition};
use tidemark_shared::position::LogPartition;
use tidemark_shared::segment::{PutSegment, Segment};
use tidemark_shared::telemetry::{self, SPANS};
use tracing::field::Empty;
use tracing::{Instrument as _, info_span};

use super::{Archiver, ArchiverError, ArchiverStep, Gathered, Seal, seal};
use crate::retry::may_heal;

/// What is known of a partition between steps. All of it can be found again.
#[derive(Debug, Default)]
pub(super) struct Partition {
    /// The exclusive end of the archive, once the store was asked.
    pub(super) archived: Option<u64>,
    /// The exclusive end of what was read from the log; not below `archived`.
    pub(super) next: u64,
    /// Records of `[archived, next)`.
    records: Vec<OffsetRecord>,
    bytes: usize,
    /// How many of them are among those of all partitions.
    counted: usize,
    /// When the first offset of them was read.
    since: Option<DateTime<Utc>>,
    /// Up to where the archive is known to be durable, and its log's records may go.
    durable: u64,
    /// When the log was to let go of what is archived last, where it did not.
    kept_at: Option<DateTime<Utc>>,
}

impl Partition {
    /// Forgets what lies below `end`, the archive's new end.
    pub(super) fn archived_to(&mut self, end: u64, now: DateTime<Utc>) {
        self.archived = Some(end);
        self.records.drain(..self.records.partition_point(|read| read.offset < end));
        self.bytes = self.records.iter().map(|read| read.record.bytes()).sum();
        self.next = self.next.max(end);
        self.since = (self.next > end).then_some(now);
    }

    /// Knows nothing any more.
    fn forget(&mut self) {
        *self = Self { counted: self.counted, ..Self::default() };
    }

    /// What was gathered and is not archived yet.
    pub(super) fn range(&self) -> Range<u64> {
        self.archived.unwrap_or(self.next)..self.next
    }
}

impl Archiver {
    /// A step; with `asked`, what lies below it is sealed whatever its size and age.
    pub(super) async fn step_until(&self, number: u32, asked: Option<u64>) -> Result<ArchiverStep, ArchiverError> {
        let slot = self.partition(number);
        let mut partition = slot.lock().await;
        let name = self.log_partition(number);
        let stopped = |reason| ArchiverError::Stopped { partition: name.clone(), reason };
        let outcome = self.troubles.attempt(&name, self.go_on(number, &mut partition, asked), stopped).await;
        self.count(&mut partition);
        outcome
    }

    /// Goes on from where the archive ends, which it finds first where that is not known.
    async fn go_on(
        &self,
        number: u32,
        partition: &mut Partition,
        asked: Option<u64>,
    ) -> Result<ArchiverStep, ArchiverError> {
        if partition.archived.is_none() {
            self.find_end(number, partition).await?;
        }
        self.advance(number, partition, asked).await
    }

    /// Asks the store how far the partition is archived; lets its archive begin, if it is new.
    async fn find_end(&self, number: u32, partition: &mut Partition) -> Result<(), ArchiverError> {
        let name = self.log_partition(number);
        let end = match self.archive.end(&name, 0).await? {
            Some(end) => {
                // An older build began it, or one that was killed before it said that all have begun.
                if number == 0 && self.is_first() && !self.archive.has_begun(&self.source).await? {
                    let _origin = self.begin(number).await?;
                }
                end
            }
            None => {
                let origin = self.begin(number).await?;
                self.archive.end(&name, origin).await?.unwrap_or(origin)
            }
        };
        partition.archived_to(end, self.ambient.now());
        self.set_archived(number, end);
        Ok(())
    }

    /// Lets the archive of a partition begin; tells where it does.
    ///
    /// Where the dataset comes to a topic for the first time, that is where the log begins: what was there before is none of
    /// its own. All partitions that have let go of records begin at once then, and that is marked, so that whoever comes later
    /// sees that they have. A partition that is new since, or one of a topic that was made again, had its first record while
    /// the dataset followed it: it begins at 0, and what has left the log is lost. Older builds marked nothing: where one began,
    /// all begin where the log does until there is a mark.
    async fn begin(&self, number: u32) -> Result<u64, ArchiverError> {
        let bounds = self.log.bounds(&self.topic).await?;
        self.saw(&bounds);
        let count = u32::try_from(bounds.len()).unwrap_or(u32::MAX);
        check_partition(&self.topic, number, count)?;
        if !self.is_first() || self.archive.has_begun(&self.source).await? {
            return Ok(self.archive.begin(&self.log_partition(number), 0).await?);
        }
        let mut origin = 0;
        for (other, bounds) in (0..count).zip(&bounds) {
            if bounds.start > 0 || other == number {
                let begins = self.archive.begin(&self.log_partition(other), bounds.start).await?;
                origin = if other == number { begins } else { origin };
            }
        }
        self.archive.mark_begun(&self.source).await?;
        Ok(origin)
    }

    /// True for the topic's first incarnation: `orders`, not `orders~2`.
    fn is_first(&self) -> bool {
        self.source.as_str() == self.topic.name.as_str()
    }

    async fn advance(
        &self,
        number: u32,
        partition: &mut Partition,
        asked: Option<u64>,
    ) -> Result<ArchiverStep, ArchiverError> {
        let asked_for = |partition: &Partition| asked.is_some_and(|end| partition.next >= end);
        // Before anything is read: what a failed put left over is not read over its size.
        if let Some(reason) = self.due(partition, asked_for(partition), false) {
            return self.put(number, partition, reason).await;
        }
        let read = match self.log.read(&self.topic, number, partition.next, self.settings.read).await {
            Ok(read) => read,
            Err(LogError::Gone { start, .. }) if partition.range().is_empty() => {
                return self.put_lost(number, partition, start).await;
            }
            // the rest of them has left the log, or the topic is gone: nobody else has what was gathered
            Err(LogError::Gone { .. } | LogError::Missing { .. } | LogError::Replaced { .. })
                if !partition.range().is_empty() =>
            {
                let reason = self.due(partition, true, true).unwrap_or(Seal::CutOff);
                return self.put(number, partition, reason).await;
            }
            Err(LogError::BeyondEnd { from, end, .. }) => {
                let partition = self.log_partition(number);
                return Err(ArchiverError::LogBehind { partition, archived: from, log_end: end });
            }
            Err(error) => return Err(error.into()),
        };
        self.saw_end(number, read.bounds.end);
        let records = self.gather(partition, read);
        if let Some(reason) = self.due(partition, asked_for(partition), false) {
            return self.put(number, partition, reason).await;
        }
        match records {
            Some(records) => Ok(ArchiverStep::Gathered(records)),
            None => {
                self.let_log_go_again(number, partition).await?;
                Ok(ArchiverStep::Idle { due_in: self.due_in(partition) })
            }
        }
    }

    /// Takes in what was read; `None` if that is nothing.
    fn gather(&self, partition: &mut Partition, read: Fetched) -> Option<usize> {
        if read.next == partition.next {
            return None;
        }
        let count = read.records.len();
        partition.bytes += read.records.iter().map(|read| read.record.bytes()).sum::<usize>();
        partition.records.extend(read.records);
        partition.next = read.next;
        partition.since.get_or_insert_with(|| self.ambient.now());
        Some(count)
    }

    fn due(&self, partition: &Partition, asked: bool, cut_off: bool) -> Option<Seal> {
        let range = partition.range();
        let gathered = Gathered {
            offsets: range.end - range.start,
            records: partition.records.len(),
            bytes: partition.bytes,
            bytes_of_all: self.gathered_bytes().max(partition.bytes),
            age: self.age(partition),
            asked,
            cut_off,
        };
        seal(&gathered, &self.settings)
    }

    fn age(&self, partition: &Partition) -> Duration {
        let since = partition.since.map(|since| self.ambient.now().signed_duration_since(since));
        since.and_then(|age| age.to_std().ok()).unwrap_or_default()
    }

    fn due_in(&self, partition: &Partition) -> Option<Duration> {
        partition.since?;
        Some(self.settings.segment_age_max.saturating_sub(self.age(partition)))
    }

    /// Puts what was gathered as a segment, and lets the log drop it if it is to.
    async fn put(&self, number: u32, partition: &mut Partition, reason: Seal) -> Result<ArchiverStep, ArchiverError> {
        let step = self.put_gathered(number, partition, reason).await?;
        if matches!(step, ArchiverStep::Sealed(..)) {
            self.let_log_go(number, partition).await?;
        }
        Ok(step)
    }

    /// Lets the log drop what is archived. That it does not keeps nothing from the archive: some brokers never do, as where it is
    /// not allowed. That the archive is damaged, which is found on the way, ends the work on the partition.
    async fn let_log_go(&self, number: u32, partition: &mut Partition) -> Result<(), ArchiverError> {
        match self.retain(number, partition).await {
            Err(error) if !may_heal(error.kind()) => Err(error),
            let_go => {
                self.note_kept(number, partition, let_go.err());
                Ok(())
            }
        }
    }

    /// Does so again where the log did not, every so often: the next segment may be long in coming.
    async fn let_log_go_again(&self, number: u32, partition: &mut Partition) -> Result<(), ArchiverError> {
        let Some(at) = partition.kept_at else { return Ok(()) };
        // A clock that was set back says nothing of how long ago that was.
        let ago = self.ambient.now().signed_duration_since(at).to_std();
        if ago.is_ok_and(|ago| ago < self.settings.partitions_refresh) {
            return Ok(());
        }
        self.let_log_go(number, partition).await
    }

    /// Puts what was gathered as a segment (H1). The log is not asked.
    pub(super) async fn put_gathered(
        &self,
        number: u32,
        partition: &mut Partition,
        reason: Seal,
    ) -> Result<ArchiverStep, ArchiverError> {
        let range = partition.range();
        let span = info_span!(
            target: SPANS,
            parent: None,
            "archive.segment",
            tidemark.dataset = self.archive.dataset(),
            tidemark.partition = %self.log_partition(number),
            tidemark.offset.start = telemetry::number(range.start),
            tidemark.offset.end = telemetry::number(range.end),
            tidemark.records = telemetry::number(partition.records.len()),
            tidemark.bytes = telemetry::number(partition.bytes),
            tidemark.reason = ?reason,
            error.type = Empty,
            otel.status_code = Empty,
        );
        let segment = Segment::new(range.clone(), partition.records.clone());
        let put = self.put_segment(number, partition, &segment).instrument(span.clone()).await;
        match &put {
            Ok(None) => {}
            Ok(Some(_)) => telemetry::failed(&span, "followed"),
            Err(_) => telemetry::failed(&span, "failed"),
        }
        Ok(put?.map_or(ArchiverStep::Sealed(range, reason), ArchiverStep::Followed))
    }

    /// Says in the archive that the log has let go of what comes next.
    async fn put_lost(
        &self,
        number: u32,
        partition: &mut Partition,
        start: u64,
    ) -> Result<ArchiverStep, ArchiverError> {
        let (name, known) = (self.log_partition(number), partition.next);
        // Others may have archived on long ago, and it was packed since: then nothing is under the key where they began.
        if let Some(end) = self.archive.end(&name, known).await?.filter(|end| *end > known) {
            // Or an earlier attempt put it, and had no answer. Then nobody has told.
            let lost = self.archive.lost_at(&name, known).await?;
            partition.archived_to(end, self.ambient.now());
            self.set_archived(number, end);
            return Ok(lost.map_or(ArchiverStep::Followed(end), |lost| told_lost(&name, lost)));
        }
        let range = known..start;
        if let Some(end) = self.put_segment(number, partition, &Segment::lost(range.clone())).await? {
            return Ok(ArchiverStep::Followed(end));
        }
        Ok(told_lost(&name, range))
    }

    /// Puts a segment at the archive's end. If another archiver was first, tells where that one's ends.
    async fn put_segment(
        &self,
        number: u32,
        partition: &mut Partition,
        segment: &Segment,
    ) -> Result<Option<u64>, ArchiverError> {
        let outcome = self.archive.put(&self.log_partition(number), segment).await?;
        let (end, followed) = match outcome {
            PutSegment::Created => (segment.header.range.end, None),
            PutSegment::Exists(winner) => (winner.range.end, Some(winner.range.end)),
            PutSegment::Passed(end) => (end, Some(end)),
        };
        partition.archived_to(end, self.ambient.now());
        self.set_archived(number, end);
        Ok(followed)
    }

    /// Asks the store again how far a partition is archived that others work on, too.
    pub(super) async fn look_again(&self, number: u32) -> Result<(), ArchiverError> {
        let slot = self.partition(number);
        let mut partition = slot.lock().await;
        let Some(known) = partition.archived else { return Ok(()) };
        if let Some(end) = self.archive.end(&self.log_partition(number), known).await? {
            partition.archived_to(end, self.ambient.now());
            self.set_archived(number, end);
        }
        self.count(&mut partition);
        Ok(())
    }

    /// Leaves what was gathered of a partition to others, who read it again; not where the log has it no more.
    pub(super) async fn let_go(&self, number: u32) {
        let slot = self.partition(number);
        let mut partition = slot.lock().await;
        if self.is_gone.load(Ordering::Relaxed) && !partition.range().is_empty() {
            return;
        }
        partition.forget();
        self.troubles.forget(&self.log_partition(number));
        if let Some(known) = lock(&self.known).get_mut(&self.log_partition(number)) {
            known.kept = None;
        }
        self.count(&mut partition);
    }

    /// Takes note of how much a partition holds now. A step that was dropped is counted by the next one.
    pub(super) fn count(&self, partition: &mut Partition) {
        self.gathered.fetch_add(partition.bytes, Ordering::Relaxed);
        self.gathered.fetch_sub(partition.counted, Ordering::Relaxed);
        partition.counted = partition.bytes;
    }

    pub(super) fn set_archived(&self, number: u32, end: u64) {
        lock(&self.known).entry(self.log_partition(number)).or_default().archived = Some(end);
    }

    /// Takes note of why the log keeps what is archived, if it was to let go of it and did not. A log that refuses does so again
    /// and again, for all partitions: that is told now and then.
    fn note_kept(&self, number: u32, partition: &mut Partition, error: Option<ArchiverError>) {
        let (name, now) = (self.log_partition(number), self.ambient.now());
        let kept = error.map(|error| format!("the log keeps what is archived: {}", chain(&error)));
        if let Some(error) = kept.as_deref().filter(|error| self.said.is_news(error, now)) {
            tracing::warn!(partition = %name, error, "archiving goes on; the log is to let go again later");
        }
        // What others archive, they let go of. Nobody here would come to know that they did.
        let kept = kept.filter(|_| self.owns(number));
        partition.kept_at = kept.is_some().then_some(now);
        lock(&self.known).entry(name).or_default().kept = kept;
    }

    /// Lets the log drop what is archived, if it is to drop anything; only what a power cut can't take back.
    async fn retain(&self, number: u32, partition: &mut Partition) -> Result<(), ArchiverError> {
        let Some(end) = partition.archived.filter(|_| self.settings.retention != Retention::default()) else {
            return Ok(());
        };
        let name = self.log_partition(number);
        if partition.durable < end {
            // Segments of an earlier process, or of others, may not be durable: all that the log still has counts.
            let bounds = self.log.bounds(&self.topic).await?;
            let start = bounds.get(number as usize).map_or(0, |bounds| bounds.start);
            let origin = self.archive.origin(&name).await?.unwrap_or(0);
            self.archive.sync(&name, partition.durable.max(start).max(origin), end).await?;
            partition.durable = end;
        }
        let _bounds = self.log.retain(&self.topic, number, &self.settings.retention, end).await?;
        Ok(())
    }
}

fn told_lost(partition: &LogPartition, range: Range<u64>) -> ArchiverStep {
    tracing::error!(%partition, start = range.start, end = range.end, "records left the log before they were archived");
    ArchiverStep::Lost(range)
}
