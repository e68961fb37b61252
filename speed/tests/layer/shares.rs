//! Archivers and indexers that share a topic's partitions: each works on its own, lets go of what is taken from it, and goes on
//! where the output is. One that does not know of it, as a process that was stopped, makes nothing wrong.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tidemark_shared::live::{LiveView, ViewId};
use tidemark_shared::log::{Assignment, Log as _, Membership, Partitions, ReadLimits, Share};
use tidemark_shared::position::Coverage;
use tidemark_shared::rows::StreamRows;
use tidemark_shared::telemetry::NoTraces;
use tidemark_speed::archiver::{Archiver, ArchiverSettings};
use tidemark_speed::indexer::{Indexer, IndexerParts, IndexerSettings, IndexerStep};
use tidemark_speed::pressure::Pressure;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::parts;
use super::support::{Watched, World, definition, name, until};

/// A member whose share the test decides.
#[derive(Debug)]
struct Given {
    assignments: watch::Sender<Assignment>,
    settled: AtomicU64,
}

impl Given {
    fn new(partitions: &[u32]) -> Arc<Self> {
        let first = Assignment { number: 1, joined: true, partitions: only(partitions), trouble: None };
        Arc::new(Self { assignments: watch::Sender::new(first), settled: AtomicU64::new(0) })
    }

    /// Gives another share, and waits until it is what is worked by.
    async fn give(&self, partitions: &[u32]) {
        self.assignments.send_modify(|now| {
            now.number += 1;
            now.partitions = only(partitions);
        });
        let number = self.assignments.borrow().number;
        until(async || self.settled.load(Ordering::Relaxed) >= number).await;
    }
}

#[async_trait]
impl Membership for Given {
    fn assignments(&self) -> watch::Receiver<Assignment> {
        self.assignments.subscribe()
    }

    fn settle(&self, number: u64) {
        self.settled.fetch_max(number, Ordering::Relaxed);
    }

    async fn leave(&self) {}
}

fn only(partitions: &[u32]) -> Partitions {
    Partitions::Only(partitions.iter().copied().collect::<BTreeSet<u32>>())
}

/// Work that goes on until it is dropped.
struct Running {
    _tasks: JoinSet<()>,
    member: Arc<Given>,
}

async fn archiver(world: &World, settings: ArchiverSettings) -> Arc<Archiver> {
    let (log, archive, topic) = (world.log(), world.archive(), world.topic.clone());
    Arc::new(Archiver::open(log, archive, topic, world.ambient(), settings).await.unwrap())
}

fn archive(archiver: &Arc<Archiver>, partitions: &[u32]) -> Running {
    let (archiver, member, mut tasks) = (Arc::clone(archiver), Given::new(partitions), JoinSet::new());
    let share = Share::of(Arc::clone(&member) as Arc<dyn Membership>);
    tasks.spawn(async move { archiver.run(&share, &CancellationToken::new()).await.unwrap() });
    Running { _tasks: tasks, member }
}

async fn archived(world: &World, partition: u32) -> Option<u64> {
    world.archive().end(&name(partition), 0).await.unwrap()
}

#[tokio::test]
async fn an_archiver_archives_its_share_and_lets_go_of_the_rest() {
    let world = World::new(2).await;
    // 100 records a segment and a read, and no segment for its age
    let read = ReadLimits { records_max: 100, bytes_max: 4 << 20 };
    let settings = ArchiverSettings {
        segment_records_max: 100,
        segment_age_max: Duration::MAX,
        read,
        ..ArchiverSettings::default()
    };
    let (one, two) = (archiver(&world, settings).await, archiver(&world, settings).await);
    // there before anybody reads, so that no segment has more
    world.produce(0, 0..250).await;
    world.produce(1, 0..250).await;
    let (first, second) = (archive(&one, &[0]), archive(&two, &[1]));
    until(async || archived(&world, 0).await >= Some(200) && archived(&world, 1).await >= Some(200)).await;
    assert_eq!(one.status().len(), 1, "it has looked at a partition of another's");
    // what it gathered beyond the last segment is the other's to read again
    first.member.give(&[]).await;
    second.member.give(&[0, 1]).await;
    world.produce(0, 250..500).await;
    until(async || archived(&world, 0).await >= Some(400)).await;
    assert_eq!(two.flush_own().await.unwrap().end(&name(0)), 500);
    assert_eq!(one.flush_own().await.unwrap(), Coverage::new(), "it has no partition any more");
    // asked for all, it does all, and finds what others did
    world.produce(0, 500..510).await;
    assert_eq!(one.flush().await.unwrap().end(&name(0)), 510);
    assert_eq!(one.status()[&name(0)].segments, 3, "it put again what was there");
    let mut next = 0;
    for segment in world.archive().segments_from(&name(0), 0).await.unwrap() {
        let segment = world.archive().read(&name(0), &segment).await.unwrap();
        assert_eq!(segment.header.range.start, next);
        next = segment.header.range.end;
    }
    assert_eq!(next, 510);
}

#[tokio::test]
async fn what_others_archived_is_told() {
    let world = World::new(1).await;
    let (one, other) =
        (archiver(&world, ArchiverSettings::default()).await, archiver(&world, ArchiverSettings::default()).await);
    other.own(Partitions::none()).await;
    other.look_at_others(1).await.unwrap();
    assert!(other.status().is_empty(), "nothing has begun");
    world.produce(0, 0..10).await;
    one.flush().await.unwrap();
    // The store tells it, whatever has become of the log.
    world.log.delete_topic(&world.topic).await.unwrap();
    other.look_at_others(1).await.unwrap();
    assert_eq!(other.status()[&name(0)].archived, Some(10));
}

