//! What is told of requests: each by its kind, with how it ended.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidemark_opensearch::{Call, CallOutcome, Calls, OpenSearchUrl, OpenSearchView, OpenSearchViewSettings};
use tidemark_shared::ambient::System;
use tidemark_shared::live::LiveView;
use tidemark_testing::contract::live::{self as contract, batch, check_moment, coverage, partition, ranges};

use crate::proxy::{Mode, Proxy};
use crate::server;

#[derive(Debug, Default)]
struct Told(Mutex<BTreeSet<(Call, CallOutcome)>>);

impl Calls for Told {
    fn ended(&self, call: Call, outcome: CallOutcome, _: Duration) {
        self.0.lock().expect("no panic").insert((call, outcome));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_opensearch_requests_are_told_of_by_kind_and_outcome() {
    let (proxy, told) = (Proxy::start(&server()).await, Arc::new(Told::default()));
    let url: OpenSearchUrl =
        format!("opensearch+{}/test-{}", proxy.url(), std::process::id()).parse().expect("the proxy's address");
    let calls = Arc::clone(&told) as Arc<dyn Calls>;
    let settings = OpenSearchViewSettings::default();
    let views = OpenSearchView::with_calls(&url, Arc::new(System), settings, calls).expect("a client");
    let view = contract::view("told");
    views.open(&view, &contract::schema(), &coverage(&[0])).await.unwrap();
    views.apply(&view, batch(&partition(0), 0..50)).await.unwrap();
    let pin = views.pin(&view).await.unwrap().unwrap();
    check_moment(&pin, &ranges(&[(0, 50)])).await;
    pin.counts(&coverage(&[0])).await.unwrap();
    proxy.set(Mode::Away);
    pin.counts(&coverage(&[0])).await.expect_err("nobody is there");
    proxy.set(Mode::Pass);
    drop(pin);
    views.close(&view).await.unwrap();
    let told = told.0.lock().unwrap();
    for wanted in [
        (Call::Bulk, CallOutcome::Done),
        (Call::Search, CallOutcome::Done),
        (Call::Aggregate, CallOutcome::Done),
        (Call::Aggregate, CallOutcome::Failed),
        (Call::Refresh, CallOutcome::Done),
        (Call::IndexMade, CallOutcome::Done),
        (Call::IndexDropped, CallOutcome::Done),
        (Call::Other, CallOutcome::Done),
        // a look at an index that is not there yet
        (Call::Other, CallOutcome::Refused),
    ] {
        assert!(told.contains(&wanted), "{wanted:?} is not told of: {told:?}");
    }
}
