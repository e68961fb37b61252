//! The indexer: the view holds what the definition makes of the log's prefix, whatever fails, goes or comes late.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tidemark_shared::live::{LivePin, LiveView, ViewId};
use tidemark_shared::log::{Log, Retention, Share};
use tidemark_shared::position::Coverage;
use tidemark_shared::rows::StreamRows;
use tidemark_shared::segment::Segment;
use tidemark_shared::telemetry::NoTraces;
use tidemark_speed::archiver::{Archiver, ArchiverSettings};
use tidemark_speed::indexer::{Indexer, IndexerError, IndexerParts, IndexerSettings, IndexerStep};
use tidemark_speed::pressure::Pressure;
use tokio_util::sync::CancellationToken;

use super::support::{Watched, World, definition, name, until};

pub(super) fn view() -> ViewId {
    ViewId { dataset: "orders".to_owned(), generation: "g1".to_owned() }
}

pub(super) fn parts(world: &World, live: &Arc<dyn LiveView>) -> IndexerParts {
    IndexerParts {
        log: world.log(),
        topic: world.topic.clone(),
        archive: world.archive(),
        live: Arc::clone(live),
        view: view(),
        rows: Arc::new(StreamRows::compile(&definition()).unwrap()),
        ambient: world.ambient(),
        pressure: Arc::new(Pressure::default()),
        traces: Arc::new(NoTraces),
    }
}

pub(super) async fn open(parts: IndexerParts, coverage: Coverage) -> Indexer {
    Indexer::open(parts, coverage, IndexerSettings::default()).await.unwrap()
}

pub(super) async fn catch_up(indexer: &Indexer, partition: u32) {
    while indexer.step(&name(partition)).await.unwrap() != IndexerStep::Idle {}
}

async fn archive_all(world: &World) {
    let settings = ArchiverSettings { segment_records_max: 7, ..ArchiverSettings::default() };
    let archiver = Archiver::open(world.log(), world.archive(), world.topic.clone(), world.ambient(), settings).await;
    archiver.unwrap().flush().await.unwrap();
}

/// Checks floor and visible position of partition 0 and the counts above `from`, of offsets that are order numbers.
pub(super) async fn check(live: &Arc<dyn LiveView>, floor: u64, visible: u64, from: u64) {
    let pin = live.pin(&view()).await.unwrap().unwrap();
    let range = pin.ranges()[&name(0)];
    assert_eq!((range.floor, range.visible), (floor, visible));
    let counts = pin.counts(&[(name(0), from)].into_iter().collect()).await.unwrap();
    let ends_in = |digits: &[u64]| (from..visible).filter(|number| digits.contains(&(number % 10))).count() as u64;
    assert!(counts.adds_up(), "{counts:?}");
    assert_eq!(counts.records, visible - from);
    assert_eq!((counts.filtered, counts.rejected_total()), (ends_in(&[5]), ends_in(&[3, 4])), "from {from}");
    let rejects = pin.rejects(&[(name(0), from)].into_iter().collect(), 1_000).await.unwrap();
    assert!(rejects.iter().all(|(_, reject)| [3, 4].contains(&(reject.offset % 10))), "{rejects:?}");
}

#[tokio::test]
async fn h8_rows_rejects_and_filtered_add_up_from_any_offset() {
    let world = World::new(1).await;
    let live = world.live();
    let indexer = open(parts(&world, &live), Coverage::new()).await;
    // by twos thousands inline, and by more elsewhere
    for numbers in [0..100, 100..5_000, 5_000..5_001] {
        world.produce(0, numbers).await;
        catch_up(&indexer, 0).await;
    }
    for from in [0, 1, 3, 99, 100, 2_345, 5_000, 5_001] {
        check(&live, 0, 5_001, from).await;
    }
}

#[tokio::test]
async fn h10_an_indexer_goes_on_where_the_view_is() {
    let world = World::new(1).await;
    let live = world.live();
    world.produce(0, 0..100).await;
    let first = open(parts(&world, &live), Coverage::new()).await;
    catch_up(&first, 0).await;
    world.produce(0, 100..150).await;
    let second = open(parts(&world, &live), Coverage::new()).await;
    assert_eq!(second.step(&name(0)).await.unwrap(), IndexerStep::Applied(100..150, 50));
    // the first one does what was done already, which changes nothing (H3)
    catch_up(&first, 0).await;
    check(&live, 0, 150, 0).await;
    // a lost view begins at the coverage
    let live = world.live();
    let third = open(parts(&world, &live), [(name(0), 120)].into_iter().collect()).await;
    catch_up(&third, 0).await;
    check(&live, 120, 150, 120).await;
}