fn view() -> ViewId {
    ViewId { dataset: "orders".to_owned(), generation: "g1".to_owned() }
}

async fn indexer(world: &World, live: &Arc<dyn LiveView>) -> Arc<Indexer> {
    let parts = IndexerParts {
        log: world.log(),
        topic: world.topic.clone(),
        archive: world.archive(),
        live: Arc::clone(live),
        view: view(),
        rows: Arc::new(StreamRows::compile(&definition()).unwrap()),
        ambient: world.ambient(),
        pressure: Arc::new(Pressure::default()),
        traces: Arc::new(NoTraces),
    };
    Arc::new(Indexer::open(parts, Coverage::new(), IndexerSettings::default()).await.unwrap())
}

fn index(indexer: &Arc<Indexer>, partitions: &[u32]) -> Running {
    let (indexer, member, mut tasks) = (Arc::clone(indexer), Given::new(partitions), JoinSet::new());
    let share = Share::of(Arc::clone(&member) as Arc<dyn Membership>);
    tasks.spawn(async move { indexer.run(&share, &CancellationToken::new()).await.unwrap() });
    Running { _tasks: tasks, member }
}

async fn visible(live: &Arc<dyn LiveView>, partition: u32) -> u64 {
    live.pin(&view()).await.unwrap().unwrap().ranges()[&name(partition)].visible
}

/// Every record counts once.
async fn check_counts(live: &Arc<dyn LiveView>, partition: u32, records: u64) {
    let pin = live.pin(&view()).await.unwrap().unwrap();
    let others = (0..2).filter(|other| *other != partition).map(|other| (name(other), u64::MAX));
    let counts = pin.counts(&others.chain([(name(partition), 0)]).collect()).await.unwrap();
    assert_eq!(counts.records, records);
    assert!(counts.adds_up(), "{counts:?}");
}

#[tokio::test]
async fn indexers_share_a_view_and_go_on_where_it_is() {
    let world = World::new(2).await;
    let live = world.live();
    let (one, two) = (indexer(&world, &live).await, indexer(&world, &live).await);
    let (first, second) = (index(&one, &[0]), index(&two, &[1]));
    world.produce(0, 0..50).await;
    world.produce(1, 0..70).await;
    until(async || visible(&live, 0).await == 50 && visible(&live, 1).await == 70).await;
    let own = async |indexer: &Indexer, partition: u32| {
        indexer.status(&Coverage::new()).await.unwrap().partitions[&name(partition).to_string()].own
    };
    assert!(own(&one, 0).await && !own(&one, 1).await && own(&two, 1).await && !own(&two, 0).await);
    assert!(one.has_resumed(&only(&[0])) && !one.has_resumed(&only(&[0, 1])));
    // it knows nothing of what the other has done since it opened the view
    first.member.give(&[]).await;
    second.member.give(&[0, 1]).await;
    world.produce(0, 50..90).await;
    until(async || visible(&live, 0).await == 90).await;
    second.member.give(&[1]).await;
    first.member.give(&[0]).await;
    world.produce(0, 90..100).await;
    until(async || visible(&live, 0).await == 100).await;
    let status = one.status(&world.ends().await).await.unwrap();
    assert_eq!(status.totals.records, 60, "it read again what the other had read");
    check_counts(&live, 0, 100).await;
    check_counts(&live, 1, 70).await;
}

/// A partition that has stopped here may go on elsewhere; when it comes back, it does so here.
#[tokio::test]
async fn a_partition_that_has_stopped_begins_anew_once_it_was_anothers() {
    let world = World::new(1).await;
    let live: Arc<dyn LiveView> = Arc::new(Watched::refusing_once(world.live()));
    let one = indexer(&world, &live).await;
    let running = index(&one, &[0]);
    world.produce(0, 0..20).await;
    let trouble = async || {
        let status = one.status(&Coverage::new()).await.unwrap();
        status.partitions[&name(0).to_string()].trouble.clone()
    };
    until(async || trouble().await.is_some_and(|trouble| trouble.stopped)).await;
    running.member.give(&[0]).await;
    assert!(trouble().await.is_some_and(|trouble| trouble.stopped), "it is still its own, and goes on after a restart");
    running.member.give(&[]).await;
    assert_eq!(trouble().await, None, "it tells what keeps a partition of another's");
    running.member.give(&[0]).await;
    until(async || visible(&live, 0).await == 20).await;
    assert_eq!(trouble().await, None);
    check_counts(&live, 0, 20).await;
}

/// A process that was stopped goes on with partitions that others have: visible positions only move forward, and nothing counts
/// twice.
#[tokio::test]
async fn h4_an_indexer_that_was_stopped_moves_nothing_back() {
    let world = World::new(1).await;
    let live = world.live();
    let (stopped, other) = (indexer(&world, &live).await, indexer(&world, &live).await);
    world.produce(0, 0..40).await;
    stopped.step(&name(0)).await.unwrap();
    world.produce(0, 40..90).await;
    other.step(&name(0)).await.unwrap();
    let seen = Mutex::new(0);
    let last = 90 + parts::rounds(29);
    for to in 91..=last {
        world.produce(0, to - 1..to).await;
        for indexer in [&stopped, &other, &stopped] {
            indexer.step(&name(0)).await.unwrap();
            let now = visible(&live, 0).await;
            let before = std::mem::replace(&mut *seen.lock().unwrap(), now);
            assert!(now >= before, "{before} moved back to {now}");
        }
    }
    while stopped.step(&name(0)).await.unwrap() != IndexerStep::Idle {}
    assert_eq!(visible(&live, 0).await, last);
    check_counts(&live, 0, last).await;
}
