//! The embedded log: the contract, its lock, its close, and a property test against a simple model.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use tempfile::TempDir;
use tidemark_shared::ambient::Ambient;
use tidemark_shared::log::{Bounds, Log, LogError, Position, ReadLimits, Record, Retention, Routed, Topic, TopicName};
use tidemark_speed::log::embedded::{EmbeddedLog, Storage};
use tidemark_testing::contract::log::{self as contract, SteppedClock};
use tokio::task::JoinSet;

const PARTITIONS: u32 = 2;

async fn open(folder: &Path, storage: Storage, clock: &Arc<SteppedClock>) -> Result<EmbeddedLog, LogError> {
    EmbeddedLog::open(folder, storage, Arc::clone(clock) as Arc<dyn Ambient>).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_log_keeps_the_contract() {
    let folder = TempDir::new().unwrap();
    let clock = Arc::new(SteppedClock::default());
    for round in 0..2 {
        // the second time on what the first one left
        let log: Arc<dyn Log> = Arc::new(open(folder.path(), Storage::default(), &clock).await.unwrap());
        contract::check_all(&log).await;
        contract::check_time(&log, &clock).await;
        contract::check_close(&log).await;
        assert_eq!(Arc::strong_count(&log), 1, "round {round}: something still holds the log");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_holds_with_a_value_for_each_record() {
    let folder = TempDir::new().unwrap();
    let clock = Arc::new(SteppedClock::default());
    let storage = Storage { compression_level: None, value_records_max: 1, value_bytes_max: 1 };
    let log: Arc<dyn Log> = Arc::new(open(folder.path(), storage, &clock).await.unwrap());
    contract::check_all(&log).await;
    contract::check_time(&log, &clock).await;
    contract::check_close(&log).await;
}

#[tokio::test]
async fn a_folder_that_is_open_is_locked_until_it_is_closed() {
    let folder = TempDir::new().unwrap();
    let clock = Arc::new(SteppedClock::default());
    let first = open(folder.path(), Storage::default(), &clock).await.unwrap();
    let error = open(folder.path(), Storage::default(), &clock).await.unwrap_err();
    assert!(matches!(&error, LogError::Locked { path } if path == folder.path()), "{error:?}");
    first.close().await.unwrap();
    // `first` is still there, and holds nothing
    let second = open(folder.path(), Storage::default(), &clock).await.unwrap();
    second.close().await.unwrap();
    assert!(matches!(first.topics().await, Err(LogError::Closed)));
}

/// Appends and reads that are under way when the log is closed are finished, and an answer is never wrong.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_drains_what_was_begun() {
    let folder = TempDir::new().unwrap();
    let clock = Arc::new(SteppedClock::default());
    let log = Arc::new(open(folder.path(), Storage::default(), &clock).await.unwrap());
    let topic = log.create_topic(&TopicName::new("trips").unwrap(), 1).await.unwrap();
    let mut appends = JoinSet::new();
    for n in 0..200 {
        let (log, topic) = (Arc::clone(&log), topic.clone());
        appends.spawn(async move { log.append(&topic, vec![record(0, n), record(0, n)], None).await });
    }
    let first = appends.join_next().await.unwrap().unwrap();
    log.close().await.unwrap();
    let mut acknowledged = vec![first.unwrap().positions[0].offset];
    for outcome in appends.join_all().await {
        match outcome {
            Ok(appended) => acknowledged.push(appended.positions[0].offset),
            Err(error) => assert!(matches!(error, LogError::Closed), "{error:?}"),
        }
    }
    let log = open(folder.path(), Storage::default(), &clock).await.unwrap();
    let bounds = log.bounds(&topic).await.unwrap()[0];
    assert_eq!(bounds.end, 2 * acknowledged.len() as u64, "not exactly the acknowledged records are there");
    log.close().await.unwrap();
}

/// One call's records lie together, whoever appends beside it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_have_no_holes_and_calls_do_not_mix() {
    let folder = TempDir::new().unwrap();
    let clock = Arc::new(SteppedClock::default());
    let log = Arc::new(open(folder.path(), Storage::default(), &clock).await.unwrap());
    let topic = log.create_topic(&TopicName::new("trips").unwrap(), 1).await.unwrap();
    let mut appends = JoinSet::new();
    for n in 0..100 {
        let (log, topic) = (Arc::clone(&log), topic.clone());
        appends.spawn(async move {
            let appended = log.append(&topic, (0..7).map(|_| record(0, n)).collect(), None).await.unwrap();
            appended.positions.iter().map(|position| position.offset).collect::<Vec<_>>()
        });
    }
    let mut calls = appends.join_all().await;
    calls.sort();
    assert_eq!(calls.concat(), (0..700).collect::<Vec<u64>>());
    assert!(calls.iter().all(|offsets| offsets.is_sorted_by(|a, b| a + 1 == *b)), "a call's records are apart");
    log.close().await.unwrap();
}

fn record(partition: u32, n: usize) -> Routed {
    let value = Some(Bytes::from(n.to_string()));
    Routed { partition, record: Record { value, timestamp_ms: 1_000 + n as i64, ..Record::default() } }
}

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<u32>),
    Read { partition: u32, from: f64, limits: ReadLimits },
    Retain { partition: u32, retention: Retention, limit: f64 },
    Pass(Duration),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let partition = || 0..PARTITIONS;
    let limits = (1..30_usize, 1..200_usize).prop_map(|(records_max, bytes_max)| ReadLimits { records_max, bytes_max });
    let retention = (proptest::option::of(0..20_u64), proptest::option::of(0..1_500_u64))
        .prop_map(|(age, bytes)| Retention { age_max: age.map(Duration::from_secs), bytes_max: bytes });
    prop_oneof![
        6 => proptest::collection::vec(partition(), 1..25).prop_map(Step::Append),
        6 => (partition(), -0.1..1.1, limits).prop_map(|(partition, from, limits)| Step::Read { partition, from, limits }),
        3 => (partition(), retention, -0.1..1.1)
            .prop_map(|(partition, retention, limit)| Step::Retain { partition, retention, limit }),
        2 => (0..10_u64).prop_map(|seconds| Step::Pass(Duration::from_secs(seconds))),
        1 => Just(Step::Reopen),
    ]
}

