//! A log that does not let go of what is archived, as a broker where that is not allowed: the archive goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use tidemark_shared::log::{Bounds, Log, LogError, LogLayer, Retention, Topic};
use tidemark_speed::archiver::{Archiver, ArchiverSettings, ArchiverStep, Seal};

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

#[tokio::test]
async fn a_log_that_lets_go_of_nothing_holds_up_no_segment() {
    let world = World::new(1).await;
    let log = Arc::new(Keeping { inner: world.log(), refuses: AtomicBool::new(true), asked: AtomicUsize::new(0) });
    let settings = ArchiverSettings { retention: Retention { age_max: None, bytes_max: Some(0) }, ..small() };
    let (port, topic) = (Arc::clone(&log) as Arc<dyn Log>, world.topic.clone());
    let archiver = Archiver::open(port, world.archive(), topic, world.ambient(), settings).await.unwrap();
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
