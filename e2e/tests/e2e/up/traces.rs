//! Traces: a batch of records and a query can be followed, callers' traces go on, and a receiver that is gone harms nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::TcpListener;
use std::time::Instant;

use serde_json::json;
use tidemark_e2e::platform::{Tidemark, repository};
use tidemark_e2e::server::Server;

use super::otlp::{Receiver, Span};
use super::{SUMS, answered, apply, orders, records, seal, sums, until};
use crate::support::Home;

const RECORDS: &str = "0af7651916cd43dd8448eb211c80319c";
const QUERY: &str = "0af7651916cd43dd8448eb211c80319d";
const WRONG: &str = "0af7651916cd43dd8448eb211c80319e";
const CALLER: &str = "b7ad6b7169203331";
const TYPED: (&str, &str) = ("content-type", "application/x-ndjson");

/// A shop whose process sends its spans at once, or after so many milliseconds.
fn shop(endpoint: &str, delay_ms: &str, flags: &[&str]) -> (Home, Server) {
    let mut home = Home::empty();
    apply(&home, "orders");
    // The receiver is on this machine, whatever proxy leads out of it.
    home.tidemark = with_delay(&home.tidemark, delay_ms).with_env("NO_PROXY", "127.0.0.1");
    let flags = [&["--batch-interval", "none", "--traces-endpoint", endpoint][..], flags].concat();
    let server = Server::start(&home.tidemark, &flags).unwrap();
    (home, server)
}

fn with_delay(tidemark: &Tidemark, delay_ms: &str) -> Tidemark {
    tidemark.clone().with_env("OTEL_BSP_SCHEDULE_DELAY", delay_ms)
}

fn from(trace: &str) -> String {
    format!("00-{trace}-{CALLER}-01")
}

fn query(server: &Server, trace: &str, document: &serde_json::Value) -> tidemark_e2e::server::Reply {
    let caller = from(trace);
    let headers = [("content-type", "application/json"), ("traceparent", caller.as_str())];
    server.ask("POST", "/v1/sql", &headers, document.to_string().as_bytes()).unwrap()
}

/// The one span of that name for which `is` holds.
fn only<'a>(spans: &'a [Span], name: &str, is: impl Fn(&Span) -> bool) -> &'a Span {
    let found: Vec<&Span> = spans.iter().filter(|span| span.name == name && is(span)).collect();
    assert_eq!(found.len(), 1, "{name}: {found:#?}");
    found[0]
}

fn has(span: &Span, attributes: &[(&str, &str)]) {
    for (name, value) in attributes {
        assert_eq!(span.attributes.get(*name).map(String::as_str), Some(*value), "{name} of {span:#?}");
    }
}

#[test]
fn traces_follow_records_and_queries_and_are_documented() {
    let receiver = Receiver::start();
    let (mut home, server) = shop(&receiver.endpoint, "50", &["--segment-age-max", "1h"]);
    let (origin, wrong_sql) = (from(RECORDS), "SELECT 'a secret' FROM nowhere");
    let reply = records(&server, "orders", &[TYPED, ("traceparent", origin.as_str())], orders(0..10).as_bytes());
    let token = reply.json()["at_least"].clone();
    answered(&server, &json!({"sql": SUMS, "at_least": token}));
    seal(&server, "orders");
    // A command of its own, by the variable that all programs know.
    let common = home.tidemark.clone().with_env("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint.clone());
    home.tidemark = common.with_env("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test");
    home.tidemark.run(&["batch", "run", "orders"]).unwrap().expect_code(0).unwrap();
    let live = server.produce("orders", orders(10..13).as_bytes()).unwrap()["at_least"].clone();
    let answer = query(&server, QUERY, &json!({"sql": SUMS, "at_least": live}));
    assert_eq!((answer.status, &answer.json()["rows"]), (200, &sums(13)), "{}", answer.text);
    assert_eq!(query(&server, WRONG, &json!({"sql": wrong_sql})).status, 404);

    let documented = documented();
    let spans = until("each kind of span, and the end of each request", || {
        let spans = receiver.spans();
        let names: BTreeSet<&str> = spans.iter().map(|span| span.name.as_str()).collect();
        // It closes after all that is within it.
        let ended = |trace| spans.iter().any(|span| span.trace == trace && span.name == "http.request");
        let all = names.len() >= documented.len() && [RECORDS, QUERY, WRONG].into_iter().all(ended);
        all.then_some(spans)
    });
    let mut sent: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for span in &spans {
        sent.entry(span.name.clone()).or_default().extend(span.attributes.keys().cloned());
    }
    assert_eq!(sent.keys().collect::<Vec<_>>(), documented.keys().collect::<Vec<_>>());
    for (name, attributes) in &sent {
        let told = &documented[name].1;
        assert!(attributes.is_subset(told), "docs/traces.md: {name} has {attributes:?}");
        let never: Vec<_> = told.difference(attributes).filter(|name| *name != "error.type").collect();
        assert!(never.is_empty(), "docs/traces.md: {name} never has {never:?}");
    }
    of_the_records(&spans, &token);
    of_the_run(&spans);
    of_the_query(&spans, &documented);
    let wrong = only(&spans, "query", |span| span.trace == WRONG);
    has(wrong, &[("error.type", "unknown_table"), ("db.operation.name", "SELECT")]);
    assert_eq!(wrong.status, 2);
    for secret in ["a secret", "nowhere", "cents", "2026-11-24T10", "count("] {
        assert!(!receiver.has_seen(secret), "`{secret}` is in a span");
    }
    assert_eq!(server.stop().unwrap(), Some(0));
    only_records_of_a_trace_name_it(&home);
}

/// Segments keep a header with records that came in a trace, and none with others.
fn only_records_of_a_trace_name_it(home: &Home) {
    let (mut folders, mut counts) = (vec![home.tidemark.data_dir().join("store/raw/orders/stream")], (0, 0, 0));
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "parquet") {
                let sql = "SELECT count(*), count(*) FILTER (WHERE cardinality(headers) = 1), \
                           count(*) FILTER (WHERE cardinality(headers) > 1)";
                let rows = home.tidemark.rows(&format!("{sql} FROM '{}'", path.display())).unwrap();
                let count = |column: usize| rows[0][column].as_u64().unwrap();
                counts = (counts.0 + count(0), counts.1 + count(1), counts.2 + count(2));
            }
        }
    }
    assert_eq!(counts, (13, 10, 0));
}

