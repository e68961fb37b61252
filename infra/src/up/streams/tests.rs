use std::ops::Range;

use tempfile::TempDir;
use tidemark_batch::report::quiet;
use tidemark_shared::dataset::registry;
use tidemark_shared::live::ViewId;
use tidemark_shared::log::Bounds;
use tidemark_shared::position::LogPartition;
use tidemark_shared::store::{IfMissing, Store};
use tidemark_speed::keep::Kept;
use tidemark_testing::comes;
use tidemark_testing::faulty::{Call, Fault, Faulty, Rule};

use super::keeping::keep;
use super::*;
use crate::up::UpError;
use crate::up::ready::{ANSWER_MAX, Standing, made_anew, standings};
use crate::up::task_name::{TaskKind, TaskName};
use crate::up::testing::{FaultyView, indexers, nobody, parts, sources};

/// What a process finds, and leaves to the next one.
struct World {
    folder: TempDir,
    /// Goes past `faulty`.
    store: Store,
    /// What a process has of the store.
    faulty: Faulty,
}

impl World {
    /// With these datasets, which have streams, and a store with such faults.
    async fn of(datasets: &[&str], rules: Vec<Rule>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::local(&folder.path().join("store"), IfMissing::Create).expect("a store");
        let faulty = Faulty::new(store.objects(), rules);
        let world = Self { folder, store, faulty };
        for name in datasets {
            world.apply(name, "a text").await;
        }
        world
    }

    async fn apply(&self, name: &str, description: &str) {
        registry::apply(&self.store, &sources(name, description)).await.expect("applied");
    }

    /// What a process is made of; one at a time.
    async fn parts(&self) -> Parts {
        parts(self.store.decorated(|_| self.faulty.store()), self.folder.path()).await
    }

    /// The streams of a process, whose loops do not run.
    async fn streams(&self) -> Streams {
        Streams::new(self.parts().await)
    }
}

