//! Which idempotency keys were used in the last day, and where the topic of keys says what for. Of each key only a digest is
//! held: 16 bytes of SHA-256, and the entry that is found by it is compared with the key itself.

use std::collections::{HashMap, VecDeque};

use sha2::{Digest as _, Sha256};
use tidemark_shared::log::{IDEMPOTENCY_LIFETIME_MS, LogError, TopicName};

/// Most keys of a topic that are known at once, about 400 MiB of them: 46 appends with keys a second, for a day.
const KEYS_MAX: usize = 4_000_000;

type Digest = [u8; 16];

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Index {
    by_key: HashMap<Digest, u64>,
    /// In the order in which they were used: time, key, offset of the entry.
    used: VecDeque<(i64, Digest, u64)>,
}

impl Index {
    /// The offset of the key's entry.
    pub(super) fn find(&self, key: &str) -> Option<u64> {
        self.by_key.get(&digest(key)).copied()
    }

    /// Notes that a key was used.
    pub(super) fn insert(&mut self, key: &str, at_ms: i64, offset: u64) {
        let key = digest(key);
        self.by_key.insert(key, offset);
        self.used.push_back((at_ms, key, offset));
    }

    /// Forgets keys that were used too long ago.
    pub(super) fn forget(&mut self, now_ms: i64) {
        while let Some((at_ms, key, offset)) = self.used.front().copied() {
            if now_ms.saturating_sub(at_ms) < IDEMPOTENCY_LIFETIME_MS {
                break;
            }
            self.used.pop_front();
            // it may have been used again since
            if self.by_key.get(&key) == Some(&offset) {
                self.by_key.remove(&key);
            }
        }
    }

    /// # Errors
    /// [`LogError::TooManyKeys`] if `more` keys would be too many.
    pub(super) fn check_room(&self, topic: &TopicName, more: usize) -> Result<(), LogError> {
        if self.used.len() + more <= KEYS_MAX {
            return Ok(());
        }
        Err(LogError::TooManyKeys { topic: topic.clone(), max: KEYS_MAX })
    }
}

fn digest(key: &str) -> Digest {
    let digest: [u8; 32] = Sha256::digest(key.as_bytes()).into();
    let mut short = [0; 16];
    short.copy_from_slice(&digest[..16]);
    short
}

#[cfg(test)]
mod tests {
    use tidemark_shared::error::{ErrorKind as _, Kind};

    use super::*;

    #[test]
    fn keys_are_forgotten_after_their_time_unless_used_again() {
        let day = IDEMPOTENCY_LIFETIME_MS;
        let mut index = Index::default();
        index.insert("a", 0, 10);
        index.insert("b", 5, 11);
        assert_eq!((index.find("a"), index.find("b"), index.find("c")), (Some(10), Some(11), None));
        index.forget(day - 1);
        assert_eq!(index.find("a"), Some(10));
        index.insert("a", day - 1, 12);
        index.forget(day);
        assert_eq!((index.find("a"), index.find("b")), (Some(12), Some(11)), "a key that was used again is forgotten");
        index.forget(day + 5);
        assert_eq!((index.find("a"), index.find("b")), (Some(12), None));
        let topic = TopicName::new("trips").unwrap();
        index.check_room(&topic, 1).unwrap();
        // one is left, and who appends is to come again: nothing is wrong with the records
        let full = index.check_room(&topic, KEYS_MAX).unwrap_err();
        assert!(matches!(full, LogError::TooManyKeys { max: KEYS_MAX, .. }), "{full:?}");
        assert_eq!(full.kind(), Kind::Exhausted);
    }
}
