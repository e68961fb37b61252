//! What every log must do, as one suite that each adapter runs in its tests. The checks panic with what was wrong.
//!
//! Each makes topics of its own, so that a suite can be run on a log in use. Nothing here expects offsets to follow each other:
//! a broker has some.

mod append;
mod groups;
mod read;
mod retain;
mod topics;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};

use tidemark_shared::ambient::Ambient;
use tidemark_shared::log::{
    Appended, Fetched, Log, LogError, OffsetRecord, Position, ReadLimits, Record, Routed, Topic, TopicName,
};

/// Longest that a check waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(30);
/// A read that is not meant to be cut.
const ALL: ReadLimits = ReadLimits { records_max: 10_000, bytes_max: 64 << 20 };

/// Runs every check that needs no hand on the clock.
///
/// # Panics
/// If the log breaks the contract.
pub async fn check_all(log: &Arc<dyn Log>) {
    topics::creating_is_idempotent(log).await;
    topics::racing_creators_make_one_topic(log).await;
    topics::topics_are_listed_by_name(log).await;
    topics::partitions_can_be_added(log).await;
    topics::a_topic_made_again_is_another(log).await;
    topics::what_is_not_there_is_an_error(log).await;
    append::records_come_back_as_they_were(log).await;
    append::concurrent_appends_lose_and_double_nothing(log).await;
    append::a_repeated_key_gets_the_first_positions(log).await;
    append::racing_repetitions_append_once(log).await;
    append::what_is_too_large_is_refused(log).await;
    read::reads_are_bounded_and_get_on(log).await;
    read::the_end_is_no_error_and_beyond_it_is(log).await;
    read::waiting_ends_with_more_or_with_time(log).await;
    read::waiting_looks_at_every_partition(log).await;
    read::waiting_ends_when_the_topic_goes(log).await;
    retain::retention_stays_below_its_limit(log).await;
    retain::a_limit_within_an_append_holds(log).await;
    retain::an_emptied_partition_goes_on_at_its_end(log).await;
    groups::a_member_alone_has_every_partition(log).await;
    groups::each_group_has_every_partition(log).await;
    groups::names_and_topics_are_checked(log).await;
}

/// Runs the checks of groups with several members: for a log that several processes can have, and that so shares partitions out.
///
/// # Panics
/// If the log breaks the contract.
pub async fn check_groups(log: &Arc<dyn Log>) {
    groups::members_share_the_partitions(log).await;
    groups::a_partition_waits_for_whoever_works_on_it(log).await;
    groups::partitions_that_are_added_are_shared_out(log).await;
}

/// Runs the checks of what happens with time, on a log that takes its time from `clock`.
///
/// # Panics
/// If the log breaks the contract.
pub async fn check_time(log: &Arc<dyn Log>, clock: &SteppedClock) {
    check_key_time(log, clock).await;
    retain::old_records_go(log, clock).await;
}

/// Runs the checks of what happens to idempotency keys with time: for a log that can't tell when a record was appended, and so
/// lets records go by the time that they have themselves.
///
/// # Panics
/// If the log breaks the contract.
pub async fn check_key_time(log: &Arc<dyn Log>, clock: &SteppedClock) {
    append::a_key_is_forgotten_after_its_lifetime(log, clock).await;
}

/// A clock that only moves when it is told to, and ids that only count: for logs under test.
#[derive(Debug, Default)]
pub struct SteppedClock {
    ms: AtomicU64,
    ids: AtomicU64,
}

