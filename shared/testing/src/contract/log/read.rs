//! Reading and waiting.

use std::sync::Arc;
use std::time::Duration;

use super::{ALL, PATIENCE, append, check_fetched, read_on, record, topic, values};
use tidemark_shared::log::{Log, LogError, Position, ReadLimits, Topic};

/// Waits in the background, for longer than any check takes.
pub(super) fn waiter(
    log: &Arc<dyn Log>,
    topic: &Topic,
    beyond: Vec<Position>,
) -> impl Future<Output = Result<Result<bool, LogError>, tokio::task::JoinError>> + use<> {
    let (log, topic) = (Arc::clone(log), topic.clone());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move { log.wait(&topic, &beyond, PATIENCE * 10).await });
    async move { tasks.join_next().await.expect("one task") }
}

pub(super) async fn reads_are_bounded_and_get_on(log: &Arc<dyn Log>) {
    let topic = topic(log, "bounded", 1).await;
    let texts: Vec<String> = (0..200).map(|n| format!("{n:03}{}", "x".repeat(n % 50))).collect();
    for chunk in texts.chunks(33) {
        append(log, &topic, chunk.iter().map(|text| record(0, text)).collect()).await;
    }
    for (records_max, bytes_max) in [(1, 1 << 20), (7, 1 << 20), (1_000, 60), (1_000, 1), (5, 100), (0, 0)] {
        let limits = ReadLimits { records_max, bytes_max };
        assert_eq!(values(&read_on(log, &topic, 0, 0, limits).await), texts, "{limits:?}");
    }
    // from anywhere, also from the middle of what was appended at once
    let all = read_on(log, &topic, 0, 0, ALL).await;
    for n in [0, 1, 32, 33, 100, 199] {
        assert_eq!(values(&read_on(log, &topic, 0, all[n].offset, ALL).await), texts[n..], "from record {n}");
    }
}

pub(super) async fn the_end_is_no_error_and_beyond_it_is(log: &Arc<dyn Log>) {
    let topic = topic(log, "end", 1).await;
    let empty = log.read(&topic, 0, 0, ALL).await.expect("an empty partition can be read");
    check_fetched(&empty, 0, ALL);
    assert!(empty.records.is_empty());
    append(log, &topic, vec![record(0, "x")]).await;
    let end = log.bounds(&topic).await.expect("bounds")[0].end;
    let fetched = log.read(&topic, 0, end, ALL).await.expect("the end can be read");
    assert_eq!((fetched.records.len(), fetched.next), (0, end));
    let error = log.read(&topic, 0, end + 1, ALL).await.expect_err("beyond the end");
    assert!(matches!(error, LogError::BeyondEnd { from, end: at, .. } if from == end + 1 && at == end), "{error:?}");
}

pub(super) async fn waiting_ends_with_more_or_with_time(log: &Arc<dyn Log>) {
    let topic = topic(log, "wait", 1).await;
    let at = |offset| vec![Position { partition: 0, offset }];
    assert!(!log.wait(&topic, &at(0), Duration::ZERO).await.expect("wait"), "there is nothing");
    assert!(!log.wait(&topic, &[], Duration::ZERO).await.expect("wait"), "there is nothing to wait for");
    let waiting = waiter(log, &topic, at(0));
    append(log, &topic, vec![record(0, "x")]).await;
    let woken = tokio::time::timeout(PATIENCE, waiting).await.expect("a waiter was not woken by an append");
    assert!(woken.expect("no panic").expect("wait"), "a waiter was told that there is nothing");
    assert!(log.wait(&topic, &at(0), Duration::ZERO).await.expect("wait"), "there is a record");
    let end = log.bounds(&topic).await.expect("bounds")[0].end;
    assert!(!log.wait(&topic, &at(end), Duration::from_millis(1)).await.expect("wait"), "all was read");

    // a waiter that is dropped leaves nothing behind
    drop(waiter(log, &topic, at(end)));
    append(log, &topic, vec![record(0, "y")]).await;
    assert_eq!(values(&read_on(log, &topic, 0, 0, ALL).await), ["x", "y"]);
}

pub(super) async fn waiting_looks_at_every_partition(log: &Arc<dyn Log>) {
    let topic = topic(log, "wait-any", 3).await;
    let beyond = (0..3).map(|partition| Position { partition, offset: 0 }).collect::<Vec<_>>();
    for partition in [2, 0, 1] {
        let at: Vec<Position> = log
            .bounds(&topic)
            .await
            .expect("bounds")
            .iter()
            .zip(&beyond)
            .map(|(bounds, position)| Position { offset: bounds.end, ..*position })
            .collect();
        let waiting = waiter(log, &topic, at);
        append(log, &topic, vec![record(partition, "x")]).await;
        let woken = tokio::time::timeout(PATIENCE, waiting).await.expect("a waiter was not woken by an append");
        assert!(woken.expect("no panic").expect("wait"));
    }
}

pub(super) async fn waiting_ends_when_the_topic_goes(log: &Arc<dyn Log>) {
    let topic = topic(log, "wait-gone", 1).await;
    let waiting = waiter(log, &topic, vec![Position { partition: 0, offset: 0 }]);
    log.delete_topic(&topic).await.expect("delete");
    let woken = tokio::time::timeout(PATIENCE, waiting).await.expect("a waiter was not woken by a deletion");
    let error = woken.expect("no panic").expect_err("there is nothing to wait for");
    assert!(matches!(error, LogError::Missing { .. }), "{error:?}");
}
