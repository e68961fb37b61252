//! The streams of a process: which are open, and what is known of datasets that have one. Beside it, what is done about them:
//! `rounds` looks at all datasets, side by side; `opening` opens a stream, and renews it; `keeping` has an indexer for every
//! generation that may answer, and no row in a view that the curated table has long had.

mod keeping;
mod opening;
mod rounds;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use futures::future::BoxFuture;
use tidemark_shared::{read, write};
use tokio::sync::Notify;

use super::parts::Parts;
use super::stream::Stream;

/// Told of each stream that is open and was not, before its dataset is looked at again.
pub(super) type Found = Arc<dyn Fn(Arc<Stream>) -> BoxFuture<'static, ()> + Send + Sync>;

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
        read(&self.all).get(dataset).cloned()
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
        read(&self.all).values().cloned().collect()
    }

    /// True if the dataset has a stream, whether or not it is open yet; true for all before the first look.
    pub(super) fn declares(&self, dataset: &str) -> bool {
        match &*read(&self.declared) {
            None => true,
            Some(declared) => declared.get(dataset).is_some_and(|declared| declared.stream),
        }
    }

    /// The datasets that there are, as far as they were looked at.
    pub(super) fn known(&self) -> Vec<String> {
        let declared = read(&self.declared);
        declared.iter().flat_map(BTreeMap::keys).cloned().collect()
    }

    fn declared(&self, dataset: &str) -> Option<Declared> {
        read(&self.declared).as_ref()?.get(dataset).copied()
    }

    fn declare(&self, dataset: &str, declared: Declared) {
        write(&self.declared).get_or_insert_default().insert(dataset.to_owned(), declared);
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

    /// Puts an open stream in its dataset's place, where another incarnation may have been.
    fn insert(&self, stream: &Arc<Stream>) {
        write(&self.all).insert(stream.dataset.clone(), Arc::clone(stream));
        self.opened.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
