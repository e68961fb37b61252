use std::path::Path;

use prometheus_client::registry::Registry;
use tidemark_batch::{Batch, BatchSettings};
use tidemark_shared::ambient::System;
use tidemark_shared::dataset::Sources;
use tidemark_shared::log::Log;
use tidemark_shared::store::{IfMissing, Store};
use tidemark_shared::telemetry::NoTraces;
use tidemark_speed::log::embedded::{EmbeddedLog, Storage};
use tidemark_testing::faulty::{Call, Fault, Faulty, Rule};

use super::*;
use crate::config::{Flags, resolve};
use crate::up::metrics::Metrics;
use crate::up::ready::{Standing, standings};

fn sources(name: &str, description: &str) -> Sources {
    let toml = format!(
        "name = \"{name}\"\ndescription = \"{description}\"\ncolumns = [{{ name = \"id\", type = \"string\" }}]\n\
         [stream]\nformat = \"json\"\n"
    );
    [("dataset.toml", toml), ("transform.sql", "SELECT id FROM input".to_owned())]
        .map(|(name, text)| (name.to_owned(), text))
        .into()
}

/// The streams of a process on `store`, whose loops do not run.
async fn streams(store: Store, folder: &Path) -> Streams {
    let config = resolve(None, &|_| None, &Flags::default(), folder).expect("defaults are valid").server;
    let log = EmbeddedLog::open(&folder.join("log"), Storage::default(), Arc::new(System)).await.expect("a log");
    let log: Arc<dyn Log> = Arc::new(log);
    let batch = Batch::new(store.clone(), crate::context::stores(), None, BatchSettings::default());
    let metrics = Arc::new(Metrics::new(&mut Registry::default()));
    Streams::new(crate::up::parts(store, batch, log, metrics, Arc::new(NoTraces), &config).expect("embedded parts"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_at_definitions_costs_a_listing_and_a_request_for_each_dataset() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::local(&folder.path().join("store"), IfMissing::Create).expect("a store");
    for name in ["a", "b", "c"] {
        registry::apply(&store, &sources(name, "a text")).await.expect("applied");
    }
    let faulty = Faulty::new(store.objects(), Vec::new());
    let streams = streams(store.decorated(|_| faulty.store()), folder.path()).await;
    let found = |_: Arc<Stream>| -> BoxFuture<'static, ()> { Box::pin(async {}) };
    streams.discover(&found).await.expect("all are taken up");
    assert_eq!(streams.all().len(), 3);

    let before = faulty.made().len();
    streams.discover(&found).await.expect("nothing is new");
    let made: Vec<(Call, String)> =
        faulty.made().drain(before..).map(|(call, path)| (call, path.to_string())).collect();
    let head = |name: &str| (Call::Get, format!("definitions/{name}/00000002.json"));
    assert_eq!(made, [(Call::List, "definitions".to_owned()), head("a"), head("b"), head("c")]);

    registry::apply(&store, &sources("b", "another text")).await.expect("applied");
    streams.discover(&found).await.expect("it is taken up");
    let description = |name: &str| streams.get(name).expect("it is open").definition().definition.description.clone();
    let text = |text: &str| Some(text.to_owned());
    assert_eq!((description("a"), description("b")), (text("a text"), text("another text")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dataset_whose_stream_can_not_be_opened_is_known_with_the_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::local(&folder.path().join("store"), IfMissing::Create).expect("a store");
    for name in ["a", "b"] {
        registry::apply(&store, &sources(name, "a text")).await.expect("applied");
    }
    let faulty = Faulty::new(store.objects(), vec![Rule::new(Call::Put, "raw/b/sources", 0, Fault::Fails)]);
    let streams = streams(store.decorated(|_| faulty.store()), folder.path()).await;
    let found = |_: Arc<Stream>| -> BoxFuture<'static, ()> { Box::pin(async {}) };
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

/// What was read of the old incarnation is archived; the new one's offsets begin anew, as another source.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_made_again_is_a_new_source() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::local(&folder.path().join("store"), IfMissing::Create).expect("a store");
    registry::apply(&store, &sources("a", "a text")).await.expect("applied");
    let streams = streams(store, folder.path()).await;
    let begun = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = Arc::clone(&begun);
    let found = move |_: Arc<Stream>| -> BoxFuture<'static, ()> {
        counted.fetch_add(1, Ordering::Relaxed);
        Box::pin(async {})
    };
    streams.discover(&found).await.expect("it is taken up");
    let old = streams.get("a").expect("it is open");
    let value = || vec![bytes::Bytes::from_static(b"{\"id\": \"x\"}")];
    let taken = old.append(value(), None, None).await.expect("it takes records");
    let (partition, offset) = taken.positions[0].clone();
    old.archiver.step(partition.partition).await.expect("it reads");

    let log = Arc::clone(&streams.parts.log);
    log.delete_topic(&old.topic).await.expect("deleted");
    streams.renew(&found).await;
    assert!(Arc::ptr_eq(&old, &streams.get("a").expect("it waits")), "a topic that is deleted was made again");
    log.create_topic(&old.topic.name, old.topic.partitions).await.expect("made again");
    streams.renew(&found).await;
    let new = streams.get("a").expect("it is open");
    assert_ne!(new.topic.id, old.topic.id);
    assert_eq!((old.source.to_string(), new.source.to_string()), ("a".to_owned(), "a~2".to_owned()));
    assert_eq!(old.archive.end(&partition, 0).await.expect("an archive"), Some(offset + 1));
    assert!(old.stop.is_cancelled() && old.stop_batch.is_cancelled() && !new.stop.is_cancelled());
    let taken = new.append(value(), None, None).await.expect("it takes records");
    assert_eq!((&taken.positions[0].0.source, taken.positions[0].1), (&new.source, 0));
    streams.renew(&found).await;
    assert!(Arc::ptr_eq(&new, &streams.get("a").expect("it is open")));
    assert_eq!(begun.load(Ordering::Relaxed), 2, "one stream was begun, then another");
}