impl SteppedClock {
    /// Lets time pass.
    pub fn pass(&self, time: Duration) {
        self.ms.fetch_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl Ambient for SteppedClock {
    fn now(&self) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + Duration::from_millis(self.ms.load(Ordering::Relaxed))
    }

    fn unique_id(&self) -> String {
        format!("id-{}", self.ids.fetch_add(1, Ordering::Relaxed))
    }

    fn random(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }
}

/// Closes the log and checks what holds then.
///
/// # Panics
/// If the log breaks the contract.
pub async fn check_close(log: &Arc<dyn Log>) {
    let topic = topic(log, "close", 2).await;
    let waiting = read::waiter(log, &topic, vec![Position { partition: 0, offset: 0 }]);
    let appended = append(log, &topic, vec![record(1, "last")]).await;
    assert_eq!(appended.positions.len(), 1);
    log.health().await.expect("a log that takes records");
    let wait_for_more = read::waiter(log, &topic, vec![Position { partition: 0, offset: 0 }]);
    log.close().await.expect("close");
    log.close().await.expect("closing twice is no error");
    for waiting in [waiting, wait_for_more] {
        let outcome = tokio::time::timeout(PATIENCE, waiting).await.expect("a waiter was not woken by close");
        let error = outcome.expect("no panic").expect_err("a closed log has nothing to wait for");
        assert!(matches!(error, LogError::Closed), "{error:?}");
    }
    let refused = log.health().await.expect_err("a closed log takes no records");
    assert!(matches!(refused, LogError::Closed), "{refused:?}");
    let refused = log.append(&topic, vec![record(0, "late")], None).await.expect_err("append after close");
    assert!(matches!(refused, LogError::Closed), "{refused:?}");
    let refused = log.read(&topic, 0, 0, ALL).await.expect_err("read after close");
    assert!(matches!(refused, LogError::Closed), "{refused:?}");
    let refused = log.create_topic(&name("late"), 1).await.expect_err("create after close");
    assert!(matches!(refused, LogError::Closed), "{refused:?}");
}

fn name(check: &str) -> TopicName {
    TopicName::new(&format!("contract-{check}-{}", uuid::Uuid::new_v4().simple())).expect("a legal name")
}

async fn topic(log: &Arc<dyn Log>, check: &str, partitions: u32) -> Topic {
    log.create_topic(&name(check), partitions).await.expect("create")
}

fn record(partition: u32, value: &str) -> Routed {
    Routed { partition, record: Record { value: Some(Bytes::copy_from_slice(value.as_bytes())), ..Record::default() } }
}

async fn append(log: &Arc<dyn Log>, topic: &Topic, records: Vec<Routed>) -> Appended {
    log.append(topic, records, None).await.expect("append")
}

/// Everything from `from` on; checks on the way what holds for every read.
async fn read_on(
    log: &Arc<dyn Log>,
    topic: &Topic,
    partition: u32,
    from: u64,
    limits: ReadLimits,
) -> Vec<OffsetRecord> {
    let (mut at, mut records) = (from, Vec::new());
    loop {
        let fetched = log.read(topic, partition, at, limits).await.expect("read");
        check_fetched(&fetched, at, limits);
        records.extend(fetched.records);
        at = fetched.next;
        if at >= fetched.bounds.end {
            return records;
        }
    }
}

fn check_fetched(fetched: &Fetched, from: u64, limits: ReadLimits) {
    let Fetched { records, next, bounds } = fetched;
    assert!(*next > from || from == bounds.end, "a read at {from} of {bounds:?} did not get on");
    assert!(*next <= bounds.end, "a read went past the end: {next} of {bounds:?}");
    assert!(records.len() <= limits.records_max.max(1), "a read gave more records than it may");
    let bytes: usize = records.iter().map(|read| read.record.bytes()).sum();
    assert!(records.len() <= 1 || bytes <= limits.bytes_max, "a read of several records gave {bytes} bytes");
    assert!(records.iter().all(|read| (from..*next).contains(&read.offset)), "an offset is out of what was read");
    assert!(records.is_sorted_by(|a, b| a.offset < b.offset), "offsets do not grow");
}

fn values(records: &[OffsetRecord]) -> Vec<String> {
    let text = |read: &OffsetRecord| String::from_utf8_lossy(read.record.value.as_deref().unwrap_or_default()).into();
    records.iter().map(text).collect()
}
