use bytes::Bytes;

use super::*;
use crate::error::{ErrorKind as _, Kind, chain};

#[test]
fn names_that_no_topic_can_have_are_refused() {
    for name in ["trips", "a.b_c-D9", &"x".repeat(249)] {
        assert_eq!(TopicName::new(name).unwrap().as_str(), name);
    }
    for name in ["", ".", "..", "files", "a/b", "trips~2", "\u{e4}", "a b", &"x".repeat(250)] {
        let error = TopicName::new(name).unwrap_err();
        assert!(matches!(error, LogError::Invalid { .. }), "{name}: {error:?}");
    }
    assert!(serde_json::from_str::<TopicName>("\"files\"").is_err(), "a bad name was read");
}

#[test]
fn idempotency_keys_are_bounded() {
    IdempotencyKey::new("x").unwrap();
    IdempotencyKey::new(&"x".repeat(255)).unwrap();
    for key in ["".to_owned(), "x".repeat(256)] {
        assert!(matches!(IdempotencyKey::new(&key), Err(LogError::Invalid { .. })));
    }
}

#[test]
fn a_fingerprint_tells_records_apart_and_not_their_ways() {
    let routed = |partition, key: Option<&'static str>, value: Option<&'static str>, timestamp_ms| Routed {
        partition,
        record: Record {
            key: key.map(|key| Bytes::from_static(key.as_bytes())),
            value: value.map(|value| Bytes::from_static(value.as_bytes())),
            timestamp_ms,
            ..Record::default()
        },
    };
    let base = Fingerprint::of(&[routed(0, Some("a"), Some("bc"), 1)]);
    assert_eq!(base, Fingerprint::of(&[routed(3, Some("a"), Some("bc"), 2)]));
    let others = [
        vec![routed(0, Some("ab"), Some("c"), 1)],
        vec![routed(0, None, Some("bc"), 1)],
        vec![routed(0, Some(""), Some("bc"), 1)],
        vec![routed(0, Some("a"), None, 1)],
        vec![routed(0, Some("a"), Some("bc"), 1), routed(0, None, None, 1)],
        vec![],
    ];
    for records in others {
        assert_ne!(base, Fingerprint::of(&records), "{records:?}");
    }
}

#[test]
fn a_partition_is_read_from_its_start_to_its_end() {
    let topic = TopicName::new("trips").unwrap();
    let bounds = Bounds { start: 3, end: 5 };
    for from in 3..=5 {
        check_within(&topic, 1, from, bounds).unwrap();
    }
    let gone = check_within(&topic, 1, 2, bounds).unwrap_err();
    assert!(matches!(gone, LogError::Gone { partition: 1, from: 2, start: 3, .. }), "{gone:?}");
    let beyond = check_within(&topic, 1, 6, bounds).unwrap_err();
    assert!(matches!(beyond, LogError::BeyondEnd { partition: 1, from: 6, end: 5, .. }), "{beyond:?}");
}

#[test]
fn whoever_waits_for_the_same_thing_is_told_the_same_failure() {
    let topic = || TopicName::new("trips").unwrap();
    let text = || "why".to_owned();
    let id = TopicId::new;
    let failures = [
        LogError::Invalid { what: text(), reason: text() },
        LogError::Missing { topic: topic() },
        LogError::Replaced { topic: topic(), expected: id("a"), found: id("b") },
        LogError::Mismatch { topic: topic(), expected: 1, found: 2 },
        LogError::NoPartition { topic: topic(), partition: 3, partitions: 2 },
        LogError::Gone { topic: topic(), partition: 1, from: 2, start: 3 },
        LogError::BeyondEnd { topic: topic(), partition: 1, from: 3, end: 2 },
        LogError::TooLarge { what: "a record's bytes", size: 2, max: 1 },
        LogError::KeyReused { topic: topic(), key: text() },
        LogError::TooManyKeys { topic: topic(), max: 1 },
        LogError::Locked { path: "folder".into() },
        LogError::Closed,
        LogError::Failed { reason: text() },
        LogError::NewerFormat { found: 2, known: 1 },
        LogError::Corrupt { what: text(), reason: text() },
        LogError::backend("append", "a broker is away"),
    ];
    for failure in failures {
        let again = failure.again();
        let told = |error: &LogError| (chain(error), error.kind(), error.hint(), std::mem::discriminant(error));
        assert_eq!(told(&again), told(&failure));
    }
}

/// Who appends is to come again, as after a full disk: nothing is wrong with the records.
#[test]
fn too_many_keys_is_a_limit_that_passes() {
    let error = LogError::TooManyKeys { topic: TopicName::new("trips").unwrap(), max: 3 };
    assert_eq!(error.kind(), Kind::Exhausted);
    assert!(error.hint().is_some_and(|hint| hint.contains("later")), "{error}");
}
