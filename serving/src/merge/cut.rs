//! One moment of one dataset: a curated version, then a pin of the same generation's view (H5, H6).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tidemark_shared::curated::{CuratedTable, CurrentGeneration};
use tidemark_shared::dataset::Definition;
use tidemark_shared::error::{AnyError, ErrorKind};
use tidemark_shared::live::LivePin;
use tidemark_shared::position::{Coverage, LogPartition, Source};
use tidemark_shared::sql::{CutError, Layer};
use tokio::time::{Instant, timeout, timeout_at};

use super::decide::{Split, split};
use super::generation::Admitted;
use super::sources::{Sources, failed, view_failed, view_id};
use super::switch::Chosen;

/// How often a version is read again because the view has dropped rows above it; each time a newer one must be there.
const ATTEMPTS_MAX: u32 = 5;
/// Longest wait for positions before the dataset is looked at anew: another generation may answer by then.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Pause between two looks whether the curated table covers what is waited for. Every batch of real-time rows is a change,
/// too, and would ask the store for nothing.
const COVERAGE_AGAIN: Duration = Duration::from_millis(100);

/// When a statement waits for positions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// From when on.
    pub(super) begun: Instant,
    /// Until when.
    pub(super) until: Instant,
    /// When a look for them that is under way is given up, and it is told how far it got: before the statement's time is over.
    pub(super) end: Option<Instant>,
}

/// What a cut must be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// The layer that is asked for first.
    pub(super) layer: Layer,
    /// What it must cover.
    pub(super) at_least: Option<&'a Coverage>,
    /// True if an earlier answer is to be given again, whatever was answered since.
    pub(super) again: bool,
    /// For how long it is waited for.
    pub(super) times: Times,
}

/// The real-time part of a cut.
#[derive(Debug)]
pub(super) struct LivePart {
    pub(super) pin: Arc<dyn LivePin>,
    pub(super) split: Split,
}

impl LivePart {
    /// Rows above the coverage, where the pin knows. Nobody is asked for them: a statement does not wait for a figure.
    pub(super) fn rows(&self) -> Option<u64> {
        self.pin.rows(&self.split.live)
    }
}

/// One moment of one dataset.
#[derive(Debug)]
pub(super) struct Cut {
    pub(super) at: DateTime<Utc>,
    pub(super) definition: Arc<Definition>,
    pub(super) curated: Arc<CuratedTable>,
    /// `None` for a dataset without a stream. What is curated answers for itself even where there is an error.
    pub(super) live: Option<Result<LivePart, CutError>>,
    /// Likewise.
    pub(super) log_end: Option<Result<Coverage, CutError>>,
}

impl Cut {
    pub(super) fn coverage(&self) -> &Coverage {
        &self.curated.version().coverage
    }

    /// What curated and real-time rows cover together; only the coverage, where there is no real-time part.
    pub(super) fn positions(&self) -> &Coverage {
        match &self.live {
            Some(Ok(live)) => &live.split.positions,
            Some(Err(_)) | None => self.coverage(),
        }
    }

    /// The partitions that the dataset has or had.
    fn partitions(&self) -> impl Iterator<Item = &LogPartition> {
        let log = self.log_end.iter().flatten().flat_map(Coverage::iter).map(|(partition, _)| partition);
        let covered = self.positions().iter().map(|(partition, _)| partition);
        log.chain(covered).collect::<BTreeSet<_>>().into_iter()
    }

    /// A partition of `wanted` that there is none of; only where the log says what it has. The ledger of files is always
    /// there.
    fn without_partition<'a>(&self, wanted: &'a Coverage) -> Option<&'a LogPartition> {
        if matches!(self.log_end, Some(Err(_))) {
            return None;
        }
        let known: BTreeSet<&LogPartition> = self.partitions().collect();
        let mut named = wanted.iter().filter(|(_, end)| *end > 0).map(|(partition, _)| partition);
        named.find(|partition| partition.source != Source::files() && !known.contains(partition))
    }

    /// True if `layer` has a real-time part as soon as the view has come as far as answers were.
    fn comes_soon(&self, layer: Layer) -> bool {
        layer != Layer::Batch && matches!(self.live, Some(Err(CutError::ViewBehind { .. })))
    }

    /// What a layer's table covers at this moment.
    pub(super) fn covered_by(&self, layer: Layer) -> &Coverage {
        if layer == Layer::Batch { self.coverage() } else { self.positions() }
    }
}

fn told(error: AnyError) -> CutError {
    CutError::Failed(Arc::new(error))
}

/// What is told where the wait ends; for how long it went on, [`waited`] adds.
fn not_reached(wanted: &Coverage, reached: Coverage) -> CutError {
    CutError::NotReached { wanted: wanted.clone(), reached, waited_ms: 0 }
}

fn waited(error: CutError, begun: Instant) -> CutError {
    match error {
        CutError::NotReached { wanted, reached, .. } => {
            let waited_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            CutError::NotReached { wanted, reached, waited_ms }
        }
        error => error,
    }
}

