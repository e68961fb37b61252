use std::path::Path;

use bytes::Bytes;
use proptest::prelude::*;
use tempfile::TempDir;
use tidemark_shared::log::{Header, Record};
use tidemark_testing::contract::log::SteppedClock;
use tokio::sync::OwnedSemaphorePermit;

use super::codec::{Records, ValueHeader, fill_in, key_of};
use super::*;

const LIMITS: ReadLimits = ReadLimits { records_max: 1_000, bytes_max: 64 << 20 };

fn topic_name() -> TopicName {
    TopicName::new("trips").unwrap()
}

fn record(value: impl Into<Bytes>) -> Routed {
    Routed { partition: 0, record: Record { value: Some(value.into()), ..Record::default() } }
}

async fn open(folder: &Path) -> EmbeddedLog {
    EmbeddedLog::open(folder, Storage::default(), Arc::new(SteppedClock::default())).await.unwrap()
}

fn any_record() -> impl Strategy<Value = Record> {
    let bytes = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from));
    let header = ("[a-z\u{e4}]{0,5}", bytes()).prop_map(|(name, value)| Header { name, value });
    let headers = proptest::collection::vec(header, 0..3);
    let time = prop_oneof![any::<i64>(), 1_700_000_000_000..1_700_000_100_000_i64];
    (bytes(), bytes(), headers, time).prop_map(|(key, value, headers, timestamp_ms)| Record {
        key,
        value,
        headers,
        timestamp_ms,
    })
}

fn encoded(records: &[Record], level: Option<i32>) -> Vec<u8> {
    let mut builder = ValueBuilder::default();
    records.iter().for_each(|record| builder.push(record));
    let mut value = builder.finish(level);
    fill_in(&mut value, 1_000, -7, 99);
    value
}

fn decoded(value: Vec<u8>) -> Result<Vec<Record>, codec::Malformed> {
    let (_, mut records) = Records::of(&value.into())?;
    let mut all = Vec::new();
    while let Some(record) = records.next()? {
        all.push(record);
    }
    Ok(all)
}

proptest! {
    #[test]
    fn values_round_trip(records in proptest::collection::vec(any_record(), 1..60), level in proptest::option::of(-5..4)) {
        let value = encoded(&records, level);
        let header = ValueHeader::parse(&value).unwrap();
        prop_assert_eq!((header.first, header.end()), (1_000, 1_000 + records.len() as u64));
        prop_assert_eq!((header.appended_at_ms, header.bytes_before), (-7, 99));
        prop_assert_eq!(decoded(value).unwrap(), records);
    }

    #[test]
    fn damaged_values_are_refused_or_read_without_a_panic(
        records in proptest::collection::vec(any_record(), 1..20),
        level in proptest::option::of(1..3),
        at in any::<proptest::sample::Index>(),
        flip in 1..=255_u8,
    ) {
        let value = encoded(&records, level);
        let cut = at.index(value.len());
        prop_assert!(decoded(value[..cut].to_vec()).is_err(), "a part of {cut} bytes was read as the whole");
        let mut changed = value;
        let at = at.index(changed.len());
        changed[at] ^= flip;
        // a changed byte of a text is for the store's checksums to notice, a changed number of records is not
        if let Ok(read) = decoded(changed.clone()) {
            prop_assert_eq!(read.len(), ValueHeader::parse(&changed).unwrap().records as usize);
        }
    }
}

/// What has gathered while the writer was busy costs one sync.
#[tokio::test]
async fn appends_that_gathered_share_one_commit() {
    let folder = TempDir::new().unwrap();
    let log = open(folder.path()).await;
    let topic = log.create_topic(&topic_name(), 2).await.unwrap();
    log.close().await.unwrap();
    drop(log);

    let store = LogStore::open(folder.path()).unwrap();
    let (recovered, next_number) = store.recover().unwrap();
    let topics = Topics::default();
    topics.write().insert(topic.name.clone(), Arc::clone(&recovered[0]));
    let shared = Arc::new(Shared::new(Arc::new(SteppedClock::default()), topics));
    let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
    let budget = Arc::new(Semaphore::new(1_000));
    let mut answers = Vec::new();
    for n in 0..100_u32 {
        let mut routed = record(n.to_string());
        routed.partition = n % 2;
        let (values, order) = encode(&recovered[0], &[routed], Storage::default());
        let (reply, answer) = oneshot::channel();
        answers.push(answer);
        let budget: OwnedSemaphorePermit = Arc::clone(&budget).try_acquire_owned().unwrap();
        let topic = Arc::clone(&recovered[0]);
        let request = AppendRequest { topic, values, order, key: None, reply, budget };
        commands.try_send(Command::Append(request)).unwrap_or_else(|_| panic!("the channel is full"));
    }
    drop(commands);
    let writer = Writer {
        folder: folder.path().to_owned(),
        store: Some(store),
        shared: Arc::clone(&shared),
        reads: Arc::new(Semaphore::new(READS_MAX as usize)),
        commands: receiver,
        next_number,
        purge: Purge::default(),
    };
    std::thread::spawn(|| writer.run()).join().unwrap();
    assert_eq!(shared.commits.load(Ordering::Relaxed), 1, "a hundred appends that waited were not one group");
    assert_eq!(budget.available_permits(), 1_000, "memory was not given back");
    for (n, answer) in (0..).zip(answers) {
        let appended = answer.await.unwrap().unwrap();
        assert_eq!(appended.positions, [Position { partition: n % 2, offset: u64::from(n / 2) }]);
    }
}

