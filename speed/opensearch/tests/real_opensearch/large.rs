//! Scans of large rows, and scans that take long: no answer is larger than the cluster has room for, and all rows come.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::Int64Type;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::{ExecutionPlanProperties as _, collect, execute_stream};
use futures::StreamExt as _;
use tidemark_opensearch::{OpenSearchUrl, OpenSearchView, OpenSearchViewSettings};
use tidemark_shared::ambient::System;
use tidemark_shared::error::chain;
use tidemark_shared::live::{LiveBatch, LiveView};
use tidemark_shared::position::OFFSET_COLUMN;
use tidemark_testing::contract::live::{
    self as contract, Fate, batch, check_moment, coverage, fate, partition, ranges,
};

use crate::proxy::{Mode, Proxy};
use crate::{ask, server, views, views_at};

/// Bytes of a row's text, without its offset before it.
const TEXT_BYTES: usize = 64 << 10;
/// Bytes of the largest answer: of so many rows as are asked for, some more than was said of them.
const ANSWER_MAX: usize = 16 << 20;

fn large(range: Range<u64>) -> LiveBatch {
    let offsets: Vec<i64> = range.clone().map(|offset| i64::try_from(offset).unwrap()).collect();
    let text = |offset: &i64| format!("{offset} {}", "x".repeat(TEXT_BYTES));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(offsets.clone())),
        Arc::new(StringArray::from_iter_values(offsets.iter().map(text))),
        Arc::new(StringArray::from_iter_values(offsets.iter().map(|_| "contract"))),
        Arc::new(Int64Array::from_value(0, offsets.len())),
        Arc::new(Int64Array::from(offsets)),
    ];
    let rows = vec![RecordBatch::try_new(contract::schema(), columns).unwrap()];
    let (rejects, filtered, lost) = (Vec::new(), Vec::new(), Vec::new());
    LiveBatch { partition: partition(0), range, rows, rejects, filtered, lost }
}

fn offsets(rows: &RecordBatch) -> Vec<u64> {
    let offsets = rows.column_by_name(OFFSET_COLUMN).expect("offsets").as_primitive::<Int64Type>();
    offsets.values().iter().map(|offset| u64::try_from(*offset).unwrap()).collect()
}

/// With the settings of a process that has no memory to spare: blocks are as large as they may be.
fn view_at(address: &str) -> OpenSearchView {
    let url: OpenSearchUrl =
        format!("opensearch+{address}/test-{}", std::process::id()).parse().expect("the server's address");
    let settings = OpenSearchViewSettings { cache_bytes_max: 1 << 20, ..OpenSearchViewSettings::default() };
    OpenSearchView::new(&url, Arc::new(System), settings).expect("a client")
}

/// A cluster makes each answer in its memory, and there are several at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_opensearch_no_answer_is_large_where_rows_are() {
    const ROWS: u64 = 2_000;
    let proxy = Proxy::start(&server()).await;
    let (writer, reader) = (view_at(&server()), view_at(&proxy.url()));
    let view = contract::view("large");
    writer.open(&view, &contract::schema(), &coverage(&[0])).await.unwrap();
    for start in (0..ROWS).step_by(200) {
        writer.apply(&view, large(start..start + 200)).await.unwrap();
    }
    let pin = reader.pin(&view).await.unwrap().unwrap();
    let plan = pin.scan(&[(partition(0), 0..ROWS)].into(), None, &[], None).unwrap();
    let mut rows = execute_stream(plan, Arc::new(TaskContext::default())).unwrap();
    let mut seen = BTreeSet::new();
    while let Some(rows) = rows.next().await {
        let rows = rows.unwrap();
        let texts = rows.column_by_name("text").expect("texts").as_string_view();
        for (offset, text) in offsets(&rows).into_iter().zip(texts) {
            let text = text.expect("a text");
            assert!(text.len() > TEXT_BYTES && text.starts_with(&format!("{offset} x")), "offset {offset}");
            assert!(seen.insert(offset), "offset {offset} twice");
        }
    }
    assert!(seen.into_iter().eq(0..ROWS), "rows are missing");
    let largest = proxy.largest();
    assert!((TEXT_BYTES..=ANSWER_MAX).contains(&largest), "an answer of {largest} bytes");
    drop(pin);
    writer.close(&view).await.unwrap();
}

