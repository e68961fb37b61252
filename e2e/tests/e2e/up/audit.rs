//! What an audit finds: nothing in answers that are right, and what was done to a table behind Tidemark's back.

use serde_json::{Value, json};
use tidemark_e2e::server::Server;

use super::{SUMS, Shop, answered, apply, apply_text, orders};
use crate::support::{Home, python};

/// A curated table of 60 orders by stream and file, and nobody who runs.
fn closed_shop() -> Home {
    let shop = Shop::open();
    shop.take(0..40);
    shop.batch_run();
    let file = shop.home.file("more.json", orders(40..60));
    shop.command(&["ingest", "orders", &file]);
    assert_eq!(shop.server.stop().unwrap(), Some(0));
    shop.home
}

fn audit(home: &Home, more: &[&str]) -> (i32, Value) {
    let args = [&["audit", "orders", "--json"], more].concat();
    let outcome = home.tidemark.run(&args).unwrap();
    (outcome.code, outcome.json().unwrap())
}

#[test]
fn without_a_server_the_curated_answers_are_audited() {
    let home = closed_shop();
    let (code, report) = audit(&home, &["--count", "20"]);
    assert_eq!((code, &report["audited"], &report["wrong"]), (0, &json!(20), &json!(0)), "{report}");
    assert_eq!(report["rows_derived"], 60);
    let by_country = ["--count", "1", "--query", "SELECT country, sum(cents) FROM batch.orders GROUP BY country"];
    let (code, report) = audit(&home, &by_country);
    assert_eq!((code, &report["audited"], &report["wrong"]), (0, &json!(1), &json!(0)), "{report}");
    for undetermined in ["SELECT * FROM batch.orders LIMIT 3", "SELECT now() FROM batch.orders", "SELECT 1"] {
        let (code, report) = audit(&home, &["--query", undetermined]);
        let counted: u64 = report["not_auditable"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
        assert_eq!((code, &report["audited"]), (0, &json!(0)), "{undetermined}: {report}");
        assert!(counted >= 1, "{undetermined}: {report}");
    }
}

#[test]
fn rows_that_somebody_took_out_of_the_table_are_found() {
    let home = closed_shop();
    let script = "import sys, deltalake; deltalake.DeltaTable(sys.argv[1]).delete('cents = 7 OR cents = 50')";
    let deleted = python().args(["-c", script]).arg(home.table_of("orders")).status().unwrap();
    assert!(deleted.success());
    let sum = "SELECT count(*), sum(cents) FROM batch.orders";
    let (code, report) = audit(&home, &["--count", "1", "--query", sum]);
    assert_eq!((code, &report["wrong"]), (1, &json!(1)), "{report}");
    let difference = &report["differences"][0];
    assert_eq!(difference["sql"], sum);
    assert_eq!(difference["only_answered"], json!([["58", "1713"]]));
    assert_eq!(difference["only_derived"], json!([["60", "1770"]]));
    let positions = super::entries(&difference["as_of"]["orders"]["positions"]);
    let streamed: u64 = positions.iter().filter(|(name, _)| *name != "files").map(|(_, end)| end).sum();
    assert_eq!((positions["files"], streamed), (1, 40));
    // people are told the same, and the audit's own questions find it, too: all but those for the rows of one partition
    let (code, report) = audit(&home, &["--count", "30"]);
    assert_eq!((code, &report["audited"]), (1, &json!(30)), "{report}");
    assert!(report["wrong"].as_u64().unwrap() >= 27, "{report}");
    let told = home.tidemark.run(&["audit", "orders", "--count", "30"]).unwrap().expect_code(1).unwrap();
    for part in ["30 answers audited", "orders by definition", "only answered: 58", "only derived: 60"] {
        assert!(told.stdout.contains(part), "{part}: {}", told.stdout);
    }
    // a recompute makes the table anew from the raw zone
    home.tidemark.run(&["batch", "recompute", "orders"]).unwrap().expect_code(0).unwrap();
    assert_eq!(audit(&home, &["--count", "8"]).0, 0);
}

/// A table of 20 rows with columns of several kinds, made of a file.
fn kinds() -> Home {
    let home = Home::empty();
    let toml = "name = \"kinds\"\ncolumns = [{ name = \"id\", type = \"string\" }, { name = \"flag\", type = \"bool\" }, \
                { name = \"n\", type = \"int64\" }, { name = \"x\", type = \"float64\" }, \
                { name = \"money\", type = \"decimal(38,2)\" }, { name = \"day\", type = \"date\" }, \
                { name = \"at\", type = \"timestamptz\" }]\n[files]\nformat = \"json\"\n";
    apply_text(&home, "kinds", toml, "SELECT id, flag, n, x, money, day, at FROM input");
    let row = |n: u64| {
        let (day, at) = ("2026-11-24", "2026-11-24T10:00:00Z");
        let row =
            json!({"id": format!("r-{n}"), "flag": true, "n": n, "x": 0.5, "money": "12.50", "day": day, "at": at});
        format!("{row}\n")
    };
    let file = home.file("kinds.json", (0..20).map(row).collect::<String>());
    home.tidemark.run(&["ingest", "kinds", &file]).unwrap().expect_code(0).unwrap();
    home
}

/// Also where no sum changes. Each change is made good before the next one.
#[test]
fn one_changed_value_of_any_kind_is_found_by_the_audit_s_own_questions() {
    let home = kinds();
    let script = "import json, sys, deltalake\n\
                  for update in json.loads(sys.argv[2]):\n    deltalake.DeltaTable(sys.argv[1]).update(**update)";
    let table = home.table_of("kinds");
    let update = |updates: &[Value]| {
        let status = python().args(["-c", script]).arg(&table).arg(json!(updates).to_string()).status();
        assert!(status.unwrap().success(), "{updates:?}");
    };
    let audited = || {
        let outcome = home.tidemark.run(&["audit", "kinds", "--json", "--count", "12"]).unwrap();
        (outcome.code, outcome.json().unwrap())
    };
    let right = |(code, report): (i32, Value)| {
        assert_eq!((code, &report["wrong"], &report["audited"]), (0, &json!(0), &json!(12)), "{report}");
    };
    right(audited());
    let one = |column: &str, value: &str| json!({"predicate": "id = 'r-7'", "updates": {column: value}});
    let two = |value: &str| json!({"predicate": "n IN (3, 4)", "updates": {"n": value}});
    let mut updates = Vec::new();
    for (what, change, undo) in [
        ("swapped", two("7 - n"), two("7 - n")),
        ("text", one("id", "'r-7 '"), json!({"predicate": "id = 'r-7 '", "updates": {"id": "'r-7'"}})),
        ("bool", one("flag", "false"), one("flag", "true")),
        ("double", one("x", "0.25"), one("x", "0.5")),
        ("decimal", one("money", "NULL"), one("money", "CAST(12.50 AS DECIMAL(38, 2))")),
        ("date", one("day", "DATE '2026-11-25'"), one("day", "DATE '2026-11-24'")),
        ("instant", one("at", "at + INTERVAL '1 second'"), one("at", "at - INTERVAL '1 second'")),
    ] {
        updates.push(change);
        update(&updates);
        let (code, report) = audited();
        assert_eq!(code, 1, "{what}: {report}");
        updates = vec![undo];
    }
    update(&updates);
    right(audited());
}

/// No sum of theirs is asked: it would be refused, as that of a user is.
#[test]
fn decimals_whose_sum_has_too_many_digits_are_audited_all_the_same() {
    let home = Home::empty();
    let toml =
        "name = \"wide\"\ncolumns = [{ name = \"money\", type = \"decimal(38,0)\" }]\n[files]\nformat = \"json\"\n";
    apply_text(&home, "wide", toml, "SELECT money FROM input");
    let row = format!("{}\n", json!({"money": format!("9{}", "0".repeat(37))}));
    let file = home.file("wide.json", row.repeat(2));
    home.tidemark.run(&["ingest", "wide", &file]).unwrap().expect_code(0).unwrap();
    let audited = |more: &[&str]| {
        let outcome = home.tidemark.run(&[&["audit", "wide", "--json"], more].concat()).unwrap();
        (outcome.code, outcome.json().unwrap())
    };
    let (code, report) = audited(&["--count", "20"]);
    assert_eq!((code, &report["audited"], &report["wrong"]), (0, &json!(20), &json!(0)), "{report}");
    assert_eq!(report["not_auditable"], json!({}), "{report}");
    let (code, report) = audited(&["--count", "1", "--query", "SELECT sum(money) FROM batch.wide"]);
    assert!(code == 1 && report["error"]["message"].is_string(), "{report}");
}

#[test]
fn a_damaged_data_file_is_an_error_and_no_verdict() {
    let home = closed_shop();
    let mut folders = vec![home.table_of("orders")];
    let mut damaged = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "parquet") {
                let mut bytes = std::fs::read(&path).unwrap();
                let middle = bytes.len() / 2;
                bytes[..middle].fill(0x55);
                std::fs::write(&path, bytes).unwrap();
                damaged += 1;
            }
        }
    }
    assert!(damaged > 0);
    let (code, report) = audit(&home, &["--count", "4", "--query", "SELECT sum(cents) FROM batch.orders"]);
    assert_eq!(code, 1, "{report}");
    assert!(report["error"]["message"].is_string() || report["wrong"] != 0, "{report}");
}

