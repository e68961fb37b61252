//! What settings of a cluster, or of an index, keep a statement from: it is answered all the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use datafusion::execution::TaskContext;
use datafusion::logical_expr::{col, lit};
use datafusion::physical_plan::collect;
use futures::StreamExt as _;
use serde_json::json;
use tidemark_opensearch::{Call, CallOutcome, Calls};
use tidemark_shared::ambient::System;
use tidemark_shared::live::LiveView;
use tidemark_testing::contract::live::{
    self as contract, Fate, batch, check_moment, coverage, fate, partition, ranges,
};
use tidemark_testing::wait::until;

use crate::proxy::{Mode, Proxy};
use crate::{ask, indices, server, tell, views, views_at, views_with};

/// How many searches were refused.
#[derive(Debug, Default)]
struct Refused(AtomicUsize);

impl Calls for Refused {
    fn ended(&self, call: Call, outcome: CallOutcome, _: Duration) {
        if (call, outcome) == (Call::Search, CallOutcome::Refused) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}

fn of_rows(view: &tidemark_shared::live::ViewId) -> Vec<String> {
    indices(view).into_iter().filter(|name| name.contains("__rows__")).collect()
}

/// H8: conditions only narrow down what is read. Where none is taken as a query, all rows are read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_opensearch_that_takes_no_conditions_gives_all_rows() {
    let refused = Arc::new(Refused::default());
    let views: Arc<dyn LiveView> =
        Arc::new(views_with(&server(), 64, Arc::new(System), Arc::<Refused>::clone(&refused)));
    let view = contract::view("terms");
    views.open(&view, &contract::schema(), &coverage(&[0])).await.unwrap();
    views.apply(&view, batch(&partition(0), 0..200)).await.unwrap();
    for index in of_rows(&view) {
        let set = tell("PUT", &format!("{index}/_settings"), &json!({"index.max_terms_count": 1}));
        assert_eq!(set["acknowledged"], true, "{set}");
    }
    let pin = views.pin(&view).await.unwrap().unwrap();
    let filters = [col("n").lt(lit(500_i64))];
    let plan = pin.scan(&[(partition(0), 0..200)].into(), None, &filters, None).unwrap();
    let rows = collect(plan, Arc::new(TaskContext::default())).await.unwrap();
    let found: usize = rows.iter().map(|rows| rows.num_rows()).sum();
    assert_eq!(found, (0..200).filter(|offset| fate(*offset) == Fate::Row).count());
    let refused = refused.0.load(Ordering::SeqCst);
    // Three streams, each two requests ahead.
    assert!((1..=6).contains(&refused), "{refused} searches were refused");
    check_moment(&pin, &ranges(&[(0, 200)])).await;
    views.close(&view).await.unwrap();
}

/// A node has so many points in time for all who search.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_opensearch_a_point_in_time_goes_with_the_last_block_of_its_index() {
    let views = views(64);
    let view = contract::view("points");
    views.open(&view, &contract::schema(), &coverage(&[0])).await.unwrap();
    views.apply(&view, batch(&partition(0), 0..400)).await.unwrap();
    let pin = views.pin(&view).await.unwrap().unwrap();
    let plan = pin.scan(&[(partition(0), 0..400)].into(), None, &[], None).unwrap();
    let mut rows = plan.execute(0, Arc::new(TaskContext::default())).unwrap();
    // Three blocks of the first index, and one of the second.
    for _ in 0..4 {
        rows.next().await.expect("there are more blocks").unwrap();
    }
    let first = of_rows(&view).remove(0);
    let points = |which: &str| {
        let stats = ask("GET", &format!("{first}/_stats/search"));
        let points = stats["indices"][&first]["total"]["search"][which].as_u64();
        points.unwrap_or_else(|| panic!("no count of points in time: {stats}"))
    };
    until("the end of the point in time", || (points("point_in_time_current") == 0).then_some(()));
    assert!(points("point_in_time_total") >= 1, "there was none");
    while let Some(rows) = rows.next().await {
        rows.unwrap();
    }
    drop(pin);
    views.close(&view).await.unwrap();
}

/// Others may have them all (`search.max_open_pit_context`).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_opensearch_without_room_for_a_point_in_time_is_read_as_it_is() {
    let proxy = Proxy::start(&server()).await;
    let views: Arc<dyn LiveView> = Arc::new(views_at(&proxy.url(), 500));
    let view = contract::view("pointless");
    views.open(&view, &contract::schema(), &coverage(&[0])).await.unwrap();
    views.apply(&view, batch(&partition(0), 0..200)).await.unwrap();
    let pin = views.pin(&view).await.unwrap().unwrap();
    proxy.set(Mode::Pointless);
    check_moment(&pin, &ranges(&[(0, 200)])).await;
    assert!(proxy.hits() >= 1, "none was asked for");
    proxy.set(Mode::Pass);
    views.close(&view).await.unwrap();
}