/// All that was ever appended to a partition, and where it begins now.
#[derive(Default)]
struct Model {
    records: Vec<(Record, u64)>,
    start: u64,
}

impl Model {
    fn bounds(&self) -> Bounds {
        Bounds { start: self.start, end: self.records.len() as u64 }
    }

    /// An offset in or near the bounds.
    fn at(&self, fraction: f64) -> u64 {
        (self.records.len() as f64 * fraction).max(0.0).ceil() as u64
    }
}

struct Run {
    folder: TempDir,
    clock: Arc<SteppedClock>,
    log: EmbeddedLog,
    topic: Topic,
    models: Vec<Model>,
    seconds: u64,
    storage: Storage,
}

impl Run {
    async fn new(storage: Storage) -> Self {
        let folder = TempDir::new().expect("a folder");
        let clock = Arc::new(SteppedClock::default());
        let log = open(folder.path(), storage, &clock).await.expect("the log works");
        let topic = log
            .create_topic(&TopicName::new("trips").expect("the log works"), PARTITIONS)
            .await
            .expect("the log works");
        let models = (0..PARTITIONS).map(|_| Model::default()).collect();
        Self { folder, clock, log, topic, models, seconds: 0, storage }
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Append(partitions) => self.append(partitions).await,
            Step::Read { partition, from, limits } => self.read(partition, from, limits).await,
            Step::Retain { partition, retention, limit } => self.retain(partition, retention, limit).await,
            Step::Pass(time) => {
                self.clock.pass(time);
                self.seconds += time.as_secs();
            }
            Step::Reopen => {
                self.log.close().await.expect("close");
                self.log = open(self.folder.path(), self.storage, &self.clock).await.expect("the log works");
            }
        }
        let expected: Vec<Bounds> = self.models.iter().map(Model::bounds).collect();
        assert_eq!(self.log.bounds(&self.topic).await.expect("the log works"), expected);
    }

    async fn append(&mut self, partitions: Vec<u32>) {
        let (mut records, mut expected) = (Vec::new(), Vec::new());
        for partition in partitions {
            let model = &mut self.models[partition as usize];
            expected.push(Position { partition, offset: model.records.len() as u64 });
            let routed = record(partition, model.records.len());
            model.records.push((routed.record.clone(), self.seconds));
            records.push(routed);
        }
        assert_eq!(self.log.append(&self.topic, records, None).await.expect("the log works").positions, expected);
    }

    async fn read(&self, partition: u32, from: f64, limits: ReadLimits) {
        let model = &self.models[partition as usize];
        let (from, Bounds { start, end }) = (model.at(from), model.bounds());
        let read = self.log.read(&self.topic, partition, from, limits).await;
        if from < start {
            assert!(matches!(read, Err(LogError::Gone { .. })), "{read:?}");
        } else if from > end {
            assert!(matches!(read, Err(LogError::BeyondEnd { .. })), "{read:?}");
        } else {
            let fetched = read.expect("the log works");
            assert_eq!(fetched.bounds, model.bounds());
            let mut bytes = 0;
            let expected = (from..end).zip(&model.records[from as usize..]).take(limits.records_max).take_while(
                |(offset, (record, _))| {
                    bytes += record.bytes();
                    *offset == from || bytes <= limits.bytes_max
                },
            );
            let expected: Vec<_> = expected.map(|(offset, (record, _))| (offset, record.clone())).collect();
            assert_eq!(fetched.next, from + expected.len() as u64);
            let read: Vec<_> = fetched.records.into_iter().map(|read| (read.offset, read.record)).collect();
            assert_eq!(read, expected);
        }
    }

    /// What goes is cut where appends were, so the model checks the bounds of it and takes it over.
    async fn retain(&mut self, partition: u32, retention: Retention, limit: f64) {
        let model = &mut self.models[partition as usize];
        let (limit, before) = (model.at(limit), model.bounds());
        let after = self.log.retain(&self.topic, partition, &retention, limit).await.expect("the log works");
        assert_eq!(after.end, before.end);
        assert!((before.start..=before.end).contains(&after.start), "{before:?} became {after:?}");
        assert!(after.start == before.start || after.start <= limit, "retention passed {limit}: {after:?}");
        let young =
            |at: u64| retention.age_max.is_none_or(|age| self.seconds - model.records[at as usize].1 <= age.as_secs());
        if retention.bytes_max.is_none() {
            assert!((before.start..after.start).all(|at| !young(at)), "records that are young enough went");
            let old = (after.start..after.end.min(limit)).take_while(|at| !young(*at) && retention.age_max.is_some());
            assert!(old.count() < 25, "more than one append's old records stayed");
        }
        if retention == (Retention { age_max: None, bytes_max: Some(0) }) && limit >= before.end {
            assert_eq!(after.start, after.end);
        }
        model.start = after.start;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_embedded_log_is_a_simple_list(
        steps in proptest::collection::vec(step(), 1..40),
        value_records_max in prop_oneof![Just(1_u32), Just(3), Just(4_096)],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut run = Run::new(Storage { value_records_max, ..Storage::default() }).await;
            for step in steps {
                run.take(step).await;
            }
            run.log.close().await.unwrap();
        });
    }
}
