//! Datasets with a key: one row per key in every answer, as a plain recomputation has it.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tidemark_e2e::random::Random;
use tidemark_e2e::server::Server;

use super::{Shop, answered, apply_text, records, write_definition};
use crate::support::Home;

const TOML: &str = r#"
name = "accounts"
partition_columns = ["region"]
columns = [
    { name = "id", type = "string", required = true },
    { name = "region", type = "string" },
    { name = "balance", type = "int64" },
    { name = "version", type = "int64" },
    { name = "gone", type = "bool" },
]
[stream]
format = "json"
partition_by = "id"
partitions = 3
[files]
format = "json"
[key]
columns = ["id"]
version_by = "version"
delete_when = "gone"
"#;
const TRANSFORM: &str = "SELECT id, balance, version, gone, region FROM input";
const ROWS: &str = "SELECT id, balance, version, region FROM";

/// Where a record stands: files before the stream, then in the order of their arrival.
type Place = (bool, u64);

/// What a reader of all records would keep: per key the record of the highest version, ties by place.
#[derive(Default)]
struct Plain {
    kept: BTreeMap<String, (u64, Place, Value)>,
    records: u64,
}

impl Plain {
    fn take(&mut self, record: &Value, by_stream: bool) {
        self.records += 1;
        let place = (by_stream, self.records);
        let (id, version) = (record["id"].as_str().unwrap().to_owned(), record["version"].as_u64().unwrap());
        if self.kept.get(&id).is_none_or(|(known, at, _)| (version, place) > (*known, *at)) {
            self.kept.insert(id, (version, place, record.clone()));
        }
    }

    fn rows(&self) -> Value {
        let shown = self.kept.values().map(|(.., record)| record).filter(|record| record["gone"] == false);
        shown.map(|r| json!([r["id"], r["balance"], r["version"], r["region"]])).collect()
    }
}

/// Records of few keys with few versions: updates, late versions, ties, deletions, and keys that change their partition.
fn changes(random: &mut Random, count: u64) -> Vec<Value> {
    let mut change = || {
        let region = if random.once_in(2) { "east" } else { "west" };
        json!({
            "id": format!("k-{}", random.below(12)),
            "region": region,
            "balance": random.below(1_000),
            "version": random.below(8),
            "gone": random.once_in(5),
        })
    };
    (0..count).map(|_| change()).collect()
}

fn lines(records: &[Value]) -> String {
    records.iter().map(|record| format!("{record}\n")).collect()
}

fn bank() -> Shop {
    let home = Home::empty();
    apply_text(&home, "accounts", TOML, TRANSFORM);
    let server = Server::start(&home.tidemark, &["--batch-interval", "none"]).unwrap();
    Shop { home, server }
}

fn batch_run(shop: &Shop) {
    super::seal(&shop.server, "accounts");
    shop.command(&["batch", "run", "accounts"]);
}

fn rows(shop: &Shop, table: &str, token: &Value) -> Value {
    let sql = format!("{ROWS} {table}.accounts ORDER BY id");
    answered(&shop.server, &json!({"sql": sql, "at_least": token}))["rows"].clone()
}

#[test]
fn merged_and_curated_rows_are_those_of_a_plain_recomputation() {
    let shop = bank();
    let seed = 20_261_124;
    let mut random = Random::new(seed);
    let mut plain = Plain::default();
    let mut token = json!({});
    for round in 0..6 {
        let changes = changes(&mut random, 60);
        let (file, stream) = changes.split_at(if round % 2 == 0 { 15 } else { 0 });
        if !file.is_empty() {
            let path = shop.home.file(&format!("{round}.json"), lines(file));
            shop.command(&["ingest", "accounts", &path]);
            file.iter().for_each(|record| plain.take(record, false));
        }
        let produced = shop.server.produce("accounts", lines(stream).as_bytes()).unwrap();
        for (partition, end) in super::entries(&produced["at_least"]["accounts"]) {
            token["accounts"][partition] = json!(end);
        }
        stream.iter().for_each(|record| plain.take(record, true));
        let wanted = plain.rows();
        assert_eq!(rows(&shop, "merged", &token), wanted, "seed {seed}, round {round}, live");
        batch_run(&shop);
        for table in ["merged", "batch"] {
            assert_eq!(rows(&shop, table, &token), wanted, "seed {seed}, round {round}, {table} after a batch run");
        }
    }
    let wanted = plain.rows();
    shop.command(&["batch", "compact", "accounts"]);
    assert_eq!(rows(&shop, "batch", &token), wanted, "seed {seed}, after a compaction");
    shop.command(&["batch", "recompute", "accounts"]);
    for table in ["merged", "batch"] {
        assert_eq!(rows(&shop, table, &token), wanted, "seed {seed}, {table} after a recompute");
    }
    shop.audit("accounts");
}

