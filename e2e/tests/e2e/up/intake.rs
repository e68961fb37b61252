//! Records on their way in: what is refused and how, and that a repetition is none.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;

use super::{SUMS, Shop, answered, apply_text, orders, records, sums};

const NDJSON: (&str, &str) = ("content-type", "application/x-ndjson");
const JSON: (&str, &str) = ("content-type", "application/json");

#[test]
fn a_repeated_idempotency_key_gets_the_first_positions_also_after_a_crash() {
    let shop = Shop::open();
    let headers = [NDJSON, ("idempotency-key", "order-batch-1")];
    let body = orders(0..10);
    let first = records(&shop.server, "orders", &headers, body.as_bytes()).json();
    assert_eq!((&first["accepted"], &first["repeated"]), (&json!(10), &json!(false)));
    let again = records(&shop.server, "orders", &headers, body.as_bytes()).json();
    assert_eq!((&again["positions"], &again["repeated"]), (&first["positions"], &json!(true)));
    let other = records(&shop.server, "orders", &headers, orders(10..20).as_bytes());
    assert_eq!(other.problem(), (422, "idempotency_key_reused".to_owned()));

    let shop = shop.after_a_crash();
    let again = records(&shop.server, "orders", &headers, body.as_bytes()).json();
    assert_eq!((&again["positions"], &again["repeated"]), (&first["positions"], &json!(true)));
    assert_eq!(shop.at_least(SUMS, &first["at_least"])["rows"], sums(10), "each of them counts once");
}

#[test]
fn acknowledged_records_survive_kills_without_a_gap() {
    let mut shop = Shop::open();
    let mut token = json!({});
    for round in 0..4_u64 {
        for n in round * 30..round * 30 + 30 {
            for (partition, end) in super::entries(&shop.take(n..n + 1)["orders"]) {
                token["orders"][partition] = json!(end);
            }
        }
        if round == 1 {
            shop.batch_run();
        }
        shop = shop.after_a_crash();
        let n = round * 30 + 30;
        assert_eq!(shop.at_least(SUMS, &token)["rows"], sums(n));
    }
    shop.audit("orders");
}

