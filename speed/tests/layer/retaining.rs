//! A log that does not let go of what is archived, as a broker where that is not allowed: the archive goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use tidemark_shared::log::{Bounds, Log, LogError, LogLayer, Partitions, Retention, Topic};
use tidemark_shared::segment::SegmentError;
use tidemark_speed::archiver::{Archiver, ArchiverError, ArchiverSettings, ArchiverStep, Seal};

use super::archiver::{check_archive, small};
use super::support::{World, name};

/// Lets go of nothing while it is told to refuse.
#[derive(Debug)]
struct Keeping {
    inner: Arc<dyn Log>,
    refuses: AtomicBool,
    asked: AtomicUsize,
}

#[async_trait]
impl LogLayer for Keeping {
    fn inner(&self) -> &Arc<dyn Log> {
        &self.inner
    }

    async fn retain(
        &self,
        topic: &Topic,
        partition: u32,
        retention: &Retention,
        limit: u64,
    ) -> Result<Bounds, LogError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.refuses.load(Ordering::Relaxed) {
            return Err(LogError::backend("delete records", "the topic does not allow it"));
        }
        self.inner.retain(topic, partition, retention, limit).await
    }
}

/// An archiver that has its log let go of all that is archived, and that log, which refuses at first.
async fn refused(world: &World) -> (Archiver, Arc<Keeping>) {
    let log = Arc::new(Keeping { inner: world.log(), refuses: AtomicBool::new(true), asked: AtomicUsize::new(0) });
    let settings = ArchiverSettings { retention: Retention { age_max: None, bytes_max: Some(0) }, ..small() };
    let (port, topic) = (Arc::clone(&log) as Arc<dyn Log>, world.topic.clone());
    let archiver = Archiver::open(port, world.archive(), topic, world.ambient(), settings).await.unwrap();
    (archiver, log)
}

#[tokio::test]
async fn a_log_that_lets_go_of_nothing_holds_up_no_segment() {
    let world = World::new(1).await;
    let (archiver, log) = refused(&world).await;
    let status = || archiver.status()[&name(0)].clone();
    let start = async || world.log.bounds(&world.topic).await.unwrap()[0].start;

    for round in 0..2_u64 {
        let range = round * 10..(round + 1) * 10;
        world.produce(0, range.clone()).await;
        assert_eq!(archiver.step(0).await.unwrap(), ArchiverStep::Sealed(range, Seal::Size));
    }
    world.produce(0, 20..23).await;
    assert_eq!(archiver.flush().await.unwrap().end(&name(0)), 23, "who asks for all has it");
    assert_eq!(log.asked.load(Ordering::Relaxed), 3, "it is to let go again after each segment");
    assert_eq!((status().segments, status().archived, start().await), (3, Some(23), 0));
    let trouble = status().trouble.expect("nobody would know that the log grows");
    assert!(!trouble.stopped && trouble.error.contains("the topic does not allow it"), "{trouble:?}");
    // A step that has nothing to seal says nothing of that.
    assert_eq!(archiver.step(0).await.unwrap(), ArchiverStep::Idle { due_in: None });
    assert_eq!(status().trouble, Some(trouble));

    log.refuses.store(false, Ordering::Relaxed);
    world.produce(0, 23..33).await;
    assert_eq!(archiver.step(0).await.unwrap(), ArchiverStep::Sealed(23..33, Seal::Size));
    assert_eq!((status().trouble, status().segments, start().await), (None, 4, 33));
    check_archive(&world, 33, &[]).await;
}

#[tokio::test]
async fn a_log_that_did_not_let_go_is_to_again_though_there_is_nothing_to_archive() {
    let world = World::new(1).await;
    let (archiver, log) = refused(&world).await;
    let idle = async || assert_eq!(archiver.step(0).await.unwrap(), ArchiverStep::Idle { due_in: None });
    let seen = || (archiver.status()[&name(0)].trouble.is_some(), log.asked.load(Ordering::Relaxed));
    let every = ArchiverSettings::default().partitions_refresh;
    world.produce(0, 0..10).await;
    assert_eq!(archiver.step(0).await.unwrap(), ArchiverStep::Sealed(0..10, Seal::Size));
    idle().await;
    assert_eq!(seen(), (true, 1), "each step would ask");
    world.clock.pass(every);
    idle().await;
    assert_eq!(seen(), (true, 2));
    log.refuses.store(false, Ordering::Relaxed);
    idle().await;
    assert_eq!(seen(), (true, 2), "it was asked just now");
    world.clock.pass(every);
    idle().await;
    assert_eq!(seen(), (false, 3));
    assert_eq!(world.log.bounds(&world.topic).await.unwrap()[0].start, 10);
    world.clock.pass(every);
    idle().await;
    assert_eq!(seen(), (false, 3), "it has let go");
}

/// As a door does, which nobody asks again for long.
#[tokio::test]
async fn who_archives_what_is_anothers_keeps_no_trouble_of_it() {
    let world = World::new(1).await;
    let (archiver, log) = refused(&world).await;
    archiver.own(Partitions::none()).await;
    world.produce(0, 0..3).await;
    assert_eq!(archiver.flush().await.unwrap().end(&name(0)), 3);
    assert_eq!((log.asked.load(Ordering::Relaxed), archiver.status()[&name(0)].trouble.clone()), (1, None));
}

#[tokio::test]
async fn a_damaged_archive_that_is_found_while_the_log_is_to_let_go_stops_the_partition() {
    let world = World::new(1).await;
    let (archiver, log) = refused(&world).await;
    // Another one archives it first, so that what of it is durable nobody here knows.
    world.produce(0, 0..10).await;
    assert_eq!(super::archiver::archiver(&world, small()).await.flush().await.unwrap().end(&name(0)), 10);
    assert_eq!(archiver.step(0).await.unwrap(), ArchiverStep::Idle { due_in: None });
    let archive = world.archive();
    archive.delete(&archive.plain(&name(0)).await.unwrap()).await.unwrap();

    world.produce(0, 10..20).await;
    let error = archiver.step(0).await.unwrap_err();
    assert!(matches!(error, ArchiverError::Archive(SegmentError::Hole { .. })), "{error:?}");
    let trouble = archiver.status()[&name(0)].trouble.clone().expect("it has stopped");
    assert!(trouble.stopped && trouble.error.contains("has a hole"), "{trouble:?}");
    assert!(matches!(archiver.step(0).await.unwrap_err(), ArchiverError::Stopped { .. }));
    assert_eq!(log.asked.load(Ordering::Relaxed), 0, "it could let go of what is archived nowhere");
}