/// Another topic is in the place of the stream's.
async fn make_again(streams: &Streams, old: &Stream) {
    let log = &streams.parts.log;
    log.delete_topic(&old.topic).await.expect("deleted");
    log.create_topic(&old.topic.name, old.topic.partitions).await.expect("made again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_at_definitions_costs_a_listing_and_a_request_for_each_dataset() {
    let world = World::of(&["a", "b", "c"], Vec::new()).await;
    let streams = world.streams().await;
    let found = nobody();
    streams.discover(&found).await.expect("all are taken up");
    assert_eq!(streams.all().len(), 3);

    let before = world.faulty.made().len();
    streams.discover(&found).await.expect("nothing is new");
    let mut made: Vec<(Call, String)> =
        world.faulty.made().drain(before..).map(|(call, path)| (call, path.to_string())).collect();
    // side by side
    made[1..].sort_by(|(_, a), (_, b)| a.cmp(b));
    let head = |name: &str| (Call::Get, format!("definitions/{name}/00000002.json"));
    assert_eq!(made, [(Call::List, "definitions".to_owned()), head("a"), head("b"), head("c")]);

    world.apply("b", "another text").await;
    streams.discover(&found).await.expect("it is taken up");
    let description = |name: &str| streams.get(name).expect("it is open").definition().definition.description.clone();
    let text = |text: &str| Some(text.to_owned());
    assert_eq!((description("a"), description("b")), (text("a text"), text("another text")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dataset_whose_stream_can_not_be_opened_is_known_with_the_reason() {
    let world = World::of(&["a", "b"], vec![Rule::new(Call::Put, "raw/b/sources", 0, Fault::Fails)]).await;
    let streams = world.streams().await;
    let found = nobody();
    let standing = |dataset: &str| standings(&streams.parts, &streams).remove(dataset);
    assert_eq!(standing("b"), None, "nothing was looked at");
    streams.discover(&found).await.expect("datasets are listed");
    assert!(streams.get("a").is_some() && streams.get("b").is_none());
    match standing("b") {
        Some(Standing::NotTakenUp(reason)) => assert!(reason.starts_with("stream: "), "{reason}"),
        other => panic!("{other:?}"),
    }
    streams.discover(&found).await.expect("datasets are listed");
    assert!(streams.get("b").is_some(), "it is tried again");
    // Its indexer, which runs by itself, may not have begun.
    assert_ne!(standing("b"), Some(Standing::Files));
    assert!(!format!("{:?}", standing("b")).contains("stream: "), "what it failed for is past");
}

fn record() -> Vec<bytes::Bytes> {
    vec![bytes::Bytes::from_static(b"{\"id\": \"x\"}")]
}

/// The stream of dataset `a`, taken up, and the position of a record of it that is read and not archived.
async fn with_a_record(streams: &Streams, found: &Found) -> (Arc<Stream>, LogPartition, u64) {
    streams.discover(found).await.expect("it is taken up");
    let stream = streams.get("a").expect("it is open");
    let taken = stream.append(record(), None, None).await.expect("it takes records");
    let (partition, offset) = taken.positions[0].clone();
    stream.archiver.step(partition.partition).await.expect("it reads");
    (stream, partition, offset)
}

/// No look at a dataset takes longer than its bound: the stream is still there, and the next look goes on with its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_stream_is_bounded_and_gone_on_with() {
    let world = World::of(&["a"], vec![Rule::new(Call::Put, ".parquet", 0, Fault::Hangs)]).await;
    let streams = world.streams().await;
    let (old, partition, offset) = with_a_record(&streams, &nobody()).await;
    make_again(&streams, &old).await;

    let late = old.end_within(Duration::from_millis(20)).await;
    assert!(matches!(late, Err(UpError::StillEnding { .. })), "{late:?}");
    assert!(old.stop.is_cancelled() && Arc::ptr_eq(&old, &streams.get("a").expect("it is still there")));
    streams.renew("a", &mut Kept::new(Duration::ZERO), &nobody()).await;
    assert_ne!(streams.get("a").expect("it is open").topic.id, old.topic.id);
    assert_eq!(old.archive.end(&partition, 0).await.expect("an archive"), Some(offset + 1));
}

/// A broker that lags behind told of another topic, and that one's end failed: the stream is taken up again, not waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_whose_end_had_begun_is_taken_up_again_where_its_topic_is_there() {
    let world = World::of(&["a"], vec![Rule::new(Call::Put, ".parquet", 0, Fault::Hangs)]).await;
    let streams = world.streams().await;
    let (old, partition, offset) = with_a_record(&streams, &nobody()).await;
    old.end_within(Duration::from_millis(20)).await.expect_err("the store does not answer");
    streams.renew("a", &mut Kept::new(Duration::ZERO), &nobody()).await;
    let new = streams.get("a").expect("it is open");
    assert!(!Arc::ptr_eq(&old, &new) && !new.stop.is_cancelled());
    assert_eq!((&new.topic, &new.source), (&old.topic, &old.source));
    assert_eq!(new.archiver.flush().await.expect("it reads again").end(&partition), offset + 1);
    assert!(new.archiver.status()[&partition].lost.is_empty());
    streams.renew("a", &mut Kept::new(Duration::ZERO), &nobody()).await;
    assert!(Arc::ptr_eq(&new, &streams.get("a").expect("it is open")), "it goes on");
}

/// H1: what the log was seen to have of a topic that is gone, and neither archive nor view has, is lost once that is sure.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h1_what_a_log_was_seen_to_have_is_lost_after_the_wait() {
    let world = World::of(&["a"], Vec::new()).await;
    let streams = world.streams().await;
    let (old, partition, offset) = with_a_record(&streams, &nobody()).await;
    // More than any view will show.
    let seen = offset + 9;
    let bounds = Bounds { start: 0, end: seen };
    old.archiver.saw(&vec![bounds; partition.partition as usize + 1]);
    old.end().await.expect("what was gathered is archived");
    assert_eq!(old.archive.end(&partition, 0).await.expect("an archive"), Some(offset + 1), "nothing is lost yet");

    make_again(&streams, &old).await;
    streams.renew("a", &mut Kept::new(Duration::ZERO), &nobody()).await;
    let new = streams.get("a").expect("it is open");
    assert!(new.has_seen_earlier());
    assert_eq!(old.archive.end(&partition, 0).await.expect("an archive"), Some(seen));
    assert_eq!(new.archiver.status()[&partition].lost, vec![Range { start: offset + 1, end: seen }]);
}

/// What was read of the old incarnation is archived; the new one's offsets begin anew, as another source.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_made_again_is_a_new_source() {
    let world = World::of(&["a"], Vec::new()).await;
    let streams = world.streams().await;
    let begun = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = Arc::clone(&begun);
    let found: Found = Arc::new(move |_: Arc<Stream>| -> BoxFuture<'static, ()> {
        counted.fetch_add(1, Ordering::Relaxed);
        Box::pin(async {})
    });
    let mut kept = Kept::new(Duration::ZERO);
    let (old, partition, offset) = with_a_record(&streams, &found).await;

    let log = Arc::clone(&streams.parts.log);
    log.delete_topic(&old.topic).await.expect("deleted");
    streams.renew("a", &mut kept, &found).await;
    assert!(Arc::ptr_eq(&old, &streams.get("a").expect("it waits")), "a topic that is deleted was made again");
    log.create_topic(&old.topic.name, old.topic.partitions).await.expect("made again");
    streams.renew("a", &mut kept, &found).await;
    let new = streams.get("a").expect("it is open");
    assert_ne!(new.topic.id, old.topic.id);
    assert_eq!((old.source.to_string(), new.source.to_string()), ("a".to_owned(), "a~2".to_owned()));
    assert_eq!(old.archive.end(&partition, 0).await.expect("an archive"), Some(offset + 1));
    assert!(old.stop.is_cancelled() && old.stop_batch.is_cancelled() && !new.stop.is_cancelled());
    let taken = new.append(record(), None, None).await.expect("it takes records");
    assert_eq!((&taken.positions[0].0.source, taken.positions[0].1), (&new.source, 0));
    streams.renew("a", &mut kept, &found).await;
    assert!(Arc::ptr_eq(&new, &streams.get("a").expect("it is open")));
    assert_eq!(begun.load(Ordering::Relaxed), 2, "one stream was begun, then another");
}