/// Also those of datasets without a stream, and of several at once.
#[test]
fn a_server_s_answers_are_audited_whichever_datasets_they_read() {
    let shop = Shop::open();
    apply(&shop.home, "green");
    let token = shop.take(0..30);
    shop.at_least(SUMS, &token);
    let file = shop.home.file("green.csv", "VendorID,lpep_pickup_datetime\n1,2019-07-04 10:00:00\n");
    let ingested = shop.home.tidemark.run(&["ingest", "green", &file, "--accept"]).unwrap();
    assert!(ingested.code != 2, "{ingested:?}");
    let both = "SELECT (SELECT count(*) FROM orders) AS o, (SELECT count(*) FROM green) AS g, \
                (SELECT count(*) FROM batch.orders) AS b, (SELECT count(*) FROM live.orders) AS l";
    let answer = answered(&shop.server, &json!({ "sql": both }));
    assert_eq!((&answer["rows"][0][0], &answer["rows"][0][3]), (&json!(30), &json!(30)));
    for dataset in ["orders", "green"] {
        let report = shop.home.tidemark.run_json(&["audit", dataset, "--count", "2", "--query", both, "--json"]);
        let report = report.unwrap();
        assert_eq!((&report["audited"], &report["wrong"]), (&json!(2), &json!(0)), "{report}");
    }
    shop.batch_run();
    let saved = shop.home.folder.path().join("answers.ndjson").to_string_lossy().into_owned();
    shop.command(&["audit", "orders", "--count", "6", "--save", &saved]);
    let Shop { home, server } = shop;
    assert_eq!(server.stop().unwrap(), Some(0));
    let (code, report) = audit(&home, &["--answers", &saved]);
    assert_eq!((code, &report["audited"]), (0, &json!(6)), "{report}");
    // an answer that somebody changed is wrong
    let text = std::fs::read_to_string(&saved).unwrap();
    let mut first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    first["rows"][0] = json!(vec![Value::from(1_000_000); first["rows"][0].as_array().unwrap().len()]);
    std::fs::write(&saved, format!("{first}\n")).unwrap();
    let (code, report) = audit(&home, &["--answers", &saved]);
    assert_eq!((code, &report["wrong"]), (1, &json!(1)), "{report}");
    drop(Server::start(&home.tidemark, &[]).unwrap());
}

