//! `tidemark up` on a real Kafka: records come by HTTP and by librdkafka's Python client, and one answer has them all.
//! `infra/servers/test-real.sh` starts the server and runs this; a plain `cargo test` leaves it out.

mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{SUMS, Shop, answered, orders, sums};
use tidemark_e2e::platform::repository;
use tidemark_e2e::server::Server;

const PATIENCE: Duration = Duration::from_secs(60);

/// Produces orders `from..to` to a topic, some of them in a transaction that is aborted, and prints where they ended:
/// `{"partition": end}`.
const PYTHON: &str = r#"
import json, os, sys
from confluent_kafka import Producer
topic, start, end = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
ends = {}
def delivered(error, message):
    assert error is None, error
    ends[message.partition()] = max(ends.get(message.partition(), 0), message.offset() + 1)
def order(n):
    return json.dumps({"id": f"o-{n}", "cents": n, "at": "2026-11-24T10:00:00Z", "country": ["NL", "DE", "FR"][n % 3]})
brokers = {"bootstrap.servers": os.environ["TIDEMARK_TEST_KAFKA"], "partitioner": "murmur2_random"}
plain = Producer({**brokers, "enable.idempotence": True})
for n in range(start, end):
    plain.produce(topic, order(n), key=f"o-{n}", headers={"by": "python"}, on_delivery=delivered)
assert plain.flush(30) == 0
undecided = Producer({**brokers, "transactional.id": "e2e-" + topic})
undecided.init_transactions(30)
undecided.begin_transaction()
for n in range(1_000_000, 1_000_050):
    undecided.produce(topic, order(n), key=f"o-{n}")
undecided.flush(30)
undecided.abort_transaction(30)
print(json.dumps(ends))
"#;

/// Deletes a topic and makes it again.
const MADE_AGAIN: &str = r#"
import os, sys
from confluent_kafka.admin import AdminClient, NewTopic
topic = sys.argv[1]
admin = AdminClient({"bootstrap.servers": os.environ["TIDEMARK_TEST_KAFKA"]})
admin.delete_topics([topic], operation_timeout=30)[topic].result(30)
while topic in admin.list_topics(timeout=30).topics:
    pass
admin.create_topics([NewTopic(topic, 4, 1)])[topic].result(30)
"#;

fn python(program: &str, args: &[&str]) -> String {
    let interpreter = repository().join(".venv/bin/python");
    let output = Command::new(interpreter).args(["-c", program]).args(args).output();
    let output = output.expect("run `make setup-python`");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The token of whoever wants to see what a producer of his own has appended.
fn token(topic: &str, ends: &Value) -> Value {
    let ends = ends.as_object().expect("ends by partition");
    let token: serde_json::Map<String, Value> =
        ends.iter().map(|(partition, end)| (format!("{topic}/{partition}"), end.clone())).collect();
    json!({ "orders": token })
}

#[test]
fn real_kafka_records_by_http_and_by_a_clients_own_producer_are_in_one_answer() {
    let shop = Shop::open("one");
    let server = shop.start();
    let by_http = server.produce("orders", orders(0..300).as_bytes()).expect("it takes records");
    let first = answered(&server, &json!({"sql": SUMS, "at_least": by_http["at_least"]}));
    assert_eq!(first["rows"], sums(300), "{first}");
    // with a key, twice: it counts once
    for repeated in [false, true] {
        let headers = [("content-type", "application/x-ndjson"), ("idempotency-key", "second")];
        let body = orders(300..400);
        let reply = server.ask("POST", "/v1/datasets/orders/records", &headers, body.as_bytes()).expect("it answers");
        assert_eq!(reply.status, 200, "repeated: {repeated}: {}", reply.text);
    }
    shop.batch_run(&server);
    let ends = python(PYTHON, &[&shop.topic, "400", "1000"]);
    let ends = serde_json::from_str(&ends).expect("one document");
    let document = json!({"sql": SUMS, "at_least": token(&shop.topic, &ends)});
    let all = answered(&server, &document);
    assert_eq!(all["rows"], sums(1_000), "{all}");
    let stats = |name: &str| all["stats"][name].as_u64().unwrap_or_default();
    assert_eq!((stats("rows_batch"), stats("rows_live")), (400, 600), "{all}");
    shop.audit();
    // the next process goes on where the store and the broker say
    server.kill().expect("it is killed");
    let server = shop.start();
    let all = answered(&server, &document);
    assert_eq!(all["rows"], sums(1_000), "{all}");
    shop.batch_run(&server);
    let curated = answered(&server, &json!({"sql": "SELECT count(*) AS n, sum(cents) AS cents FROM batch.orders"}));
    assert_eq!(curated["rows"], sums(1_000), "{curated}");
    shop.audit();
    assert_eq!(server.stop().expect("it drains"), Some(0));
}

#[test]
fn real_kafka_a_topic_that_is_made_again_goes_on_as_a_new_source() {
    let shop = Shop::open("again");
    let server = shop.start();
    let first = server.produce("orders", orders(0..100).as_bytes()).expect("it takes records");
    assert_eq!(answered(&server, &json!({"sql": SUMS, "at_least": first["at_least"]}))["rows"], sums(100));
    shop.batch_run(&server);
    python(MADE_AGAIN, &[&shop.topic]);
    let begun = Instant::now();
    let taken = loop {
        let headers = [("content-type", "application/x-ndjson"), ("idempotency-key", "again")];
        let body = orders(100..150);
        let reply = server.ask("POST", "/v1/datasets/orders/records", &headers, body.as_bytes()).expect("it answers");
        if reply.status == 200 {
            break reply.json();
        }
        assert!(begun.elapsed() < PATIENCE, "it takes no records: {}", reply.text);
    };
    let sources = taken["at_least"]["orders"].to_string();
    assert!(sources.contains(&format!("{}~2/", shop.topic)), "offsets of two topics have one name: {taken}");
    let all = answered(&server, &json!({"sql": SUMS, "at_least": taken["at_least"]}));
    assert_eq!(all["rows"], sums(150), "{all}");
    shop.batch_run(&server);
    shop.audit();
    assert_eq!(server.stop().expect("it drains"), Some(0));
}

#[test]
fn real_kafka_a_second_process_on_the_same_data_is_told_of_the_first() {
    let shop = Shop::open("two");
    let server = shop.start();
    let second = shop.tidemark.run(&["up", "--http", "127.0.0.1:0"]).expect("it runs");
    assert_ne!(second.code, 0, "{second:?}");
    assert!(second.stderr.contains("already runs"), "{second:?}");
    assert_eq!(server.stop().expect("it drains"), Some(0));
}

#[test]
fn real_kafka_without_brokers_it_starts_and_says_what_is_missing() {
    let shop = Shop::open("none");
    // a port that nobody listens at, of a listener that is gone
    let closed = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let tidemark = shop.tidemark.clone().with_env("TIDEMARK_LOG_URL", format!("kafka://{closed}"));
    let server = Server::start(&tidemark, &["--batch-interval", "none"]).expect("it starts");
    let begun = Instant::now();
    loop {
        let reply =
            server.ask("POST", "/v1/datasets/orders/records", &[], orders(0..1).as_bytes()).expect("it answers");
        assert!(matches!(reply.status, 429 | 503), "{reply:?}");
        assert!(reply.headers.contains_key("retry-after"), "{reply:?}");
        let status = server.get("/v1/status").expect("it answers");
        if status["tasks"].to_string().contains("stream orders") {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "nothing is said of the broker: {status}");
    }
    let curated = answered(&server, &json!({"sql": "SELECT 1 AS one"}));
    assert_eq!(curated["rows"], json!([[1]]));
}
