//! The views that this process knows. What is known of one begins with a look at its state index, and goes when it is let go: so
//! nothing that ends later brings a part of it back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tidemark_shared::live::{LiveUsage, ViewId};
use tidemark_shared::lock;

use crate::cluster::Handle;

/// What is known of a view.
#[derive(Debug)]
struct Known {
    /// `None` from when its state index was found not to be the one that it was, until it is looked at again.
    handle: Option<Arc<Handle>>,
    usage: LiveUsage,
    /// The id of its state index when this process last saw it. A view whose rows were all curated comes back at once where its
    /// state index is lost, so that nothing else tells of the loss.
    state_uuid: String,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Views(Mutex<BTreeMap<ViewId, Known>>);

impl Views {
    /// A view's handle, if it counts.
    pub(crate) fn handle(&self, view: &ViewId) -> Option<Arc<Handle>> {
        lock(&self.0).get(view)?.handle.clone()
    }

    /// Takes a view in as it was found; the handle that counts from now on, and whether its state index was another before. Who was
    /// faster has writers already: of the same state index, the handle that was first counts.
    pub(crate) fn take_in(&self, handle: Arc<Handle>) -> (Arc<Handle>, bool) {
        let mut views = lock(&self.0);
        let Some(known) = views.get_mut(&handle.view) else {
            let (state_uuid, usage) = (handle.uuid.clone(), LiveUsage::default());
            views.insert(handle.view.clone(), Known { handle: Some(Arc::clone(&handle)), usage, state_uuid });
            return (handle, false);
        };
        let was_lost = known.state_uuid != handle.uuid;
        known.state_uuid.clone_from(&handle.uuid);
        match &known.handle {
            Some(first) if first.uuid == handle.uuid => (Arc::clone(first), was_lost),
            _ => {
                known.handle = Some(Arc::clone(&handle));
                (handle, was_lost)
            }
        }
    }

    /// The view's state index is not the one that it was: its handle counts no more.
    pub(crate) fn forget(&self, handle: &Arc<Handle>) {
        if let Some(known) = lock(&self.0).get_mut(&handle.view)
            && known.handle.as_ref().is_some_and(|known| Arc::ptr_eq(known, handle))
        {
            known.handle = None;
        }
    }

    /// The view was let go: one that is made after it is no other one's loss.
    pub(crate) fn let_go(&self, view: &ViewId) {
        lock(&self.0).remove(view);
    }

    /// Changes what a view takes, if it is known.
    pub(crate) fn change_usage(&self, view: &ViewId, change: impl FnOnce(LiveUsage) -> LiveUsage) {
        if let Some(known) = lock(&self.0).get_mut(view) {
            known.usage = change(known.usage);
        }
    }

    /// What all views take together.
    pub(crate) fn usage_of_all(&self) -> LiveUsage {
        lock(&self.0).values().map(|known| known.usage).fold(LiveUsage::default(), LiveUsage::plus)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(generation: &str) -> ViewId {
        ViewId { dataset: "trips".to_owned(), generation: generation.to_owned() }
    }

    /// Whether a view's state index was another before.
    fn was_lost(views: &Views, generation: &str, uuid: &str) -> bool {
        views.take_in(Handle::named(&view(generation), uuid)).1
    }

    #[test]
    fn a_state_index_is_another_only_after_one_that_was_not_let_go() {
        let views = Views::default();
        assert!(!was_lost(&views, "1", "a"), "the first one");
        assert!(!was_lost(&views, "1", "a"), "the same");
        assert!(!was_lost(&views, "2", "b"), "of another view");
        assert!(was_lost(&views, "1", "c"), "another");
        assert!(!was_lost(&views, "1", "c"), "told once");
        let handle = views.handle(&view("1")).expect("it is known");
        views.forget(&handle);
        assert!(was_lost(&views, "1", "d"), "another, after what was known of it counted no more");
        views.let_go(&view("1"));
        assert!(!was_lost(&views, "1", "e"), "after it was let go");
    }

    #[test]
    fn the_first_handle_of_a_state_index_counts() {
        let views = Views::default();
        assert!(views.handle(&view("1")).is_none());
        let first = views.take_in(Handle::named(&view("1"), "a")).0;
        let same = views.take_in(Handle::named(&view("1"), "a")).0;
        assert!(Arc::ptr_eq(&first, &same), "a second one of the same has no writers");
        let other = views.take_in(Handle::named(&view("1"), "b")).0;
        assert_eq!(other.uuid, "b");
        views.forget(&first);
        let known = views.handle(&view("1")).expect("it is not the one that counts no more");
        assert!(Arc::ptr_eq(&known, &other));
        views.forget(&other);
        assert!(views.handle(&view("1")).is_none());
        let again = views.take_in(Handle::named(&view("1"), "b")).0;
        assert!(!Arc::ptr_eq(&again, &other), "what counts no more is back");
    }

    #[test]
    fn what_ends_late_brings_no_view_back() {
        let views = Views::default();
        let rows = |rows: u64| LiveUsage { rows, rejects: 0, bytes: 10 * rows };
        let add = |generation: &str, count: u64| views.change_usage(&view(generation), |known| known.plus(rows(count)));
        for generation in ["1", "2"] {
            views.take_in(Handle::named(&view(generation), "a"));
            add(generation, 5);
        }
        add("1", 2);
        assert_eq!(views.usage_of_all(), rows(12));
        views.change_usage(&view("2"), |_| rows(1));
        assert_eq!(views.usage_of_all(), rows(8));
        let late = views.handle(&view("1")).expect("it is known");
        views.let_go(&view("1"));
        add("1", 100);
        views.change_usage(&view("1"), |_| rows(100));
        views.forget(&late);
        assert_eq!(views.usage_of_all(), rows(1));
        assert!(views.handle(&view("1")).is_none());
    }
}
