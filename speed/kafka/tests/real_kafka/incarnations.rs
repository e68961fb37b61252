//! What somebody else does to topics: deletes them, makes them again, gives them partitions, lets records go.

use std::sync::Arc;
use std::time::Duration;

use tidemark_shared::log::{Log, LogError, Position, Retention, Topic};
use tokio::task::JoinSet;

use super::support::{ALL, append, now_ms, open, read_on, record, topic, values};

const PATIENCE: Duration = Duration::from_secs(30);
const EVERYTHING: Retention = Retention { age_max: None, bytes_max: Some(0) };

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn real_kafka_a_topic_that_somebody_else_makes_again_is_noticed_before_its_records_are_mixed_up() {
    let (log, other) = (open(), open());
    let old = topic(&log, "again", 1).await;
    append(&log, &old, &["old-0", "old-1", "old-2"]).await;
    // a reader stands in the middle of what it has, and a waiter at the end
    let few = tidemark_shared::log::ReadLimits { records_max: 1, ..ALL };
    assert_eq!(log.read(&old, 0, 0, few).await.unwrap().next, 1);
    let (read, end) = read_on(&log, &old, 1).await;
    assert_eq!((values(&read).len(), end), (2, 3));
    let mut waiting = JoinSet::new();
    {
        let (log, old) = (Arc::clone(&log), old.clone());
        waiting.spawn(async move { log.wait(&old, &[Position { partition: 0, offset: 3 }], PATIENCE * 4).await });
    }

    other.delete_topic(&old).await.unwrap();
    let new = other.create_topic(&old.name, 1).await.unwrap();
    assert_ne!(new.id, old.id);
    append(&other, &new, &["new-0", "new-1", "new-2", "new-3", "new-4"]).await;

    let woken = tokio::time::timeout(PATIENCE, waiting.join_next()).await.expect("a waiter was not woken");
    let error = woken.unwrap().unwrap().expect_err("there is nothing to wait for");
    assert!(matches!(error, LogError::Replaced { .. } | LogError::Missing { .. }), "{error:?}");
    let replaced = |error: LogError| assert!(matches!(error, LogError::Replaced { .. }), "{error:?}");
    for from in [0, 1, 3, 4] {
        replaced(log.read(&old, 0, from, ALL).await.expect_err("records of two incarnations"));
    }
    replaced(log.append(&old, vec![record(0, "late")], None).await.expect_err("another topic's positions"));
    replaced(log.bounds(&old).await.expect_err("another topic's bounds"));
    let (read, _) = read_on(&log, &new, 0).await;
    assert_eq!(values(&read)[..5], ["new-0", "new-1", "new-2", "new-3", "new-4"]);
    close(&[log, other]).await;
}