/// Large values that nearly cancel out: added up in another order, the little that is left is another one.
#[test]
fn doubles_are_compared_by_what_they_were_made_of_and_nested_values_are_counted() {
    let shop = Shop::open();
    let toml = "name = \"readings\"\ncolumns = [{ name = \"at\", type = \"string\" }, { name = \"x\", type = \"float64\" }, \
                { name = \"tags\", type = \"list<string>\" }, \
                { name = \"stops\", type = \"list<struct<name: string, seen: list<list<int64>>>>\" }]\n\
                [stream]\nformat = \"json\"\npartitions = 3\n";
    apply_text(&shop.home, "readings", toml, "SELECT at, x, tags, stops FROM input");
    let reading = |n: u64| {
        let size = if n.is_multiple_of(2) { 1e15 } else { -1e15 };
        let stops = json!([{"name": format!("s-{n}"), "seen": [[n], [null, 7]]}, null]);
        let (at, tags) = (format!("{}", n % 3), ["7".to_owned(), n.to_string()]);
        format!("{}\n", json!({"at": at, "x": size + n as f64 / 7.0, "tags": tags, "stops": stops}))
    };
    let body: String = (0..300).map(reading).collect();
    let headers = [("content-type", "application/x-ndjson")];
    let taken = super::until("the stream is open", || {
        let reply = super::records(&shop.server, "readings", &headers, body.as_bytes());
        (reply.status == 200).then(|| reply.json())
    });
    shop.at_least("SELECT count(*) FROM readings", &taken["at_least"]);
    for (query, audited) in [
        ("SELECT at, sum(x), avg(x), count(*) FROM readings GROUP BY at", true),
        ("SELECT sum(x) / count(*) + 1 FROM readings", true),
        ("SELECT at, x FROM readings", true),
        ("SELECT min(x), max(x) FROM readings WHERE tags[1] = 7", true),
        ("SELECT tags FROM readings", false),
        ("SELECT stops FROM readings", false),
        ("SELECT stddev(x) FROM readings", false),
    ] {
        let args = ["audit", "readings", "--count", "2", "--query", query, "--json"];
        let report = shop.home.tidemark.run_json(&args).unwrap();
        assert_eq!(report["wrong"], 0, "{query}: {report}");
        assert_eq!(report["audited"] == 2, audited, "{query}: {report}");
        assert_eq!(report["not_auditable"].as_object().unwrap().is_empty(), audited, "{query}: {report}");
    }
    // its own questions are about all of these columns, and of what is in them, and exact; of what is curated, too
    for ran in [false, true] {
        if ran {
            shop.command(&["batch", "run", "readings"]);
        }
        let report = shop.home.tidemark.run_json(&["audit", "readings", "--count", "12", "--json"]).unwrap();
        assert_eq!((&report["audited"], &report["wrong"]), (&json!(12), &json!(0)), "{report}");
    }
}