impl Sources {
    /// The dataset as it is now, or as soon as it is as `wanted`. `None` if nothing was curated of it yet.
    pub(super) async fn cut(&self, dataset: &str, wanted: Wanted<'_>) -> Result<Option<Cut>, CutError> {
        let Wanted { layer, at_least, again, times: Times { begun, until, end } } = wanted;
        let nothing = Coverage::new();
        let mut so_far = at_least.map(|wanted| not_reached(wanted, nothing.clone()));
        loop {
            let mut changes = self.speed.changes();
            changes.mark_unchanged();
            let attempt = self.attempt(dataset, again);
            let attempted = match (end, so_far.take()) {
                // Under load a look takes long, and the end of the statement's time would tell nothing of positions.
                (Some(end), Some(so_far)) => {
                    timeout_at(end, attempt).await.unwrap_or_else(|_| Err(waited(so_far, begun)))
                }
                _ => attempt.await,
            };
            let Some(cut) = attempted? else { return Ok(None) };
            let lacks = at_least.filter(|wanted| !cut.covered_by(layer).includes(wanted));
            if lacks.is_none() && !cut.comes_soon(layer) {
                return Ok(Some(cut));
            }
            let wanted = lacks.unwrap_or(&nothing);
            if let Some(partition) = cut.without_partition(wanted) {
                let known = cut.partitions().cloned().collect();
                return Err(CutError::UnknownPartition { partition: partition.clone(), known });
            }
            let reached = cut.covered_by(layer).clone();
            let short = match cut.live {
                Some(Err(error)) if layer != Layer::Batch => error,
                _ => not_reached(wanted, reached),
            };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(waited(short, begun));
            }
            so_far = Some(short);
            // What nobody tells (a sender that is gone) is looked for all the same.
            let waiting = async {
                if layer == Layer::Batch || changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            let look_again = if layer == Layer::Batch { COVERAGE_AGAIN } else { LOOK_AGAIN };
            let _woken = timeout(left.min(look_again), waiting).await;
        }
    }

    async fn attempt(&self, dataset: &str, again: bool) -> Result<Option<Cut>, CutError> {
        if !self.speed.has_stream(dataset) {
            let pointers = self.versions.pointers(dataset).await.map_err(failed)?;
            let Some((_, generation)) = pointers.first() else { return Ok(None) };
            let at = self.ambient.now();
            let curated = self.versions.newest(dataset, generation).await.map_err(failed)?;
            let definition = self.definition(dataset, &generation.definition).await?;
            return Ok(Some(Cut { at, definition, curated, live: None, log_end: None }));
        }
        let mut attempt = 0;
        loop {
            attempt += 1;
            let Some(Chosen { n, generation, view }) = self.generation(dataset).await? else { return Ok(None) };
            let has_view = matches!(view, Ok(true));
            let at = self.ambient.now();
            // H5: the coverage first, then the visible positions.
            let curated = self.versions.newest(dataset, &generation).await.map_err(failed)?;
            let name = || generation.generation.clone();
            let mut live = match view {
                Ok(true) => self.live_part(dataset, &generation, &curated).await,
                Ok(false) => Err(CutError::NoView { generation: name() }),
                Err(error) => Err(error),
            };
            // H9: who asks for an earlier answer is not given what came since, and may be told it by any generation.
            let positions = live.as_ref().ok().filter(|_| !again).map(|live| &live.split.positions);
            let admitted = positions.map_or(Admitted::Yes, |positions| self.admit(dataset, n, positions));
            if admitted != Admitted::Yes {
                live = Err(CutError::ViewBehind { generation: name() });
            }
            // A floor above the coverage means that a newer version is there; a view that went, that another generation
            // answers now. Either way: look again.
            let has_moved = matches!(live, Err(CutError::RealtimeGap { .. } | CutError::NoView { .. }));
            if (has_moved || admitted == Admitted::Overtaken) && has_view && attempt < ATTEMPTS_MAX {
                continue;
            }
            let definition = self.definition(dataset, &generation.definition).await?;
            let log_end = Some(self.speed.log_ends(dataset).await.map_err(told));
            return Ok(Some(Cut { at, definition, curated, live: Some(live), log_end }));
        }
    }

    async fn live_part(
        &self,
        dataset: &str,
        generation: &CurrentGeneration,
        curated: &CuratedTable,
    ) -> Result<LivePart, CutError> {
        let pin = self.live.pin(&view_id(dataset, generation)).await.map_err(view_failed)?;
        let pin = pin.ok_or_else(|| CutError::NoView { generation: generation.generation.clone() })?;
        // H6: floors and rows are of one pin.
        let split = split(&curated.version().coverage, pin.ranges())?;
        Ok(LivePart { pin, split })
    }

    async fn definition(&self, dataset: &str, version: &str) -> Result<Arc<Definition>, CutError> {
        let known = self.definitions.get(dataset, version).await.map_err(failed)?;
        known.ok_or_else(|| failed(NoDefinition { dataset: dataset.to_owned(), version: version.to_owned() }))
    }
}

/// A generation without the definition that made it.
#[derive(Debug, thiserror::Error)]
#[error("dataset `{dataset}` has no definition of version {version}, which made its table")]
struct NoDefinition {
    dataset: String,
    version: String,
}

impl ErrorKind for NoDefinition {
    fn kind(&self) -> tidemark_shared::error::Kind {
        tidemark_shared::error::Kind::Corrupt
    }
}
