//! Topics: creation, growth, incarnations, and what is not there.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::{ALL, append, name, read_on, record, topic, values};
use tidemark_shared::log::{Bounds, Log, LogError, PARTITIONS_MAX, Position, Retention, Topic, TopicId};

pub(super) async fn creating_is_idempotent(log: &Arc<dyn Log>) {
    let name = name("create");
    assert_eq!(log.topic(&name).await.expect("describe"), None);
    let made = log.create_topic(&name, 3).await.expect("create");
    assert_eq!((&made.name, made.partitions), (&name, 3));
    assert_eq!(log.create_topic(&name, 3).await.expect("create again"), made);
    assert_eq!(log.topic(&name).await.expect("describe"), Some(made.clone()));
    log.check_topic(&made).await.expect("one that was made here can be followed");
    assert_eq!(log.bounds(&made).await.expect("bounds"), [Bounds::default(); 3]);

    let error = log.create_topic(&name, 4).await.expect_err("another number of partitions");
    assert!(matches!(error, LogError::Mismatch { expected: 4, found: 3, .. }), "{error:?}");
    for partitions in [0, PARTITIONS_MAX + 1] {
        let error = log.create_topic(&super::name("none"), partitions).await.expect_err("no such topic can be");
        assert!(matches!(error, LogError::Invalid { .. }), "{error:?}");
    }
    assert_eq!(log.topic(&name).await.expect("describe"), Some(made), "a refused creation changed the topic");
}

pub(super) async fn racing_creators_make_one_topic(log: &Arc<dyn Log>) {
    let name = name("race");
    let mut creators = JoinSet::new();
    for _ in 0..8 {
        let (log, name) = (Arc::clone(log), name.clone());
        creators.spawn(async move { log.create_topic(&name, 2).await.expect("create") });
    }
    let made = creators.join_all().await;
    assert!(made.iter().all(|topic| *topic == made[0]), "racing creators were told of several topics: {made:?}");
}

pub(super) async fn topics_are_listed_by_name(log: &Arc<dyn Log>) {
    let mut made = vec![topic(log, "list-b", 1).await, topic(log, "list-a", 2).await, topic(log, "list-c", 1).await];
    made.sort_by(|a, b| a.name.cmp(&b.name));
    let listed = log.topics().await.expect("list");
    assert!(listed.is_sorted_by(|a, b| a.name < b.name), "topics are not in order of name");
    let ours: Vec<_> = listed.into_iter().filter(|topic| made.contains(topic)).collect();
    assert_eq!(ours, made);
}

pub(super) async fn partitions_can_be_added(log: &Arc<dyn Log>) {
    let small = topic(log, "grow", 1).await;
    append(log, &small, vec![record(0, "before")]).await;
    let grown = log.add_partitions(&small, 3).await.expect("add partitions");
    assert_eq!((grown.partitions, &grown.id), (3, &small.id), "it is the same topic, with more partitions");
    assert_eq!(log.add_partitions(&small, 3).await.expect("again"), grown);
    let error = log.add_partitions(&small, 2).await.expect_err("partitions can't be taken away");
    assert!(matches!(error, LogError::Mismatch { expected: 2, found: 3, .. }), "{error:?}");

    // who described the topic before goes on, and can use the new ones
    append(log, &small, vec![record(2, "new"), record(0, "after")]).await;
    assert_eq!(values(&read_on(log, &small, 0, 0, ALL).await), ["before", "after"]);
    assert_eq!(values(&read_on(log, &grown, 2, 0, ALL).await), ["new"]);
    assert_eq!(log.bounds(&small).await.expect("bounds").len(), 3);
}

pub(super) async fn a_topic_made_again_is_another(log: &Arc<dyn Log>) {
    let old = topic(log, "again", 2).await;
    append(log, &old, vec![record(0, "old"), record(1, "old")]).await;
    log.delete_topic(&old).await.expect("delete");
    assert_eq!(log.topic(&old.name).await.expect("describe"), None);
    let error = log.read(&old, 0, 0, ALL).await.expect_err("it is deleted");
    assert!(matches!(error, LogError::Missing { .. }), "{error:?}");

    let new = log.create_topic(&old.name, 1).await.expect("create again");
    assert_ne!(new.id, old.id, "a topic made again has the old one's id");
    assert_eq!(log.bounds(&new).await.expect("bounds"), [Bounds::default()], "old records are in the new topic");
    append(log, &new, vec![record(0, "new")]).await;
    check_refused(log, &old, |error| matches!(error, LogError::Replaced { .. })).await;
    log.delete_topic(&old).await.expect("the old one counts as deleted");
    assert_eq!(values(&read_on(log, &new, 0, 0, ALL).await), ["new"], "deleting the old one took the new one");
}

pub(super) async fn what_is_not_there_is_an_error(log: &Arc<dyn Log>) {
    let missing = Topic { name: name("missing"), id: TopicId::new("none"), partitions: 1 };
    check_refused(log, &missing, |error| matches!(error, LogError::Missing { .. })).await;
    log.delete_topic(&missing).await.expect("what is not there counts as deleted");

    let topic = topic(log, "partition", 2).await;
    let refused = |error: LogError| {
        assert!(matches!(error, LogError::NoPartition { partition: 2, partitions: 2, .. }), "{error:?}");
    };
    let both = vec![record(0, "good"), record(2, "bad")];
    refused(log.append(&topic, both, None).await.expect_err("append"));
    refused(log.read(&topic, 2, 0, ALL).await.expect_err("read"));
    let beyond = [Position { partition: 2, offset: 0 }];
    refused(log.wait(&topic, &beyond, Duration::ZERO).await.expect_err("wait"));
    refused(log.retain(&topic, 2, &Retention::default(), 0).await.expect_err("retain"));
    assert_eq!(log.bounds(&topic).await.expect("bounds"), [Bounds::default(); 2], "a refused append left a record");
}

/// Every call on the topic is refused so.
async fn check_refused(log: &Arc<dyn Log>, topic: &Topic, expected: fn(&LogError) -> bool) {
    let beyond = [Position { partition: 0, offset: 0 }];
    let errors = [
        log.append(topic, vec![record(0, "x")], None).await.expect_err("append"),
        log.read(topic, 0, 0, ALL).await.expect_err("read"),
        log.bounds(topic).await.expect_err("bounds"),
        log.wait(topic, &beyond, Duration::ZERO).await.expect_err("wait"),
        log.retain(topic, 0, &Retention::default(), 0).await.expect_err("retain"),
        log.add_partitions(topic, 5).await.expect_err("add partitions"),
        log.check_topic(topic).await.expect_err("check"),
    ];
    for error in errors {
        assert!(expected(&error), "{error:?}");
    }
}
