//! `tidemark up` with its real-time views in a real OpenSearch cluster. `infra/servers/test-real.sh` starts the server and
//! runs this; a plain `cargo test` leaves it out.

use std::ops::Range;

use serde_json::{Value, json};
use tempfile::TempDir;
use tidemark_e2e::platform::{Tidemark, dataset_folder};
use tidemark_e2e::server::Server;
use tidemark_e2e::wait::until;

const SUMS: &str = "SELECT count(*) AS n, sum(cents) AS cents FROM orders";
const GROUPED: &str = "SELECT country, count(*), sum(cents), avg(cents), min(at), max(at) FROM orders \
                       WHERE cents >= 10 AND at > TIMESTAMP '2026-01-01T00:00:00' GROUP BY country ORDER BY country";

/// The orders, a process that runs on them, and what the names of its indices begin with.
struct Shop {
    _folder: TempDir,
    tidemark: Tidemark,
    server: Option<Server>,
    prefix: String,
}

fn cluster() -> String {
    std::env::var("TIDEMARK_TEST_OPENSEARCH_URL").expect("TIDEMARK_TEST_OPENSEARCH_URL names the test server")
}

/// Asks the cluster itself.
fn ask(method: &str, path: &str) -> Value {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().into();
    let request = ureq::http::Request::builder().method(method).uri(format!("{}/{path}", cluster()));
    let mut answer = agent.run(request.body(()).expect("a request")).expect("the cluster answers");
    let text = answer.body_mut().read_to_string().expect("a body");
    serde_json::from_str(&text).unwrap_or_default()
}

impl Shop {
    fn open(name: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let tidemark = Tidemark::new(&folder.path().join("data")).expect("built");
        let orders = dataset_folder("orders").to_string_lossy().into_owned();
        tidemark.run(&["dataset", "apply", &orders]).expect("it runs").expect_code(0).expect("the definition is valid");
        let mut shop =
            Self { _folder: folder, tidemark, server: None, prefix: format!("{name}-{}", std::process::id()) };
        shop.start();
        shop
    }

    fn start(&mut self) {
        self.start_with("on");
    }

    fn start_with(&mut self, pushdown: &str) {
        let url = format!("opensearch+{}/{}", cluster(), self.prefix);
        let views = ["--live-url", &url, "--live-index-offsets", "16", "--live-aggregate-pushdown", pushdown];
        // Rows go that long after a batch run: as long as a statement may take.
        let runs = ["--batch-interval", "none", "--timeout", "15s"];
        let flags: Vec<&str> = runs.into_iter().chain(views).collect();
        self.server = Some(Server::start(&self.tidemark, &flags).expect("it starts"));
    }

    fn server(&self) -> &Server {
        self.server.as_ref().expect("it runs")
    }

    fn take(&self, ids: Range<u64>) -> Value {
        let order = |n| format!("{}\n", json!({"id": format!("o-{n}"), "cents": n, "at": "2026-11-24T10:00:00Z"}));
        let lines: String = ids.map(order).collect();
        self.server().produce("orders", lines.as_bytes()).expect("taken")["at_least"].clone()
    }

    fn sums(&self, token: &Value) -> Value {
        let reply = self.server().query(&json!({"sql": SUMS, "at_least": token})).expect("an answer");
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.json()
    }

    /// The grouped answer, and how it was come by.
    fn grouped(&self, token: &Value) -> (Value, String) {
        let ask = |sql: String| {
            let reply = self.server().query(&json!({"sql": sql, "at_least": token})).expect("an answer");
            assert_eq!(reply.status, 200, "{}", reply.text);
            reply.json()["rows"].clone()
        };
        (ask(GROUPED.to_owned()), ask(format!("EXPLAIN ANALYZE {GROUPED}")).to_string())
    }

    fn batch_run(&self) {
        let sealed = self.server().ask("POST", "/v1/datasets/orders/seal", &[], b"").expect("an answer");
        assert_eq!(sealed.status, 200, "{}", sealed.text);
        self.tidemark.run(&["batch", "run", "orders"]).expect("it runs").expect_code(0).expect("it is curated");
    }

    fn audit(&self) {
        let report = self.tidemark.run_json(&["audit", "orders", "--count", "12", "--json"]).expect("a report");
        assert_eq!((&report["audited"], &report["wrong"]), (&json!(12), &json!(0)), "{report}");
    }

    /// Names of the indices that hold rows.
    fn indices(&self) -> Vec<String> {
        let found = ask("GET", &format!("_cat/indices/{}__*__rows__*?format=json&h=index", self.prefix));
        let names = found.as_array().into_iter().flatten().filter_map(|index| index["index"].as_str());
        let mut names: Vec<String> = names.map(str::to_owned).collect();
        names.sort();
        names
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        // The process first, or it makes its indices anew.
        drop(self.server.take());
        let _gone = ask("DELETE", &format!("{}__*", self.prefix));
    }
}