/// What a cluster has no room for is asked for with less.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_opensearch_that_breaks_off_is_asked_for_less() {
    let proxy = Proxy::start(&server()).await;
    let views: Arc<dyn LiveView> = Arc::new(views_at(&proxy.url(), 64));
    let view = contract::view("breaks");
    views.open(&view, &contract::schema(), &coverage(&[0])).await.unwrap();
    views.apply(&view, batch(&partition(0), 0..20)).await.unwrap();
    let pin = views.pin(&view).await.unwrap().unwrap();
    proxy.set(Mode::Breaker);
    let rows = contract::rows(&pin, &[(partition(0), 0..20)].into()).await;
    let found = rows.into_iter().map(|(_, offset, ..)| offset);
    assert!(found.eq((0..20).filter(|offset| fate(*offset) == Fate::Row)), "rows are missing");
    assert_eq!(proxy.hits(), 1, "less is asked for at once");
    proxy.set(Mode::Pass);
    check_moment(&pin, &ranges(&[(0, 20)])).await;
    views.close(&view).await.unwrap();
}

/// Where others take the room, asking for ever less would only make it worse: that is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_opensearch_that_has_room_for_nothing_is_not_asked_on() {
    let proxy = Proxy::start(&server()).await;
    let views: Arc<dyn LiveView> = Arc::new(views_at(&proxy.url(), 64));
    let view = contract::view("tripped");
    views.open(&view, &contract::schema(), &coverage(&[0])).await.unwrap();
    views.apply(&view, batch(&partition(0), 0..20)).await.unwrap();
    let pin = views.pin(&view).await.unwrap().unwrap();
    proxy.set(Mode::Tripped);
    let plan = pin.scan(&[(partition(0), 0..20)].into(), None, &[], None).unwrap();
    let error = collect(plan, Arc::new(TaskContext::default())).await.expect_err("there is no room");
    assert!(chain(&error).contains("Data too large"), "{}", chain(&error));
    // Four halvings, told of at once, and the attempts where a cluster is busy; no other way down to single rows is tried.
    assert!((5..=12).contains(&proxy.hits()), "{} requests", proxy.hits());
    proxy.set(Mode::Pass);
    check_moment(&pin, &ranges(&[(0, 20)])).await;
    views.close(&view).await.unwrap();
}

/// Whoever reads slowly has his point in time end: the rows are the same in the next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_opensearch_a_scan_goes_on_after_its_point_in_time_has_ended() {
    let (one, two) = (views(500), views(500));
    let view = contract::view("ended");
    one.open(&view, &contract::schema(), &coverage(&[0])).await.unwrap();
    one.apply(&view, batch(&partition(0), 0..400)).await.unwrap();
    let pin = two.pin(&view).await.unwrap().unwrap();
    let plan = pin.scan(&[(partition(0), 0..400)].into(), None, &[], None).unwrap();
    let mut found = BTreeSet::new();
    for part in 0..plan.output_partitioning().partition_count() {
        let mut rows = plan.execute(part, Arc::new(TaskContext::default())).unwrap();
        let first = rows.next().await.expect("there are several blocks").unwrap();
        found.extend(offsets(&first));
        let ended = ask("DELETE", "_search/point_in_time/_all");
        assert!(ended["pits"].as_array().is_some_and(|pits| !pits.is_empty()), "none was open: {ended}");
        while let Some(rows) = rows.next().await {
            found.extend(offsets(&rows.unwrap()));
        }
    }
    assert!(found.into_iter().eq((0..400).filter(|offset| fate(*offset) == Fate::Row)), "rows are missing");
    one.close(&view).await.unwrap();
}
