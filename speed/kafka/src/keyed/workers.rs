//! Who works on which topic's keys: one a topic, none on an incarnation that is gone, and not too many at once.

use std::collections::HashMap;

use tidemark_shared::log::{Topic, TopicId, TopicName};

/// Most topics whose keys are worked on at once: each costs a thread, a producer with threads of its own, and what is known of
/// the keys. Who comes back to one that had to go reads them again.
pub(super) const WORKERS_MAX: usize = 64;

/// See the module's text.
#[derive(Debug)]
pub(super) struct Workers<W> {
    by_id: HashMap<TopicId, Kept<W>>,
    /// Counts uses, so that it can be told which was the last one.
    uses: u64,
}

#[derive(Debug)]
struct Kept<W> {
    name: TopicName,
    used: u64,
    worker: W,
}

impl<W> Workers<W> {
    pub(super) fn new() -> Self {
        Self { by_id: HashMap::new(), uses: 0 }
    }

    /// Who works for the incarnation, which is used now.
    pub(super) fn find(&mut self, id: &TopicId) -> Option<&W> {
        self.uses += 1;
        let kept = self.by_id.get_mut(id)?;
        kept.used = self.uses;
        Some(&kept.worker)
    }

    /// Takes in one for an incarnation, which is used now. Hands out who is to end for that: whoever works for another
    /// incarnation of that name, and where there would be too many the one that was not used for longest.
    pub(super) fn insert(&mut self, topic: &Topic, worker: W) -> Vec<W> {
        self.uses += 1;
        let outdated = |id: &TopicId, kept: &mut Kept<W>| kept.name == topic.name || *id == topic.id;
        let mut gone: Vec<W> = self.by_id.extract_if(outdated).map(|(_, kept)| kept.worker).collect();
        while self.by_id.len() >= WORKERS_MAX {
            let oldest = self.by_id.iter().min_by_key(|(_, kept)| kept.used).map(|(id, _)| id.clone());
            gone.extend(oldest.and_then(|id| self.remove(&id)));
        }
        let kept = Kept { name: topic.name.clone(), used: self.uses, worker };
        self.by_id.insert(topic.id.clone(), kept);
        gone
    }

    pub(super) fn remove(&mut self, id: &TopicId) -> Option<W> {
        self.by_id.remove(id).map(|kept| kept.worker)
    }

    pub(super) fn into_all(self) -> Vec<W> {
        self.by_id.into_values().map(|kept| kept.worker).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str, id: &str) -> Topic {
        Topic { name: TopicName::new(name).expect("a legal name"), id: TopicId::new(id), partitions: 1 }
    }

    #[test]
    fn a_topic_that_was_made_again_has_one_worker() {
        let mut workers = Workers::new();
        assert!(workers.insert(&topic("a", "a0"), "a0").is_empty());
        assert!(workers.insert(&topic("b", "b0"), "b0").is_empty());
        assert_eq!(workers.find(&TopicId::new("a0")), Some(&"a0"));
        assert_eq!(workers.insert(&topic("a", "a1"), "a1"), ["a0"], "nobody else ends the old one");
        assert_eq!(workers.find(&TopicId::new("a0")), None);
        assert_eq!(workers.remove(&TopicId::new("a1")), Some("a1"));
        assert_eq!(workers.into_all(), ["b0"]);
    }

    #[test]
    fn who_was_not_used_for_longest_makes_room() {
        let mut workers = Workers::new();
        for number in 0..WORKERS_MAX {
            assert!(workers.insert(&topic(&format!("t{number}"), &format!("id{number}")), number).is_empty());
        }
        assert_eq!(workers.find(&TopicId::new("id0")), Some(&0));
        assert_eq!(workers.insert(&topic("new", "new"), WORKERS_MAX), [1]);
        assert_eq!(workers.insert(&topic("newer", "newer"), WORKERS_MAX + 1), [2]);
        assert_eq!(workers.find(&TopicId::new("id0")), Some(&0));
        assert_eq!(workers.into_all().len(), WORKERS_MAX);
    }
}
