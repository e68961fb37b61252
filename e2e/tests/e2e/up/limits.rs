//! Statements that ask for too much end with their own code, and the process stays as it was.

use serde_json::json;
use tidemark_e2e::server::Server;

use super::{SUMS, Shop, answered, apply, sums};
use crate::support::Home;

const PAIRS: &str = "SELECT a.id, b.id AS other, count(*) AS n FROM orders a, orders b, orders c GROUP BY a.id, b.id";

#[test]
fn each_limit_has_its_code_and_the_process_stays_healthy() {
    let mut home = Home::empty();
    home.tidemark = home.tidemark.clone().with_env("TIDEMARK_SQL_SPILL_BYTES_MAX", "0");
    apply(&home, "orders");
    let server = Server::start(&home.tidemark, &["--batch-interval", "none", "--memory", "16MiB"]).unwrap();
    let shop = Shop { home, server };
    let token = shop.take(0..2_000);
    shop.batch_run();
    let code = |document: serde_json::Value| shop.server.query(&document).unwrap().problem();
    let refused = |status: u16, code: &str| (status, code.to_owned());
    assert_eq!(code(json!({"sql": PAIRS})), refused(422, "memory_limit"));
    let long =
        "SELECT count(*) FROM orders a, orders b, orders c, orders d WHERE a.cents + b.cents < c.cents + d.cents";
    assert_eq!(code(json!({"sql": long, "timeout_ms": 400})), refused(422, "time_limit"));
    assert_eq!(code(json!({"sql": SUMS, "bytes_read_max": 10})), refused(422, "bytes_read_limit"));
    for (sql, wanted) in [
        ("SELEC 1", refused(400, "syntax_error")),
        ("SELECT 1; SELECT 2", refused(400, "not_one_statement")),
        ("DELETE FROM orders", refused(400, "read_only")),
        ("SELECT * FROM nothing", refused(404, "unknown_table")),
        ("SELECT nothing FROM orders", refused(400, "unknown_column")),
        ("SELECT * FROM '/etc/passwd'", refused(403, "files_closed")),
        ("SELECT 1 / 0", refused(422, "query_failed")),
        ("SELECT $1", refused(400, "bad_parameter")),
    ] {
        assert_eq!(code(json!({ "sql": sql })), wanted, "{sql}");
    }
    let bodies: [(&[u8], u16, &str); 4] = [
        (b"{\"sql\": \"SELECT 1\"", 400, "malformed"),
        (b"{\"sql\": \"SELECT 1\", \"sqll\": 1}", 400, "malformed"),
        (b"{\"sql\": \"caf\xe9\"}", 400, "not_utf8"),
        (&[b' '; 2 << 20], 413, "too_large"),
    ];
    for (body, status, wanted) in bodies {
        let reply = shop.server.ask("POST", "/v1/sql", &[("content-type", "application/json")], body).unwrap();
        assert_eq!(reply.problem(), refused(status, wanted));
    }
    assert_eq!(shop.at_least(SUMS, &token)["rows"], sums(2_000));
    let bound = json!({"sql": "SELECT id FROM orders WHERE id = $1 OR cents = $2 ORDER BY id", "params": ["o-1' OR '1'='1", 7]});
    assert_eq!(answered(&shop.server, &bound)["rows"], json!([["o-7"]]));
    let status = shop.server.get("/v1/status").unwrap();
    let tasks = status["tasks"].as_object().unwrap();
    assert!(tasks.values().all(|task| task["restarts"] == 0 && task["error"].is_null()), "{status}");
}

#[test]
fn more_statements_than_may_run_wait_or_are_turned_away() {
    let shop = Shop::open_with(&["--batch-interval", "none", "--queries-max", "1"]);
    let token = shop.take(0..1_000);
    shop.at_least(SUMS, &token);
    let long = json!({"sql": "SELECT count(*) FROM orders a, orders b, orders c, orders d WHERE a.cents + b.cents < c.cents + d.cents", "timeout_ms": 3_000});
    let short = json!({"sql": SUMS, "timeout_ms": 200});
    std::thread::scope(|scope| {
        let running = scope.spawn(|| shop.server.query(&long).unwrap());
        let turned_away = super::until("a statement that finds no place", || {
            // One that comes before the long one has a place, and on a busy machine no time to end in.
            let reply = shop.server.query(&short).unwrap();
            (reply.status == 429).then_some(reply)
        });
        assert_eq!(turned_away.problem(), (429, "too_many_queries".to_owned()));
        assert!(turned_away.headers.contains_key("retry-after"));
        assert_eq!(running.join().unwrap().problem(), (422, "time_limit".to_owned()));
    });
    assert_eq!(shop.at_least(SUMS, &token)["rows"], sums(1_000));
}

#[test]
fn a_line_that_would_take_all_there_is_is_refused_at_the_door_and_at_the_prompt() {
    let shop = Shop::open();
    let doubled: String = (1..40).map(|n| format!(", t{n} AS (SELECT a.x FROM t{0} a, t{0} b)", n - 1)).collect();
    let tables = format!("WITH t0 AS (SELECT 1 AS x){doubled} SELECT * FROM t39");
    let busy = "SELECT levenshtein(repeat('a', 60000), repeat('b', 60000))";
    for (sql, problem, code) in [
        ("SELECT repeat('x', 1000000000)", (422, "memory_limit"), 1),
        ("SELECT array_repeat(1, 2000000000)", (422, "memory_limit"), 1),
        ("SELECT max(lpad(id, cents + 1000000000)) FROM orders", (422, "memory_limit"), 1),
        (tables.as_str(), (400, "too_complex"), 2),
        (busy, (422, "time_limit"), 1),
    ] {
        let _token = shop.take(0..10);
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| shop.server.query(&json!({"sql": sql, "timeout_ms": 3_000})).unwrap().problem());
            let health = shop.server.ask("GET", "/healthz", &[], b"").unwrap();
            assert_eq!(health.text, "ok\n", "{sql}");
            assert_eq!(asked.join().unwrap(), (problem.0, problem.1.to_owned()), "{sql}");
        });
        // The statement is answered where it is asked, and over the server.
        let local = sql.replace("FROM orders", "FROM range(5) AS t(cents), (SELECT 'a' AS id) AS u");
        for (how, sql) in [(&["--local"][..], local.as_str()), (&[], sql)] {
            let args = [&["sql", sql, "--timeout", "3s"], how].concat();
            let refused = shop.home.tidemark.run(&args).unwrap();
            assert_eq!(refused.code, code, "{sql} {how:?}: {refused:?}");
        }
    }
}
