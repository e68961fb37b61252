//! Appending: what comes back, in which order, and once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;

use super::{ALL, SteppedClock, append, read_on, record, topic, values};
use tidemark_shared::log::{
    APPEND_BYTES_MAX, Header, IDEMPOTENCY_LIFETIME, IdempotencyKey, Log, LogError, RECORD_BYTES_MAX, Record, Routed,
};

const WRITERS: usize = 8;
const BATCHES: usize = 12;
const BATCH: usize = 25;

fn key() -> IdempotencyKey {
    IdempotencyKey::new(&uuid::Uuid::new_v4().to_string()).expect("a legal key")
}

/// Records that an encoding could confuse.
fn odd_records() -> Vec<Record> {
    let header = |name: &str, value: Option<&'static [u8]>| Header {
        name: name.to_owned(),
        value: value.map(Bytes::from_static),
    };
    let empty = || Some(Bytes::new());
    vec![
        Record::default(),
        Record { key: empty(), ..Record::default() },
        Record { value: empty(), timestamp_ms: 1_700_000_000_123, ..Record::default() },
        Record { key: Some(Bytes::from_static(b"\0\xff")), value: None, timestamp_ms: 1, ..Record::default() },
        Record {
            key: Some(Bytes::from_static(b"k")),
            value: Some(Bytes::from(vec![0xfe; 300_000])),
            headers: vec![header("a", Some(b"1")), header("a", Some(b"")), header("\u{e4}", None)],
            timestamp_ms: 4_102_444_800_000,
        },
        Record { value: Some(Bytes::from_static(b"{\"n\":1}\n")), timestamp_ms: 0, ..Record::default() },
    ]
}

pub(super) async fn records_come_back_as_they_were(log: &Arc<dyn Log>) {
    let topic = topic(log, "bytes", 3).await;
    let none = append(log, &topic, Vec::new()).await;
    assert!(none.positions.is_empty() && !none.repeated, "nothing was appended");

    let routed: Vec<Routed> = odd_records()
        .into_iter()
        .enumerate()
        .map(|(n, record)| Routed { partition: [0, 2, 2, 0, 2, 0][n], record })
        .collect();
    for _ in 0..2 {
        let appended = append(log, &topic, routed.clone()).await;
        assert!(!appended.repeated);
        assert_eq!(appended.positions.len(), routed.len());
        for (position, Routed { partition, record }) in appended.positions.iter().zip(&routed) {
            assert_eq!(position.partition, *partition);
            let from = position.offset;
            let read = read_on(log, &topic, *partition, from, ALL).await;
            assert_eq!((read[0].offset, &read[0].record), (from, record), "another record is at its position");
        }
    }
    assert_eq!(read_on(log, &topic, 2, 0, ALL).await.len(), 6);
    assert_eq!(read_on(log, &topic, 1, 0, ALL).await, [], "a partition that nobody appended to has records");
}

pub(super) async fn concurrent_appends_lose_and_double_nothing(log: &Arc<dyn Log>) {
    let topic = topic(log, "many", 2).await;
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (log, topic) = (Arc::clone(log), topic.clone());
        writers.spawn(async move {
            let mut told = Vec::new();
            for batch in 0..BATCHES {
                let text = |n| format!("{writer:02} {batch:02} {n:02}");
                let records: Vec<Routed> = (0..BATCH).map(|n| record(u32::from(n % 3 == 0), &text(n))).collect();
                let appended = append(&log, &topic, records).await;
                told.extend(appended.positions.into_iter().enumerate().map(|(n, position)| (position, text(n))));
            }
            told
        });
    }
    let told: BTreeSet<_> = writers.join_all().await.into_iter().flatten().collect();
    assert_eq!(told.len(), WRITERS * BATCHES * BATCH, "a position was told twice");
    for partition in 0..2 {
        let expected: Vec<_> = told.iter().filter(|(position, _)| position.partition == partition).collect();
        let read = read_on(log, &topic, partition, 0, ALL).await;
        let offsets: Vec<u64> = read.iter().map(|read| read.offset).collect();
        assert_eq!(offsets, expected.iter().map(|(position, _)| position.offset).collect::<Vec<_>>());
        assert_eq!(values(&read), expected.iter().map(|(_, text)| text.clone()).collect::<Vec<_>>());
        for writer in 0..WRITERS {
            let prefix = format!("{writer:02}");
            let own: Vec<String> = values(&read).into_iter().filter(|value| value.starts_with(&prefix)).collect();
            assert!(own.is_sorted(), "writer {writer}'s records changed places");
        }
    }
}

