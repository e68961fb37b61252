//! Which state index each view had.

use std::collections::BTreeMap;
use std::sync::Mutex;

use tidemark_shared::live::ViewId;
use tidemark_shared::lock;

/// The id of each view's state index when this process last saw it. A view whose rows were all curated comes back at once where its
/// state index is lost, so that nothing else tells of the loss.
#[derive(Debug, Default)]
pub(crate) struct LastSeen(Mutex<BTreeMap<ViewId, String>>);

impl LastSeen {
    /// Takes note of a view's state index; whether it was another before.
    pub(crate) fn note(&self, view: &ViewId, uuid: &str) -> bool {
        let before = lock(&self.0).insert(view.clone(), uuid.to_owned());
        before.is_some_and(|before| before != uuid)
    }

    /// The view was let go: one that is made after it is no other one's loss.
    pub(crate) fn forget(&self, view: &ViewId) {
        lock(&self.0).remove(view);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_index_is_another_only_after_one_that_was_not_let_go() {
        let view = |generation: &str| ViewId { dataset: "trips".to_owned(), generation: generation.to_owned() };
        let seen = LastSeen::default();
        assert!(!seen.note(&view("1"), "a"), "the first one");
        assert!(!seen.note(&view("1"), "a"), "the same");
        assert!(!seen.note(&view("2"), "b"), "of another view");
        assert!(seen.note(&view("1"), "c"), "another");
        assert!(!seen.note(&view("1"), "c"), "told once");
        seen.forget(&view("1"));
        assert!(!seen.note(&view("1"), "d"), "after it was let go");
    }
}
