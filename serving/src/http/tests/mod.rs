//! The door on a real socket.

mod backend;
mod bounds;
mod client;

use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::ipc::reader::StreamReader;
use serde_json::{Value, json};
use tidemark_shared::telemetry::NoTraces;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::merge::tests::support::{PLAIN, World};
use backend::TestBackend;
use client::{Reply, exchange, finish, request};

struct Served {
    world: Arc<World>,
    backend: Arc<TestBackend>,
    address: std::net::SocketAddr,
    stop: CancellationToken,
    task: JoinSet<Drained>,
}

async fn served(limits: RequestLimits, tokens: Option<Tokens>, drain_max: Duration) -> Served {
    served_with(limits, tokens, ConnectionLimits { drain_max, ..ConnectionLimits::default() }).await
}

async fn served_with(limits: RequestLimits, tokens: Option<Tokens>, connections: ConnectionLimits) -> Served {
    served_by(true, limits, tokens, connections).await
}

async fn served_by(
    serves: bool,
    limits: RequestLimits,
    tokens: Option<Tokens>,
    connections: ConnectionLimits,
) -> Served {
    let world = Arc::new(World::new(PLAIN).await);
    let (busy, stopping) = (AtomicBool::new(false), AtomicBool::new(false));
    let backend = Arc::new(TestBackend { world: Arc::clone(&world), busy, stopping });
    let door = Door {
        engine: world.engine(),
        datasets: Arc::new(world.served()),
        store: world.store(),
        backend: Arc::clone(&backend) as Arc<dyn Backend>,
        tokens,
        limits,
        registry: Registry::default(),
        traces: Arc::new(NoTraces),
        serves,
    };
    let listener = listen("127.0.0.1:0".parse().expect("an address")).await.expect("a port");
    let address = listener.local_addr().expect("its address");
    let stop = CancellationToken::new();
    let mut task = JoinSet::new();
    let _handle = task.spawn(serve(listener, door.router(), connections, stop.clone()));
    Served { world, backend, address, stop, task }
}

async fn plainly() -> Served {
    served(RequestLimits::default(), None, Duration::from_secs(10)).await
}

impl Served {
    async fn sql(&self, body: Value, accept: &str) -> Reply {
        let headers = [("content-type", "application/json"), ("accept", accept)];
        request(self.address, "POST", "/v1/sql", &headers, body.to_string().as_bytes()).await
    }

    async fn get(&self, path: &str) -> Reply {
        request(self.address, "GET", path, &[], b"").await
    }