/// Whoever read the old one stands beyond the new one's end, or before its start. That is no log that lost records.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn real_kafka_bounds_of_a_topic_that_was_made_again_are_not_the_old_ones() {
    let (log, other) = (open(), open());
    let old = topic(&log, "bounds", 1).await;
    append(&log, &old, &["old-0", "old-1", "old-2"]).await;
    assert_eq!(read_on(&log, &old, 0).await.1, 3);
    let replaced = |error: LogError| assert!(matches!(error, LogError::Replaced { .. }), "{error:?}");

    other.delete_topic(&old).await.unwrap();
    let new = other.create_topic(&old.name, 1).await.unwrap();
    for from in [3, 1] {
        replaced(log.read(&old, 0, from, ALL).await.expect_err("it is empty"));
    }
    append(&other, &new, &["new-0", "new-1", "new-2", "new-3", "new-4"]).await;
    assert_eq!(other.retain(&new, 0, &EVERYTHING, 4).await.unwrap().start, 4);
    for from in [0, 3] {
        replaced(log.read(&old, 0, from, ALL).await.expect_err("that is gone, and was another's"));
    }
    let error = log.read(&new, 0, 9, ALL).await.expect_err("it has no such offset");
    assert!(matches!(error, LogError::BeyondEnd { from: 9, end: 5, .. }), "{error:?}");
    let error = log.read(&new, 0, 1, ALL).await.expect_err("that is gone");
    assert!(matches!(error, LogError::Gone { from: 1, start: 4, .. }), "{error:?}");
    close(&[log, other]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn real_kafka_a_topic_that_somebody_else_deletes_is_missed() {
    let (log, other) = (open(), open());
    let topic = topic(&log, "gone", 2).await;
    append(&log, &topic, &["a"]).await;
    read_on(&log, &topic, 0).await;
    other.delete_topic(&topic).await.unwrap();
    let missing = |error: LogError| assert!(matches!(error, LogError::Missing { .. }), "{error:?}");
    missing(log.bounds(&topic).await.expect_err("bounds"));
    missing(log.read(&topic, 0, 0, ALL).await.expect_err("read"));
    missing(log.append(&topic, vec![record(0, "late")], None).await.expect_err("append"));
    assert_eq!(log.topic(&topic.name).await.unwrap(), None, "an append made the topic again");
    close(&[log, other]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn real_kafka_partitions_that_somebody_else_adds_can_be_used_at_once() {
    let (log, other) = (open(), open());
    let small = topic(&log, "grown", 1).await;
    append(&log, &small, &["before"]).await;
    assert_eq!(other.add_partitions(&small, 4).await.unwrap().partitions, 4);
    log.append(&small, vec![record(3, "new"), record(0, "after")], None).await.unwrap();
    assert_eq!(log.bounds(&small).await.unwrap().len(), 4);
    let read = log.read(&small, 3, 0, ALL).await.unwrap();
    assert_eq!(values(&read.records), ["new"]);
    assert_eq!(values(&read_on(&log, &small, 0).await.0), ["before", "after"]);
    close(&[log, other]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn real_kafka_retention_that_passes_a_reader_is_an_error_and_no_later_record() {
    let (log, other) = (open(), open());
    let topic = topic(&log, "passed", 1).await;
    let texts: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    append(&log, &topic, &texts.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let bounds = other.retain(&topic, 0, &EVERYTHING, 12).await.unwrap();
    assert_eq!((bounds.start, bounds.end), (12, 20));
    for from in [0, 11] {
        let error = log.read(&topic, 0, from, ALL).await.expect_err("that is gone");
        assert!(matches!(error, LogError::Gone { start: 12, from: at, .. } if at == from), "{error:?}");
    }
    assert_eq!(values(&read_on(&log, &topic, 12).await.0), texts[12..]);
    // what the broker takes by itself is met in the same way
    assert_eq!(log.bounds(&topic).await.unwrap()[0], bounds);
    close(&[log, other]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn real_kafka_records_leave_by_the_time_that_they_have() {
    let log = open();
    let topic = topic(&log, "age", 1).await;
    let now = now_ms();
    let hours_ago = |hours: i64, value: &str| {
        let mut routed = record(0, value);
        routed.record.timestamp_ms = now - hours * 3_600_000;
        routed
    };
    let records =
        vec![hours_ago(5, "a"), hours_ago(4, "b"), hours_ago(1, "c"), hours_ago(3, "late"), hours_ago(0, "d")];
    log.append(&topic, records, None).await.unwrap();
    let older = |hours: u64| Retention { age_max: Some(Duration::from_secs(hours * 3_600)), bytes_max: None };
    let start = |retention: Retention, limit| {
        let (log, topic) = (Arc::clone(&log), topic.clone());
        async move { log.retain(&topic, 0, &retention, limit).await.unwrap().start }
    };
    assert_eq!(start(older(6), 5).await, 0, "records went that are young enough");
    assert_eq!(start(older(2), 1).await, 1, "retention did not keep to its limit");
    assert_eq!(start(older(2), 5).await, 2, "not exactly what comes before the first young record went");
    assert_eq!(start(Retention { age_max: None, bytes_max: Some(1) }, 5).await, 2, "a size is not known");
    close(&[log]).await;
}

async fn close(logs: &[Arc<dyn Log>]) {
    for log in logs {
        log.close().await.expect("close");
    }
}

/// Nobody else's topic is touched.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn real_kafka_an_old_description_deletes_nothing_new() {
    let log = open();
    let old = topic(&log, "old-name", 1).await;
    let elsewhere = Topic { id: tidemark_shared::log::TopicId::new("AAAAAAAAAAAAAAAAAAAAAQ"), ..old.clone() };
    log.delete_topic(&elsewhere).await.unwrap();
    assert_eq!(log.topic(&old.name).await.unwrap(), Some(old));
    close(&[log]).await;
}