#[test]
fn wrong_bodies_are_refused_as_what_they_are_and_append_nothing() {
    let shop = Shop::open_with(&["--batch-interval", "none", "--body-bytes-max", "64KiB"]);
    let large = format!("{}\n", json!({"id": "x".repeat(80 << 10)}));
    let latin1 = b"{\"id\": \"caf\xe9\"}\n";
    /// What is wrong, headers, body, status and code.
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [u8], (u16, &'a str));
    let cases: [Case<'_>; 12] = [
        ("cut off", &[NDJSON], b"{\"id\": \"o-1\", \"ce", (400, "malformed")),
        ("the second line", &[NDJSON], b"{\"id\": \"o-1\"}\n{]\n", (400, "malformed")),
        ("no object", &[NDJSON], b"17\n", (400, "malformed")),
        ("no array", &[JSON], b"{\"id\": \"o-1\"}", (400, "malformed")),
        ("nothing", &[NDJSON], b"\n\n", (400, "no_records")),
        ("an empty array", &[JSON], b"[]", (400, "no_records")),
        ("not UTF-8", &[NDJSON], latin1, (400, "not_utf8")),
        ("too large", &[NDJSON], large.as_bytes(), (413, "too_large")),
        ("no type", &[], b"{\"id\": \"o-1\"}\n", (415, "unsupported_media_type")),
        ("a form", &[("content-type", "application/x-www-form-urlencoded")], b"id=1", (415, "unsupported_media_type")),
        ("an empty key", &[NDJSON, ("idempotency-key", "")], b"{\"id\": \"o-1\"}\n", (400, "bad_idempotency_key")),
        ("deep", &[NDJSON], &[b'['; 60_000], (400, "malformed")),
    ];
    for (case, headers, body, (status, code)) in cases {
        let reply = records(&shop.server, "orders", headers, body);
        assert_eq!(reply.problem(), (status, code.to_owned()), "{case}: {}", reply.text);
        assert_eq!(reply.headers["content-type"], "application/problem+json", "{case}");
    }
    let line = b"{\"id\": \"o-1\"}\n";
    assert_eq!(records(&shop.server, "nothing", &[NDJSON], line).problem(), (404, "unknown_dataset".to_owned()));
    let status = shop.server.get("/v1/status").unwrap();
    let ends = status["datasets"][0]["partitions"].as_object().unwrap().values();
    assert_eq!(ends.map(|partition| partition["log_end"].as_u64().unwrap()).sum::<u64>(), 0, "{status}");
}

#[test]
fn a_body_that_does_not_come_is_given_up() {
    let shop = Shop::open_with(&["--batch-interval", "none", "--body-timeout", "300ms"]);
    let address = shop.server.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let head = format!(
        "POST /v1/datasets/orders/records HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/x-ndjson\r\n\
         content-length: 1000\r\n\r\n{{\"id\""
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = [0; 4_096];
    let count = stream.read(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer[..count]);
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert_eq!(shop.at_least(SUMS, &shop.take(0..3))["rows"], sums(3), "others are not kept waiting");
}

#[test]
fn records_come_by_a_pipe_and_the_token_is_good_for_the_command_line() {
    use std::process::Stdio;
    let shop = Shop::open();
    let mut command = shop.home.tidemark.command(&["produce", "orders", "-", "--json"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all(orders(0..25_000).as_bytes()).unwrap();
    drop(pipe);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let produced: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(produced["accepted"], 25_000);
    let token = produced["at_least"].to_string();
    let answer = shop.home.tidemark.run_json(&["sql", SUMS, "--at-least", &token, "--json"]).unwrap();
    assert_eq!(answer["rows"], sums(25_000));
    let status = shop.home.tidemark.run_json(&["status", "--json"]).unwrap();
    let partitions = status["server"]["datasets"][0]["partitions"].as_object().unwrap().values();
    let sum = |name: &str| partitions.clone().map(|partition| partition[name].as_u64().unwrap()).sum::<u64>();
    assert_eq!((sum("log_end"), sum("visible"), sum("coverage"), sum("lag_records")), (25_000, 25_000, 0, 0));
    let people = shop.home.tidemark.run(&["status"]).unwrap().expect_code(0).unwrap();
    assert!(people.stdout.contains("orders/0"), "{}", people.stdout);
}

#[test]
fn a_pipe_that_falls_silent_keeps_nobody_from_leaving() {
    use std::io::Read as _;
    use std::process::Stdio;
    let shop = Shop::open();
    let mut command = shop.home.tidemark.command(&["produce", "orders", "-"]);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all(orders(0..10).as_bytes()).unwrap();
    super::until("the records", || (answered(&shop.server, &json!({"sql": SUMS}))["rows"] == sums(10)).then_some(()));
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("interrupted"), "{said}");
    drop(pipe);
}

#[test]
fn what_was_appended_before_a_bad_line_is_told_with_the_way_on() {
    let shop = Shop::open();
    let good = orders(0..10_000);
    let file = shop.home.file("half.ndjson", format!("\n{good}{{broken\n{}", orders(10_000..10_001)));
    let ended = shop.home.tidemark.run(&["produce", "orders", &file]).unwrap().expect_code(1).unwrap();
    let told = "error: 10,000 records appended, up to line 10001 of the file; then, lines counted from line 10002: \
                line 1 is no JSON: ";
    assert!(ended.stderr.contains(told), "{}", ended.stderr);
    assert!(ended.stderr.contains("`tail -n +10002 FILE | tidemark produce DATASET -`"), "{}", ended.stderr);
    let token = ended.stderr.split_once("the token of what was appended is ").unwrap().1.trim();
    let token: serde_json::Value = serde_json::from_str(token).unwrap();
    let answer = answered(&shop.server, &json!({"sql": SUMS, "at_least": token}));
    assert_eq!(answer["rows"], sums(10_000));
    let file = shop.home.file("bad.ndjson", "{broken\n");
    shop.home.tidemark.run(&["produce", "orders", &file]).unwrap().expect_code(2).unwrap();
}

#[test]
fn records_for_a_dataset_that_there_is_not_are_refused_however_few_they_are() {
    let shop = Shop::open();
    for text in ["", "{}\n"] {
        let file = shop.home.file("some.ndjson", text);
        let ended = shop.home.tidemark.run(&["produce", "ordes", &file]).unwrap().expect_code(2).unwrap();
        assert!(ended.stderr.contains("dataset `ordes` is unknown\nhint: did you mean `orders`?"), "{}", ended.stderr);
    }
    let folder = shop.home.tidemark.data_dir().display().to_string();
    let ended = shop.home.tidemark.run(&["produce", "orders", &folder]).unwrap().expect_code(2).unwrap();
    assert!(ended.stderr.contains(" is a folder\n"), "{}", ended.stderr);
}

#[test]
fn statements_that_come_by_a_pipe_are_answered_by_the_server() {
    let shop = Shop::open();
    let token = shop.take(0..7).to_string();
    let file = shop.home.file("sums.sql", SUMS);
    let ask = |more: &[&str]| {
        let arguments: Vec<&str> = ["sql", "-f", &file, "--at-least", &token].iter().chain(more).copied().collect();
        shop.home.tidemark.run(&arguments).unwrap().expect_code(0).unwrap()
    };
    let answer = ask(&["--format", "csv", "--stats"]);
    assert_eq!(answer.stdout.lines().count(), 2, "{}", answer.stdout);
    assert!(answer.stderr.contains("1 row in ") && answer.stderr.contains("as of "), "{}", answer.stderr);
    let mut command = shop.home.tidemark.command(&["sql", "--format", "csv", "--param", "null", "--param", "3"]);
    let mut child = command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let sql = "SELECT count(*), $1 IS NULL, $2 + 1 FROM merged.orders";
    child.stdin.take().unwrap().write_all(sql.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().nth(1), Some("7,true,4"), "{text}");
}

#[test]
fn a_record_that_the_definition_refuses_is_accounted_for() {
    let shop = Shop::open();
    let body = b"{\"id\": \"o-1\", \"cents\": \"many\", \"at\": \"2026-11-24T10:00:00Z\"}\n{\"cents\": 1}\n";
    let token = shop.server.produce("orders", body).unwrap()["at_least"].clone();
    let token_of_good = shop.take(0..5);
    for token in [&token, &token_of_good] {
        shop.at_least(SUMS, token);
    }
    assert_eq!(shop.at_least(SUMS, &token_of_good)["rows"], sums(5));
    shop.batch_run();
    let status = shop.home.tidemark.run_json(&["status", "orders", "--json"]).unwrap();
    let streams = status["datasets"][0]["streams"].as_array().unwrap().iter();
    let sum = |name: &str| streams.clone().map(|stream| stream["counts"][name].as_u64().unwrap()).sum::<u64>();
    assert_eq!((sum("records"), sum("accepted"), sum("filtered"), sum("rejected")), (7, 5, 0, 2));
    let rejects = shop.home.tidemark.run(&["rejects", "orders", "--json"]).unwrap().expect_code(0).unwrap();
    assert!(rejects.stdout.contains("bad_value") && rejects.stdout.contains("missing"), "{}", rejects.stdout);
}

const READINGS: &str = "columns = [{ name = \"id\", type = \"string\" }, { name = \"n\", type = \"int64\" }]\n[stream]\n\
                        partition_by = \"id\"\npartitions = 3\n";

#[test]
fn streams_of_csv_and_avro_are_fed_in_their_formats() {
    let shop = Shop::open();
    for (name, format) in
        [("lines", "format = \"csv\"\ndelimiter = \";\"\nmultiline = true"), ("rows", "format = \"avro\"")]
    {
        let toml = format!("name = \"{name}\"\n{READINGS}{format}\n");
        apply_text(&shop.home, name, &toml, "SELECT id, n FROM input");
    }
    let sums =
        |name: &str| format!("SELECT count(*), sum(n), count(DISTINCT _partition) FROM {name} WHERE id LIKE 'a%'");
    super::until("the streams are open", || {
        let reply = records(&shop.server, "rows", &[("content-type", "application/json")], b"{}");
        (reply.status == 415).then_some(())
    });
    let csv: (&str, &str) = ("content-type", "text/csv; header=present");
    let taken = records(&shop.server, "lines", &[csv], b"id;n\n\"a\nb\";1\n\n\"a\nb\";02\nx;y\n").json();
    assert_eq!(taken["accepted"], 3, "{taken}");
    let file = shop.home.file("more.csv", "\"a\nb\";4\n");
    let produced = shop.home.tidemark.run_json(&["produce", "lines", &file, "--json"]).unwrap();
    let mut token = taken["at_least"].clone();
    for (partition, end) in super::entries(&produced["at_least"]["lines"]) {
        token["lines"][partition] = json!(end);
    }
    assert_eq!(shop.at_least(&sums("lines"), &token)["rows"], json!([[3, 7, 1]]), "one key, one partition");

    let rows = shop.home.folder.path().join("row.avro").to_string_lossy().into_owned();
    let script = "import sys, polars; polars.DataFrame({'id': ['a'] * int(sys.argv[2]), 'n': range(int(sys.argv[2]))}).write_avro(sys.argv[1])";
    let write = |count: &str| {
        assert!(crate::support::python().args(["-c", script, &rows, count]).status().unwrap().success());
        std::fs::read(&rows).unwrap()
    };
    let avro = ("content-type", "application/avro");
    assert_eq!(records(&shop.server, "rows", &[avro], &write("2")).problem(), (400, "malformed".to_owned()));
    let taken = records(&shop.server, "rows", &[avro], &write("1")).json();
    assert_eq!(taken["accepted"], 1, "{taken}");
    assert_eq!(shop.at_least(&sums("rows"), &taken["at_least"])["rows"], json!([[1, 0, 1]]));
    let wrong = records(&shop.server, "lines", &[NDJSON], b"{\"id\": \"a\"}\n");
    assert_eq!(wrong.problem(), (415, "unsupported_media_type".to_owned()));
    assert!(wrong.text.contains("text/csv"), "{}", wrong.text);
}
