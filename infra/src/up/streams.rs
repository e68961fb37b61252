//! Keeps the speed layer in step with what was applied and curated: a stream for every dataset that has one, an indexer
//! for every generation that may answer, and no row in a view that the curated table has long had.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use tidemark_serving::merge::keep::{Keep, Kept, Plan, StreamTask, plan, stream_task};
use tidemark_shared::dataset::registry::{self, Registered};
use tidemark_shared::error::chain;
use tidemark_shared::live::{LivePin, ViewId};
use tokio::sync::Notify;

use super::UpError;
use super::parts::Parts;
use super::stream::Stream;
use crate::config::Role;

/// Longest time between two looks at pointers and coverage, a request each. Work of this process is seen at once.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// Time between two looks at views that nobody here keeps up.
const LOOK_AT_VIEWS: Duration = Duration::from_secs(10);

/// All streams of the process.
pub(super) struct Streams {
    parts: Parts,
    all: RwLock<BTreeMap<String, Arc<Stream>>>,
    /// What is known of definitions: the newest number, and whether it has a stream. `None` before the first look.
    declared: RwLock<Option<BTreeMap<String, Declared>>>,
    look: Notify,
    /// Told when a stream is there that was not.
    opened: Notify,
    /// True if the next look is to be at definitions, too.
    look_at_definitions: AtomicBool,
}

/// What a dataset's newest definition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Declared {
    n: Option<u64>,
    /// True also where the definition can't be read: then no answer is better than one without the stream.
    stream: bool,
}

impl Streams {
    pub(super) fn new(parts: Parts) -> Self {
        Self {
            parts,
            all: RwLock::default(),
            declared: RwLock::default(),
            look: Notify::new(),
            opened: Notify::new(),
            look_at_definitions: AtomicBool::new(false),
        }
    }

    pub(super) fn get(&self, dataset: &str) -> Option<Arc<Stream>> {
        self.all.read().unwrap_or_else(PoisonError::into_inner).get(dataset).cloned()
    }

    /// A dataset's stream once it is open; `None` if it is not `within` this time.
    pub(super) async fn opened(&self, dataset: &str, within: Duration) -> Option<Arc<Stream>> {
        let opened = async {
            loop {
                let mut next = std::pin::pin!(self.opened.notified());
                // Before the look, so that none is missed between the two.
                next.as_mut().enable();
                match self.get(dataset) {
                    Some(stream) => return stream,
                    None => next.await,
                }
            }
        };
        tokio::time::timeout(within, opened).await.ok()
    }