/// What docs/traces.md says: by span, what it is within, and its attributes.
fn documented() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let text = fs::read_to_string(repository().join("docs/traces.md")).unwrap();
    let (_, rest) = text.split_once("--test e2e traces -->\n").unwrap();
    let (table, _) = rest.split_once("<!-- end -->").unwrap();
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let names = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<String>>();
        let within = names(cells[2]).pop().unwrap_or_default();
        (names(cells[1]).remove(0), (within, names(cells[3]).into_iter().collect()))
    };
    table.lines().skip(2).map(row).collect()
}

/// From the request to the log, and from there into the view and the archive.
fn of_the_records(spans: &[Span], token: &serde_json::Value) {
    let request = only(spans, "http.request", |span| span.trace == RECORDS);
    assert_eq!((request.parent.as_str(), request.kind, request.status), (CALLER, 2, 0));
    let route = ("http.route", "/v1/datasets/{dataset}/records");
    has(request, &[route, ("http.request.method", "POST"), ("http.response.status_code", "200")]);
    assert_eq!(request.resource["service.name"], "tidemark");
    let append = only(spans, "records.append", |span| span.trace == RECORDS);
    assert_eq!(append.parent, request.id);
    let ends: BTreeMap<String, u64> = super::entries(&token["orders"]);
    let positions: Vec<String> = ends.iter().map(|(partition, end)| format!("{partition}:{end}")).collect();
    has(
        append,
        &[
            ("tidemark.records", "10"),
            ("tidemark.repeated", "false"),
            ("tidemark.positions", positions.join(" ").as_str()),
        ],
    );
    let mut followed = BTreeMap::new();
    for batch in spans.iter().filter(|span| span.name == "index.batch") {
        let number = |name: &str| -> u64 { batch.attributes[name].parse().unwrap() };
        let (start, end) = (number("tidemark.offset.start"), number("tidemark.offset.end"));
        assert_eq!((batch.parent.as_str(), number("tidemark.visible")), ("", end), "{batch:#?}");
        let made = only(spans, "index.make", |span| span.parent == batch.id);
        has(made, &[("tidemark.accepted", batch.attributes["tidemark.records"].as_str()), ("tidemark.rejected", "0")]);
        let applied = only(spans, "index.apply", |span| span.parent == batch.id);
        assert!([made, applied].iter().all(|span| span.trace == batch.trace && span.nanoseconds <= batch.nanoseconds));
        if batch.links == [(append.trace.clone(), append.id.clone())] {
            let partition = batch.attributes["tidemark.partition"].clone();
            assert_eq!(followed.insert(partition, end), (start > 0).then_some(start), "{batch:#?}");
        } else {
            assert_eq!(batch.links, [], "records of no trace");
        }
    }
    assert_eq!(followed, ends, "the request's records are visible by batches that are linked to it");
    for segment in spans.iter().filter(|span| span.name == "archive.segment") {
        let end = ends[&segment.attributes["tidemark.partition"]].to_string();
        has(
            segment,
            &[
                ("tidemark.offset.start", "0"),
                ("tidemark.offset.end", end.as_str()),
                ("tidemark.records", end.as_str()),
            ],
        );
    }
}

/// What the command did, in a trace of its own.
fn of_the_run(spans: &[Span]) {
    let run = only(spans, "batch.run", |_| true);
    has(run, &[("tidemark.dataset", "orders"), ("tidemark.kind", "run")]);
    assert_eq!((run.parent.as_str(), run.resource["deployment.environment"].as_str()), ("", "test"));
    for name in ["batch.plan", "batch.read", "batch.commit"] {
        let part = only(spans, name, |_| true);
        assert_eq!((&part.parent, &part.trace), (&run.id, &run.trace));
    }
    let commit = only(spans, "batch.commit", |_| true);
    let covered = only(spans, "query.cut", |span| span.trace == QUERY);
    for name in ["tidemark.version", "tidemark.coverage", "tidemark.generation"] {
        assert_eq!(commit.attributes[name], covered.attributes[name], "{name}: the query reads what the run has made");
    }
}

