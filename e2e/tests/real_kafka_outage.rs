//! `tidemark up` while Kafka is away: it answers, says how old that is, and goes on by itself. It kills the test server, so
//! that nothing else may use it meanwhile.

#[path = "real_kafka_up/support.rs"]
mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;
use support::{SUMS, Shop, answered, orders, sums};
use tidemark_e2e::platform::repository;

const PATIENCE: Duration = Duration::from_secs(90);

/// Runs a script beside the servers.
fn kafka(script: &str) {
    let data = std::env::var("TIDEMARK_TEST_KAFKA_DATA").expect("TIDEMARK_TEST_KAFKA_DATA is the test server's");
    let script = repository().join("infra/servers").join(script);
    let done = Command::new(script).args(["--data", &data, "kafka"]).output().expect("the script runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn real_kafka_that_goes_away_stops_no_answer_and_loses_and_doubles_nothing() {
    let shop = Shop::open("outage");
    println!("topic {}", shop.topic);
    let server = shop.start();
    let first = server.produce("orders", orders(0..200).as_bytes()).expect("it takes records");
    let token = &first["at_least"];
    assert_eq!(answered(&server, &json!({"sql": SUMS, "at_least": token}))["rows"], sums(200));
    shop.batch_run(&server);

    kafka("kill.sh");
    let begun = Instant::now();
    let mut age_ms = 0;
    while age_ms < 3_000 {
        let answer = answered(&server, &json!({"sql": SUMS}));
        assert_eq!(answer["rows"], sums(200), "{answer}");
        let now = answer["as_of"]["orders"]["age_ms"].as_u64().expect("an age");
        assert!(now >= age_ms, "the answer got younger: {age_ms}, then {now}");
        age_ms = now;
        assert!(begun.elapsed() < PATIENCE, "answers do not age: {answer}");
    }
    let stale = server.query(&json!({"sql": SUMS, "max_staleness_ms": 500})).expect("it answers");
    assert_eq!(stale.problem().1, "too_stale", "{}", stale.text);
    let headers = [("content-type", "application/x-ndjson"), ("idempotency-key", "during")];
    let produce = || {
        let body = orders(200..300);
        server.ask("POST", "/v1/datasets/orders/records", &headers, body.as_bytes()).expect("it answers")
    };
    let refused = produce();
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert!(refused.headers.contains_key("retry-after"), "{refused:?}");

    kafka("up.sh");
    let begun = Instant::now();
    let taken = loop {
        let reply = produce();
        if reply.status == 200 {
            break reply.json();
        }
        assert!(begun.elapsed() < PATIENCE, "it takes no records: {}", reply.text);
    };
    let token = &taken["at_least"];
    assert_eq!(answered(&server, &json!({"sql": SUMS, "at_least": token}))["rows"], sums(300));
    println!("records were taken and shown {:?} after Kafka was back", begun.elapsed());
    let fresh = answered(&server, &json!({"sql": SUMS, "max_staleness_ms": 10_000}));
    assert_eq!(fresh["rows"], sums(300), "{fresh}");
    shop.batch_run(&server);
    shop.audit();
    assert_eq!(server.stop().expect("it drains"), Some(0));
}
