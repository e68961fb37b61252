//! What keeps one dataset's indexers and views in step with its generations. The decisions are
//! [`tidemark_speed::keep`]'s.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tidemark_shared::error::chain;
use tidemark_shared::live::{LivePin, ViewId};
use tidemark_speed::keep::{Keep, Kept, Plan, plan};

use crate::config::Role;
use crate::up::UpError;
use crate::up::parts::Parts;
use crate::up::stream::{Running, Stream, Views};
use crate::up::task_name::TaskName;

/// Time between two looks at views that nobody here keeps up, and at topics that were there before.
const LOOK_AT_VIEWS: Duration = Duration::from_secs(10);

/// Brings one dataset's indexers and views in step with its generations, as far as that is a role of the process.
pub(super) async fn keep(parts: &Parts, stream: &Stream, kept: &mut Kept) -> Result<(), UpError> {
    if !parts.roles.has(Role::Indexer) {
        if stream.has_seen_earlier() && stream.begins_look_at_views(LOOK_AT_VIEWS) {
            Box::pin(stream.look_at_earlier(kept, None)).await;
        }
        return Ok(());
    }
    let pointers = parts.versions.pointers(&stream.dataset).await?;
    let indexers: BTreeSet<String> = stream.all_indexers().into_iter().map(|(generation, _)| generation).collect();
    let Some(plan) = plan(&pointers, &indexers) else { return Ok(()) };
    let mut keeping = Keeping { parts, stream, kept };
    let mut kept = Ok(());
    for keep in &plan.keep {
        // What stands in the way of one, a disk that is full or a definition, frees no room by holding up the others.
        let outcome = keeping.keep_generation(keep).await;
        kept = kept.and(outcome);
    }
    let retired = keeping.retire(&plan).await;
    kept.and(retired)
}

struct Keeping<'a> {
    parts: &'a Parts,
    stream: &'a Stream,
    kept: &'a mut Kept,
}

impl Keeping<'_> {
    async fn keep_generation(&mut self, keep: &Keep) -> Result<(), UpError> {
        let (parts, stream, generation) = (self.parts, self.stream, &keep.generation);
        let table = parts.versions.newest(&stream.dataset, generation).await?;
        let coverage = table.version().coverage.clone();
        let name = &generation.generation;
        if keep.opens {
            let running = stream.open_indexer(generation, coverage.clone()).await?;
            self.spawn(running, name).await;
        }
        let looked = self.kept.looked(name, &coverage, parts.ambient.now());
        if looked.moved {
            parts.moves.tell();
        }
        if let Some(drop_below) = looked.drop_below {
            let before = parts.live.usage();
            parts.live.drop_below(&stream.view(name), &drop_below).await?;
            // Who waits for room is woken only by room.
            if parts.live.usage().bytes < before.bytes {
                parts.pressure.dropped(parts.live.as_ref());
            }
        }
        Ok(())
    }

    /// Sets an indexer to work.
    async fn spawn(&self, running: Running, generation: &str) {
        let Running { indexer, share, stop } = running;
        let work = {
            let stop = stop.clone();
            move || {
                let (indexer, share, stop) = (Arc::clone(&indexer), share.clone(), stop.clone());
                async move { indexer.run(&share, &stop).await.map_err(|error| chain(&error)) }
            }
        };
        self.parts.tasks.spawn(TaskName::of_indexer(&self.stream.dataset, generation), stop, work).await;
    }

    /// Lets generations go that answer no more. Whoever keeps a view up lets it go himself; views that nobody here keeps up are
    /// looked at by one process, now and then.
    async fn retire(&mut self, plan: &Plan) -> Result<(), UpError> {
        let (parts, stream) = (self.parts, self.stream);
        let Some(ahead) = parts.live.pin(&stream.view(&plan.newest)).await? else { return Ok(()) };
        for generation in &plan.retire {
            if self.goes(&ahead, &stream.view(generation)).await? {
                stream.close_indexer(generation).await?;
                self.kept.gone(generation);
            }
        }
        let clears_up = stream.clears_up(&plan.newest);
        let looks = clears_up || stream.has_seen_earlier();
        if !looks || !stream.begins_look_at_views(LOOK_AT_VIEWS) {
            return Ok(());
        }
        let views = if clears_up { parts.live.views().await? } else { Vec::new() };
        let known = Views { newest: &plan.newest, ahead: ahead.as_ref(), all: &views };
        Box::pin(stream.look_at_earlier(self.kept, Some(known))).await;
        for view in plan.left_behind(&stream.dataset, views) {
            if self.goes(&ahead, &view).await? {
                parts.live.close(&view).await?;
                self.kept.gone(&view.generation);
                tracing::info!(%view, "an old view is gone");
            }
        }
        Ok(())
    }

    /// True if a view before the newest one, `ahead`, goes now.
    async fn goes(&mut self, ahead: &Arc<dyn LivePin>, view: &ViewId) -> Result<bool, UpError> {
        let now = self.parts.ambient.now();
        let old = self.parts.live.pin(view).await?;
        Ok(self.kept.retires(&view.generation, ahead.ranges(), old.as_ref().map(|old| old.ranges()), now))
    }
}
