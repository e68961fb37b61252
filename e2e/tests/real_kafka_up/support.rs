//! The shop with its orders, on a topic of a test's own.

use serde_json::{Value, json};
use tempfile::TempDir;
use tidemark_e2e::platform::{Tidemark, dataset_folder};
use tidemark_e2e::server::Server;

pub(crate) const SUMS: &str = "SELECT count(*) AS n, sum(cents) AS cents FROM orders";

/// The orders of the repository, on a topic of the test's own.
pub(crate) struct Shop {
    _folder: TempDir,
    pub(crate) tidemark: Tidemark,
    pub(crate) topic: String,
}

impl Shop {
    pub(crate) fn open(test: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let kafka = std::env::var("TIDEMARK_TEST_KAFKA").expect("TIDEMARK_TEST_KAFKA names the test server");
        let tidemark = Tidemark::new(&folder.path().join("data")).expect("built");
        let tidemark = tidemark.with_env("TIDEMARK_LOG_URL", format!("kafka://{kafka}"));
        let topic = format!("orders-{test}-{}", std::process::id());
        let definition = folder.path().join("orders");
        std::fs::create_dir(&definition).expect("a temporary folder");
        for file in ["dataset.toml", "transform.sql"] {
            let text = std::fs::read_to_string(dataset_folder("orders").join(file)).expect("a definition");
            let text = text.replace("topic = \"orders\"", &format!("topic = \"{topic}\""));
            assert!(file != "dataset.toml" || text.contains(&topic), "the definition names its topic otherwise");
            std::fs::write(definition.join(file), text).expect("a temporary folder");
        }
        let applied = tidemark.run(&["dataset", "apply", &definition.to_string_lossy()]).expect("it runs");
        applied.expect_code(0).expect("the definition is valid");
        Self { _folder: folder, tidemark, topic }
    }

    pub(crate) fn start(&self) -> Server {
        Server::start(&self.tidemark, &["--batch-interval", "none"]).expect("it starts")
    }

    pub(crate) fn batch_run(&self, server: &Server) {
        let sealed = server.ask("POST", "/v1/datasets/orders/seal", &[], b"").expect("it answers");
        assert_eq!(sealed.status, 200, "{}", sealed.text);
        self.tidemark.run(&["batch", "run", "orders"]).expect("it runs").expect_code(0).expect("it works");
    }

    pub(crate) fn audit(&self) {
        let report = self.tidemark.run_json(&["audit", "orders", "--count", "12", "--json"]).expect("it works");
        assert_eq!((&report["audited"], &report["wrong"]), (&json!(12), &json!(0)), "{report}");
    }
}

pub(crate) fn orders(ids: std::ops::Range<u64>) -> String {
    let line = |n: u64| {
        let country = ["NL", "DE", "FR"][usize::try_from(n % 3).unwrap_or_default()];
        format!("{}\n", json!({"id": format!("o-{n}"), "cents": n, "at": "2026-11-24T10:00:00Z", "country": country}))
    };
    ids.map(line).collect()
}

pub(crate) fn sums(n: u64) -> Value {
    json!([[n, n * (n - 1) / 2]])
}

pub(crate) fn answered(server: &Server, document: &Value) -> Value {
    let reply = server.query(document).expect("it answers");
    assert_eq!(reply.status, 200, "{document}: {}", reply.text);
    reply.json()
}
