//! The real-time view on a real OpenSearch server. `infra/servers/test-real.sh` starts one and runs this; a plain
//! `cargo test` leaves it out, and without a server it fails.

mod aggregates;
mod calls;
mod exact;
mod faults;
mod held;
mod large;
mod limits;
mod proxy;
mod stale;
mod templates;
mod writers;

use std::sync::Arc;
use std::time::Duration;

use tidemark_opensearch::{Calls, NoCalls, OpenSearchUrl, OpenSearchView, OpenSearchViewSettings};
use tidemark_shared::ambient::{Ambient, System};
use tidemark_shared::live::LiveView;
use tidemark_testing::contract::live as contract;
use tidemark_testing::wait::until;

/// The server's address, `http://host:port`.
fn server() -> String {
    std::env::var("TIDEMARK_TEST_OPENSEARCH_URL").expect("TIDEMARK_TEST_OPENSEARCH_URL names the test server")
}

/// Views at an address, with names that no other run has, in small indices and blocks.
fn views_at(address: &str, index_offsets: u64) -> OpenSearchView {
    views_with(address, index_offsets, Arc::new(System), Arc::new(NoCalls))
}

/// The same, with a clock of the test's, and told of requests.
fn views_with(address: &str, index_offsets: u64, ambient: Arc<dyn Ambient>, calls: Arc<dyn Calls>) -> OpenSearchView {
    let url: OpenSearchUrl =
        format!("opensearch+{address}/test-{}", std::process::id()).parse().expect("the server's address");
    let settings = OpenSearchViewSettings {
        index_offsets,
        block_offsets: 24,
        bulk_bytes_max: 4 << 10,
        cache_bytes_max: 1 << 20,
        scan_parts: 3,
        timeout: Duration::from_secs(60),
        ..OpenSearchViewSettings::default()
    };
    OpenSearchView::with_calls(&url, ambient, settings, calls).expect("a client")
}

fn views(index_offsets: u64) -> Arc<dyn LiveView> {
    Arc::new(views_at(&server(), index_offsets))
}

/// Sends a request to the server itself; the answer's JSON.
fn ask(method: &str, path: &str) -> serde_json::Value {
    ask_with(method, path, &[])
}

/// The same with a body.
fn tell(method: &str, path: &str, body: &serde_json::Value) -> serde_json::Value {
    ask_with(method, path, &["-H", "content-type: application/json", "-d", &body.to_string()])
}

fn ask_with(method: &str, path: &str, more: &[&str]) -> serde_json::Value {
    let output = std::process::Command::new("curl")
        .args(["-sS", "--noproxy", "*", "-X", method, &format!("{}/{path}", server())])
        .args(more)
        .output()
        .expect("curl");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Names of the indices of a view.
fn indices(view: &tidemark_shared::live::ViewId) -> Vec<String> {
    let found = ask("GET", &format!("_cat/indices/test-{}*?format=json&h=index", std::process::id()));
    let names = found.as_array().expect("a list").iter().filter_map(|index| index["index"].as_str());
    let mut names: Vec<String> = names.filter(|name| name.contains(&view.generation)).map(str::to_owned).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn real_opensearch_keeps_the_contract() {
    contract::check_all(&views(64)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn real_opensearch_keeps_the_contract_in_large_indices() {
    let url: OpenSearchUrl =
        format!("opensearch+{}/large-{}", server(), std::process::id()).parse().expect("the server's address");
    let views = OpenSearchView::new(&url, Arc::new(System), OpenSearchViewSettings::default()).expect("a client");
    let views: Arc<dyn LiveView> = Arc::new(views);
    contract::check_all(&views).await;
}

/// H7: rows go with their index, and nothing is left behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_opensearch_rows_go_by_whole_indices() {
    let views = views(50);
    let view = contract::view("whole");
    views.open(&view, &contract::schema(), &contract::coverage(&[0])).await.unwrap();
    views.apply(&view, contract::batch(&contract::partition(0), 0..220)).await.unwrap();
    assert_eq!(indices(&view).len(), 6, "five of rows and one of positions");
    let taken = |from: u64| {
        let of = |wanted| (from..220).filter(|offset| contract::fate(*offset) == wanted).count() as u64;
        (of(contract::Fate::Row), of(contract::Fate::Reject))
    };
    let usage = || (views.usage().rows, views.usage().rejects);
    assert_eq!(usage(), taken(0), "as it was written");
    views.drop_below(&view, &contract::coverage(&[149])).await.unwrap();
    assert_eq!(indices(&view).len(), 4);
    assert_eq!(usage(), taken(100), "as the cluster counts what is left");
    let pin = views.pin(&view).await.unwrap().unwrap();
    views.drop_below(&view, &contract::coverage(&[200])).await.unwrap();
    assert_eq!(indices(&view).len(), 4, "a pin lost its rows");
    contract::check_moment(&pin, &contract::ranges(&[(149, 220)])).await;
    drop(pin);
    until("the end of what the pin read", || (indices(&view).len() == 2).then_some(()));
    views.close(&view).await.unwrap();
    assert_eq!(indices(&view), Vec::<String>::new());
    assert_eq!(usage(), (0, 0));
}