/// A query's parts are of its trace, each within what the document says.
fn of_the_query(spans: &[Span], documented: &BTreeMap<String, (String, BTreeSet<String>)>) {
    let parts: Vec<&Span> = spans.iter().filter(|span| span.trace == QUERY).collect();
    let names: BTreeSet<&str> = parts.iter().map(|span| span.name.as_str()).collect();
    let wanted =
        documented.keys().map(String::as_str).filter(|name| *name == "http.request" || name.starts_with("query"));
    assert_eq!(names, wanted.collect::<BTreeSet<_>>());
    for part in &parts {
        let within = parts.iter().find(|span| span.id == part.parent).map_or("", |span| span.name.as_str());
        assert_eq!(within, documented[&part.name].0, "{part:#?}");
    }
    assert_eq!(only(spans, "http.request", |span| span.trace == QUERY).parent, CALLER);
    let query = only(spans, "query", |span| span.trace == QUERY);
    has(query, &[("tidemark.rows", "1"), ("db.operation.name", "SELECT")]);
    let cut = only(spans, "query.cut", |span| span.trace == QUERY);
    has(cut, &[("tidemark.dataset", "orders"), ("tidemark.layer", "merged"), ("tidemark.rows.live", "3")]);
    assert_ne!(cut.attributes["tidemark.coverage"], cut.attributes["tidemark.positions"]);
    has(only(spans, "query.live", |span| span.trace == QUERY), &[("tidemark.offsets", "3")]);
}

#[test]
fn traces_that_are_left_are_sent_at_the_end() {
    let receiver = Receiver::start();
    let (_home, server) = shop(&receiver.endpoint, "3600000", &[]);
    assert_eq!(query(&server, QUERY, &json!({"sql": SUMS})).status, 200);
    assert_eq!(receiver.spans(), [], "it waits for an hour");
    assert_eq!(server.stop().unwrap(), Some(0));
    let spans = receiver.spans();
    let request = only(&spans, "http.request", |_| true);
    assert_eq!((request.trace.as_str(), request.parent.as_str()), (QUERY, CALLER));
}

#[test]
fn traces_are_kept_as_their_callers_decided_and_else_a_share_of_them() {
    let receiver = Receiver::start();
    let (_home, server) = shop(&receiver.endpoint, "50", &["--traces-sample", "0"]);
    answered(&server, &json!({"sql": SUMS}));
    let unkept = format!("00-{WRONG}-{CALLER}-00");
    let taken = records(&server, "orders", &[TYPED, ("traceparent", unkept.as_str())], orders(0..1).as_bytes());
    let kept = records(&server, "orders", &[TYPED, ("traceparent", from(RECORDS).as_str())], orders(1..2).as_bytes());
    assert_eq!((taken.status, kept.status), (200, 200));
    // Records of a trace that is kept can be followed, whatever the share.
    let spans = until("the request, and a batch of its records", || {
        let spans = receiver.spans();
        let ended = |name| spans.iter().any(|span| span.name == name);
        ["http.request", "index.batch"].into_iter().all(ended).then_some(spans)
    });
    let append = only(&spans, "records.append", |_| true);
    let indexed = only(&spans, "index.batch", |_| true);
    assert_eq!(indexed.links, [(RECORDS.to_owned(), append.id.clone())]);
    assert!(spans.iter().all(|span| [RECORDS, &indexed.trace].contains(&span.trace.as_str())), "{spans:#?}");
}

#[test]
fn traces_that_nobody_takes_harm_nothing() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    for (address, told) in [(silent.local_addr().unwrap(), false), (closed, true)] {
        let (home, server) = shop(&format!("http://{address}"), "50", &[]);
        let token = server.produce("orders", orders(0..10).as_bytes()).unwrap()["at_least"].clone();
        assert_eq!(answered(&server, &json!({"sql": SUMS, "at_least": token}))["rows"], sums(10));
        if told {
            let lost = || {
                let metrics = server.ask("GET", "/metrics", &[], b"").unwrap().text;
                let mut lines = metrics.lines().filter_map(|line| line.strip_prefix("tidemark_spans_lost_total "));
                lines.next().unwrap().parse::<u64>().ok().filter(|lost| *lost > 0)
            };
            until("spans that are lost", lost);
        }
        let begun = Instant::now();
        assert_eq!(server.stop().unwrap(), Some(0));
        assert!(begun.elapsed().as_secs() < 10, "it waits for nobody: {:?}", begun.elapsed());
        let log = fs::read_to_string(home.tidemark.data_dir().join("up.log")).unwrap();
        let lines = log.lines().filter(|line| line.contains("spans of traces are lost")).count();
        assert!(lines <= 1 && (lines == 1 || !told), "once in a while: {log}");
    }
}
