use bytes::Bytes;

use super::*;

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
