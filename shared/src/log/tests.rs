use std::sync::Arc;

use bytes::Bytes;

use super::contract::SteppedClock;
use super::memory::MemoryLog;
use super::*;
use crate::ambient::Ambient;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_in_memory_keeps_the_contract() {
    let clock = Arc::new(SteppedClock::default());
    let log: Arc<dyn Log> = Arc::new(MemoryLog::new(Arc::clone(&clock) as Arc<dyn Ambient>));
    contract::check_all(&log).await;
    contract::check_time(&log, &clock).await;
    contract::check_close(&log).await;
}

#[tokio::test]
async fn holes_are_read_past() {
    let log = MemoryLog::new(Arc::new(SteppedClock::default()));
    let topic = log.create_topic(&TopicName::new("trips").unwrap(), 1).await.unwrap();
    let limits = ReadLimits { records_max: 2, bytes_max: 100 };
    let one = || vec![Routed { partition: 0, record: Record::default() }];
    log.append(&topic, one(), None).await.unwrap();
    log.skip(&topic, 0, 3).unwrap();
    log.append(&topic, one(), None).await.unwrap();
    log.append(&topic, one(), None).await.unwrap();
    log.compact(&topic, 0, 5).unwrap();
    log.skip(&topic, 0, 2).unwrap();

    let first = log.read(&topic, 0, 0, limits).await.unwrap();
    assert_eq!(first.records.iter().map(|read| read.offset).collect::<Vec<_>>(), [0, 4]);
    // 5 was compacted, 6 and 7 never had a record: all that was read past
    assert_eq!((first.next, first.bounds), (8, Bounds { start: 0, end: 8 }));
    let middle = log.read(&topic, 0, 1, ReadLimits { records_max: 1, ..limits }).await.unwrap();
    assert_eq!((middle.records[0].offset, middle.records.len()), (4, 1));
    let hole = log.read(&topic, 0, 6, limits).await.unwrap();
    assert_eq!((hole.records.len(), hole.next), (0, 8));

    log.lose_end(&topic, 0, 4).unwrap();
    let error = log.read(&topic, 0, 8, limits).await.unwrap_err();
    assert!(matches!(error, LogError::BeyondEnd { from: 8, end: 4, .. }), "{error:?}");
}

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
