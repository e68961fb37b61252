//! A broker that wants TLS and a password.

use std::sync::Arc;

use tidemark_kafka::{KafkaLog, KafkaSettings, Sasl, Security, properties_of};
use tidemark_shared::ambient::System;
use tidemark_shared::error::chain;
use tidemark_shared::log::{Log, LogError};

use super::support::{append, name, read_on, values};

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is the test server's"))
}

fn settings(password: &str) -> KafkaSettings {
    let (mechanism, username) = ("PLAIN".to_owned(), variable("TIDEMARK_TEST_KAFKA_USER"));
    KafkaSettings {
        brokers: variable("TIDEMARK_TEST_KAFKA_SECURE"),
        security: Security::SaslSsl,
        ca_file: Some(variable("TIDEMARK_TEST_KAFKA_CA").into()),
        sasl: Some(Sasl { mechanism, username, password: password.to_owned() }),
        ..KafkaSettings::default()
    }
}

fn open(settings: KafkaSettings) -> Arc<dyn Log> {
    Arc::new(KafkaLog::open(settings, Arc::new(System)).expect("settings that go together"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn real_kafka_with_tls_and_a_password_takes_records_and_gives_them_back() {
    let log = open(settings(&variable("TIDEMARK_TEST_KAFKA_PASSWORD")));
    let topic = log.create_topic(&name("secure"), 1).await.unwrap();
    append(&log, &topic, &["a", "b"]).await;
    assert_eq!(values(&read_on(&log, &topic, 0).await.0), ["a", "b"]);
    log.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn real_kafka_refuses_who_is_not_known_and_who_does_not_know_it() {
    let wrong_password = settings("wrong-secret");
    let unknown_authority = KafkaSettings { ca_file: None, ..settings(&variable("TIDEMARK_TEST_KAFKA_PASSWORD")) };
    for settings in [wrong_password, unknown_authority] {
        let log = open(settings);
        let refused = log.topic(&name("none")).await.expect_err("it is refused");
        assert!(matches!(refused, LogError::Backend { .. }), "{refused:?}");
        assert!(!chain(&refused).contains("wrong-secret"), "{refused:?}");
        log.close().await.unwrap();
    }
}

#[tokio::test]
async fn real_kafka_is_opened_by_no_settings_that_librdkafka_does_not_take() {
    let properties = properties_of("no.such.property=hidden\n").unwrap();
    let settings = KafkaSettings { properties, ..settings("hidden") };
    let refused = KafkaLog::open(settings, Arc::new(System)).expect_err("there is no such property");
    assert!(matches!(&refused, LogError::Invalid { what, .. } if what.contains("no.such.property")), "{refused:?}");
    assert!(!format!("{refused:?}").contains("hidden"), "{refused:?}");
}
