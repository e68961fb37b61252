//! Tests of archiver and indexer that run in memory and on a folder alone. All others run on Kafka, OpenSearch and S3, too
//! (`real_invariants`). Why these don't:
//!
//! - a broker loses its end when one is elected that lagged behind, and does so for nobody's asking;
//! - what a broker's answer tells of the log's end beyond its records depends on what has come already;
//! - S3 is durable on acknowledgement: there is nothing to sync, and so nothing that a sync could miss;
//! - a cluster has no limit of its own for our views ([`LiveView::limit`]): it refuses writes for want of disk, which
//!   `make chaos-stack` sees to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidemark_shared::layout;
use tidemark_shared::live::{LiveUsage, LiveView};
use tidemark_shared::log::{Log, LogError, Partitions, ReadLimits, Retention, Share};
use tidemark_shared::position::Coverage;
use tidemark_shared::segment::SegmentError;
use tidemark_speed::archiver::{ArchiverError, ArchiverSettings, ArchiverStep, Seal};
use tidemark_speed::indexer::{Indexer, IndexerError, IndexerSettings, IndexerStep};
use tidemark_speed::live::memory::{MemoryView, MemoryViewSettings};
use tidemark_speed::pressure::Level;
use tokio_util::sync::CancellationToken;

use super::archiver::{archiver, check_archive, small};
use super::indexer::{catch_up, check, open, parts, view};
use super::support::{World, name};

fn memory(bytes_max: u64) -> Arc<dyn LiveView> {
    Arc::new(MemoryView::new(MemoryViewSettings { bytes_max, scan_parts: 2 }))
}

#[tokio::test]
async fn a_log_that_lost_its_end_stops_the_archiver() {
    let world = World::new(2).await;
    let archiver = archiver(&world, small()).await;
    world.produce(0, 0..20).await;
    archiver.flush().await.unwrap();
    world.log.lose_end(&world.topic, 0, 12).unwrap();
    let error = archiver.step(0).await.unwrap_err();
    assert!(matches!(error, ArchiverError::LogBehind { archived: 20, log_end: 12, .. }), "{error:?}");
    world.produce(0, 12..40).await;
    let error = archiver.step(0).await.unwrap_err();
    assert!(matches!(error, ArchiverError::Stopped { .. }), "other records came under known offsets: {error:?}");
    let trouble = archiver.status()[&name(0)].trouble.clone();
    assert!(trouble.is_some_and(|trouble| trouble.stopped && trouble.error.contains("the log has lost records")));
    world.produce(1, 0..1).await;
    assert_eq!(archiver.step(1).await.unwrap(), ArchiverStep::Gathered(1));
}

/// H1: nobody else has what was gathered before, whatever became of the log since.
#[tokio::test]
async fn h1_what_was_gathered_before_a_log_lost_its_end_is_archived_once_the_topic_is_gone() {
    let world = World::new(1).await;
    world.produce(0, 0..7).await;
    let archiver = archiver(&world, small()).await;
    assert_eq!(archiver.step(0).await.unwrap(), ArchiverStep::Gathered(7));
    // Or so it looks to who reads the offsets of a topic that was made again under this one's name.
    world.log.lose_end(&world.topic, 0, 3).unwrap();
    let error = archiver.step(0).await.unwrap_err();
    assert!(matches!(error, ArchiverError::LogBehind { archived: 7, log_end: 3, .. }), "{error:?}");
    assert!(matches!(archiver.step(0).await.unwrap_err(), ArchiverError::Stopped { .. }));
    world.log.delete_topic(&world.topic).await.unwrap();
    world.log.create_topic(&world.topic.name, 1).await.unwrap();
    let error = archiver.flush().await.unwrap_err();
    assert!(matches!(error, ArchiverError::Log(LogError::Replaced { .. })), "{error:?}");
    check_archive(&world, 7, &[]).await;
}