pub(super) async fn a_repeated_key_gets_the_first_positions(log: &Arc<dyn Log>) {
    let (topic, other) = (topic(log, "key", 2).await, topic(log, "key-other", 2).await);
    let key = key();
    let records = vec![record(0, "a"), record(1, "b"), record(0, "c")];
    let first = log.append(&topic, records.clone(), Some(&key)).await.expect("append");
    assert!(!first.repeated);
    append(log, &topic, vec![record(0, "between")]).await;
    // a repetition may have been spread otherwise, and later
    let mut spread = records.clone();
    spread[0].partition = 1;
    spread[2].record.timestamp_ms = 5;
    for records in [records.clone(), spread] {
        let again = log.append(&topic, records, Some(&key)).await.expect("append again");
        assert_eq!((again.positions, again.repeated), (first.positions.clone(), true));
    }
    assert_eq!(values(&read_on(log, &topic, 0, 0, ALL).await), ["a", "c", "between"]);
    assert_eq!(values(&read_on(log, &topic, 1, 0, ALL).await), ["b"]);

    let error = log.append(&topic, records[..2].to_vec(), Some(&key)).await.expect_err("other records");
    assert!(matches!(error, LogError::KeyReused { .. }), "{error:?}");
    let elsewhere = log.append(&other, records, Some(&key)).await.expect("append");
    assert!(!elsewhere.repeated, "a key of one topic counts in another");
}

pub(super) async fn racing_repetitions_append_once(log: &Arc<dyn Log>) {
    let topic = topic(log, "key-race", 1).await;
    let key = key();
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let (log, topic, key) = (Arc::clone(log), topic.clone(), key.clone());
        writers.spawn(async move {
            log.append(&topic, vec![record(0, "x"), record(0, "y")], Some(&key)).await.expect("append")
        });
    }
    let outcomes = writers.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| !outcome.repeated).count(), 1, "not exactly one call was the first");
    assert!(outcomes.iter().all(|outcome| outcome.positions == outcomes[0].positions));
    assert_eq!(values(&read_on(log, &topic, 0, 0, ALL).await), ["x", "y"]);
}

pub(super) async fn what_is_too_large_is_refused(log: &Arc<dyn Log>) {
    let topic = topic(log, "large", 1).await;
    let sized = |bytes: usize| Routed {
        partition: 0,
        record: Record { value: Some(Bytes::from(vec![b'x'; bytes])), ..Record::default() },
    };
    let error =
        log.append(&topic, vec![sized(1), sized(RECORD_BYTES_MAX + 1)], None).await.expect_err("a large record");
    assert!(matches!(error, LogError::TooLarge { .. }), "{error:?}");
    let many = vec![sized(RECORD_BYTES_MAX); APPEND_BYTES_MAX / RECORD_BYTES_MAX + 1];
    let error = log.append(&topic, many, None).await.expect_err("a large append");
    assert!(matches!(error, LogError::TooLarge { .. }), "{error:?}");
    assert_eq!(read_on(log, &topic, 0, 0, ALL).await, [], "a refused append left records");

    append(log, &topic, vec![sized(RECORD_BYTES_MAX); 2]).await;
    let read = read_on(log, &topic, 0, 0, ALL).await;
    assert_eq!(read.iter().map(|read| read.record.bytes()).collect::<Vec<_>>(), [RECORD_BYTES_MAX; 2]);
}

pub(super) async fn a_key_is_forgotten_after_its_lifetime(log: &Arc<dyn Log>, clock: &SteppedClock) {
    let topic = topic(log, "key-old", 1).await;
    let key = key();
    let call = || log.append(&topic, vec![record(0, "x")], Some(&key));
    let first = call().await.expect("append");
    clock.pass(IDEMPOTENCY_LIFETIME - Duration::from_secs(1));
    assert_eq!(call().await.expect("append").positions, first.positions);
    // the first use counts, not the last
    clock.pass(Duration::from_secs(2));
    let second = call().await.expect("append");
    assert!(!second.repeated && second.positions != first.positions, "the key is still known");
    assert_eq!(call().await.expect("append").positions, second.positions);
    assert_eq!(values(&read_on(log, &topic, 0, 0, ALL).await), ["x", "x"]);
}