#[tokio::test]
async fn a_failed_log_takes_no_more_and_can_be_read() {
    let folder = TempDir::new().unwrap();
    let log = open(folder.path()).await;
    let topic = log.create_topic(&topic_name(), 1).await.unwrap();
    log.append(&topic, vec![record("x")], None).await.unwrap();
    log.shared.fail("the disk is on fire".to_owned());
    let error = log.append(&topic, vec![record("y")], None).await.unwrap_err();
    assert!(matches!(&error, LogError::Failed { reason } if reason.contains("on fire")), "{error:?}");
    let error = log.health().await.unwrap_err();
    assert!(matches!(&error, LogError::Failed { reason } if reason.contains("on fire")), "{error:?}");
    let beyond = [Position { partition: 0, offset: 1 }];
    let error = log.wait(&topic, &beyond, Duration::from_secs(3_600)).await.unwrap_err();
    assert!(matches!(error, LogError::Failed { .. }), "{error:?}");
    assert_eq!(log.read(&topic, 0, 0, LIMITS).await.unwrap().records.len(), 1);
    log.close().await.unwrap();
}

/// A log of three records as a failed write leaves it: its topic, what readers share, its writer, and who gives it commands.
async fn after_a_failed_write(folder: &Path) -> (Topic, Arc<Shared>, Writer, mpsc::Sender<Command>) {
    let log = open(folder).await;
    let topic = log.create_topic(&topic_name(), 1).await.unwrap();
    log.append(&topic, vec![record("a"), record("b"), record("c")], None).await.unwrap();
    log.close().await.unwrap();
    drop(log);
    let store = LogStore::open(folder).unwrap();
    let (recovered, next_number) = store.recover().unwrap();
    // the offsets of the records that were not written were given out all the same
    recovered[0].partition(0).unwrap().tail().end += 2;
    let topics = Topics::default();
    topics.write().insert(topic.name.clone(), Arc::clone(&recovered[0]));
    let shared = Arc::new(Shared::new(Arc::new(SteppedClock::default()), topics));
    shared.fail("the disk is full".to_owned());
    let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
    let writer = Writer {
        folder: folder.to_owned(),
        store: Some(store),
        shared: Arc::clone(&shared),
        reads: Arc::new(Semaphore::new(READS_MAX as usize)),
        commands: receiver,
        next_number,
        purge: Purge::default(),
    };
    (topic, shared, writer, commands)
}

#[tokio::test]
async fn once_there_is_space_a_log_goes_on_where_it_was() {
    let folder = TempDir::new().unwrap();
    let (topic, shared, mut writer, commands) = after_a_failed_write(folder.path()).await;
    let state = shared.topics.find(&topic).unwrap();
    let partition = state.partition(0).unwrap();
    assert!(partition.live.borrow().stopped && shared.check_works().is_err());
    let append = |value: &'static str| {
        let (values, order) = encode(&state, &[record(value)], Storage::default());
        let (reply, answer) = oneshot::channel();
        let budget = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let request = AppendRequest { topic: Arc::clone(&state), values, order, key: None, reply, budget };
        commands.try_send(Command::Append(request)).unwrap_or_else(|_| panic!("the channel is full"));
        answer
    };
    let waited = append("too early");
    assert!(writer.goes_on());
    waited.await.expect_err("what came while it was full is turned away");
    shared.check_works().unwrap();
    assert_eq!(*partition.live.borrow(), topics::Live { bounds: Bounds { start: 0, end: 3 }, stopped: false });
    let next = append("d");
    drop(commands);
    std::thread::spawn(|| writer.run()).join().unwrap();
    assert_eq!(next.await.unwrap().unwrap().positions, [Position { partition: 0, offset: 3 }]);
    partition.let_go();
    let log = open(folder.path()).await;
    let read = log.read(&topic, 0, 0, LIMITS).await.unwrap();
    let values: Vec<_> = read.records.iter().map(|read| read.record.value.clone().unwrap()).collect();
    assert_eq!(values, ["a", "b", "c", "d"]);
    log.close().await.unwrap();
}