/// H1: the end of a topic says nothing of what its log was seen to have beyond what was gathered: others may archive that, and the
/// topic may be there after all. It is remembered for whoever says so later.
#[tokio::test]
async fn h1_what_a_log_was_seen_to_have_is_remembered_and_not_lost_at_once() {
    let world = World::new(2).await;
    let read = ReadLimits { records_max: 5, bytes_max: 1 << 20 };
    let (own, others) = (archiver(&world, ArchiverSettings { read, ..small() }).await, archiver(&world, small()).await);
    for archiver in [&own, &others] {
        archiver.flush().await.unwrap();
    }
    others.own(Partitions::none()).await;
    world.produce(0, 0..12).await;
    assert_eq!(own.step(0).await.unwrap(), ArchiverStep::Gathered(5));
    world.log.delete_topic(&world.topic).await.unwrap();
    for archiver in [&others, &own] {
        archiver.seal_gathered().await.unwrap();
    }
    check_archive(&world, 5, &[]).await;
    assert_eq!(own.seen(), BTreeMap::from([(name(0), 12), (name(1), 0)]));
    assert_eq!(others.seen(), BTreeMap::from([(name(0), 0), (name(1), 0)]), "it was not there to see");
}

/// What stops a partition before its first record does so like any other failure: there are no more attempts, and it says so.
#[tokio::test]
async fn an_archive_whose_end_can_not_be_told_stops_the_archiver() {
    let world = World::new(2).await;
    world.produce(0, 0..5).await;
    world.produce(1, 0..5).await;
    let key = layout::stream_origin("orders", &name(0));
    world.store.put_new(&key, b"no origin".to_vec().into()).await.unwrap();
    let archiver = archiver(&world, small()).await;
    let error = archiver.step(0).await.unwrap_err();
    assert!(matches!(error, ArchiverError::Archive(SegmentError::Corrupt { .. })), "{error:?}");
    let trouble = || archiver.status()[&name(0)].trouble.clone();
    assert!(trouble().is_some_and(|trouble| trouble.stopped), "{:?}", trouble());
    world.store.delete_many(vec![key]).await.unwrap();
    let error = archiver.step(0).await.unwrap_err();
    assert!(matches!(error, ArchiverError::Stopped { .. }), "it was tried again: {error:?}");
    assert!(trouble().is_some_and(|trouble| trouble.stopped && trouble.error.contains("origin/0.json")));
    assert_eq!(archiver.step(1).await.unwrap(), ArchiverStep::Gathered(5));
}

#[tokio::test]
async fn a_log_that_lost_its_end_stops_the_indexer() {
    let world = World::new(1).await;
    let live = world.live();
    world.produce(0, 0..20).await;
    let indexer = open(parts(&world, &live), Coverage::new()).await;
    catch_up(&indexer, 0).await;
    world.log.lose_end(&world.topic, 0, 12).unwrap();
    let error = indexer.step(&name(0)).await.unwrap_err();
    assert!(matches!(error, IndexerError::LogBehind { visible: 20, log_end: 12, .. }), "{error:?}");
    world.produce(0, 0..30).await;
    indexer.step(&name(0)).await.unwrap_err();
    let trouble = indexer.status(&world.ends().await).await.unwrap().partitions["orders/0"].trouble.clone();
    assert!(trouble.is_some_and(|trouble| trouble.stopped && trouble.error.contains("the log has lost records")));
    check(&live, 0, 20, 0).await;
}

/// What can't be made durable stays in the log.
#[tokio::test]
async fn the_log_keeps_what_could_not_be_synced() {
    let world = World::new(1).await;
    let retention = Retention { age_max: None, bytes_max: Some(0) };
    world.produce(0, 0..5).await;
    archiver(&world, small()).await.flush().await.unwrap();
    let origin = world.store.url().local_path().unwrap().join("raw/orders/stream/orders/origin/0.json");
    let archiver = archiver(&world, ArchiverSettings { retention, ..small() }).await;
    world.produce(0, 5..20).await;
    let kept = std::fs::read(&origin).unwrap();
    assert_eq!(archiver.step(0).await.unwrap(), ArchiverStep::Sealed(5..20, Seal::Size));
    assert_eq!(world.log.bounds(&world.topic).await.unwrap()[0].start, 20);
    world.produce(0, 20..40).await;
    std::fs::remove_file(&origin).unwrap();
    assert_eq!(archiver.step(0).await.unwrap(), ArchiverStep::Sealed(20..40, Seal::Size));
    assert_eq!(world.log.bounds(&world.topic).await.unwrap()[0].start, 20, "records went that are not durable");
    let trouble = || archiver.status()[&name(0)].trouble.clone();
    assert!(trouble().is_some_and(|trouble| !trouble.stopped && trouble.error.contains("origin/0.json")));
    std::fs::write(&origin, kept).unwrap();
    check_archive(&world, 40, &[]).await;
    world.produce(0, 40..60).await;
    assert_eq!(archiver.step(0).await.unwrap(), ArchiverStep::Sealed(40..60, Seal::Size));
    assert_eq!((world.log.bounds(&world.topic).await.unwrap()[0].start, trouble()), (60, None));
}