    async fn append(&self, lines: &str) -> Reply {
        let headers = [("content-type", "application/x-ndjson")];
        request(self.address, "POST", "/v1/datasets/orders/records", &headers, lines.as_bytes()).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_is_taken_and_read_with_its_token() {
    let served = plainly().await;
    let taken = served.append("{\"id\":\"a\",\"cents\":5}\n{\"id\":\"b\",\"cents\":9007199254740993}\n").await;
    assert_eq!(taken.status, 200, "{taken:?}");
    let taken = taken.json();
    assert_eq!(taken["accepted"], 2);
    assert_eq!(taken["positions"][1], json!({"partition": 0, "offset": 1}));
    assert_eq!(taken["at_least"], json!({"orders": {"orders/0": 2}}));
    let body = json!({"sql": "SELECT id, cents FROM orders WHERE cents > $1 ORDER BY id", "params": [1], "at_least": taken["at_least"]});
    let reply = served.sql(body, "*/*").await;
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")), "{reply:?}");
    let text = reply.text();
    let at = |key: &str| text.find(key).unwrap_or_else(|| panic!("no {key} in {text}"));
    assert!(
        at("\"columns\"") < at("\"as_of\"") && at("\"as_of\"") < at("\"rows\"") && at("\"rows\"") < at("\"stats\"")
    );
    let answer = reply.json();
    assert_eq!(answer["columns"], json!([{"name": "id", "type": "Utf8"}, {"name": "cents", "type": "Int64"}]));
    assert_eq!(answer["rows"], json!([["a", 5], ["b", "9007199254740993"]]));
    assert_eq!(answer["as_of"]["orders"]["positions"], json!({"orders/0": 2, "orders/1": 0}));
    assert_eq!((&answer["stats"]["rows_live"], &answer["stats"]["rows_batch"]), (&json!(2), &json!(0)));
    let header: Value = serde_json::from_str(reply.header("tidemark-as-of").expect("a header")).expect("JSON");
    assert_eq!(header, answer["as_of"]);

    let csv = served.sql(json!({"sql": "SELECT id, cents FROM orders ORDER BY id"}), "text/csv").await;
    assert_eq!(csv.text(), "id,cents\na,5\nb,9007199254740993\n");
    let arrow = served.sql(json!({"sql": "SELECT id FROM orders"}), "application/vnd.apache.arrow.stream").await;
    let batches = StreamReader::try_new(Cursor::new(arrow.body), None).expect("a stream");
    assert_eq!(batches.map(|batch| batch.expect("a batch").num_rows()).sum::<usize>(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_has_one_idempotency_key() {
    let served = plainly().await;
    let keys = [("content-type", "application/json"), ("idempotency-key", "one"), ("idempotency-key", "two")];
    let reply = request(served.address, "POST", "/v1/datasets/orders/records", &keys, b"[{}]").await;
    assert_eq!((reply.status, reply.json()["code"].clone()), (400, json!("bad_idempotency_key")));
}

/// Method, path, media type, body; status and code.
type Refused<'a> = (&'a str, &'a str, &'a str, &'a [u8], u16, &'a str);

/// What is refused; `long` is a body that is too long.
fn refusals(long: &str) -> Vec<Refused<'_>> {
    let json_type = "application/json";
    vec![
        ("GET", "/nothing", "", b"", 404, "no_route"),
        ("GET", "/v1/sql", "", b"", 405, "wrong_method"),
        ("GET", "/v1/datasets/none", "", b"", 404, "unknown_dataset"),
        ("GET", "/v1/datasets/%2e%2e", "", b"", 404, "unknown_dataset"),
        ("GET", "/v1/datasets/%ff", "", b"", 400, "bad_path"),
        ("POST", "/v1/sql", "text/plain", b"SELECT 1", 415, "unsupported_media_type"),
        ("POST", "/v1/sql", json_type, b"{", 400, "malformed"),
        ("POST", "/v1/sql", json_type, b"{\"sql\": \"SELECT 1\", \"sqll\": 1}", 400, "malformed"),
        ("POST", "/v1/sql", json_type, b"{\"sql\": \"\xff\"}", 400, "not_utf8"),
        ("POST", "/v1/sql", json_type, long.as_bytes(), 413, "too_large"),
        ("POST", "/v1/sql", json_type, b"{\"sql\": \"SELEC 1\"}", 400, "syntax_error"),
        ("POST", "/v1/sql", json_type, b"{\"sql\": \"SELECT 1; SELECT 2\"}", 400, "not_one_statement"),
        ("POST", "/v1/sql", json_type, b"{\"sql\": \"SELECT 1 FROM nothing\"}", 404, "unknown_table"),
        ("POST", "/v1/sql", json_type, b"{\"sql\": \"SELECT x FROM orders\"}", 400, "unknown_column"),
        ("POST", "/v1/sql", json_type, b"{\"sql\": \"DROP TABLE orders\"}", 400, "read_only"),
        ("POST", "/v1/sql", json_type, b"{\"sql\": \"SELECT * FROM 'x.csv'\"}", 403, "files_closed"),
        ("POST", "/v1/sql", json_type, b"{\"sql\": \"SELECT $1\"}", 400, "bad_parameter"),
        ("POST", "/v1/sql", json_type, b"{\"sql\": \"SELECT $1\", \"params\": [[1]]}", 400, "bad_parameter"),
        (
            "POST",
            "/v1/sql",
            json_type,
            b"{\"sql\": \"SELECT 1\", \"at_least\": {\"orders\": {\"orders/0\": 1}}}",
            400,
            "not_read",
        ),
        (
            "POST",
            "/v1/sql",
            json_type,
            b"{\"sql\": \"SELECT 1\", \"at_least\": {\"orders\": {\"orders\": 1}}}",
            400,
            "malformed",
        ),
        (
            "POST",
            "/v1/sql",
            json_type,
            b"{\"sql\": \"SELECT 1 FROM orders\", \"at_least\": {\"orders\": {\"orders/0\": 99}}}",
            504,
            "positions_not_reached",
        ),
        (
            "POST",
            "/v1/sql",
            json_type,
            b"{\"sql\": \"SELECT 1 FROM orders\", \"at_least\": {\"orders\": {\"orders/7\": 1}}}",
            400,
            "unknown_partition",
        ),
        ("POST", "/v1/sql", json_type, b"{\"sql\": \"SELECT CAST('x' AS BIGINT)\"}", 422, "query_failed"),
        ("POST", "/v1/datasets/none/records", json_type, b"[{}]", 404, "unknown_dataset"),
        ("POST", "/v1/datasets/orders/records", json_type, b"[]", 400, "no_records"),
        ("POST", "/v1/datasets/orders/records", json_type, b"{}", 400, "malformed"),
        ("POST", "/v1/datasets/orders/records", json_type, long.as_bytes(), 413, "too_large"),
        ("POST", "/v1/datasets/orders/records", "", b"{}", 415, "unsupported_media_type"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_refused_is_a_problem_with_a_code() {
    let limits = RequestLimits { sql_bytes_max: 500, records_bytes_max: 500, ..RequestLimits::default() };
    let served = served(limits, None, Duration::from_secs(10)).await;
    let long = format!(r#"{{"sql": "SELECT '{}'"}}"#, "x".repeat(600));
    for (method, path, media_type, body, status, code) in refusals(&long) {
        let reply = request(served.address, method, path, &[("content-type", media_type)], body).await;
        let what = format!("{method} {path} {}", String::from_utf8_lossy(body));
        assert_eq!(reply.status, status, "{what}: {reply:?}");
        assert_eq!(reply.header("content-type"), Some("application/problem+json"), "{what}");
        let problem = reply.json();
        assert_eq!((&problem["code"], &problem["status"]), (&json!(code), &json!(status)), "{what}: {problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{what}: {problem}");
    }
    let refused = served.sql(json!({"sql": "SELECT 1"}), "image/png").await;
    assert_eq!((refused.status, refused.json()["code"].clone()), (406, json!("not_acceptable")));
    let metrics = served.get("/metrics").await.text();
    assert!(metrics.contains("tidemark_http_problems_total{code=\"read_only\"} 1"), "{metrics}");
    assert!(metrics.contains("route=\"/v1/sql\",status=\"504\"") || metrics.contains("status=\"504\""), "{metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_of_a_query_have_their_codes_and_the_process_stays_healthy() {
    let served = plainly().await;
    let taken = served.append("{\"id\":\"a\",\"cents\":5}\n").await;
    assert_eq!(taken.status, 200);
    served.world.curate("g1", [1, 0]).await;
    let endless = "SELECT sum(value % 7) FROM range(1000000000000)";
    let large = "SELECT count(*) FROM (SELECT DISTINCT md5(CAST(value AS VARCHAR)) FROM range(3000000))";
    let cases = [
        (json!({"sql": endless, "timeout_ms": 200}), "time_limit"),
        (json!({"sql": large}), "memory_limit"),
        (json!({"sql": "SELECT id FROM batch.orders", "bytes_read_max": 1}), "bytes_read_limit"),
    ];
    for (body, code) in cases {
        let reply = served.sql(body, "*/*").await;
        assert_eq!((reply.status, reply.json()["code"].clone()), (422, json!(code)), "{reply:?}");
        assert_eq!(served.get("/healthz").await.text(), "ok\n");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_error_breaks_the_connection() {
    let served = plainly().await;
    let reply = served.sql(json!({"sql": "SELECT 1 / (value - 60000) FROM range(100000)"}), "*/*").await;
    assert_eq!(reply.status, 200, "{}", reply.status);
    assert!(!reply.is_whole, "the body has an end");
    assert!(!reply.text().contains("\"stats\""));
    let whole = served.sql(json!({"sql": "SELECT value FROM range(100000)"}), "*/*").await;
    assert!(whole.is_whole);
    assert_eq!(whole.json()["rows"].as_array().map(Vec::len), Some(100_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_body_times_out_and_pressure_says_when_to_come_again() {
    let limits = RequestLimits {
        body_timeout: Duration::from_millis(100),
        queries_max: 1,
        waiting_max: 0,
        ..RequestLimits::default()
    };
    let served = served(limits, None, Duration::from_secs(10)).await;
    let mut slow = TcpStream::connect(served.address).await.expect("connects");
    let head = "POST /v1/sql HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{";
    slow.write_all(head.as_bytes()).await.expect("sends");
    let reply = finish(slow).await;
    assert_eq!((reply.status, reply.json()["code"].clone()), (408, json!("slow_body")));
    // one that says how large it is need not be waited for
    let mut huge = TcpStream::connect(served.address).await.expect("connects");
    let head = "POST /v1/sql HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: 100000000000\r\n\r\n{";
    huge.write_all(head.as_bytes()).await.expect("sends");
    let reply = finish(huge).await;
    assert_eq!((reply.status, reply.json()["code"].clone()), (413, json!("too_large")));

    served.backend.busy.store(true, Ordering::Relaxed);
    let busy = served.append("{\"id\":\"a\"}\n").await;
    assert_eq!((busy.status, busy.header("retry-after")), (429, Some("3")), "{busy:?}");

    // An answer that nobody reads holds its place.
    let body = json!({"sql": "SELECT a.value FROM range(100000) a, range(1000) b"}).to_string();
    let mut unread = TcpStream::connect(served.address).await.expect("connects");
    unread
        .write_all(&exchange("POST", "/v1/sql", &[("content-type", "application/json")], body.as_bytes()))
        .await
        .expect("sends");
    unread.readable().await.expect("the answer begins");
    let refused = served.sql(json!({"sql": "SELECT 1"}), "*/*").await;
    assert_eq!((refused.status, refused.json()["code"].clone()), (429, json!("too_many_queries")), "{refused:?}");
    assert_eq!(refused.header("retry-after"), Some("1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_guard_the_door() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tokens");
    std::fs::write(&path, "0123456789abcdef-token\n").expect("writes");
    let tokens = Tokens::read(&path).expect("a token");
    let served = served(RequestLimits::default(), Some(tokens), Duration::from_secs(10)).await;
    for (path, open) in [
        ("/healthz", true),
        ("/openapi.json", true),
        ("/docs", true),
        ("/v1/status", false),
        ("/metrics", false),
        ("/v1/datasets", false),
        ("/nothing", false),
    ] {
        let reply = served.get(path).await;
        assert_eq!(reply.status == 401, !open, "{path}: {reply:?}");
        if !open {
            assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
        }
    }
    let with = async |token: &str| {
        let header = format!("Bearer {token}");
        request(served.address, "GET", "/v1/status", &[("authorization", &header)], b"").await.status
    };
    assert_eq!((with("0123456789abcdef-token").await, with("0123456789abcdef").await), (200, 401));
    let open = plainly().await;
    let elsewhere = request(open.address, "GET", "/v1/status", &[("host", "evil.example")], b"").await;
    assert_eq!((elsewhere.status, elsewhere.json()["code"].clone()), (403, json!("host_not_allowed")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn datasets_and_health_are_shown() {
    let served = plainly().await;
    let list = served.get("/v1/datasets").await.json();
    assert_eq!(list["datasets"][0]["name"], "orders");
    assert_eq!((&list["datasets"][0]["stream"], &list["datasets"][0]["pending"]), (&json!(true), &json!(false)));
    let shown = served.get("/v1/datasets/orders").await.json();
    assert_eq!(shown["columns"][0], json!({"name": "id", "type": "Utf8"}));
    assert_eq!(shown["as_of"]["positions"], json!({"orders/0": 0, "orders/1": 0}));
    for name in ["Orders", "%F0%9D%95%8B", "..", "a%2Fb", &"x".repeat(200)] {
        let path = format!("/v1/datasets/{name}");
        let seal = request(served.address, "POST", &format!("{path}/seal"), &[], b"").await;
        for reply in [served.get(&path).await, seal] {
            assert_eq!((reply.status, reply.json()["code"].clone()), (404, json!("unknown_dataset")), "{name}");
        }
    }
    served.world.take_views_away(true);
    let asked = served.sql(json!({"sql": "SELECT * FROM orders"}), "application/json").await;
    let problem = asked.json();
    assert_eq!((asked.status, problem["code"].clone()), (503, json!("realtime_unavailable")), "{problem}");
    let detail = problem["detail"].as_str().expect("a text");
    assert!(detail.contains("the real-time view failed to pin a view: "), "{detail}");
    assert_eq!(problem["hint"], "`batch.orders` answers for what is curated");
    let asked = served.sql(json!({"sql": "SELECT * FROM batch.orders"}), "application/json").await;
    assert_eq!(asked.status, 200, "{asked:?}");
    served.world.take_views_away(false);
    served.world.close_view("g1").await;
    let shown = served.get("/v1/datasets/orders").await.json();
    assert_eq!(shown["problem"]["code"], "realtime_unavailable", "{shown}");
    let ready = served.get("/readyz").await;
    let wanted = "ready\ndegraded: `lines`: the broker refuses: no\n";
    assert_eq!((ready.status, ready.body.as_slice()), (200, wanted.as_bytes()));
    served.backend.stopping.store(true, Ordering::Relaxed);
    let unready = served.get("/readyz").await;
    assert_eq!((unready.status, unready.json()["code"].clone()), (503, json!("not_ready")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_serves_nothing_tells_how_it_is_and_no_more() {
    let served = served_by(false, RequestLimits::default(), None, ConnectionLimits::default()).await;
    for path in ["/healthz", "/readyz", "/metrics", "/v1/status"] {
        assert_eq!(served.get(path).await.status, 200, "{path}");
    }
    let asked = served.sql(json!({"sql": "SELECT 1"}), "application/json").await;
    let taken = request(served.address, "POST", "/v1/datasets/orders/records", &[], b"{}").await;
    for reply in [asked, taken, served.get("/v1/datasets").await] {
        assert_eq!((reply.status, reply.json()["code"].clone()), (404, json!("not_served")), "{reply:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_lets_requests_end_and_cuts_off_who_takes_too_long() {
    let begun = async |served: &Served| {
        let mut stream = TcpStream::connect(served.address).await.expect("connects");
        let whole = exchange("POST", "/v1/sql", &[("content-type", "application/json")], b"{\"sql\": \"SELECT 1\"}");
        let (head, rest) = whole.split_at(whole.len() - 5);
        stream.write_all(head).await.expect("sends");
        // The request is under way once another one, sent later, has been answered.
        assert_eq!(served.get("/healthz").await.status, 200);
        (stream, rest.to_vec())
    };
    let mut patient = plainly().await;
    let (mut stream, rest) = begun(&patient).await;
    patient.stop.cancel();
    stream.write_all(&rest).await.expect("sends");
    let reply = finish(stream).await;
    assert_eq!((reply.status, reply.is_whole), (200, true), "{reply:?}");
    assert_eq!(patient.task.join_next().await.expect("a task").expect("it ends"), Drained { cut_off: 0 });
    assert!(TcpStream::connect(patient.address).await.is_err(), "the door is closed");

    let mut short = served(RequestLimits::default(), None, Duration::from_millis(50)).await;
    let (_stream, _rest) = begun(&short).await;
    short.stop.cancel();
    assert_eq!(short.task.join_next().await.expect("a task").expect("it ends"), Drained { cut_off: 1 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_description_is_complete_and_the_page_needs_nobody_else() {
    let served = plainly().await;
    let document = served.get("/openapi.json").await.json();
    let paths: Vec<&String> = document["paths"].as_object().expect("paths").keys().collect();
    let wanted = [
        "/healthz",
        "/metrics",
        "/readyz",
        "/v1/datasets",
        "/v1/datasets/{dataset}",
        "/v1/datasets/{dataset}/records",
        "/v1/datasets/{dataset}/seal",
        "/v1/sql",
        "/v1/status",
    ];
    assert_eq!(paths, wanted);
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let responses = operation["responses"].as_object().expect("responses");
            let guarded = !["/healthz", "/readyz"].contains(&path.as_str());
            for status in ["401", "403"] {
                assert_eq!(responses.contains_key(status), guarded, "{method} {path}: {status}");
            }
            for (status, response) in responses.iter().filter(|(status, _)| !status.starts_with('2')) {
                let schema = &response["content"]["application/problem+json"]["schema"]["$ref"];
                assert_eq!(schema, "#/components/schemas/Problem", "{method} {path}: {status}");
            }
        }
    }
    let page = served.get("/docs").await.text();
    assert!(!page.contains("http://") && !page.contains("https://"), "the page asks another host");
    let manual =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/http.md")).expect("docs/http.md");
    for path in paths {
        assert!(manual.contains(path.as_str()), "docs/http.md lacks {path}");
    }
    for (code, status) in problem::CODES {
        let row = format!("| {status} | `{code}` |");
        assert!(manual.contains(&row), "docs/http.md lacks the row {row}");
    }
    let told = manual.lines().filter(|line| line.starts_with("| 4") || line.starts_with("| 5")).count();
    assert_eq!(told, problem::CODES.len(), "docs/http.md tells of codes that there are not");
    for schema in ["SqlRequest", "Accepted"] {
        for field in document["components"]["schemas"][schema]["properties"].as_object().expect("properties").keys() {
            assert!(manual.contains(&format!("`{field}`")), "docs/http.md lacks `{field}` of {schema}");
        }
    }
}
