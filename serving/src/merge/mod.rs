//! `batch.<dataset>`, `merged.<dataset>` and `live.<dataset>`: the datasets as a server answers for them.
//!
//! A statement takes one cut per dataset that it names, however often and in whichever layer ([`cut`]); the engine puts
//! the cut's parts together. What decides is in [`decide`], [`generation`] and [`earlier`], and does no I/O.

mod cut;
mod decide;
mod earlier;
mod generation;
mod sources;
mod spans;
mod speed;
mod switch;
#[cfg(test)]
pub(crate) mod tests;
mod versions;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::logical_expr::Expr;
use tidemark_shared::ambient::Ambient;
use tidemark_shared::dataset::KnownDefinitions;
use tidemark_shared::ledger::Ledger;
use tidemark_shared::live::{LiveTable, LiveView};
use tidemark_shared::lock;
use tidemark_shared::position::Coverage;
use tidemark_shared::sql::{
    CutError, DatasetAsOf, DatasetTables, Layer, Limits, OpenedDataset, SqlError, StatementDatasets, Wants,
};
use tidemark_shared::store::Store;
use tokio::sync::OnceCell;
use tokio::time::Instant;

pub(crate) use sources::failure_of_view;
#[cfg(test)]
pub(crate) use sources::view_failed;
pub use speed::SpeedStatus;
pub use versions::{Generations, VersionCache, VersionError, Versions};

use cut::{Cut, LivePart, Times, Wanted};
use sources::Sources;

/// Longest wait for positions, unless the statement's own time limit is shorter.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Datasets as this process serves them.
#[derive(Clone)]
pub struct ServedTables {
    sources: Arc<Sources>,
    wait_max: Duration,
}

impl fmt::Debug for ServedTables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServedTables").field("wait_max", &self.wait_max).finish_non_exhaustive()
    }
}

impl ServedTables {
    /// The datasets in `store`, with their real-time rows in `live`.
    #[must_use]
    pub fn new(
        store: Store,
        versions: Arc<dyn Versions>,
        live: Arc<dyn LiveView>,
        speed: Arc<dyn SpeedStatus>,
        ambient: Arc<dyn Ambient>,
    ) -> Self {
        let (definitions, switches) = (KnownDefinitions::new(store.clone()), Mutex::default());
        let sources = Sources { store, versions, live, speed, ambient, definitions, switches };
        Self { sources: Arc::new(sources), wait_max: WAIT_MAX }
    }

    /// Waits at most so long for the positions that a query asks for.
    #[must_use]
    pub fn with_wait_max(mut self, wait_max: Duration) -> Self {
        self.wait_max = wait_max;
        self
    }
}

impl DatasetTables for ServedTables {
    fn statement(&self, wants: &Wants, limits: Limits) -> Arc<dyn StatementDatasets> {
        // Leaves a tenth of the time for the answer, so that who waits in vain is told how far it got; a last look, which may
        // take longer than usual, has half of that.
        let begun = Instant::now();
        let wait_max = limits.timeout.map_or(self.wait_max, |timeout| self.wait_max.min(timeout / 10 * 9));
        let end = limits.timeout.and_then(|timeout| begun.checked_add(timeout / 20 * 19));
        let (sources, wants) = (Arc::clone(&self.sources), wants.clone());
        let times = Times { begun, until: begun + wait_max, end };
        Arc::new(Statement { sources, wants, times, cuts: Mutex::default() })
    }
}

/// A cut, once it is taken.
type Slot = Arc<OnceCell<Option<Cut>>>;

/// The cuts of one statement.
struct Statement {
    sources: Arc<Sources>,
    wants: Wants,
    /// Of all its datasets together.
    times: Times,
    cuts: Mutex<BTreeMap<String, Slot>>,
}

impl fmt::Debug for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Statement").field("wants", &self.wants).finish_non_exhaustive()
    }
}

#[async_trait]
impl StatementDatasets for Statement {
    async fn open(&self, layer: Layer, dataset: &str) -> Result<Option<OpenedDataset>, SqlError> {
        let failed = |source| SqlError::Cut { dataset: dataset.to_owned(), source };
        let slot = {
            let mut cuts = lock(&self.cuts);
            Arc::clone(cuts.entry(dataset.to_owned()).or_default())
        };
        let at_least = self.at_least(dataset);
        let again = self.wants.positions.contains_key(dataset);
        let wanted = Wanted { layer, at_least: at_least.as_ref(), again, times: self.times };
        let cut = || spans::traced(dataset, layer, self.cut(dataset, wanted));
        let taken = slot.get_or_try_init(cut);
        let Some(cut) = Box::pin(taken).await.map_err(failed)? else { return Ok(None) };
        self.layer(layer, dataset, cut, at_least.as_ref()).await.map(Some).map_err(failed)
    }
}

impl Statement {
    /// The dataset as it is now; of one that was applied a moment ago, as soon as its stream is open.
    async fn cut(&self, dataset: &str, wanted: Wanted<'_>) -> Result<Option<Cut>, CutError> {
        let taken = self.sources.cut(dataset, wanted).await?;
        if taken.is_some() {
            return Ok(taken);
        }
        let opens = self.sources.speed.opens(dataset);
        match tokio::time::timeout_at(self.times.until, opens).await {
            Ok(true) => self.sources.cut(dataset, wanted).await,
            Ok(false) | Err(_) => Ok(None),
        }
    }

