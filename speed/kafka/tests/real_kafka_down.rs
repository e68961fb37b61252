//! A broker that goes away and comes back. It kills the test server, so that nothing else may use it meanwhile.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidemark_kafka::{KafkaLog, KafkaSettings};
use tidemark_shared::ambient::System;
use tidemark_shared::error::{ErrorKind as _, Kind};
use tidemark_shared::log::{IdempotencyKey, Log, Position, ReadLimits, Record, Routed, Topic, TopicName};
use tokio::task::JoinSet;

const ALL: ReadLimits = ReadLimits { records_max: 10_000, bytes_max: 64 << 20 };
const PATIENCE: Duration = Duration::from_secs(60);

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} names the test server"))
}

/// Runs a script beside the servers.
fn server(script: &str) {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../infra/servers").join(script);
    let data = variable("TIDEMARK_TEST_KAFKA_DATA");
    let done = Command::new(script).args(["--data", &data, "kafka"]).output().expect("the script runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

fn record(value: &str) -> Routed {
    let value = Some(Bytes::copy_from_slice(value.as_bytes()));
    // of this moment: a broker lets old records go by the time that they have
    let now = std::time::UNIX_EPOCH.elapsed().expect("it is after 1970").as_millis();
    let timestamp_ms = i64::try_from(now).expect("it is before 292277026596");
    Routed { partition: 0, record: Record { value, timestamp_ms, ..Record::default() } }
}

/// Offsets and values of all that the log has.
async fn read_on(log: &Arc<dyn Log>, topic: &Topic) -> Vec<(u64, Option<String>)> {
    let (mut at, mut values) = (0, Vec::new());
    loop {
        let fetched = log.read(topic, 0, at, ALL).await.expect("read");
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        values.extend(fetched.records.iter().map(|read| (read.offset, read.record.value.as_ref().map(text))));
        at = fetched.next;
        if at >= fetched.bounds.end {
            return values;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn real_kafka_that_went_away_is_back_with_all_that_it_acknowledged() {
    let settings = KafkaSettings { brokers: variable("TIDEMARK_TEST_KAFKA"), ..KafkaSettings::default() };
    let log: Arc<dyn Log> = Arc::new(KafkaLog::open(settings.clone(), Arc::new(System)).unwrap());
    let name = TopicName::new(&format!("down-{}", uuid::Uuid::new_v4().simple())).unwrap();
    let topic = log.create_topic(&name, 1).await.unwrap();
    let key = |text: &str| IdempotencyKey::new(text).unwrap();
    log.append(&topic, vec![record("plain")], None).await.unwrap();
    let keyed = log.append(&topic, vec![record("keyed")], Some(&key("k"))).await.unwrap();
    let end = log.bounds(&topic).await.unwrap()[0].end;
    // a reader stands at the end
    assert_eq!(read_on(&log, &topic).await.len(), 2);

    server("kill.sh");
    let passes = |error: tidemark_shared::log::LogError| assert_eq!(error.kind(), Kind::Retryable, "{error:?}");
    passes(log.health().await.expect_err("nobody is there"));
    passes(log.read(&topic, 0, end, ALL).await.expect_err("nobody is there"));
    passes(log.bounds(&topic).await.expect_err("nobody is there"));
    passes(log.append(&topic, vec![record("lost")], None).await.expect_err("nobody is there"));
    passes(log.append(&topic, vec![record("later")], Some(&key("later"))).await.expect_err("nobody is there"));
    passes(log.topic(&name).await.expect_err("nobody is there"));

    server("up.sh");
    let mut waiting = JoinSet::new();
    {
        let (log, topic) = (Arc::clone(&log), topic.clone());
        waiting.spawn(async move {
            let beyond = [Position { partition: 0, offset: end }];
            loop {
                match log.wait(&topic, &beyond, PATIENCE).await {
                    Ok(more) => return more,
                    Err(error) => assert_eq!(error.kind(), Kind::Retryable, "{error:?}"),
                }
            }
        });
    }
    // who comes again with a key doubles nothing, whether or not the first call had got through
    let begun = std::time::Instant::now();
    let later = loop {
        match log.append(&topic, vec![record("later")], Some(&key("later"))).await {
            Ok(appended) => break appended,
            Err(error) => assert_eq!(error.kind(), Kind::Retryable, "{error:?}"),
        }
        assert!(begun.elapsed() < PATIENCE, "it takes no records a minute after it was back");
    };
    println!("took records {:?} after it was back", begun.elapsed());
    let again = log.append(&topic, vec![record("keyed")], Some(&key("k"))).await.unwrap();
    assert_eq!((again.positions, again.repeated), (keyed.positions, true));
    assert!(waiting.join_next().await.unwrap().unwrap(), "a waiter was not told of more");
    log.health().await.unwrap();
    let values = read_on(&log, &topic).await;
    let count = |wanted: &str| values.iter().filter(|(_, value)| value.as_deref() == Some(wanted)).count();
    // an append without a key that failed may have got through, once
    assert_eq!((count("plain"), count("keyed"), count("later")), (1, 1, 1), "{values:?}");
    assert!(count("lost") <= 1, "{values:?}");
    assert!(values.contains(&(later.positions[0].offset, Some("later".to_owned()))));

    // Leaders of a broker that came back have a later epoch, those of a topic that is made again the first one.
    let other: Arc<dyn Log> = Arc::new(KafkaLog::open(settings, Arc::new(System)).unwrap());
    other.delete_topic(&topic).await.unwrap();
    let new = other.create_topic(&name, 1).await.unwrap();
    other.append(&new, vec![record("new")], None).await.unwrap();
    assert_eq!(read_on(&log, &new).await, [(0, Some("new".to_owned()))]);
    other.close().await.unwrap();
    log.close().await.unwrap();
}
