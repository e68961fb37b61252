//! The log port's contract on the log in memory, by itself and below a layer, and what only that one can be made to do.

use std::sync::Arc;

use tidemark_shared::ambient::Ambient;
use tidemark_shared::log::memory::MemoryLog;
use tidemark_shared::log::{Bounds, Log, LogError, LogLayer, ReadLimits, Record, Routed, TopicName};
use tidemark_testing::contract::log::{self as contract, SteppedClock};

/// A layer that changes nothing.
#[derive(Debug)]
struct Plain(Arc<dyn Log>);

impl LogLayer for Plain {
    fn inner(&self) -> &Arc<dyn Log> {
        &self.0
    }
}

fn memory() -> (Arc<dyn Log>, Arc<SteppedClock>) {
    let clock = Arc::new(SteppedClock::default());
    (Arc::new(MemoryLog::new(Arc::clone(&clock) as Arc<dyn Ambient>)), clock)
}

async fn check(log: Arc<dyn Log>, clock: &SteppedClock) {
    contract::check_all(&log).await;
    contract::check_time(&log, clock).await;
    contract::check_close(&log).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_in_memory_keeps_the_contract() {
    let (log, clock) = memory();
    check(log, &clock).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_layer_hands_every_call_on() {
    let (log, clock) = memory();
    check(Arc::new(Plain(log)), &clock).await;
}

#[tokio::test]
async fn holes_are_read_past() {
    let log = MemoryLog::new(Arc::new(SteppedClock::default()));
    let topic = log.create_topic(&TopicName::new("trips").unwrap(), 1).await.unwrap();
    let limits = ReadLimits { records_max: 2, bytes_max: 100 };
    let one = || vec![Routed { partition: 0, record: Record::default() }];
    log.append(&topic, one(), None).await.unwrap();
    log.skip(&topic, 0, 3).unwrap();
    log.append(&topic, one(), None).await.unwrap();
    log.append(&topic, one(), None).await.unwrap();
    log.compact(&topic, 0, 5).unwrap();
    log.skip(&topic, 0, 2).unwrap();

    let first = log.read(&topic, 0, 0, limits).await.unwrap();
    assert_eq!(first.records.iter().map(|read| read.offset).collect::<Vec<_>>(), [0, 4]);
    // 5 was compacted, 6 and 7 never had a record: all that was read past
    assert_eq!((first.next, first.bounds), (8, Bounds { start: 0, end: 8 }));
    let middle = log.read(&topic, 0, 1, ReadLimits { records_max: 1, ..limits }).await.unwrap();
    assert_eq!((middle.records[0].offset, middle.records.len()), (4, 1));
    let hole = log.read(&topic, 0, 6, limits).await.unwrap();
    assert_eq!((hole.records.len(), hole.next), (0, 8));

    log.lose_end(&topic, 0, 4).unwrap();
    let error = log.read(&topic, 0, 8, limits).await.unwrap_err();
    assert!(matches!(error, LogError::BeyondEnd { from: 8, end: 4, .. }), "{error:?}");
}