#[tokio::test]
async fn h10_what_left_the_log_is_read_from_the_archive() {
    let world = World::new(1).await;
    world.produce(0, 0..100).await;
    archive_all(&world).await;
    let everything = Retention { age_max: None, bytes_max: Some(0) };
    world.log.retain(&world.topic, 0, &everything, 90).await.unwrap();
    world.produce(0, 100..130).await;
    for floor in [0, 5, 33, 89, 90, 95] {
        let live = world.live();
        let indexer = open(parts(&world, &live), [(name(0), floor)].into_iter().collect()).await;
        catch_up(&indexer, 0).await;
        check(&live, floor, 130, floor).await;
    }
}

#[tokio::test]
async fn an_earlier_incarnation_is_read_from_its_archive() {
    let mut world = World::new(1).await;
    world.produce(0, 0..40).await;
    archive_all(&world).await;
    world.log.delete_topic(&world.topic).await.unwrap();
    world.topic = world.log.create_topic(&world.topic.name, 1).await.unwrap();
    world.produce(0, 0..10).await;
    let live = world.live();
    let indexer = open(parts(&world, &live), Coverage::new()).await;
    let second = "orders~2/0".parse().unwrap();
    assert_eq!(indexer.partitions(), [name(0), "orders~2/0".parse().unwrap()]);
    catch_up(&indexer, 0).await;
    while indexer.step(&second).await.unwrap() != IndexerStep::Idle {}
    let ends = [(second.clone(), 15)].into_iter().collect();
    let status = indexer.status(&ends).await.unwrap().partitions;
    assert_eq!((status["orders/0"].visible, status["orders~2/0"].visible), (40, 10));
    assert_eq!((status["orders/0"].lag, status["orders~2/0"].lag), (0, 5), "the first has no log any more");
}

#[tokio::test]
async fn a_hole_that_nobody_fills_is_an_error_that_names_it() {
    let world = World::new(1).await;
    let live = world.live();
    world.produce(0, 0..20).await;
    let indexer = open(parts(&world, &live), Coverage::new()).await;
    catch_up(&indexer, 0).await;
    archive_all(&world).await;
    world.produce(0, 20..50).await;
    let everything = Retention { age_max: None, bytes_max: Some(0) };
    world.log.retain(&world.topic, 0, &everything, 45).await.unwrap();
    let error = indexer.step(&name(0)).await.unwrap_err();
    assert!(matches!(&error, IndexerError::Hole { missing, .. } if *missing == (20..45)), "{error:?}");
    let status = indexer.status(&world.ends().await).await.unwrap().partitions["orders/0"].clone();
    let trouble = status.trouble.expect("it says what is missing");
    assert!(!trouble.stopped && trouble.error.contains("offsets 20 to 45 of `orders/0`"), "{trouble:?}");
    check(&live, 0, 20, 0).await;
    // once the archiver has said that they are lost, the view goes on
    archive_all(&world).await;
    catch_up(&indexer, 0).await;
    let status = indexer.status(&world.ends().await).await.unwrap().partitions["orders/0"].clone();
    assert_eq!((status.trouble, status.lag), (None, 0));
    assert_eq!(live.pin(&view()).await.unwrap().unwrap().ranges()[&name(0)].visible, 50);
}

/// H8: positions move by what was read past.
#[tokio::test]
async fn offsets_without_records_are_passed() {
    let world = World::new(1).await;
    let live = world.live();
    let indexer = open(parts(&world, &live), Coverage::new()).await;
    world.skip(0, 7).await;
    catch_up(&indexer, 0).await;
    assert_eq!(live.pin(&view()).await.unwrap().unwrap().ranges()[&name(0)].visible, 7);
}

#[tokio::test]
async fn running_follows_the_log_and_new_partitions_and_tells_how_fresh_it_is() {
    let world = World::new(1).await;
    let live = world.live();
    let settings = IndexerSettings { partitions_refresh: Duration::from_millis(5), ..IndexerSettings::default() };
    let indexer = Arc::new(Indexer::open(parts(&world, &live), Coverage::new(), settings).await.unwrap());
    let cancel = CancellationToken::new();
    let mut tasks = tokio::task::JoinSet::new();
    let (running, token) = (Arc::clone(&indexer), cancel.clone());
    tasks.spawn(async move { running.run(&Share::default(), &token).await });
    let visible = async |partition: u32, end: u64| {
        let at = |pin: Arc<dyn LivePin>| pin.ranges().get(&name(partition)).map(|live| live.visible);
        until(async || at(live.pin(&view()).await.unwrap().unwrap()) == Some(end)).await;
    };
    world.produce(0, 0..10).await;
    visible(0, 10).await;
    world.log.add_partitions(&world.topic, 2).await.unwrap();
    world.produce(1, 0..5).await;
    visible(1, 5).await;
    world.produce(0, 10..12).await;
    visible(0, 12).await;
    // the view shows rows before their ages are noted
    until(async || indexer.status(&Coverage::new()).await.unwrap().freshness.count == 17).await;
    cancel.cancel();
    tasks.join_next().await.unwrap().unwrap().unwrap();
    let status = indexer.status(&world.ends().await).await.unwrap();
    assert_eq!((status.freshness.count, status.freshness.p99_ms), (17, 0));
    assert_eq!((status.partitions["orders/0"].lag, status.partitions["orders/1"].visible), (0, 5));
    world.produce(0, 12..15).await;
    world.clock.pass(Duration::from_secs(2));
    let ends = world.ends().await;
    // The log itself is not asked.
    world.log.delete_topic(&world.topic).await.unwrap();
    let status = indexer.status(&ends).await.unwrap().partitions["orders/0"].clone();
    assert_eq!((status.lag, status.lag_ms, status.log_end), (3, 2_000, 15));
    indexer.run(&Share::default(), &CancellationToken::new()).await.unwrap_err();
}

