//! The processes of a test, and what is watched all the while.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tidemark_e2e::platform::{Tidemark, dataset_folder};
use tidemark_e2e::server::Server;
use tidemark_e2e::wait::{PATIENCE, until};

const SUMS: &str = "SELECT count(*) AS n, sum(cents) AS cents FROM orders";
/// Orders of a pulse: some for each partition.
const PULSE: u64 = 60;

pub(crate) struct Stack {
    folder: TempDir,
    topic: String,
    servers: BTreeMap<String, Server>,
    /// Orders that were taken in.
    orders: u64,
    /// The highest positions that were ever visible.
    visible: BTreeMap<String, u64>,
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} names the test server"))
}

impl Stack {
    /// Applies the orders, on a topic, a bucket and indices of the test's own.
    pub(crate) fn open() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let topic = format!("orders-roles-{}", std::process::id());
        let stack = Self { folder, topic, servers: BTreeMap::new(), orders: 0, visible: BTreeMap::new() };
        let definition = stack.folder.path().join("orders");
        std::fs::create_dir(&definition).expect("a temporary folder");
        for file in ["dataset.toml", "transform.sql"] {
            let text = std::fs::read_to_string(dataset_folder("orders").join(file)).expect("a definition");
            let text = text.replace("topic = \"orders\"", &format!("topic = \"{}\"", stack.topic));
            std::fs::write(definition.join(file), text).expect("a temporary folder");
        }
        let applied = stack.tidemark("one").run(&["dataset", "apply", &definition.to_string_lossy()]).expect("it runs");
        applied.expect_code(0).expect("the definition is valid");
        stack
    }

    /// The binary with a data directory of its own and the servers of all.
    fn tidemark(&self, name: &str) -> Tidemark {
        let id = std::process::id();
        let opensearch = variable("TIDEMARK_TEST_OPENSEARCH_URL");
        let env = [
            ("TIDEMARK_STORE_URL", format!("s3://roles-{id}/store")),
            ("TIDEMARK_CATALOG_URL", variable("TIDEMARK_TEST_POSTGRES_URL")),
            ("TIDEMARK_LOG_URL", format!("kafka://{}", variable("TIDEMARK_TEST_KAFKA"))),
            ("TIDEMARK_LIVE_URL", format!("opensearch+{opensearch}/roles-{id}")),
            ("TIDEMARK_LOG_KAFKA_SESSION_TIMEOUT", "3s".to_owned()),
            ("TIDEMARK_LIVE_INDEX_OFFSETS", "256".to_owned()),
            // How long rows stay in views, too: some are to go while the test runs.
            ("TIDEMARK_SQL_TIMEOUT", "15s".to_owned()),
            ("TIDEMARK_SPEED_SEGMENT_AGE_MAX", "500ms".to_owned()),
            ("TIDEMARK_BATCH_INTERVAL", "1s".to_owned()),
        ];
        let tidemark = Tidemark::new(&self.folder.path().join(name)).expect("built");
        env.into_iter().fold(tidemark, |tidemark, (name, value)| tidemark.with_env(name, value))
    }

    pub(crate) fn start(&mut self, name: &str, role: &str) {
        let server = Server::start(&self.tidemark(name), &["--role", role]);
        self.servers.insert(name.to_owned(), server.unwrap_or_else(|error| panic!("{name}: {error}")));
    }

    pub(crate) fn server(&self, name: &str) -> &Server {
        &self.servers[name]
    }

    pub(crate) fn kill(&mut self, name: &str) {
        self.servers.remove(name).expect("it runs").kill().expect("it is killed");
    }

    pub(crate) fn signal(&self, name: &str, signal: &str) {
        self.server(name).signal(signal).expect("it is told");
    }

    pub(crate) fn all_ready(&self) {
        for (name, server) in &self.servers {
            let mut told = String::new();
            let begun = Instant::now();
            until(&format!("readiness of {name}"), || {
                let reply = server.ask("GET", "/readyz", &[], b"").expect("it answers");
                assert!(begun.elapsed() < PATIENCE / 2, "{name}: {told}");
                told = reply.text;
                (reply.status == 200).then_some(())
            });
        }
    }

    /// How many partitions each of these processes has; -1 for one that has no place in its group.
    pub(crate) fn shares(&self, names: &[&str]) -> Vec<i64> {
        let share = |name: &&str| {
            let assigned = self.server(name).get("/v1/status").expect("it answers")["datasets"][0]["assigned"].take();
            let role = name.split('-').next().unwrap_or_default();
            assigned[role].as_i64().unwrap_or(-1)
        };
        names.iter().map(share).collect()
    }

    /// Takes orders in and asks for them, until the answer has them; how long that took.
    pub(crate) fn pulse(&mut self) -> Duration {
        let order = |n| {
            let country = ["NL", "DE", "FR"][usize::try_from(n % 3).unwrap_or_default()];
            let at = "2026-11-24T10:00:00Z";
            format!("{}\n", json!({"id": format!("o-{n}"), "cents": n, "at": at, "country": country}))
        };
        let body: String = (self.orders..self.orders + PULSE).map(order).collect();
        let begun = Instant::now();
        let taken = self.server("serving").produce("orders", body.as_bytes()).expect("it takes records");
        self.orders += PULSE;
        let document = json!({"sql": SUMS, "at_least": taken["at_least"]});
        let answer = until("the answer", || {
            let reply = self.servers["serving"].query(&document).expect("it answers");
            self.watch();
            // not reached in time: somebody takes over
            assert!([200, 504].contains(&reply.status), "{}", reply.text);
            (reply.status == 200).then(|| reply.json())
        });
        let n = self.orders;
        assert_eq!(answer["rows"], json!([[n, n * (n - 1) / 2]]), "{answer}");
        begun.elapsed()
    }

    /// No visible position is lower than it was.
    fn watch(&mut self) {
        // A dataset whose parts do not answer in time is told of with an error, and without positions.
        let status = until("positions", || {
            let status = self.servers["serving"].get("/v1/status").expect("it answers");
            status["datasets"][0]["partitions"].is_object().then_some(status)
        });
        for (partition, now) in status["datasets"][0]["partitions"].as_object().expect("it is one") {
            let now = now["visible"].as_u64().unwrap_or(0);
            let highest = self.visible.entry(partition.clone()).or_default();
            assert!(now >= *highest, "{partition} was visible up to {highest}, and is up to {now}");
            *highest = now;
        }
    }

    /// Pulses go through again, the first of them in time; how long that one took.
    pub(crate) fn recovers(&mut self, what: &str, within: Duration) -> Duration {
        let took = self.pulse();
        assert!(took < within, "{what}: records were found after {took:?}");
        self.pulse();
        took
    }

    /// Rows of the newest answer that are curated.
    pub(crate) fn rows_batch(&self) -> u64 {
        let reply = self.server("serving").query(&json!({"sql": SUMS})).expect("it answers");
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.json()["stats"]["rows_batch"].as_u64().expect("a count")
    }

    /// A process without an archiver seals what the log has.
    pub(crate) fn sealed(&self) {
        let reply = self.server("serving").ask("POST", "/v1/datasets/orders/seal", &[], b"").expect("it answers");
        assert_eq!(reply.status, 200, "{}", reply.text);
        let archived = reply.json()["archived"].as_object().expect("ends").clone();
        let sealed: u64 = archived.values().filter_map(Value::as_u64).sum();
        assert!(sealed >= self.orders, "{archived:?}");
    }

    pub(crate) fn audit(&self) {
        let report =
            self.tidemark("serving").run_json(&["audit", "orders", "--count", "20", "--json"]).expect("it works");
        assert_eq!((&report["audited"], &report["wrong"]), (&json!(20), &json!(0)), "{report}");
    }

    pub(crate) fn stop_all(&mut self) {
        for (name, server) in std::mem::take(&mut self.servers) {
            assert_eq!(server.stop().expect("it drains"), Some(0), "{name}");
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        for (name, server) in std::mem::take(&mut self.servers) {
            // one that is stopped could not be killed in peace
            drop(server.signal("CONT"));
            drop(server);
            if std::thread::panicking() {
                let log = std::fs::read_to_string(self.folder.path().join(&name).join("up.log")).unwrap_or_default();
                println!("--- {name}\n{log}");
            }
        }
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().into();
        let url = format!("{}/roles-{}__*", variable("TIDEMARK_TEST_OPENSEARCH_URL"), std::process::id());
        drop(agent.delete(url).call());
    }
}
