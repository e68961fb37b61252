//! Idempotency keys, whoever appends and whatever died.

use std::sync::Arc;

use tidemark_shared::log::{IdempotencyKey, LogError};
use tokio::task::JoinSet;

use super::support::{append, open, read_on, record, topic, values};

fn key(text: &str) -> IdempotencyKey {
    IdempotencyKey::new(text).expect("a legal key")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn real_kafka_a_key_counts_for_the_next_process_too() {
    let topic = {
        let log = open();
        let topic = topic(&log, "next", 2).await;
        let records = vec![record(0, "a"), record(1, "b")];
        let first = log.append(&topic, records.clone(), Some(&key("k"))).await.unwrap();
        assert!(!first.repeated);
        log.close().await.unwrap();
        let next = open();
        let again = next.append(&topic, records, Some(&key("k"))).await.unwrap();
        assert_eq!((again.positions, again.repeated), (first.positions, true));
        let other = next.append(&topic, vec![record(0, "c")], Some(&key("k"))).await.expect_err("other records");
        assert!(matches!(other, LogError::KeyReused { .. }), "{other:?}");
        next.close().await.unwrap();
        topic
    };
    let log = open();
    assert_eq!(values(&read_on(&log, &topic, 0).await.0), ["a"]);
    log.close().await.unwrap();
}

/// Two processes take the topic's id from each other all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn real_kafka_racing_processes_append_once_for_each_key() {
    let logs = [open(), open()];
    let topic = topic(&logs[0], "race", 1).await;
    let mut appends = JoinSet::new();
    for n in 0..6 {
        for log in &logs {
            let (log, topic) = (Arc::clone(log), topic.clone());
            appends.spawn(async move {
                let records = vec![record(0, &format!("{n}-x")), record(0, &format!("{n}-y"))];
                (n, log.append(&topic, records, Some(&key(&format!("key-{n}")))).await)
            });
        }
    }
    let mut outcomes = appends.join_all().await;
    outcomes.sort_by_key(|(n, _)| *n);
    for both in outcomes.chunks(2) {
        let positions = |at: usize| &both[at].1.as_ref().unwrap_or_else(|error| panic!("{error:?}")).positions;
        assert_eq!(positions(0), positions(1), "a key has two answers");
    }
    // without a key nobody is fenced
    append(&logs[0], &topic, &["plain"]).await;
    let mut read = values(&read_on(&logs[1], &topic, 0).await.0);
    read.sort();
    let mut expected: Vec<String> = (0..6).flat_map(|n| [format!("{n}-x"), format!("{n}-y")]).collect();
    expected.push("plain".to_owned());
    assert_eq!(read, expected);
    for log in logs {
        log.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn real_kafka_keys_have_a_topic_that_is_not_shown_and_goes_with_theirs() {
    let log = open();
    let topic = topic(&log, "beside", 1).await;
    log.append(&topic, vec![record(0, "a")], Some(&key("k"))).await.unwrap();
    assert!(log.topics().await.unwrap().iter().all(|found| !found.name.as_str().starts_with("tidemark-keys.")));
    let beside = tidemark_shared::log::TopicName::new(&format!("tidemark-keys.{}", topic.id)).unwrap();
    assert!(log.topic(&beside).await.unwrap().is_some());
    log.delete_topic(&topic).await.unwrap();
    assert_eq!(log.topic(&beside).await.unwrap(), None);
    log.close().await.unwrap();
}