/// Each look whether there is something new opens the view once, with all that is kept up, and never again for nothing.
#[tokio::test]
async fn a_look_opens_the_view_once() {
    let world = World::new(1).await;
    let watched = Arc::new(Watched::new(world.live()));
    let live = Arc::clone(&watched) as Arc<dyn LiveView>;
    let settings = IndexerSettings { partitions_refresh: Duration::from_millis(1), ..IndexerSettings::default() };
    let indexer = Arc::new(Indexer::open(parts(&world, &live), Coverage::new(), settings).await.unwrap());
    let (running, mut tasks) = (Arc::clone(&indexer), tokio::task::JoinSet::new());
    tasks.spawn(async move { running.run(&Share::default(), &CancellationToken::new()).await });
    let opened = || watched.opened();
    until(async || opened().len() >= 8).await;
    world.log.add_partitions(&world.topic, 2).await.unwrap();
    until(async || opened().ends_with(&[2, 2])).await;
    tasks.shutdown().await;
    let mut each = opened();
    // The view itself, before the log was looked at; then partition 0, and once the new one alone.
    each.dedup();
    assert_eq!(each, [0, 1, 2]);
}

/// A segment that says that its records are lost moves the view on, without a record.
#[tokio::test]
async fn lost_segments_and_a_late_origin_are_passed() {
    let world = World::new(1).await;
    let archive = world.archive();
    archive.source(&world.topic).await.unwrap();
    archive.begin(&name(0), 4).await.unwrap();
    archive.put(&name(0), &Segment::lost(4..9)).await.unwrap();
    world.skip(0, 9).await;
    let everything = Retention { age_max: None, bytes_max: Some(0) };
    world.log.retain(&world.topic, 0, &everything, 9).await.unwrap();
    let live = world.live();
    let indexer = open(parts(&world, &live), Coverage::new()).await;
    assert_eq!(indexer.step(&name(0)).await.unwrap(), IndexerStep::Applied(0..4, 0));
    assert_eq!(indexer.step(&name(0)).await.unwrap(), IndexerStep::Applied(4..9, 0));
    assert_eq!(indexer.step(&name(0)).await.unwrap(), IndexerStep::Idle);
    let lost = async || live.pin(indexer.view()).await.unwrap().unwrap().lost();
    assert_eq!(lost().await, BTreeMap::from([(name(0), vec![Range { start: 4, end: 9 }])]), "whoever answers names it");
    live.drop_below(indexer.view(), &[(name(0), 9)].into_iter().collect()).await.unwrap();
    assert_eq!(lost().await, BTreeMap::new(), "the curated table names it now");
}

#[tokio::test]
async fn an_old_listing_of_the_archive_is_no_hole_in_it() {
    let world = World::new(1).await;
    for numbers in [0..5, 5..10] {
        world.produce(0, numbers).await;
        archive_all(&world).await;
    }
    let everything = Retention { age_max: None, bytes_max: Some(0) };
    world.log.retain(&world.topic, 0, &everything, 5).await.unwrap();
    let live = world.live();
    let indexer = open(parts(&world, &live), Coverage::new()).await;
    // The listing names the second segment, too, but not where it ends; what it has is read from the log.
    assert_eq!(indexer.step(&name(0)).await.unwrap(), IndexerStep::Applied(0..5, 5));
    world.produce(0, 10..12).await;
    assert_eq!(indexer.step(&name(0)).await.unwrap(), IndexerStep::Applied(5..12, 7));
    world.produce(0, 12..14).await;
    archive_all(&world).await;
    world.log.retain(&world.topic, 0, &everything, 14).await.unwrap();
    assert_eq!(indexer.step(&name(0)).await.unwrap(), IndexerStep::Applied(12..14, 2));
    check(&live, 0, 14, 0).await;
}
