//! Archivers and the batch layer on one archive.

use async_trait::async_trait;
use tidemark_batch::report::quiet;
use tidemark_batch::{Batch, BatchSettings};
use tidemark_shared::ambient::System;
use tidemark_shared::log::memory::MemoryLog;
use tidemark_shared::log::{Log, LogLayer, Record, Retention, Routed, TopicId};
use tidemark_shared::store::{IfMissing, Store};
use tidemark_speed::archiver::{ArchiverSettings, ArchiverStep};

use super::*;
use crate::up::testing::{parts, sources};

/// A log whose topics can't be followed while it is told so.
#[derive(Debug)]
struct Refusing {
    inner: Arc<dyn Log>,
    refuses: AtomicBool,
}

#[async_trait]
impl LogLayer for Refusing {
    fn inner(&self) -> &Arc<dyn Log> {
        &self.inner
    }

    async fn check_topic(&self, topic: &Topic) -> Result<(), LogError> {
        if self.refuses.load(Ordering::Relaxed) {
            let what = format!("topic `{}`", topic.name);
            return Err(LogError::Invalid { what, reason: "it is compacted".to_owned() });
        }
        self.inner.check_topic(topic).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_can_not_be_followed_is_refused_where_its_stream_is_opened_and_not_where_it_is_looked_at() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::local(&folder.path().join("store"), IfMissing::Create).expect("a store");
    registry::apply(&store, &sources("a", "a text")).await.expect("applied");
    let applied = async || registry::latest(&store, "a").await.expect("it is read").expect("it is there");
    let mut parts = parts(store.clone(), folder.path()).await;
    let log = Arc::new(Refusing { inner: Arc::clone(&parts.log), refuses: AtomicBool::new(true) });
    parts.log = Arc::clone(&log) as Arc<dyn Log>;
    // whoever made it
    parts.log.create_topic(&TopicName::new("a").expect("a name"), 1).await.expect("a topic");
    let refused = Stream::open(&parts, applied().await).await.err().expect("it can't be followed");
    assert!(matches!(&refused, UpError::Log(LogError::Invalid { .. })), "{refused:?}");

    log.refuses.store(false, Ordering::Relaxed);
    let stream = Stream::open(&parts, applied().await).await.expect("it can be followed now");
    log.refuses.store(true, Ordering::Relaxed);
    assert_eq!(stream.what_next().await.expect("it is there"), Next::GoesOn);
    parts.log.delete_topic(&stream.topic).await.expect("deleted");
    parts.log.create_topic(&stream.topic.name, 1).await.expect("made again");
    assert_eq!(stream.what_next().await.expect("it is there"), Next::MadeAgain);
}

/// One that is deleted is waited for, also where its end has begun: who opened it then would make it.
#[test]
fn a_stream_begins_anew_where_its_topic_is_another_or_its_end_has_begun() {
    let topic = |id: &str| Topic { name: TopicName::new("a").expect("a name"), id: TopicId::new(id), partitions: 1 };
    for (found, is_ending, wanted) in [
        (None, false, Next::GoesOn),
        (None, true, Next::GoesOn),
        (Some("1"), false, Next::GoesOn),
        (Some("1"), true, Next::TakenUpAgain),
        (Some("2"), false, Next::MadeAgain),
        (Some("2"), true, Next::MadeAgain),
    ] {
        assert_eq!(next(&topic("1"), found.map(topic).as_ref(), is_ending), wanted, "{found:?}, ending: {is_ending}");
    }
}

/// H1: packing frees the keys of segments. An archiver that was away for so long goes on where the archive ends, whether the log
/// still has what came next or has let it go: what is archived is not lost, and nobody is told to delete what has it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h1_an_archiver_that_was_away_says_nothing_of_what_was_packed_since() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::local(&folder.path().join("store"), IfMissing::Create).expect("a store");
    registry::apply(&store, &sources("a", "a text")).await.expect("applied");
    let log = Arc::new(MemoryLog::new(Arc::new(System)));
    let topic = log.create_topic(&TopicName::new("a").expect("a name"), 1).await.expect("a topic");
    let archive = Archive::new(store.clone(), "a");
    let archiver = async || {
        let (log, settings) = (Arc::clone(&log) as Arc<dyn Log>, ArchiverSettings::default());
        Archiver::open(log, archive.clone(), topic.clone(), Arc::new(System), settings).await.expect("an archiver")
    };
    let append = async || {
        let record = Record { value: Some("{\"id\": \"x\"}".into()), ..Record::default() };
        let appended = log.append(&topic, vec![Routed { partition: 0, record }], None).await;
        assert_eq!(appended.expect("it is there").positions.len(), 1);
    };
    let (away, with_records, other) = (archiver().await, archiver().await, archiver().await);
    append().await;
    assert_eq!(away.flush().await.expect("archived").iter().map(|(_, end)| end).sum::<u64>(), 1);
    append().await;
    assert_eq!(with_records.step(0).await.expect("it reads"), ArchiverStep::Gathered(1));
    for _ in 2..13 {
        assert!(other.flush().await.is_ok());
        append().await;
    }
    assert!(other.flush().await.is_ok());

    let settings = BatchSettings { grace: Duration::ZERO, ..BatchSettings::default() };
    let batch = Batch::new(store.clone(), crate::context::stores(), None, settings);
    assert_eq!(batch.run("a", &quiet()).await.expect("runs").counts.records, 13);
    assert_eq!(batch.pack("a").await.expect("packs").packed, 1);
    assert!(batch.pack("a").await.expect("removes").removed > 8);
    let partition = partition_of(away.source(), 0);
    let plain = async || archive.plain(&partition).await.expect("lists").into_iter().map(|segment| segment.start);
    assert_eq!(plain().await.collect::<Vec<_>>(), [12_u64], "the last one is not packed");

    let everything = Retention { age_max: None, bytes_max: Some(0) };
    assert_eq!(log.retain(&topic, 0, &everything, 10).await.expect("it goes").start, 10);
    assert_eq!(away.step(0).await.expect("it looks"), ArchiverStep::Followed(13));
    assert_eq!(plain().await.collect::<Vec<_>>(), [12_u64], "a false loss was put");
    assert!(away.status()[&partition].lost.is_empty());

    assert_eq!(with_records.flush().await.expect("it looks").end(&partition), 13);
    // It had to put what it had to find out. It is what the packed one has, and goes like any other that was packed.
    assert_eq!(plain().await.collect::<Vec<_>>(), [1_u64, 12]);
    assert_eq!(batch.pack("a").await.expect("nothing contradicts").removed, 1);
    assert_eq!(plain().await.collect::<Vec<_>>(), [12_u64]);
    assert_eq!(archive.end(&partition, 0).await.expect("an archive"), Some(13));
}
