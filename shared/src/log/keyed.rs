//! What a log remembers of an append with an idempotency key.

use super::{Appended, Fingerprint, IDEMPOTENCY_LIFETIME_MS, IdempotencyKey, LogError, Position, TopicName};

/// An append with a key. In which bytes it is stored is each adapter's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyedAppend {
    /// When it was, in milliseconds since 1970 UTC.
    pub at_ms: i64,
    /// Of what records.
    pub fingerprint: Fingerprint,
    /// Where they went, in their order.
    pub positions: Vec<Position>,
}

impl KeyedAppend {
    /// True while a call with the same key repeats it.
    #[must_use]
    pub fn is_alive(&self, now_ms: i64) -> bool {
        now_ms.saturating_sub(self.at_ms) < IDEMPOTENCY_LIFETIME_MS
    }

    /// What a call is told that comes with its key, and with records of that fingerprint.
    ///
    /// # Errors
    /// [`LogError::KeyReused`] if those are other records.
    pub fn repeated(
        self,
        topic: &TopicName,
        key: &IdempotencyKey,
        fingerprint: Fingerprint,
    ) -> Result<Appended, LogError> {
        if self.fingerprint != fingerprint {
            return Err(LogError::KeyReused { topic: topic.clone(), key: key.to_string() });
        }
        Ok(Appended { positions: self.positions, repeated: true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append() -> KeyedAppend {
        let positions = vec![Position { partition: 1, offset: 7 }];
        KeyedAppend { at_ms: 5, fingerprint: Fingerprint([3; 16]), positions }
    }

    #[test]
    fn a_key_counts_for_a_day() {
        for (now_ms, alive) in [
            (i64::MIN, true),
            (5, true),
            (4 + IDEMPOTENCY_LIFETIME_MS, true),
            (5 + IDEMPOTENCY_LIFETIME_MS, false),
            (i64::MAX, false),
        ] {
            assert_eq!(append().is_alive(now_ms), alive, "{now_ms}");
        }
    }

    #[test]
    fn a_repetition_is_told_the_first_positions_and_other_records_are_refused() {
        let topic = TopicName::new("trips").unwrap();
        let key = IdempotencyKey::new("k").unwrap();
        let again = append().repeated(&topic, &key, Fingerprint([3; 16])).unwrap();
        assert_eq!(again, Appended { positions: append().positions, repeated: true });
        let refused = append().repeated(&topic, &key, Fingerprint([4; 16])).unwrap_err();
        assert!(matches!(&refused, LogError::KeyReused { key, .. } if key == "k"), "{refused:?}");
    }
}