    pub(super) fn all(&self) -> Vec<Arc<Stream>> {
        self.all.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// True if the dataset has a stream, whether or not it is open yet; true for all before the first look.
    pub(super) fn declares(&self, dataset: &str) -> bool {
        match &*self.declared.read().unwrap_or_else(PoisonError::into_inner) {
            None => true,
            Some(declared) => declared.get(dataset).is_some_and(|declared| declared.stream),
        }
    }

    /// The datasets that there are, as far as they were looked at.
    pub(super) fn known(&self) -> Vec<String> {
        let declared = self.declared.read().unwrap_or_else(PoisonError::into_inner);
        declared.iter().flat_map(BTreeMap::keys).cloned().collect()
    }

    fn declared(&self, dataset: &str) -> Option<Declared> {
        self.declared.read().unwrap_or_else(PoisonError::into_inner).as_ref()?.get(dataset).copied()
    }

    fn declare(&self, dataset: &str, declared: Declared) {
        let mut all = self.declared.write().unwrap_or_else(PoisonError::into_inner);
        all.get_or_insert_default().insert(dataset.to_owned(), declared);
    }

    /// Asks for a look at pointers and coverage now.
    pub(super) fn look_now(&self) {
        self.look.notify_one();
    }

    /// Asks for a look at definitions now: somebody has met one that is not taken up yet.
    pub(super) fn look_at_definitions(&self) {
        self.look_at_definitions.store(true, Ordering::Relaxed);
        self.look.notify_one();
    }

    /// Looks at pointers and coverage, and at definitions every `definitions_interval`, until it is stopped; tells of
    /// streams that are new.
    pub(super) async fn run(
        &self,
        definitions_interval: Duration,
        found: &(dyn Fn(Arc<Stream>) -> BoxFuture<'static, ()> + Send + Sync),
    ) -> Result<(), UpError> {
        let mut all_kept: BTreeMap<String, Kept> = BTreeMap::new();
        let stop = self.parts.stop_speed.clone();
        let mut discovered: Option<Instant> = None;
        while !stop.is_cancelled() {
            let asked = self.look_at_definitions.swap(false, Ordering::Relaxed);
            if asked || discovered.is_none_or(|at| at.elapsed() >= definitions_interval) {
                match self.discover(found).await {
                    Ok(()) => self.parts.tasks.works("definitions"),
                    // The streams that are known go on: their rows are dropped, their views retired.
                    Err(error) => {
                        tracing::warn!(error = %chain(&error), "definitions can't be looked at");
                        self.parts.tasks.fails("definitions", chain(&error));
                    }
                }
                self.renew(found).await;
                discovered = Some(Instant::now());
            }
            for stream in self.all() {
                let kept = all_kept.entry(stream.dataset.clone()).or_insert_with(|| Kept::new(self.parts.grace));
                let name = format!("keeper {}", stream.dataset);
                match self.keep(&stream, kept).await {
                    Ok(()) => self.parts.tasks.works(&name),
                    Err(error) => {
                        tracing::warn!(dataset = stream.dataset, error = %chain(&error), "looking again");
                        self.parts.tasks.fails(&name, chain(&error));
                    }
                }
            }
            let pause = LOOK_AGAIN.min(definitions_interval);
            let waited = tokio::time::timeout(pause, self.look.notified());
            let _woken = stop.run_until_cancelled(waited).await;
        }
        Ok(())
    }

    /// Opens the streams of datasets that were applied since, and hands each to `found` once it is open. One dataset's failure
    /// keeps no other from its stream, and is tried again at the next look. Costs a listing of the datasets, and a request
    /// for each that is known.
    ///
    /// # Errors
    /// If the datasets can't be listed.
    pub(super) async fn discover(
        &self,
        found: &(dyn Fn(Arc<Stream>) -> BoxFuture<'static, ()> + Send + Sync),
    ) -> Result<(), UpError> {
        let datasets = registry::list(&self.parts.store).await?;
        for dataset in &datasets {
            let name = format!("stream {dataset}");
            match self.look_at(dataset).await {
                Ok(new) => {
                    self.parts.tasks.works(&name);
                    if let Some(stream) = new {
                        found(stream).await;
                    }
                }
                Err(error) => {
                    tracing::error!(dataset, error = %chain(&error), "the dataset's stream is not taken up");
                    self.parts.tasks.fails(&name, chain(&error));
                }
            }
        }
        self.declared.write().unwrap_or_else(PoisonError::into_inner).get_or_insert_default();
        Ok(())
    }

    /// Looks whether topics were made again: the stream of one goes on with the new incarnation, whose offsets begin anew under
    /// a name of their own, and the old one ends where it was read to. A topic that is deleted is waited for; what works on
    /// it says so meanwhile.
    pub(super) async fn renew(&self, found: &(dyn Fn(Arc<Stream>) -> BoxFuture<'static, ()> + Send + Sync)) {
        for old in self.all() {
            let dataset = &old.dataset;
            match self.renewed(&old).await {
                Ok(None) => {}
                Ok(Some(stream)) => {
                    tracing::error!(dataset, source = %stream.source, "the stream's topic was made again");
                    found(stream).await;
                }
                Err(error) => {
                    let error = chain(&error);
                    tracing::warn!(dataset, error, "whether the stream's topic is the same could not be told");
                    self.parts.tasks.fails(&format!("stream {dataset}"), error);
                }
            }
        }
    }

    async fn renewed(&self, old: &Arc<Stream>) -> Result<Option<Arc<Stream>>, UpError> {
        if !old.is_replaced().await? {
            return Ok(None);
        }
        old.end().await;
        let stream = Arc::new(Stream::open(&self.parts, Registered::clone(&old.definition())).await?);
        self.keep(&stream, &mut Kept::new(self.parts.grace)).await?;
        stream.join().await?;
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(old.dataset.clone(), Arc::clone(&stream));
        Ok(Some(stream))
    }

    /// Takes up a dataset's newest definition; its stream, if that is new.
    async fn look_at(&self, dataset: &str) -> Result<Option<Arc<Stream>>, UpError> {
        let before = self.declared(dataset);
        if let Some(Declared { n: Some(n), .. }) = before
            && !registry::is_there(&self.parts.store, dataset, n + 1).await?
        {
            return Ok(None);
        }
        let known = self.get(dataset);
        let read = registry::latest(&self.parts.store, dataset).await;
        // Until it is open, and where it can't be read, a stream is there and has no answer; a dataset without one answers
        // while it is looked at.
        let unsure = match &read {
            Ok(applied) => applied.as_ref().is_some_and(|applied| applied.definition.stream.is_some()),
            Err(_) => true,
        };
        if before.is_none() && unsure {
            self.declare(dataset, Declared { n: None, stream: true });
        }
        let Some(applied) = read? else { return Ok(None) };
        let task = stream_task(applied.definition.stream.as_ref(), known.as_ref().map(|known| &known.topic));
        let now = Declared { n: Some(applied.n), stream: task != StreamTask::Nothing };
        let new = match (task, known) {
            (StreamTask::Open, _) => Some(self.open(applied).await?),
            (StreamTask::GoOn | StreamTask::GoOnUntilRestart, Some(known)) => {
                self.redefine(&known, applied, task);
                None
            }
            (_, _) => None,
        };
        self.declare(dataset, now);
        Ok(new)
    }

    /// Opens the stream of a dataset that has none here.
    async fn open(&self, applied: Registered) -> Result<Arc<Stream>, UpError> {
        let stream = Arc::new(Stream::open(&self.parts, applied).await?);
        // Without a generation nothing could answer, nor without its view.
        self.parts.batch.ensure_generation(&stream.dataset).await?;
        self.keep(&stream, &mut Kept::new(self.parts.grace)).await?;
        stream.join().await?;
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(stream.dataset.clone(), Arc::clone(&stream));
        drop(all);
        self.opened.notify_waiters();
        Ok(stream)
    }

    /// Has an open stream go on by a newer definition.
    fn redefine(&self, stream: &Stream, applied: Registered, task: StreamTask) {
        let (dataset, name) = (&stream.dataset, format!("definition {}", stream.dataset));
        if task == StreamTask::GoOnUntilRestart {
            let text = "its `[stream]` names another topic or more partitions: that takes effect after a restart";
            tracing::warn!(dataset, "{text}");
            self.parts.tasks.fails(&name, text.to_owned());
        } else {
            self.parts.tasks.works(&name);
        }
        *stream.definition.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(applied);
    }

    /// Brings one dataset's indexers and views in step with its generations.
    pub(super) async fn keep(&self, stream: &Arc<Stream>, kept: &mut Kept) -> Result<(), UpError> {
        if !self.parts.roles.has(Role::Indexer) {
            return Ok(());
        }
        let pointers = self.parts.versions.pointers(&stream.dataset).await?;
        let indexers: BTreeSet<String> = stream.all_indexers().into_iter().map(|(generation, _)| generation).collect();
        let Some(plan) = plan(&pointers, &indexers) else { return Ok(()) };
        for keep in &plan.keep {
            self.keep_generation(stream, keep, kept).await?;
        }
        let now = self.parts.ambient.now();
        self.retire(stream, &plan, kept, now).await
    }

    async fn keep_generation(&self, stream: &Arc<Stream>, keep: &Keep, kept: &mut Kept) -> Result<(), UpError> {
        let generation = &keep.generation;
        let table = self.parts.versions.newest(&stream.dataset, generation).await?;
        let coverage = table.version().coverage.clone();
        let name = &generation.generation;
        if keep.opens {
            let running = stream.open_indexer(generation, coverage.clone()).await?;
            let (indexer, share, stop) = (running.indexer, running.share, running.stop);
            let task = format!("indexer {} {name}", stream.dataset);
            let work = {
                let stop = stop.clone();
                move || {
                    let (indexer, share, stop) = (Arc::clone(&indexer), share.clone(), stop.clone());
                    async move { indexer.run(&share, &stop).await.map_err(|error| chain(&error)) }
                }
            };
            self.parts.tasks.spawn(task, stop, work).await;
        }
        let looked = kept.looked(name, &coverage, self.parts.ambient.now());
        if looked.moved {
            self.parts.has_moved();
        }
        if let Some(drop_below) = looked.drop_below {
            let before = self.parts.live.usage();
            self.parts.live.drop_below(&stream.view(name), &drop_below).await?;
            // Who waits for room is woken only by room.
            if self.parts.live.usage().bytes < before.bytes {
                self.parts.pressure.dropped(self.parts.live.as_ref());
            }
        }
        Ok(())
    }

    /// Lets generations go that answer no more. Whoever keeps a view up lets it go himself; views that nobody here keeps up are
    /// looked at by one process, now and then.
    async fn retire(
        &self,
        stream: &Arc<Stream>,
        plan: &Plan,
        kept: &mut Kept,
        now: DateTime<Utc>,
    ) -> Result<(), UpError> {
        let Some(ahead) = self.parts.live.pin(&stream.view(&plan.newest)).await? else { return Ok(()) };
        for generation in &plan.retire {
            if self.goes(&ahead, &stream.view(generation), kept, now).await? {
                stream.close_indexer(generation).await?;
                kept.gone(generation);
            }
        }
        if !stream.clears_up(&plan.newest) || !stream.is_time_for_views(LOOK_AT_VIEWS) {
            return Ok(());
        }
        for view in plan.left_behind(&stream.dataset, self.parts.live.views().await?) {
            if self.goes(&ahead, &view, kept, now).await? {
                self.parts.live.close(&view).await?;
                kept.gone(&view.generation);
                tracing::info!(%view, "an old view is gone");
            }
        }
        Ok(())
    }

    /// True if a view before the newest one, `ahead`, goes now.
    async fn goes(
        &self,
        ahead: &Arc<dyn LivePin>,
        view: &ViewId,
        kept: &mut Kept,
        now: DateTime<Utc>,
    ) -> Result<bool, UpError> {
        let old = self.parts.live.pin(view).await?;
        Ok(kept.retires(&view.generation, ahead.ranges(), old.as_ref().map(|old| old.ranges()), now))
    }
}

#[cfg(test)]
mod tests;