/// H7: a full view drops nothing; the indexer waits, asks for room, and goes on when rows went.
#[tokio::test]
async fn h7_a_full_view_waits_for_room() {
    const FULL_MAX: Duration = Duration::from_secs(60);
    let world = World::new(1).await;
    let live = memory(64 << 10);
    let parts = parts(&world, &live);
    let pressure = Arc::clone(&parts.pressure);
    let settings = IndexerSettings { fresh_records_max: 50, ..IndexerSettings::default() };
    let settings = IndexerSettings { behind: ReadLimits { records_max: 50, bytes_max: 1 << 20 }, ..settings };
    let indexer = Arc::new(Indexer::open(parts, Coverage::new(), settings).await.unwrap());
    world.produce(0, 0..2_000).await;
    let cancel = CancellationToken::new();
    let mut tasks = tokio::task::JoinSet::new();
    let (running, token) = (Arc::clone(&indexer), cancel.clone());
    tasks.spawn(async move { running.run(&Share::default(), &token).await });
    let (mut floor, mut fills) = (0, 0);
    loop {
        // what is left while there is much of it does not fit
        if floor < 1_000 {
            let full = tokio::time::timeout(FULL_MAX, pressure.reaches(Level::SlowDown)).await;
            full.expect("a view that keeps all its rows gets full");
            fills += 1;
        }
        let visible = live.pin(&view()).await.unwrap().unwrap().ranges()[&name(0)].visible;
        check(&live, floor, visible, floor).await;
        if visible == 2_000 {
            break;
        }
        floor = visible;
        live.drop_below(&view(), &[(name(0), floor)].into_iter().collect()).await.unwrap();
        pressure.dropped(live.as_ref());
        tokio::task::yield_now().await;
    }
    assert!(fills >= 2, "the view was full {fills} times");
    cancel.cancel();
    tasks.join_next().await.unwrap().unwrap().unwrap();
    live.close(&view()).await.unwrap();
    pressure.dropped(live.as_ref());
    assert_eq!((live.usage(), pressure.level()), (LiveUsage::default(), Level::Ok));
}

/// H7: a topic whose records are all refused takes room as rows do: a batch run is asked for, then intake is to slow down, and
/// then the view is full, until they have gone.
#[tokio::test]
async fn h7_a_topic_full_of_rejects_fills_the_view_as_rows_do() {
    let world = World::new(1).await;
    let live = memory(64 << 10);
    let parts = parts(&world, &live);
    let pressure = Arc::clone(&parts.pressure);
    let settings = IndexerSettings {
        behind: ReadLimits { records_max: 10, bytes_max: 1 << 20 },
        fresh_records_max: 10,
        ..IndexerSettings::default()
    };
    let indexer = Indexer::open(parts, Coverage::new(), settings).await.unwrap();
    // Each is a reject of the decoder.
    world.append(0, (0..2_000).map(|number| number * 10 + 3)).await;
    let (mut levels, mut visible) = (Vec::new(), 0);
    loop {
        match indexer.step(&name(0)).await.unwrap() {
            IndexerStep::Applied(range, _) => visible = range.end,
            IndexerStep::Full => break,
            IndexerStep::Idle => panic!("2,000 rejects fit into 64 KiB"),
        }
        if levels.last() != Some(&pressure.level()) {
            levels.push(pressure.level());
        }
    }
    assert_eq!(levels, [Level::Ok, Level::BatchWanted, Level::SlowDown]);
    assert_eq!(pressure.level(), Level::SlowDown);
    let usage = live.usage();
    assert_eq!((usage.rows, usage.rejects), (0, visible), "what fills the view is not told");
    // A reject takes at least its record.
    assert!(usage.bytes > visible * 80, "{usage:?}");
    live.drop_below(&view(), &[(name(0), visible)].into_iter().collect()).await.unwrap();
    pressure.dropped(live.as_ref());
    assert_eq!((live.usage(), pressure.level()), (LiveUsage::default(), Level::Ok));
    assert!(matches!(indexer.step(&name(0)).await.unwrap(), IndexerStep::Applied(range, 10) if range.start == visible));
}