/// Waits until a view shows a partition up to there.
async fn shows(streams: &Streams, view: &ViewId, partition: &LogPartition, end: u64) {
    let is_shown = async || {
        let pin = streams.parts.live.pin(view).await.expect("views answer");
        pin.and_then(|pin| pin.ranges().get(partition).map(|range| range.visible)) == Some(end)
    };
    comes(&format!("what {view} is to show of {partition}"), is_shown).await;
}

/// H1, H9: what a view alone had of a topic that is gone is told as lost. A later generation is no further behind than that, and
/// takes over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h1_h9_what_only_a_view_had_of_a_topic_that_is_gone_is_lost_and_keeps_no_generation_from_answering() {
    let world = World::of(&["a"], Vec::new()).await;
    let streams = world.streams().await;
    streams.discover(&nobody()).await.expect("it is taken up");
    let old = streams.get("a").expect("it is open");
    let taken = old.append(record(), None, None).await.expect("it takes records");
    let (partition, offset) = taken.positions[0].clone();
    let (generation, _) = old.all_indexers().pop().expect("a generation is kept up");
    let view = old.view(&generation);
    shows(&streams, &view, &partition, offset + 1).await;
    // The archiver, which nobody runs, has not even begun.
    assert_eq!(old.archive.end(&partition, 0).await.expect("an archive"), None);

    make_again(&streams, &old).await;
    streams.renew("a", &mut Kept::new(Duration::ZERO), &nobody()).await;
    let new = streams.get("a").expect("it is open");
    assert_ne!(new.source, old.source);
    let segments = old.archive.segments_from(&partition, 0).await.expect("an archive");
    assert_eq!(segments.len(), 1);
    let told = old.archive.read(&partition, &segments[0]).await.expect("a segment");
    let lost = vec![Range { start: 0, end: offset + 1 }];
    assert_eq!((told.records.len(), &told.header.lost), (0, &lost));
    assert_eq!(new.archiver.status()[&partition].lost, lost, "answers and metrics tell it at once");

    streams.parts.batch.recompute("a", &quiet()).await.expect("recomputes");
    let mut kept = Kept::new(Duration::ZERO);
    for _ in 0..2 {
        keep(&streams.parts, &new, &mut kept).await.expect("views answer");
    }
    let views = streams.parts.live.views().await.expect("views answer");
    assert!(views.len() == 1 && !views.contains(&view), "{views:?}");
    shows(&streams, &views[0], &partition, offset + 1).await;
}