#[tokio::test]
async fn a_log_that_lacks_what_it_acknowledged_does_not_go_on() {
    let folder = TempDir::new().unwrap();
    let (topic, shared, mut writer, _commands) = after_a_failed_write(folder.path()).await;
    let partition = shared.topics.find(&topic).unwrap().partition(0).unwrap();
    partition.live.send_modify(|live| live.bounds.end = 4);
    assert!(!writer.goes_on());
    let error = shared.check_works().unwrap_err();
    assert!(matches!(&error, LogError::Failed { reason } if reason.contains("trips/0")), "{error:?}");
}

#[tokio::test]
async fn a_log_that_is_closed_waits_for_no_space() {
    let folder = TempDir::new().unwrap();
    let (_, shared, mut writer, _commands) = after_a_failed_write(folder.path()).await;
    shared.close();
    assert!(!writer.goes_on());
    assert!(matches!(shared.check_works(), Err(LogError::Closed)));
}

#[tokio::test]
async fn a_writer_that_panics_leaves_nobody_waiting() {
    let folder = TempDir::new().unwrap();
    let log = open(folder.path()).await;
    let topic = log.create_topic(&topic_name(), 1).await.unwrap();
    // a state that can't be: the writer insists on having the keyspace
    log.shared.topics.find(&topic).unwrap().partition(0).unwrap().let_go();
    let error = log.append(&topic, vec![record("x")], None).await.unwrap_err();
    assert!(matches!(error, LogError::Failed { .. }), "{error:?}");
    let error = log.append(&topic, vec![record("x")], None).await.unwrap_err();
    assert!(matches!(error, LogError::Failed { .. }), "{error:?}");
    log.close().await.unwrap();
}

#[tokio::test]
async fn a_missing_or_damaged_value_is_named_and_never_skipped() {
    let folder = TempDir::new().unwrap();
    let log = open(folder.path()).await;
    let topic = log.create_topic(&topic_name(), 1).await.unwrap();
    for n in 0..6 {
        log.append(&topic, vec![record(format!("{n}a")), record(format!("{n}b"))], None).await.unwrap();
    }
    let keyspace = log.shared.topics.find(&topic).unwrap().partition(0).unwrap().keyspace().unwrap();
    keyspace.remove(key_of(5)).unwrap();
    let value = keyspace.get(key_of(9)).unwrap().unwrap();
    keyspace.insert(key_of(9), &value[..value.len() - 1]).unwrap();
    let limits = ReadLimits { records_max: 4, ..LIMITS };
    assert_eq!(log.read(&topic, 0, 0, limits).await.unwrap().next, 4);
    for (from, at) in [(4, "offset 4"), (5, "offset 5"), (8, "offset 8"), (0, "offset 4")] {
        let error = log.read(&topic, 0, from, LIMITS).await.unwrap_err();
        assert!(matches!(&error, LogError::Corrupt { what, .. } if what.contains(at)), "from {from}: {error:?}");
    }
    assert_eq!(log.read(&topic, 0, 10, LIMITS).await.unwrap().records.len(), 2);
    drop(keyspace);
    log.close().await.unwrap();
}

#[tokio::test]
async fn remains_of_topics_are_removed() {
    let folder = TempDir::new().unwrap();
    let store = LogStore::open(folder.path()).unwrap();
    let entry = topics::TopicEntry {
        number: 7,
        id: tidemark_shared::log::TopicId::new("killed while it was made"),
        partitions: 2,
        created_at: String::new(),
    };
    let made = store.partitions(&topic_name(), &entry, 0).unwrap();
    drop((made, store));
    let store = LogStore::open(folder.path()).unwrap();
    let (topics, next) = store.recover().unwrap();
    assert_eq!((topics.len(), next), (0, 8));
    drop(store);
    // the second time there is nothing left of it
    let store = LogStore::open(folder.path()).unwrap();
    assert_eq!(store.recover().unwrap().1, 0);
}

