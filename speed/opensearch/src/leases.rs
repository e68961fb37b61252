//! Which row indices readers of this process still need. An index that is to go waits for them: a pin keeps what it has
//! (H6). Readers of other processes have the grace time of whoever lets rows go, and an error after it. One with rows from before a
//! step back waits for nobody: it goes when they are written again, and who reads it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, Weak};

use tidemark_shared::lock;
use tokio::sync::RwLock;

/// Keeps an index while it is alive.
#[derive(Debug)]
pub(crate) struct Lease(());

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    /// Held for reading from a look at the state until its leases are taken; for writing, to see who has none.
    pub(crate) gate: RwLock<()>,
    /// Held for reading while indices are made, each by its partition's one writer, and for writing while some are removed: none
    /// is removed that is being made again.
    pub(crate) names: RwLock<()>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    held: BTreeMap<String, Weak<Lease>>,
    doomed: BTreeSet<String>,
}

impl Leases {
    /// Keeps an index. To be called under the gate.
    pub(crate) fn hold(&self, index: &str) -> Arc<Lease> {
        let mut state = lock(&self.state);
        if let Some(lease) = state.held.get(index).and_then(Weak::upgrade) {
            return lease;
        }
        state.held.retain(|_, lease| lease.strong_count() > 0);
        let lease = Arc::new(Lease(()));
        state.held.insert(index.to_owned(), Arc::downgrade(&lease));
        lease
    }

    /// The index is to go as soon as nobody reads it.
    pub(crate) fn doom(&self, index: String) {
        lock(&self.state).doomed.insert(index);
    }

    /// The index is needed again.
    pub(crate) fn revive(&self, index: &str) {
        lock(&self.state).doomed.remove(index);
    }

    /// True if somebody reads the index.
    pub(crate) fn is_held(&self, index: &str) -> bool {
        lock(&self.state).held.get(index).is_some_and(|lease| lease.strong_count() > 0)
    }

    /// True if any index is to go.
    pub(crate) fn has_doomed(&self) -> bool {
        !lock(&self.state).doomed.is_empty()
    }

    /// Takes the indices that are to go and that nobody reads.
    pub(crate) async fn take_free(&self) -> Vec<String> {
        let _nobody_looks = self.gate.write().await;
        let mut state = lock(&self.state);
        let State { held, doomed } = &mut *state;
        let is_free = |index: &String| held.get(index).is_none_or(|lease| lease.strong_count() == 0);
        let free: Vec<String> = doomed.iter().filter(|index| is_free(index)).cloned().collect();
        doomed.retain(|index| !free.contains(index));
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_index_goes_when_its_last_reader_has() {
        let leases = Leases::default();
        let (one, two) = (leases.hold("a"), leases.hold("a"));
        for index in ["a", "b", "c"] {
            leases.doom(index.to_owned());
        }
        leases.revive("c");
        assert_eq!(leases.take_free().await, ["b"]);
        drop(one);
        assert!(leases.is_held("a") && !leases.is_held("b"));
        assert!(leases.take_free().await.is_empty());
        assert!(leases.has_doomed());
        drop(two);
        assert!(!leases.is_held("a"));
        assert_eq!(leases.take_free().await, ["a"]);
        assert!(!leases.has_doomed());
    }
}
