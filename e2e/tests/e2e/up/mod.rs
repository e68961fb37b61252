//! `tidemark up` from outside: real processes, asked over HTTP and by the command line.

mod answers;
mod audit;
mod disk;
mod intake;
mod keyed;
mod life;
mod limits;
mod metrics;
mod otlp;
mod recompute;
mod restore;
mod traces;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tidemark_e2e::platform::dataset_folder;
use tidemark_e2e::server::{Reply, Server};
use tidemark_e2e::wait::until;

use crate::support::Home;

/// Rows and cents of all orders.
const SUMS: &str = "SELECT count(*) AS n, sum(cents) AS cents FROM orders";

/// A shop with its orders: a data directory, and the process that runs on it.
struct Shop {
    home: Home,
    server: Server,
}

impl Shop {
    /// The batch layer runs only when a test says so.
    fn open() -> Self {
        Self::open_with(&["--batch-interval", "none"])
    }

    fn open_with(flags: &[&str]) -> Self {
        let home = Home::empty();
        apply(&home, "orders");
        let server = Server::start(&home.tidemark, flags).unwrap();
        Self { home, server }
    }

    /// Kills the process and starts another one.
    fn after_a_crash(self) -> Self {
        let Self { home, server } = self;
        server.kill().unwrap();
        let server = Server::start(&home.tidemark, &["--batch-interval", "none"]).unwrap();
        Self { home, server }
    }

    /// Takes orders in and gives back the token of who wants to see them.
    fn take(&self, ids: std::ops::Range<u64>) -> Value {
        self.server.produce("orders", orders(ids).as_bytes()).unwrap()["at_least"].clone()
    }

    /// Archives what the log has, and curates it.
    fn batch_run(&self) {
        seal(&self.server, "orders");
        self.command(&["batch", "run", "orders"]);
    }

    fn command(&self, args: &[&str]) {
        self.home.tidemark.run(args).unwrap().expect_code(0).unwrap();
    }

    /// The answer to a statement, by a token.
    fn at_least(&self, sql: &str, token: &Value) -> Value {
        answered(&self.server, &json!({"sql": sql, "at_least": token}))
    }

    /// No answer that an audit can get is wrong.
    fn audit(&self, dataset: &str) {
        let report = self.home.tidemark.run_json(&["audit", dataset, "--count", "12", "--json"]).unwrap();
        assert_eq!((&report["audited"], &report["wrong"]), (&json!(12), &json!(0)), "{report}");
    }
}

/// Registers a definition of the repository.
fn apply(home: &Home, dataset: &str) {
    let folder = dataset_folder(dataset).to_string_lossy().into_owned();
    home.tidemark.run(&["dataset", "apply", &folder]).unwrap().expect_code(0).unwrap();
}

/// Writes a definition into the home's folder and registers it.
fn apply_text(home: &Home, dataset: &str, toml: &str, transform: &str) {
    let folder = write_definition(home, dataset, toml, transform);
    home.tidemark.run(&["dataset", "apply", &folder]).unwrap().expect_code(0).unwrap();
}

fn write_definition(home: &Home, dataset: &str, toml: &str, transform: &str) -> String {
    let folder = home.folder.path().join(dataset);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("dataset.toml"), toml).unwrap();
    std::fs::write(folder.join("transform.sql"), transform).unwrap();
    folder.to_string_lossy().into_owned()
}

fn seal(server: &Server, dataset: &str) {
    let reply = server.ask("POST", &format!("/v1/datasets/{dataset}/seal"), &[], b"").unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text);
}

/// The answer to a request document that must be answered.
fn answered(server: &Server, document: &Value) -> Value {
    let reply = server.query(document).unwrap();
    assert_eq!(reply.status, 200, "{document}: {}", reply.text);
    reply.json()
}

fn records(server: &Server, dataset: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    server.ask("POST", &format!("/v1/datasets/{dataset}/records"), headers, body).unwrap()
}

/// Orders, a line each: order `n` costs `n` cents and comes from one of three countries.
fn orders(ids: std::ops::Range<u64>) -> String {
    ids.map(|n| order(n, "2026-11-24T10:00:00Z")).collect()
}

fn order(n: u64, at: &str) -> String {
    let country = ["NL", "DE", "FR"][usize::try_from(n % 3).unwrap()];
    format!("{}\n", json!({"id": format!("o-{n}"), "cents": n, "at": at, "country": country}))
}

/// What [`SUMS`] yields over orders `0..n`.
fn sums(n: u64) -> Value {
    json!([[n, n * (n - 1) / 2]])
}

/// `rows_batch` and `rows_live`.
fn split(answer: &Value) -> (u64, u64) {
    let of = |name: &str| answer["stats"][name].as_u64().unwrap();
    (of("rows_batch"), of("rows_live"))
}

/// A JSON object as an ordered map.
fn entries(value: &Value) -> BTreeMap<String, u64> {
    serde_json::from_value(value.clone()).unwrap()
}