/// What a stream that could not be opened had set to work ends: nobody would see it, and the next attempt has its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_works_on_a_stream_that_was_not_opened() {
    let world = World::of(&["a"], Vec::new()).await;
    let mut parts = world.parts().await;
    let view = FaultyView::before(&mut parts);
    let tasks = Arc::clone(&parts.tasks);
    view.faults().no_pin_beside = Some(Arc::clone(&tasks));
    let streams = Streams::new(parts);
    streams.discover(&nobody()).await.expect("datasets are listed");
    assert!(streams.get("a").is_none());
    let failed = tasks.health().remove(&TaskName::of(TaskKind::Stream, "a")).and_then(|health| health.error);
    assert!(failed.as_ref().is_some_and(|error| error.contains("the cluster is away")), "{failed:?}");
    comes("the end of its indexer", async || indexers(&tasks).is_empty()).await;
    assert!(!streams.parts.stop_speed.is_cancelled());

    view.faults().no_pin_beside = None;
    streams.discover(&nobody()).await.expect("datasets are listed");
    let stream = streams.get("a").expect("it is open");
    assert!(!stream.stop.is_cancelled());
    assert_eq!((indexers(&tasks).len(), stream.all_indexers().len()), (1, 1));
}

/// A view has caught up once it is seen to have what the log had, not where nobody could tell.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_is_made_anew_until_it_is_seen_to_have_what_the_log_had() {
    let world = World::of(&["a"], Vec::new()).await;
    let mut parts = world.parts().await;
    let view = FaultyView::before(&mut parts);
    let before = Streams::new(parts.clone());
    let _record = with_a_record(&before, &nobody()).await;
    assert_eq!(made_anew(&before, ANSWER_MAX).await, BTreeMap::new(), "the log had nothing");

    let streams = Streams::new(parts);
    streams.discover(&nobody()).await.expect("it is taken up");
    let stream = streams.get("a").expect("it is open");
    view.faults().no_pin_beside = Some(Arc::clone(&streams.parts.tasks));
    let told = made_anew(&streams, ANSWER_MAX).await;
    assert!(told.get("a").is_some_and(|told| told.contains("the cluster is away")), "{told:?}");
    assert!(!stream.anew.is_done());
    view.faults().no_pin_beside = None;
    let is_seen = async || {
        drop(made_anew(&streams, ANSWER_MAX).await);
        stream.anew.is_done()
    };
    comes("that it has caught up", is_seen).await;
    assert_eq!(made_anew(&streams, ANSWER_MAX).await, BTreeMap::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dataset_that_does_not_get_on_delays_no_other() {
    let world = World::of(&["a", "b"], Vec::new()).await;
    let mut parts = world.parts().await;
    let view = FaultyView::before(&mut parts);
    let stop = parts.stop_speed.clone();
    let streams = Arc::new(Streams::new(parts));
    streams.discover(&nobody()).await.expect("datasets are listed");
    view.faults().stuck = Some("a");
    let (running, mut tasks) = (Arc::clone(&streams), tokio::task::JoinSet::new());
    tasks.spawn(async move { running.run(Duration::from_millis(10), &nobody()).await });
    let before = view.drops("b");
    comes("the end of the other one's rows", async || view.drops("b") >= before + 3).await;
    world.apply("c", "a text").await;
    comes("the stream of a new one", async || streams.get("c").is_some()).await;
    stop.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(60), tasks.join_next()).await;
    assert!(matches!(ended, Ok(Some(Ok(Ok(()))))), "the loop waits for the one that is stuck");
}