    /// What the dataset's cut must cover: what is asked for, and what an earlier answer covered.
    fn at_least(&self, dataset: &str) -> Option<Coverage> {
        let (asked, earlier) = (self.wants.at_least.get(dataset), self.wants.positions.get(dataset));
        let mut both = asked.or(earlier)?.clone();
        for (partition, end) in earlier.into_iter().flat_map(Coverage::iter) {
            if both.end(partition) < end {
                both.set(partition.clone(), end);
            }
        }
        Some(both)
    }

    async fn layer(
        &self,
        layer: Layer,
        dataset: &str,
        cut: &Cut,
        at_least: Option<&Coverage>,
    ) -> Result<OpenedDataset, CutError> {
        let live: Option<&LivePart> = match (layer, &cut.live) {
            (Layer::Batch, _) | (_, None) => None,
            (_, Some(live)) => Some(live.as_ref().map_err(Clone::clone)?),
        };
        if let (Layer::Live, Some(earlier)) = (layer, self.wants.positions.get(dataset)) {
            let reason = format!("what of it `live.{dataset}` shows depends on what was curated at the time");
            return Err(CutError::PositionsGone { positions: earlier.clone(), reason });
        }
        let positions = cut.covered_by(layer);
        if let Some(wanted) = at_least.filter(|wanted| !positions.includes(wanted)) {
            let (wanted, reached) = (wanted.clone(), positions.clone());
            return Err(CutError::NotReached { wanted, reached, waited_ms: 0 });
        }
        let earlier = self.wants.positions.get(dataset).filter(|earlier| *earlier != positions);
        let only = match earlier {
            Some(earlier) => Some(self.only_at(dataset, cut, earlier).await?),
            None => None,
        };
        let version = cut.curated.version();
        let mut parts: Vec<Arc<dyn TableProvider>> = Vec::new();
        if layer != Layer::Live {
            parts.push(Arc::clone(&cut.curated) as Arc<dyn TableProvider>);
        }
        if let Some(live) = live.filter(|live| !live.split.live.is_empty()) {
            parts.push(Arc::new(LiveTable::new(dataset, Arc::clone(&live.pin), live.split.live.clone())));
        }
        let curated = layer != Layer::Live;
        Ok(OpenedDataset {
            schema: cut.curated.schema(),
            parts,
            only,
            key: cut.definition.key.clone(),
            as_of: self.as_of(dataset, cut, earlier.unwrap_or(positions)).await?,
            files: if curated { version.files.len() as u64 } else { 0 },
            bytes: if curated { version.bytes() } else { 0 },
            rows_batch: if curated { version.rows().unwrap_or(0) } else { 0 },
            rows_live: live.map_or(Some(0), LivePart::rows),
        })
    }

    /// The condition on rows that counted at the positions of an earlier answer.
    async fn only_at(&self, dataset: &str, cut: &Cut, earlier: &Coverage) -> Result<Expr, CutError> {
        let version = cut.curated.version();
        let (files, covered) = (earlier.files_end(), version.coverage.files_end());
        let mut others = std::collections::BTreeSet::new();
        if files < covered {
            let ledger = Ledger::new(self.sources.store.clone(), dataset).state().await.map_err(CutError::failed)?;
            others = earlier::files_not_counted(&ledger, files, covered).map_err(|file| {
                let reason = format!("file {file} was withdrawn or replaced since");
                CutError::PositionsGone { positions: earlier.clone(), reason }
            })?;
        }
        Ok(earlier::below(earlier, &others))
    }

    async fn as_of(&self, dataset: &str, cut: &Cut, positions: &Coverage) -> Result<DatasetAsOf, CutError> {
        let mut as_of = DatasetAsOf::from(cut.curated.version().as_ref());
        as_of.positions = positions.clone();
        as_of.at = Some(cut.at);
        let Some(log_end) = &cut.log_end else {
            // Without a stream nothing is in a log that is not in the answer.
            as_of.age_ms = Some(0);
            return Ok(as_of);
        };
        let told = |error| CutError::Failed(Arc::new(error));
        let (speed, limit) = (&self.sources.speed, self.wants.staleness_max);
        let oldest = match log_end {
            Ok(_) => speed.oldest_beyond(dataset, positions).await.map_err(told),
            Err(error) => Err(error.clone()),
        };
        match oldest {
            Ok(oldest) => {
                let age_ms =
                    oldest.map_or(0, |oldest| u64::try_from((cut.at - oldest).num_milliseconds()).unwrap_or(0));
                let limit_ms = limit.map(|max| u64::try_from(max.as_millis()).unwrap_or(u64::MAX));
                if let Some(limit_ms) = limit_ms.filter(|limit_ms| age_ms > *limit_ms) {
                    return Err(CutError::TooStale { age_ms, limit_ms });
                }
                as_of.age_ms = Some(age_ms);
            }
            // While nobody can tell how far the log is, an answer has no age; one whose age matters is refused.
            Err(error) if limit.is_some() => return Err(error),
            Err(_) => {}
        }
        as_of.log_end = log_end.as_ref().ok().cloned();
        let mut lost = decide::together(std::mem::take(&mut as_of.lost), speed.lost(dataset).await.map_err(told)?);
        if let Some(Ok(live)) = &cut.live {
            lost = decide::together(lost, live.pin.lost());
        }
        as_of.lost = decide::lost_below(lost, positions);
        Ok(as_of)
    }
}