/// Or the idempotency keys of a deleted topic would count in a new one.
#[tokio::test]
async fn a_deleted_topics_number_is_never_used_again() {
    let folder = TempDir::new().unwrap();
    let key = IdempotencyKey::new("the same").unwrap();
    for round in 0..3 {
        let log = open(folder.path()).await;
        let topic = log.create_topic(&topic_name(), 1).await.unwrap();
        let appended = log.append(&topic, vec![record("x")], Some(&key)).await.unwrap();
        assert!(!appended.repeated, "round {round}: a deleted topic's key is known");
        assert_eq!(log.shared.topics.find(&topic).unwrap().number, round);
        log.delete_topic(&topic).await.unwrap();
        log.close().await.unwrap();
    }
}

#[tokio::test]
async fn another_format_is_refused() {
    let folder = TempDir::new().unwrap();
    open(folder.path()).await.close().await.unwrap();
    for (format, newer) in [(2_u64, true), (0, false)] {
        let database = fjall::Database::builder(folder.path()).open().unwrap();
        let log = database.keyspace("log", fjall::KeyspaceCreateOptions::default).unwrap();
        log.insert("format", format.to_be_bytes()).unwrap();
        drop((log, database));
        let opened = EmbeddedLog::open(folder.path(), Storage::default(), Arc::new(SteppedClock::default())).await;
        let error = opened.unwrap_err();
        assert_eq!(matches!(error, LogError::NewerFormat { found: 2, known: 1 }), newer, "{error:?}");
        assert_eq!(matches!(error, LogError::Corrupt { .. }), !newer, "{error:?}");
    }
}

/// Tables that hold nothing else go at once; what is open at the end stays.
#[tokio::test]
async fn retention_gives_the_space_back() {
    let folder = TempDir::new().unwrap();
    let log = open(folder.path()).await;
    let topic = log.create_topic(&topic_name(), 1).await.unwrap();
    let keyspace = log.shared.topics.find(&topic).unwrap().partition(0).unwrap().keyspace().unwrap();
    let mut seed = 1_u64;
    let mut noise = |_| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        seed.to_be_bytes()[0]
    };
    for _ in 0..4 {
        let bytes: Vec<u8> = (0..200_000).map(&mut noise).collect();
        log.append(&topic, vec![record(bytes)], None).await.unwrap();
        keyspace.rotate_memtable_and_wait().unwrap();
    }
    assert!(keyspace.disk_space() > 800_000);
    let retention = Retention { age_max: None, bytes_max: Some(450_000) };
    let bounds = log.retain(&topic, 0, &retention, 4).await.unwrap();
    assert_eq!(bounds, Bounds { start: 2, end: 4 });
    assert!(keyspace.disk_space() < 500_000, "{} bytes are still taken", keyspace.disk_space());
    let bounds = log.retain(&topic, 0, &Retention { bytes_max: Some(0), ..retention }, 4).await.unwrap();
    assert_eq!(bounds, Bounds { start: 4, end: 4 });
    drop(keyspace);
    log.close().await.unwrap();
    drop(log);

    // the sum of bytes goes on after a restart
    let log = open(folder.path()).await;
    let topic = log.topic(&topic_name()).await.unwrap().unwrap();
    assert_eq!(log.bounds(&topic).await.unwrap(), [Bounds { start: 4, end: 4 }]);
    let partition = log.shared.topics.find(&topic).unwrap().partition(0).unwrap();
    assert!(partition.tail().bytes > 800_000, "{:?}", partition.tail());
    log.close().await.unwrap();
}

#[tokio::test]
async fn old_keys_are_removed_with_later_appends() {
    let folder = TempDir::new().unwrap();
    let clock = Arc::new(SteppedClock::default());
    let log = EmbeddedLog::open(folder.path(), Storage::default(), Arc::clone(&clock) as Arc<dyn Ambient>).await;
    let log = log.unwrap();
    let topic = log.create_topic(&topic_name(), 1).await.unwrap();
    let key = |n: u32| IdempotencyKey::new(&format!("key {n}")).unwrap();
    for n in 0..5 {
        log.append(&topic, vec![record("x")], Some(&key(n))).await.unwrap();
    }
    clock.pass(tidemark_shared::log::IDEMPOTENCY_LIFETIME);
    // used anew: its old entry goes, it stays
    log.append(&topic, vec![record("x")], Some(&key(0))).await.unwrap();
    clock.pass(Duration::from_secs(1));
    log.append(&topic, vec![record("x")], None).await.unwrap();
    let again = log.append(&topic, vec![record("x")], Some(&key(0))).await.unwrap();
    assert_eq!((again.repeated, again.positions[0].offset), (true, 5));
    log.close().await.unwrap();
    drop(log);

    let store = LogStore::open(folder.path()).unwrap();
    assert_eq!(store.keys.iter().count(), 1, "old keys were not removed");
    assert_eq!(store.expiry.iter().count(), 1, "entries of old keys were not removed");
}