fn expected(n: u64) -> Value {
    json!([[n, n * (n - 1) / 2]])
}

#[test]
fn real_opensearch_holds_the_live_rows_of_a_process_and_lets_them_go() {
    let mut shop = Shop::open("rows");
    let answer = shop.sums(&shop.take(0..200));
    assert_eq!((&answer["rows"], &answer["stats"]["rows_live"]), (&expected(200), &json!(200)), "{answer}");
    // People see the same in the cluster.
    let found = ask("GET", &format!("{}__*__rows__*/_search?q=row.id:o-77&size=1", shop.prefix));
    assert_eq!(found["hits"]["hits"][0]["_source"]["row"]["cents"], 77, "{found}");
    shop.audit();

    let before = shop.indices().len();
    assert!(before >= 12, "{before} indices of 16 offsets hold 200 rows of 4 partitions");
    shop.batch_run();
    let kept = until("the end of curated indices", || Some(shop.indices().len()).filter(|kept| *kept <= 4));
    let answer = shop.sums(&shop.take(200..230));
    assert_eq!(answer["rows"], expected(230), "{kept} indices are left");
    assert_eq!((&answer["stats"]["rows_batch"], &answer["stats"]["rows_live"]), (&json!(200), &json!(30)), "{answer}");
    shop.audit();

    // A crash: the next process finds its rows where they were, and the log behind them.
    let token = shop.take(230..260);
    shop.server.take().expect("it runs").kill().expect("killed");
    shop.start();
    let answer = shop.sums(&token);
    assert_eq!(answer["rows"], expected(260));
    assert_eq!(answer["stats"]["rows_live"], 60);
    assert_eq!(shop.server.take().expect("it runs").stop().expect("it drains"), Some(0));
    shop.tidemark.run(&["batch", "run", "orders"]).expect("it runs").expect_code(0).expect("it is curated");
    shop.start();
    assert_eq!(shop.sums(&shop.take(260..270))["rows"], expected(270));
    shop.audit();
}

#[test]
fn real_opensearch_makes_aggregates_of_live_rows_as_they_are() {
    let mut shop = Shop::open("states");
    let _curated = shop.sums(&shop.take(0..120));
    shop.batch_run();
    let token = shop.take(120..300);
    let (pushed, explained) = shop.grouped(&token);
    assert!(explained.contains("answered_by_view=1"), "{explained}");
    assert_eq!(pushed[0][1], 290, "{pushed}");
    assert_eq!(shop.sums(&token)["rows"], expected(300));
    shop.server.take().expect("it runs").kill().expect("killed");
    shop.start_with("off");
    let (read, explained) = shop.grouped(&token);
    assert!(!explained.contains("LiveAggregateExec"), "{explained}");
    assert_eq!(read, pushed);
    shop.audit();
}

#[test]
fn real_opensearch_a_lost_index_is_an_error_until_it_is_made_again() {
    let shop = Shop::open("lost");
    let token = shop.take(0..100);
    assert_eq!(shop.sums(&token)["rows"], expected(100));
    // Nothing of it is kept in memory after a start.
    let mut shop = shop;
    shop.server.take().expect("it runs").kill().expect("killed");
    shop.start();
    let lost = shop.indices().first().cloned().expect("an index");
    ask("DELETE", &lost);
    let told = shop.server().query(&json!({"sql": "SELECT sum(cents) FROM live.orders"})).expect("an answer");
    // whole, or an error: never less
    if told.status == 200 {
        assert_eq!(told.json()["rows"][0][0], json!(4_950), "{}", told.text);
    } else {
        assert_eq!(told.status, 503, "{}", told.text);
    }
    let batch = shop.server().query(&json!({"sql": "SELECT count(*) FROM batch.orders"})).expect("an answer");
    assert_eq!(batch.status, 200, "what is curated needs no view: {}", batch.text);
    let answer = until("its rows", || {
        let reply = shop.server().query(&json!({"sql": SUMS, "at_least": token})).expect("an answer");
        (reply.status == 200).then(|| reply.json())
    });
    assert_eq!(answer["rows"], expected(100));
    assert!(shop.indices().contains(&lost), "it was not made again");
    shop.audit();

    let state = format!("{}__*__state", shop.prefix);
    let state = ask("GET", &format!("_cat/indices/{state}?format=json&h=index"))[0]["index"].clone();
    ask("DELETE", state.as_str().expect("a name"));
    let token = shop.take(100..120);
    let answer = until("a new view", || {
        let reply = shop.server().query(&json!({"sql": SUMS, "at_least": token})).expect("an answer");
        (reply.status == 200).then(|| reply.json())
    });
    assert_eq!(answer["rows"], expected(120));
    shop.audit();
}
