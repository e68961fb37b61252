//! How a dataset's stream is opened when it is new, goes on by a newer definition, and begins anew where its topic was made again.

use std::sync::Arc;

use tidemark_shared::dataset::registry::{self, Registered};
use tidemark_shared::error::chain;
use tidemark_shared::write;
use tidemark_speed::keep::{Kept, StreamTask, stream_task};

use super::keeping::keep;
use super::{Declared, Found, Streams};
use crate::up::UpError;
use crate::up::stream::{Next, Stream};
use crate::up::task_name::{TaskKind, TaskName};

impl Streams {
    /// Takes up a dataset's newest definition, and hands its stream to `found` if that was opened now. A failure is told, and
    /// tried again at the next look.
    pub(super) async fn take_up(&self, dataset: &str, kept: &mut Kept, found: &Found) {
        let name = TaskName::of(TaskKind::Stream, dataset);
        match self.look_at(dataset, kept).await {
            Ok(new) => {
                self.parts.tasks.works(&name);
                if let Some(stream) = new {
                    found(stream).await;
                }
            }
            Err(error) => {
                let error = chain(&error);
                if self.parts.tasks.is_news(&name, &error) {
                    tracing::error!(dataset, error, "the dataset's stream is not taken up");
                }
                self.parts.tasks.fails(&name, error);
            }
        }
    }

    /// Looks whether the topic of a dataset's stream was made again: the stream goes on with the new incarnation, whose offsets
    /// begin anew under a name of their own, and the old one ends where it was read to. A topic that is deleted is waited for;
    /// what works on it says so meanwhile.
    pub(super) async fn renew(&self, dataset: &str, kept: &mut Kept, found: &Found) {
        let Some(old) = self.get(dataset) else { return };
        match self.renewed(&old, kept).await {
            Ok(None) => {}
            Ok(Some(stream)) => {
                let (before, source) = (&old.source, &stream.source);
                tracing::error!(dataset, %before, %source, "the stream begins anew: its topic was told to be another");
                found(stream).await;
            }
            Err(error) => {
                let (name, error) = (TaskName::of(TaskKind::Stream, dataset), chain(&error));
                if self.parts.tasks.is_news(&name, &error) {
                    tracing::warn!(dataset, error, "the stream does not follow its topic");
                }
                self.parts.tasks.fails(&name, error);
            }
        }
    }

    async fn renewed(&self, old: &Stream, kept: &mut Kept) -> Result<Option<Arc<Stream>>, UpError> {
        match old.what_next().await? {
            Next::GoesOn => return Ok(None),
            Next::MadeAgain => old.end().await?,
            // What was gathered of it is read again.
            Next::TakenUpAgain => old.leave().await,
        }
        Ok(Some(self.open(Registered::clone(&old.definition()), kept, Some(old)).await?))
    }

    /// Takes up a dataset's newest definition; its stream, if that is new.
    async fn look_at(&self, dataset: &str, kept: &mut Kept) -> Result<Option<Arc<Stream>>, UpError> {
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
            (StreamTask::Open, _) => Some(self.open(applied, kept, None).await?),
            (StreamTask::GoOn | StreamTask::GoOnUntilRestart, Some(known)) => {
                self.redefine(&known, applied, task);
                None
            }
            (_, _) => None,
        };
        self.declare(dataset, now);
        Ok(new)
    }

    /// Opens a dataset's stream with all that works on it, and puts it in its place. Where that fails, or nobody waits for it any
    /// more, nothing of it goes on: the next attempt would have it twice, and nobody would see the first. `old` is the one that
    /// was there before, and has ended.
    async fn open(&self, applied: Registered, kept: &mut Kept, old: Option<&Stream>) -> Result<Arc<Stream>, UpError> {
        let stream = Arc::new(Stream::open(&self.parts, applied).await?);
        if let Some(old) = old {
            stream.inherit(old);
        }
        let given_up = stream.stop.clone().drop_guard();
        if let Err(error) = self.begin(&stream, kept).await {
            drop(given_up);
            stream.leave().await;
            return Err(error);
        }
        let _goes_on = given_up.disarm();
        self.insert(&stream);
        Ok(stream)
    }

    async fn begin(&self, stream: &Arc<Stream>, kept: &mut Kept) -> Result<(), UpError> {
        // Without a generation nothing could answer, nor without its view.
        self.parts.batch.ensure_generation(&stream.dataset).await?;
        keep(&self.parts, stream, kept).await?;
        stream.join().await
    }

    /// Has an open stream go on by a newer definition.
    fn redefine(&self, stream: &Stream, applied: Registered, task: StreamTask) {
        let (dataset, name) = (&stream.dataset, TaskName::of(TaskKind::Definition, &stream.dataset));
        if task == StreamTask::GoOnUntilRestart {
            let text = "its `[stream]` names another topic or more partitions: that takes effect after a restart";
            tracing::warn!(dataset, "{text}");
            self.parts.tasks.fails(&name, text.to_owned());
        } else {
            self.parts.tasks.works(&name);
        }
        *write(&stream.definition) = Arc::new(applied);
    }
}