#[test]
fn an_earlier_answer_is_given_again_though_its_rows_are_superseded_and_compacted() {
    let shop = bank();
    let mut random = Random::new(7);
    let token =
        shop.server.produce("accounts", lines(&changes(&mut random, 40)).as_bytes()).unwrap()["at_least"].clone();
    let sql = format!("{ROWS} accounts ORDER BY id");
    let first = answered(&shop.server, &json!({"sql": sql, "at_least": token}));
    let pinned = json!({"sql": sql, "positions": {"accounts": first["as_of"]["accounts"]["positions"]}});
    let later = shop.server.produce("accounts", lines(&changes(&mut random, 40)).as_bytes()).unwrap();
    answered(&shop.server, &json!({"sql": sql, "at_least": later["at_least"]}));
    assert_eq!(answered(&shop.server, &pinned)["rows"], first["rows"], "all rows are still there");
    for _ in 0..3 {
        batch_run(&shop);
        shop.server.produce("accounts", lines(&changes(&mut random, 10)).as_bytes()).unwrap();
    }
    batch_run(&shop);
    shop.command(&["batch", "compact", "accounts"]);
    assert_eq!(answered(&shop.server, &pinned)["rows"], first["rows"], "after a compaction");
    shop.command(&["batch", "recompute", "accounts"]);
    assert_eq!(answered(&shop.server, &pinned)["rows"], first["rows"], "after a recompute");
    // What is live depends on what is curated: it has no earlier answer.
    let mut live = pinned;
    live["sql"] = json!(format!("{ROWS} live.accounts ORDER BY id"));
    let reply = shop.server.query(&live).unwrap();
    assert_eq!(reply.problem(), (410, "positions_gone".to_owned()), "{}", reply.text);
}

#[test]
fn without_a_version_the_messages_must_be_keyed_by_the_key() {
    let home = Home::empty();
    let unversioned = TOML.replace("version_by = \"version\"\n", "");
    let by_region = unversioned.replace("partition_by = \"id\"", "partition_by = \"region\"");
    let without_files = by_region.replace("[files]\nformat = \"json\"\n", "");
    for (case, toml) in [("files", &unversioned), ("another message key", &without_files)] {
        let folder = write_definition(&home, "accounts", toml, TRANSFORM);
        let refused = home.tidemark.run(&["dataset", "apply", &folder]).unwrap().expect_code(2).unwrap();
        assert!(refused.stderr.contains("version_by"), "{case}: {}", refused.stderr);
    }
    let keyed = unversioned.replace("[files]\nformat = \"json\"\n", "");
    apply_text(&home, "accounts", &keyed, TRANSFORM);
    let server = Server::start(&home.tidemark, &["--batch-interval", "none"]).unwrap();
    let body = "{\"id\": \"a\", \"balance\": 1}\n{\"id\": \"b\", \"balance\": 2}\n{\"id\": \"a\", \"balance\": 3}\n";
    let reply = records(&server, "accounts", &[("content-type", "application/x-ndjson")], body.as_bytes());
    let sql = "SELECT id, balance FROM accounts ORDER BY id";
    let answer = answered(&server, &json!({"sql": sql, "at_least": reply.json()["at_least"]}));
    assert_eq!(answer["rows"], json!([["a", 3], ["b", 2]]));
}
