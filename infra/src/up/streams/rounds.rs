//! The loop that looks at all datasets. Each has rounds of its own, one at a time, so that a dataset whose topic or view does not
//! answer delays only itself: the views of all others would fill up meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use tidemark_shared::dataset::registry;
use tidemark_shared::error::chain;
use tidemark_shared::write;
use tidemark_speed::keep::Kept;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::keeping::keep;
use super::{Found, Streams};
use crate::up::UpError;
use crate::up::task_name::{TaskKind, TaskName};

/// Longest time between two looks at pointers and coverage, a request each. Work of this process is seen at once.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// Datasets that are looked at side by side. Where so many do not answer, it is the servers of all.
const SIDE_BY_SIDE_MAX: usize = 16;
/// Pause of a dataset whose round panicked: a defect does not go by itself.
const AFTER_PANIC: Duration = Duration::from_secs(10);

/// One dataset's rounds.
struct Rounds {
    /// What the last round left for the next one; `None` while one is under way.
    kept: Option<Kept>,
    /// Holds one round at most. Dropped with the loop, and the round with it.
    under_way: JoinSet<Kept>,
    /// True if the next round is to look at definition and topic, too.
    definition: bool,
    /// No round begins before.
    not_before: Option<Instant>,
}

impl Rounds {
    fn new(grace: Duration) -> Self {
        Self { kept: Some(Kept::new(grace)), under_way: JoinSet::new(), definition: false, not_before: None }
    }

    /// What a round is to begin with, if none is under way or paused for.
    fn idle(&mut self, streams: &Streams, dataset: &str) -> Option<Kept> {
        match self.under_way.try_join_next() {
            Some(Ok(kept)) => self.kept = Some(kept),
            Some(Err(error)) => {
                tracing::error!(dataset, %error, "a look at the dataset panicked");
                streams.parts.tasks.fails(&TaskName::of(TaskKind::Keeper, dataset), format!("it panicked: {error}"));
                let not_before = Some(Instant::now() + AFTER_PANIC);
                *self = Self { not_before, definition: true, ..Self::new(streams.parts.grace) };
            }
            None => {}
        }
        if self.not_before.is_some_and(|at| Instant::now() < at) {
            return None;
        }
        // One without a stream has nothing to be kept.
        if !self.definition && streams.get(dataset).is_none() {
            return None;
        }
        self.kept.take()
    }
}

impl Streams {
    /// Looks at pointers and coverage, and at definitions every `definitions_interval`, until it is stopped; tells of
    /// streams that are new.
    pub(in crate::up) async fn run(
        self: &Arc<Self>,
        definitions_interval: Duration,
        found: &Found,
    ) -> Result<(), UpError> {
        let mut all: BTreeMap<String, Rounds> = BTreeMap::new();
        let side_by_side = Arc::new(Semaphore::new(SIDE_BY_SIDE_MAX));
        let stop = self.parts.stop_speed.clone();
        let mut discovered: Option<Instant> = None;
        while !stop.is_cancelled() {
            let asked = self.look_at_definitions.swap(false, Ordering::Relaxed);
            if asked || discovered.is_none_or(|at| at.elapsed() >= definitions_interval) {
                for dataset in self.datasets().await {
                    all.entry(dataset).or_insert_with(|| Rounds::new(self.parts.grace)).definition = true;
                }
                discovered = Some(Instant::now());
            }
            for (dataset, rounds) in &mut all {
                let Some(kept) = rounds.idle(self, dataset) else { continue };
                let definition = std::mem::take(&mut rounds.definition);
                let (streams, dataset, found) = (Arc::clone(self), dataset.clone(), Arc::clone(found));
                let side_by_side = Arc::clone(&side_by_side);
                let _handle = rounds.under_way.spawn(async move {
                    let _turn = side_by_side.acquire().await.expect("nobody closes the semaphore");
                    streams.round(&dataset, definition, kept, &found).await
                });
            }
            let pause = LOOK_AGAIN.min(definitions_interval);
            let waited = tokio::time::timeout(pause, self.look.notified());
            let _woken = stop.run_until_cancelled(waited).await;
        }
        // Whoever waits for this finds nothing at work any more.
        for mut rounds in all.into_values() {
            rounds.under_way.shutdown().await;
        }
        Ok(())
    }

    /// The datasets to look at. Where they can't be listed, those whose streams are open go on: their rows are dropped, their
    /// views retired.
    async fn datasets(&self) -> Vec<String> {
        let name = TaskName::of_process(TaskKind::Definitions);
        match registry::list(&self.parts.store).await {
            Ok(datasets) => {
                self.parts.tasks.works(&name);
                datasets
            }
            Err(error) => {
                let error = chain(&error);
                if self.parts.tasks.is_news(&name, &error) {
                    tracing::warn!(error, "definitions can't be looked at");
                }
                self.parts.tasks.fails(&name, error);
                self.all().iter().map(|stream| stream.dataset.clone()).collect()
            }
        }
    }

    /// One look at a dataset, its steps in turn: its definition, its topic, its views.
    async fn round(&self, dataset: &str, definition: bool, mut kept: Kept, found: &Found) -> Kept {
        if definition {
            Box::pin(self.take_up(dataset, &mut kept, found)).await;
            Box::pin(self.renew(dataset, &mut kept, found)).await;
        }
        let Some(stream) = self.get(dataset) else { return kept };
        let name = TaskName::of(TaskKind::Keeper, dataset);
        match keep(&self.parts, &stream, &mut kept).await {
            Ok(()) => self.parts.tasks.works(&name),
            Err(error) => {
                let error = chain(&error);
                if self.parts.tasks.is_news(&name, &error) {
                    tracing::warn!(dataset, error, "looking again");
                }
                self.parts.tasks.fails(&name, error);
            }
        }
        kept
    }

    /// Opens the streams of the datasets that there are, and hands each to `found` once it is open. One dataset's failure keeps no
    /// other from its stream, and is tried again at the next look. Costs a listing of the datasets, and a request for each that
    /// is known.
    ///
    /// # Errors
    /// If the datasets can't be listed.
    pub(in crate::up) async fn discover(&self, found: &Found) -> Result<(), UpError> {
        let datasets = registry::list(&self.parts.store).await?;
        let looks: Vec<_> = datasets.iter().map(|dataset| Box::pin(self.first_look(dataset, found))).collect();
        futures::stream::iter(looks).for_each_concurrent(SIDE_BY_SIDE_MAX, |look| look).await;
        write(&self.declared).get_or_insert_default();
        Ok(())
    }

    async fn first_look(&self, dataset: &str, found: &Found) {
        self.take_up(dataset, &mut Kept::new(self.parts.grace), found).await;
    }
}
