//! Statements, values, bodies and connections at the bounds of what the door takes and gives.

use tokio::io::AsyncReadExt as _;

use super::*;

/// What is asked of everything that waits for nobody else.
const SOON: Duration = Duration::from_secs(10);

async fn healthy_soon(served: &Served) {
    let reply = tokio::time::timeout(SOON, served.get("/healthz")).await.expect("health waits for nobody");
    assert_eq!(reply.text(), "ok\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_takes_all_of_a_thread_or_of_the_memory_keeps_nobody_waiting() {
    let served = plainly().await;
    let doubled: String = (1..40).map(|n| format!(", t{n} AS (SELECT a.x FROM t{0} a, t{0} b)", n - 1)).collect();
    let busy = "SELECT levenshtein(repeat('a', 60000), repeat('b', 60000))";
    let cases = [
        (json!({"sql": busy, "timeout_ms": 200}), (422, "time_limit")),
        (json!({"sql": busy, "timeout_ms": 200}), (422, "time_limit")),
        (json!({"sql": busy, "timeout_ms": 200}), (422, "time_limit")),
        (json!({"sql": "SELECT array_repeat(1, 2000000000)"}), (422, "memory_limit")),
        (json!({"sql": "SELECT repeat('x', 1000000000)"}), (422, "memory_limit")),
        (json!({"sql": "SELECT repeat($1, $2)", "params": ["x", 1_000_000_000]}), (422, "memory_limit")),
        (json!({"sql": "SELECT lpad('x', 1000000000)"}), (422, "memory_limit")),
        (json!({"sql": "SELECT generate_series(1, 3000000000)"}), (422, "memory_limit")),
        (json!({"sql": "SELECT range(value * 100000000) FROM range(10, 20)"}), (422, "memory_limit")),
        (json!({"sql": format!("WITH t0 AS (SELECT 1 AS x){doubled} SELECT * FROM t39")}), (400, "too_complex")),
        (json!({"sql": format!("SELECT {}1{}", "(".repeat(10_000), ")".repeat(10_000))}), (400, "too_deep")),
    ];
    for (body, (status, code)) in cases {
        let asked = async { tokio::time::timeout(SOON, served.sql(body.clone(), "*/*")).await.expect("it ends soon") };
        let (reply, ()) = tokio::join!(asked, healthy_soon(&served));
        assert_eq!((reply.status, reply.json()["code"].clone()), (status, json!(code)), "{body}: {reply:?}");
    }
    assert_eq!(served.sql(json!({"sql": "SELECT 1"}), "*/*").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_value_has_a_form_in_every_format() {
    let served = plainly().await;
    let values = [
        ("arrow_cast(2147483647, 'Date32')", "+5881580-07-11"),
        ("arrow_cast(-2147483648, 'Date32')", "-5877641-06-23"),
        ("arrow_cast(9223372036854775807, 'Timestamp(s)')", "+292277026596-12-04T15:30:07"),
        ("arrow_cast(9223372036854775807, 'Timestamp(ms, \"Europe/Berlin\")')", "+292278994-08-17T07:12:55.807Z"),
        ("INTERVAL '1 month 2 days 3 hours'", "1 mons 2 days 3 hours"),
        ("arrow_cast(9223372036854775807, 'Duration(s)')", "PT9223372036854775807S"),
        ("arrow_cast(arrow_cast(-1, 'Int32'), 'Time32(s)')", "-1"),
        ("CAST('NaN' AS DOUBLE)", "NaN"),
        ("make_array(arrow_cast(2147483647, 'Date32'))", "+5881580-07-11"),
        ("MAP {INTERVAL '1 month': [1, 2]}", "1 mons"),
        ("MAP {[1]: named_struct('a', X'00ff')}", "00ff"),
    ];
    for (expression, wanted) in values {
        let body = json!({"sql": format!("SELECT {expression} AS x")});
        for format in ["application/json", "application/x-ndjson", "text/csv"] {
            let reply = served.sql(body.clone(), format).await;
            assert_eq!((reply.status, reply.is_whole), (200, true), "{expression} as {format}: {reply:?}");
            assert!(reply.text().contains(wanted), "{expression} as {format}: {}", reply.text());
        }
        let reply = served.sql(body, "application/vnd.apache.arrow.stream").await;
        let mut rows = StreamReader::try_new(Cursor::new(reply.body), None).expect("a stream");
        assert_eq!(rows.next().expect("a batch").expect("it is whole").num_rows(), 1, "{expression}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_come_as_they_are_and_requests_say_whom_they_ask() {
    let served = plainly().await;
    let sql = b"{\"sql\": \"SELECT 1\"}";
    type Headers<'a> = &'a [(&'a str, &'a str)];
    let cases: [(Headers<'_>, u16, &str); 5] = [
        (&[("content-type", "application/json"), ("content-encoding", "gzip")], 415, "unsupported_encoding"),
        (&[("content-type", "application/json; charset=utf-16")], 415, "unsupported_encoding"),
        (&[("content-type", "application/json; charset=utf-8"), ("content-encoding", "identity")], 200, ""),
        (&[("content-type", "application/json"), ("host", "localhost\r\nhost: localhost")], 400, "no_host"),
        (&[("content-type", "text/csv")], 415, "unsupported_media_type"),
    ];
    for (headers, status, code) in cases {
        let reply = request(served.address, "POST", "/v1/sql", headers, sql).await;
        assert_eq!(reply.status, status, "{headers:?}: {reply:?}");
        if status != 200 {
            assert_eq!(reply.json()["code"], json!(code), "{headers:?}");
        }
    }
    for (version, status) in [("1.1", 400), ("1.0", 200)] {
        let mut stream = TcpStream::connect(served.address).await.expect("connects");
        let head = format!("GET /healthz HTTP/{version}\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("sends");
        assert_eq!(finish(stream).await.status, status, "HTTP/{version} without a host");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_come_in_the_format_of_the_stream() {
    let served = plainly().await;
    let post = async |dataset: &str, media_type: &str, body: &[u8]| {
        let path = format!("/v1/datasets/{dataset}/records");
        request(served.address, "POST", &path, &[("content-type", media_type)], body).await
    };
    assert_eq!(post("lines", "text/csv", b"a;1\nb;2\n").await.json()["accepted"], 2);
    assert_eq!(post("lines", "text/csv; header=present", b"id;n\na;1\n").await.json()["accepted"], 1);
    for (dataset, media_type, accepted) in [
        ("orders", "text/csv", "application/x-ndjson"),
        ("lines", "application/json", "text/csv"),
        ("rows", "text/csv", "application/avro"),
    ] {
        let refused = post(dataset, media_type, b"[{}]").await;
        let problem = refused.json();
        assert_eq!((refused.status, &problem["code"]), (415, &json!("unsupported_media_type")), "{problem}");
        assert!(problem["detail"].as_str().expect("text").contains(accepted), "{problem}");
    }
    let refused = post("rows", "application/avro", b"Obj\x01").await;
    assert_eq!((refused.status, refused.json()["code"].clone()), (400, json!("malformed")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_without_a_request_make_room_for_others() {
    let connections = ConnectionLimits { connections_max: 4, ..ConnectionLimits::default() };
    let served = served_with(RequestLimits::default(), None, connections).await;
    // An answer that is under way is no such connection, whoever reads it or not.
    let body = json!({"sql": "SELECT a.value FROM range(100000) a, range(1000) b"}).to_string();
    let mut unread = TcpStream::connect(served.address).await.expect("connects");
    let whole = exchange("POST", "/v1/sql", &[("content-type", "application/json")], body.as_bytes());
    unread.write_all(&whole).await.expect("sends");
    unread.readable().await.expect("the answer begins");
    let mut half_open = Vec::new();
    for _ in 0..40 {
        let mut stream = TcpStream::connect(served.address).await.expect("connects");
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: local").await.expect("sends");
        half_open.push(stream);
    }
    healthy_soon(&served).await;
    let first = &mut half_open[0];
    let ended = tokio::time::timeout(SOON, first.read(&mut [0; 64])).await.expect("it made room");
    assert!(matches!(ended, Ok(0) | Err(_)), "the first to come was the first to go: {ended:?}");
    let mut answer = vec![0; 1 << 20];
    for _ in 0..10 {
        let read = tokio::time::timeout(SOON, unread.read(&mut answer)).await.expect("more comes").expect("it goes on");
        assert!(read > 0, "the answer goes on");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_an_answer_keeps_neither_place_nor_turn() {
    let limits = RequestLimits { queries_max: 1, waiting_max: 0, ..RequestLimits::default() };
    let write_timeout = Duration::from_millis(100);
    let connections = ConnectionLimits { connections_max: 1, write_timeout, ..ConnectionLimits::default() };
    let served = served_with(limits, None, connections).await;
    let body = json!({"sql": "SELECT a.value FROM range(100000) a, range(1000) b"}).to_string();
    let mut unread = TcpStream::connect(served.address).await.expect("connects");
    let whole = exchange("POST", "/v1/sql", &[("content-type", "application/json")], body.as_bytes());
    unread.write_all(&whole).await.expect("sends");
    unread.readable().await.expect("the answer begins");
    // There is one place, which is taken by an answer that is under way.
    healthy_soon(&served).await;
    let turn = async { while served.sql(json!({"sql": "SELECT 1"}), "*/*").await.status != 200 {} };
    tokio::time::timeout(SOON, turn).await.expect("the query that nobody reads is given up");
    assert!(!finish(unread).await.is_whole, "the answer was cut off");
}

/// Connections with so many answers that are under way, and that nobody reads.
async fn unread(served: &Served, number: usize) -> Vec<TcpStream> {
    let sql = "SELECT a.value, repeat('x', 100) AS x FROM range(100000) a, range(1000) b";
    let body = json!({"sql": sql}).to_string();
    let mut unread = Vec::new();
    for _ in 0..number {
        let mut stream = TcpStream::connect(served.address).await.expect("connects");
        let whole = exchange("POST", "/v1/sql", &[("content-type", "application/json")], body.as_bytes());
        stream.write_all(&whole).await.expect("sends");
        stream.readable().await.expect("the answer begins");
        unread.push(stream);
    }
    unread
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_slowly_keeps_a_place_until_others_need_it() {
    let limits = RequestLimits { queries_max: 2, slow_reader: Duration::from_millis(50), ..RequestLimits::default() };
    let served = served_with(limits, None, ConnectionLimits::default()).await;
    let _unread = unread(&served, 2).await;
    for _ in 0..2 {
        let asked = served.sql(json!({"sql": "SELECT 1"}), "*/*");
        let reply = tokio::time::timeout(SOON, asked).await.expect("a slow reader makes room");
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    let metrics = served.get("/metrics").await.text();
    // The other one has its place still.
    assert!(metrics.contains("tidemark_query_errors_total{code=\"reader_slow\"} 1\n"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_query_costs_one_slow_reader() {
    let limits = RequestLimits { queries_max: 4, slow_reader: Duration::from_millis(50), ..RequestLimits::default() };
    let served = served_with(limits, None, ConnectionLimits::default()).await;
    let _unread = unread(&served, 4).await;
    let asked = served.sql(json!({"sql": "SELECT 1"}), "*/*");
    let reply = tokio::time::timeout(SOON, asked).await.expect("a slow reader makes room");
    assert_eq!(reply.status, 200, "{reply:?}");
    let metrics = served.get("/metrics").await.text();
    assert!(metrics.contains("tidemark_query_errors_total{code=\"reader_slow\"} 1\n"), "{metrics}");
}
