//! What librdkafka counts of clients that are at work.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidemark_kafka::{ClientKind, ClientStats, KafkaLog, KafkaSettings, Stats};
use tidemark_shared::ambient::System;
use tidemark_shared::log::{GroupName, IdempotencyKey, Log};
use tokio::sync::watch;

use super::support::{append, brokers, name, read_on, record, topic, values};

const PATIENCE: Duration = Duration::from_secs(60);
const KINDS: [ClientKind; 3] = [ClientKind::Reader, ClientKind::Member, ClientKind::Producer];

/// What was told of each kind: most brokers, and the last time from a request to its answer.
#[derive(Debug)]
struct Heard(watch::Sender<BTreeMap<ClientKind, ClientStats>>);

impl Stats for Heard {
    fn heard(&self, clients: ClientKind, together: ClientStats) {
        self.0.send_modify(|all| {
            let known = all.entry(clients).or_default();
            known.brokers_up = known.brokers_up.max(together.brokers_up);
            // a client that has nothing to do asks nothing
            known.round_trip = together.round_trip.or(known.round_trip);
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn real_kafka_clients_of_each_kind_tell_what_they_count() {
    let heard = Arc::new(Heard(watch::Sender::default()));
    let properties = BTreeMap::from([("statistics.interval.ms".to_owned(), "1000".to_owned())]);
    let settings = KafkaSettings { brokers: brokers(), properties, ..KafkaSettings::default() };
    let stats = Arc::clone(&heard) as Arc<dyn Stats>;
    let log = KafkaLog::with_stats(settings, Arc::new(System), stats).expect("settings that go together");
    let log: Arc<dyn Log> = Arc::new(log);
    let topic = topic(&log, "stats", 1).await;
    let member = log.join(&topic, &GroupName::new(name("stats").as_str()).unwrap()).await.unwrap();
    append(&log, &topic, &["a"]).await;
    let key = IdempotencyKey::new("k").unwrap();
    log.append(&topic, vec![record(0, "b")], Some(&key)).await.unwrap();
    assert_eq!(values(&read_on(&log, &topic, 0).await.0), ["a", "b"]);

    let all_told = |all: &BTreeMap<ClientKind, ClientStats>| {
        let told =
            |kind: &ClientKind| all.get(kind).is_some_and(|stats| stats.brokers_up >= 1 && stats.round_trip.is_some());
        KINDS.iter().all(told)
    };
    let mut told = heard.0.subscribe();
    let waited = tokio::time::timeout(PATIENCE, told.wait_for(all_told)).await.map(|_| ());
    assert!(waited.is_ok(), "not every kind was told of: {:?}", *heard.0.borrow());
    member.leave().await;
    log.close().await.unwrap();
}
