//! Topics that are compacted can't be followed.

use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use tidemark_shared::error::{ErrorKind as _, Kind};
use tidemark_shared::log::LogError;
use tidemark_testing::wait::PATIENCE;

use super::support::{client, name, open};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn real_kafka_a_compacted_topic_is_refused_where_it_is_opened_until_it_is_none() {
    let log = open();
    let admin: AdminClient<DefaultClientContext> = client().create().unwrap();
    for policy in ["compact", "delete,compact"] {
        let name = name("compacted");
        let new = NewTopic::new(name.as_str(), 1, TopicReplication::Fixed(-1)).set("cleanup.policy", policy);
        let made = admin.create_topics(&[new], &AdminOptions::new()).await.unwrap();
        assert!(made.iter().all(Result::is_ok), "{made:?}");
        // brokers hear of it one after the other
        let topic = log.create_topic(&name, 1).await.unwrap();
        let refused = log.check_topic(&topic).await.expect_err("it is compacted");
        let shown = refused.to_string();
        assert!(matches!(refused, LogError::Invalid { .. }) && refused.kind() == Kind::Invalid, "{refused:?}");
        assert!(shown.contains(name.as_str()) && shown.contains("set `cleanup.policy=delete`"), "{shown}");
        assert_eq!(log.topic(&name).await.unwrap(), Some(topic.clone()), "which topic it is, it tells nevertheless");
        assert!(log.topics().await.unwrap().contains(&topic), "whoever looks at all sees it");

        let config = AlterConfig::new(ResourceSpecifier::Topic(name.as_str())).set("cleanup.policy", "delete");
        let altered = admin.alter_configs(&[config], &AdminOptions::new()).await.unwrap();
        assert!(altered.iter().all(Result::is_ok), "{altered:?}");
        // brokers hear of that one after the other
        let opened = async {
            while let Err(error) = log.check_topic(&topic).await {
                assert!(matches!(error, LogError::Invalid { .. }), "{error:?}");
            }
        };
        tokio::time::timeout(PATIENCE, opened).await.expect("it is compacted no more");
        log.delete_topic(&topic).await.unwrap();
    }
    log.close().await.unwrap();
}

/// Whatever brokers do with topics of which nobody says anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn real_kafka_topics_that_are_made_say_that_they_are_not_compacted() {
    let log = open();
    let topic = super::support::topic(&log, "said", 1).await;
    let admin: AdminClient<DefaultClientContext> = client().create().unwrap();
    let asked = [ResourceSpecifier::Topic(topic.name.as_str())];
    let described = admin.describe_configs(&asked, &AdminOptions::new()).await.unwrap();
    let config = described[0].as_ref().unwrap();
    let policy = config.get("cleanup.policy").expect("every topic has one");
    assert_eq!((policy.value.as_deref(), policy.is_default), (Some("delete"), false));
    log.close().await.unwrap();
}
