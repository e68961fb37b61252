//! Topics that go while views are further than the archive: what nobody archived is lost, to whoever comes later.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tidemark_shared::ambient::Ambient as _;
use tidemark_shared::live::{LivePin, ViewId, is_behind};
use tidemark_shared::log::{Log as _, ReadLimits, Share};
use tidemark_shared::position::{Coverage, LogPartition};
use tidemark_speed::archiver::{ArchiverSettings, ArchiverStep};
use tidemark_speed::indexer::{Indexer, IndexerParts, IndexerSettings, IndexerStep};
use tidemark_speed::keep::Kept;
use tokio_util::sync::CancellationToken;

use super::archiver::{archiver, check_archive, small};
use super::indexer::{catch_up, open, parts, view};
use super::support::{World, name, until};

/// The topic is deleted and made again.
async fn make_again(world: &mut World) {
    world.log.delete_topic(&world.topic).await.unwrap();
    world.topic = world.log.create_topic(&world.topic.name, 1).await.unwrap();
}

/// H1, H9: what a view shows of a topic that is gone, and the archive has not, is in no view that is made later. Those name it
/// as lost, and are no further behind than that, so that one of them can take over.
#[tokio::test]
async fn h1_h9_what_nobody_archived_of_a_topic_that_is_gone_is_lost_and_keeps_no_later_view_behind() {
    let mut world = World::new(1).await;
    let (live, archive) = (world.live(), world.archive());
    let read = ReadLimits { records_max: 5, bytes_max: 1 << 20 };
    let archiver = archiver(&world, ArchiverSettings { read, ..small() }).await;
    world.produce(0, 0..12).await;
    archiver.flush().await.unwrap();
    world.produce(0, 12..20).await;
    assert_eq!(archiver.step(0).await.unwrap(), ArchiverStep::Gathered(5));
    let old = open(parts(&world, &live), Coverage::new()).await;
    catch_up(&old, 0).await;

    make_again(&mut world).await;
    archiver.seal_gathered().await.unwrap();
    check_archive(&world, 17, &[]).await;
    let later = ViewId { generation: "g2".to_owned(), ..view() };
    let new = open(IndexerParts { view: later.clone(), ..parts(&world, &live) }, Coverage::new()).await;
    catch_up(&new, 0).await;
    let pin = async |view: &ViewId| live.pin(view).await.unwrap().unwrap();
    let (ahead, before) = (pin(&later).await, pin(&view()).await);
    assert!(is_behind(ahead.ranges(), before.ranges()), "nobody has told yet");

    // Whoever keeps views tells of what those show.
    let shown = before.ranges()[&name(0)].visible;
    archive.lose(&name(0), shown).await.unwrap();
    assert_eq!((shown, archive.end(&name(0), 0).await.unwrap()), (20, Some(20)));
    catch_up(&new, 0).await;
    let second: LogPartition = "orders~2/0".parse().unwrap();
    world.produce(0, 0..3).await;
    while new.step(&second).await.unwrap() != IndexerStep::Idle {}
    let ahead = pin(&later).await;
    assert_eq!(
        ahead.lost(),
        BTreeMap::from([(name(0), vec![Range { start: 17, end: 20 }])]),
        "whoever answers names it"
    );
    assert_eq!((ahead.ranges()[&name(0)].visible, ahead.ranges()[&second].visible), (20, 3));
    let before = pin(&view()).await;
    assert!(!is_behind(ahead.ranges(), before.ranges()));
    let (ahead, before, now) = (ahead.ranges(), Some(before.ranges()), world.clock.now());
    assert!(Kept::new(Duration::ZERO).retires("g1", ahead, before, now), "the old generation would answer for ever");
}

/// A running indexer has done with an earlier incarnation where its archive ends. It goes on when it is told that there is more.
#[tokio::test]
async fn an_indexer_reads_on_what_is_said_of_an_earlier_topic_later() {
    let mut world = World::new(1).await;
    let (live, archive) = (world.live(), world.archive());
    world.produce(0, 0..12).await;
    archiver(&world, small()).await.flush().await.unwrap();
    make_again(&mut world).await;
    let settings = IndexerSettings { partitions_refresh: Duration::from_millis(5), ..IndexerSettings::default() };
    let indexer = Arc::new(Indexer::open(parts(&world, &live), Coverage::new(), settings).await.unwrap());
    let (running, mut tasks) = (Arc::clone(&indexer), tokio::task::JoinSet::new());
    tasks.spawn(async move { running.run(&Share::default(), &CancellationToken::new()).await });
    let at = async |partition: &LogPartition| {
        let pin: Arc<dyn LivePin> = live.pin(&view()).await.unwrap().unwrap();
        pin.ranges().get(partition).map(|range| range.visible)
    };
    until(async || at(&name(0)).await == Some(12)).await;
    archive.lose(&name(0), 20).await.unwrap();
    indexer.read_on(&name(0));
    until(async || at(&name(0)).await == Some(20)).await;

    // Of a partition whose archive begins only now, the view knows nothing yet.
    archive.begin(&name(1), 0).await.unwrap();
    archive.lose(&name(1), 3).await.unwrap();
    indexer.read_on(&name(1));
    until(async || at(&name(1)).await == Some(3)).await;
    tasks.shutdown().await;
}
