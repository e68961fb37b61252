use std::path::Path;

use futures::FutureExt as _;
use prometheus_client::registry::Registry;
use tidemark_shared::error::{ErrorKind as _, Kind};
use tidemark_shared::store::{IfMissing, Store};

use super::*;
use crate::up::metrics::Metrics;
use crate::up::ready::{ANSWER_MAX, Standing, standings};
use crate::up::testing::{FaultyView, Gate, MeetingLog, nobody, parts, samples, sources, until};

/// A bound that nothing here comes near to.
const LONG: Duration = Duration::from_secs(60);

/// A process that works on dataset `a`, whose views others may move; the gate of its log and views; what it shows.
async fn works(folder: &Path) -> (Facts, Arc<Gate>, Registry) {
    let store = Store::local(&folder.join("store"), IfMissing::Create).expect("a store");
    registry::apply(&store, &sources("a", "a text")).await.expect("applied");
    let mut shown = Registry::default();
    let mut parts = parts(store, folder).await;
    let gate = Arc::clone(&FaultyView::before(&mut parts).gate);
    parts.log = Arc::new(MeetingLog { inner: Arc::clone(&parts.log), gate: Arc::clone(&gate) });
    parts.metrics = Arc::new(Metrics::new(&mut shown));
    parts.own_views = false;
    let streams = Arc::new(Streams::new(parts.clone()));
    streams.discover(&nobody()).await.expect("it is taken up");
    let (was_ready, ages) = (AtomicBool::new(false), Ages::default());
    let facts = Facts { parts, streams, up_since: Mutex::default(), was_ready, ages };
    facts.started();
    until("it works", || standings(&facts.parts, &facts.streams).get("a") == Some(&Standing::Works)).await;
    (facts, gate, shown)
}

/// So it takes as long as the longest of the answers, and not as all of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_a_scrape_asks_is_asked_side_by_side() {
    let folder = tempfile::tempdir().expect("a folder");
    let (facts, gate, shown) = works(folder.path()).await;
    gate.keep(&["health", "views", "pin", "bounds"]);
    facts.measure_within(LONG).await;
    assert_eq!(samples(&shown, "tidemark_ready"), [" 1"]);
    assert_eq!(samples(&shown, "tidemark_measure_failures_total"), [r#"{dataset="a"} 0"#]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scrape_waits_for_no_log_or_view_that_does_not_answer() {
    let soon = Duration::from_millis(20);
    let (failed, dataset) = ([r#"{dataset="a"} 1"#], "tidemark_measure_failures_total");
    for (call, is_ready) in [("health", false), ("views", false), ("pin", true), ("bounds", true)] {
        let folder = tempfile::tempdir().expect("a folder");
        let (facts, gate, shown) = works(folder.path()).await;
        gate.keep(&[call, "what nobody calls"]);
        let measured = tokio::time::timeout(LONG, facts.measure_within(soon)).await;
        assert!(measured.is_ok(), "a scrape waits for `{call}`");
        assert_eq!(samples(&shown, "tidemark_ready"), [if is_ready { " 1" } else { " 0" }], "{call}");
        // What all need says nothing of a dataset, and the other way round.
        if is_ready {
            assert_eq!(samples(&shown, dataset), failed, "{call}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_whether_it_is_ready_is_told_who_does_not_answer() {
    let folder = tempfile::tempdir().expect("a folder");
    let (facts, gate, _shown) = works(folder.path()).await;
    for (call, wanted) in
        [("health", "the log has not answered in time"), ("views", "the real-time views have not answered in time")]
    {
        gate.keep(&[call, "what nobody calls"]);
        let told = tokio::time::timeout(LONG, facts.readiness_within(Duration::from_millis(20))).await;
        assert_eq!(told, Ok(Readiness::NotReady { reason: wanted.to_owned() }));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_starts_or_stops_asks_nobody_whether_it_is_ready() {
    let folder = tempfile::tempdir().expect("a folder");
    let (facts, gate, _shown) = works(folder.path()).await;
    gate.keep(&["health", "views", "pin", "bounds", "what nobody calls"]);
    facts.stops();
    let told = facts.readiness_within(ANSWER_MAX).now_or_never();
    assert_eq!(told, Some(Readiness::NotReady { reason: "it starts or stops".to_owned() }));
}

/// A cluster that was never there: the reason is told wherever somebody asks, and is the same everywhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_can_not_be_opened_takes_no_records_and_says_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::local(&folder.path().join("store"), IfMissing::Create).expect("a store");
    registry::apply(&store, &sources("a", "a text")).await.expect("applied");
    let mut parts = parts(store, folder.path()).await;
    let view = FaultyView::before(&mut parts);
    view.faults().no_open = true;
    let streams = Arc::new(Streams::new(parts.clone()));
    streams.discover(&nobody()).await.expect("datasets are listed");
    let (was_ready, ages) = (AtomicBool::new(false), Ages::default());
    let facts = Facts { parts, streams, up_since: Mutex::default(), was_ready, ages };
    facts.started();

    let append = || facts.append("a", vec![Bytes::from_static(b"{}")], None, None);
    let refused = append().await.expect_err("its stream is not open");
    assert!(matches!(refused, IntakeError::Failed(_)) && refused.kind() == Kind::Retryable, "{refused:?}");
    let said = refused.to_string();
    assert!(said.starts_with("dataset `a` takes no records now, for its stream can't be opened: "), "{said}");
    assert!(said.contains("the real-time view failed to open a view: the cluster is away"), "{said}");

    let status = facts.status().await.expect("it tells");
    let Readiness::NotReady { reason } = facts.readiness().await else { panic!("{status}") };
    assert_eq!((&status["ready"], &status["not_ready"]), (&json!(false), &json!(reason)));
    assert!(reason.contains("the cluster is away"), "{reason}");

    view.faults().no_open = false;
    facts.streams.discover(&nobody()).await.expect("datasets are listed");
    assert_eq!(append().await.expect("it takes records").positions.len(), 1);
    let works = || standings(&facts.parts, &facts.streams).get("a") == Some(&Standing::Works);
    until("it works", works).await;
    let status = facts.status().await.expect("it tells");
    assert_eq!((&status["ready"], &status["not_ready"]), (&json!(true), &json!(null)));
}

#[test]
fn a_stream_that_is_only_being_opened_is_busy() {
    let told = |failure: Option<&str>| not_open("a".to_owned(), failure.map(str::to_owned));
    assert!(matches!(told(None), IntakeError::Busy { .. }));
    assert!(matches!(told(Some("no broker")), IntakeError::Failed(_)));
}
