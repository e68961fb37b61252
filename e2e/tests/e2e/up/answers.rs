//! What answers hold: everything up to their positions, whichever layer it is in, and nothing beyond.

use serde_json::{Value, json};
use tidemark_e2e::server::Server;

use super::{SUMS, Shop, answered, apply, entries, order, records, seal, split, sums, until};
use crate::support::Home;

#[test]
fn a_batch_run_moves_rows_from_live_to_curated_and_changes_no_answer() {
    let shop = Shop::open();
    let token = shop.take(0..100);
    let live = shop.at_least(SUMS, &token);
    assert_eq!((&live["rows"], split(&live)), (&sums(100), (0, 100)));
    shop.batch_run();
    let curated = shop.at_least(SUMS, &token);
    assert_eq!((&curated["rows"], split(&curated)), (&sums(100), (100, 0)));
    let token = shop.take(100..130);
    let both = shop.at_least(SUMS, &token);
    assert_eq!((&both["rows"], split(&both)), (&sums(130), (100, 30)));
    let sides = "SELECT (SELECT count(*) FROM batch.orders) AS b, (SELECT count(*) FROM live.orders) AS l, \
                 (SELECT count(*) FROM merged.orders) AS m";
    assert_eq!(answered(&shop.server, &json!({ "sql": sides }))["rows"], json!([[100, 30, 130]]));
    let as_of = &both["as_of"]["orders"];
    let (positions, coverage) = (entries(&as_of["positions"]), entries(&as_of["coverage"]));
    let streams = |ends: &std::collections::BTreeMap<String, u64>| -> u64 {
        ends.iter().filter(|(name, _)| *name != "files").map(|(_, end)| end).sum()
    };
    assert_eq!((streams(&positions), streams(&coverage)), (130, 100), "{as_of}");
    shop.audit("orders");
}

#[test]
fn who_produced_sees_it_and_who_waits_in_vain_is_told_how_far_it_got() {
    let shop = Shop::open();
    for round in 0..20 {
        let token = shop.take(round * 5..round * 5 + 5);
        assert_eq!(shop.at_least(SUMS, &token)["rows"], sums(round * 5 + 5));
    }
    let token = shop.take(100..101);
    let mut wanted = token.clone();
    let (partition, end) = entries(&token["orders"]).into_iter().next().unwrap();
    wanted["orders"][&partition] = json!(end + 1);
    let reply = shop.server.query(&json!({"sql": SUMS, "at_least": wanted, "timeout_ms": 500})).unwrap();
    assert_eq!(reply.problem(), (504, "positions_not_reached".to_owned()));
    let detail = reply.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains(&partition) && detail.contains(&end.to_string()), "how far it got: {detail}");
    let not_read = json!({"sql": SUMS, "at_least": {"trips": {"trips/0": 1}}});
    assert_eq!(shop.server.query(&not_read).unwrap().problem(), (400, "not_read".to_owned()));
}

#[test]
fn an_answer_that_can_not_be_fresh_enough_is_refused() {
    let shop = Shop::open();
    let token = shop.take(0..3);
    let fresh = json!({"sql": SUMS, "at_least": token, "max_staleness_ms": 0});
    assert_eq!(answered(&shop.server, &fresh)["rows"], sums(3));
    // what is curated alone lacks records that have been in the log for longer than nothing
    let stale = json!({"sql": "SELECT count(*) AS n FROM batch.orders", "max_staleness_ms": 0});
    let reply = shop.server.query(&stale).unwrap();
    assert_eq!(reply.problem(), (412, "too_stale".to_owned()), "{}", reply.text);
}

#[test]
fn the_positions_of_an_earlier_answer_give_it_again() {
    let shop = Shop::open();
    let by_country = "SELECT country, count(*) AS n, sum(cents) AS cents FROM orders GROUP BY country ORDER BY country";
    let first = shop.at_least(by_country, &shop.take(0..50));
    let positions = json!({"orders": first["as_of"]["orders"]["positions"]});
    let again = |when: &str| {
        let answer = answered(&shop.server, &json!({"sql": by_country, "positions": positions}));
        assert_eq!(answer["rows"], first["rows"], "{when}");
        assert_eq!(answer["as_of"]["orders"]["positions"], positions["orders"], "{when}");
    };
    let token = shop.take(50..90);
    shop.at_least(SUMS, &token);
    again("after more records");
    shop.batch_run();
    again("after a batch run");
    for n in 90..94 {
        shop.take(n..n + 1);
        shop.batch_run();
    }
    shop.command(&["batch", "compact", "orders"]);
    again("after a compaction");
    shop.command(&["batch", "recompute", "orders"]);
    until("the new generation", || {
        let answer = answered(&shop.server, &json!({"sql": SUMS}));
        (answer["as_of"]["orders"]["generation"] != first["as_of"]["orders"]["generation"]).then_some(())
    });
    again("after a recompute");
    shop.command(&["batch", "pack", "orders"]);
    again("after packing");
}

#[test]
fn late_and_early_records_count_in_both_layers() {
    let shop = Shop::open();
    let times = ["1969-12-31T23:59:59Z", "1999-01-01T00:00:00Z", "2026-11-24T10:00:00Z", "2999-12-31T23:59:59Z"];
    let body: String = (1..).zip(times).map(|(n, at)| order(n, at)).collect();
    let token = shop.server.produce("orders", body.as_bytes()).unwrap()["at_least"].clone();
    let by_month = |table: &str| format!("SELECT month, count(*) AS n FROM {table} GROUP BY month ORDER BY month");
    let wanted = json!([["1969-12", 1], ["1999-01", 1], ["2026-11", 1], ["2999-12", 1]]);
    assert_eq!(shop.at_least(&by_month("merged.orders"), &token)["rows"], wanted);
    shop.batch_run();
    for table in ["merged.orders", "batch.orders"] {
        assert_eq!(shop.at_least(&by_month(table), &token)["rows"], wanted, "{table}");
    }
    let old = shop.at_least("SELECT id FROM orders WHERE at < TIMESTAMP '2000-01-01' ORDER BY id", &token);
    assert_eq!(old["rows"], json!([["o-1"], ["o-2"]]));
    shop.audit("orders");
}

#[test]
fn files_and_stream_are_one_table() {
    let shop = Shop::open();
    let token = shop.take(0..40);
    let file = shop.home.file("more.json", super::orders(40..60));
    shop.command(&["ingest", "orders", &file]);
    let answer = shop.at_least(SUMS, &token);
    assert_eq!(answer["rows"], sums(60));
    assert_eq!(answer["as_of"]["orders"]["positions"]["files"], 1);
    shop.batch_run();
    let answer = shop.at_least(SUMS, &token);
    assert_eq!((&answer["rows"], split(&answer)), (&sums(60), (60, 0)));
    let withdrawn = shop.home.tidemark.run(&["ingest", "orders", "--withdraw", "more.json"]).unwrap();
    withdrawn.expect_code(0).unwrap();
    assert_eq!(shop.at_least(SUMS, &token)["rows"], sums(40));
    shop.audit("orders");
}

#[test]
fn one_statement_takes_one_cut_of_each_dataset_it_names() {
    let shop = Shop::open();
    apply(&shop.home, "trips");
    until("the stream of trips", || {
        let reply = records(&shop.server, "trips", &[("content-type", "application/x-ndjson")], b"{\"VendorID\": 1}\n");
        (reply.status == 200).then_some(())
    });
    shop.take(0..30);
    shop.batch_run();
    let token = shop.take(30..60);
    shop.at_least(SUMS, &token);
    let statement = "WITH big AS (SELECT id, cents, country FROM orders WHERE cents >= 20), \
                     ranked AS (SELECT *, row_number() OVER (PARTITION BY country ORDER BY cents DESC) AS place FROM big) \
                     SELECT r.id, r.cents, (SELECT count(*) FROM merged.orders) AS all_orders, \
                     (SELECT count(*) FROM live.orders) + (SELECT count(*) FROM batch.orders) AS both_sides, \
                     (SELECT count(*) FROM trips) >= 0 AS trips_read \
                     FROM ranked r JOIN batch.orders b ON b.country = r.country AND b.cents = r.cents % 30 \
                     WHERE r.place = 1 AND r.cents IN (SELECT max(cents) FROM orders GROUP BY country) ORDER BY r.cents";
    let answer = answered(&shop.server, &json!({ "sql": statement }));
    let wanted: Vec<Value> = (57..60).map(|n| json!([format!("o-{n}"), n, 60, 60, true])).collect();
    assert_eq!(answer["rows"], Value::from(wanted));
    let read: Vec<&String> = answer["as_of"].as_object().unwrap().keys().collect();
    assert_eq!(read, ["orders", "trips"]);
}

/// While records come in and are curated, every side of every statement is of one cut.
#[test]
fn sides_add_up_while_records_move_between_them() {
    let shop = Shop::open_with(&["--batch-interval", "100ms", "--segment-age-max", "100ms"]);
    let sides = "SELECT (SELECT count(*) FROM batch.orders) + (SELECT count(*) FROM live.orders) AS sides, \
                 (SELECT count(*) FROM orders) AS n, (SELECT sum(cents) FROM orders) AS cents";
    let mut versions = std::collections::BTreeSet::new();
    for round in 0..60_u64 {
        let token = shop.take(round * 10..round * 10 + 10);
        shop.at_least(SUMS, &token);
        let answer = answered(&shop.server, &json!({ "sql": sides }));
        let n = round * 10 + 10;
        assert_eq!(answer["rows"], json!([[n, n, n * (n - 1) / 2]]), "{}", answer["as_of"]);
        versions.insert(answer["as_of"]["orders"]["table_version"].as_u64());
    }
    assert!(versions.len() > 2, "batch runs went on meanwhile: {versions:?}");
    seal(&shop.server, "orders");
    shop.audit("orders");
}

#[test]
fn a_statement_waits_for_the_stream_of_a_dataset_that_was_applied_a_moment_ago() {
    let home = Home::empty();
    apply(&home, "orders");
    let server = Server::start(&home.tidemark, &["--batch-interval", "none", "--definitions-interval", "1h"]).unwrap();
    apply(&home, "trips");
    // Nobody else looks.
    let answer = answered(&server, &json!({"sql": "SELECT count(*) AS n FROM trips"}));
    assert_eq!(answer["rows"], json!([[0]]));
    let ended = home.tidemark.run(&["sql", "SELECT * FROM trisp"]).unwrap().expect_code(2).unwrap();
    assert!(ended.stderr.contains("did you mean `trips`?"), "{}", ended.stderr);
    let ended = home.tidemark.run(&["sql", "SELECT * FROM 'h.csv'"]).unwrap().expect_code(2).unwrap();
    assert!(ended.stderr.contains("`--local`"), "{}", ended.stderr);
    let none = home.tidemark.run(&["sql", "SELECT 1 AS n"]).unwrap().expect_code(0).unwrap();
    assert!(!none.stderr.contains("as of"), "{}", none.stderr);
}

#[test]
fn a_dataset_that_is_applied_to_the_running_process_is_usable_within_a_second() {
    let shop = Shop::open();
    apply(&shop.home, "trips");
    let begun = std::time::Instant::now();
    let trip = json!({"tpep_pickup_datetime": "2026-11-24 10:00:00", "tpep_dropoff_datetime": "2026-11-24 10:09:00"});
    let line = format!("{trip}\n");
    until("the stream of trips", || {
        let reply = records(&shop.server, "trips", &[("content-type", "application/x-ndjson")], line.as_bytes());
        assert!([200, 429].contains(&reply.status), "{}", reply.text);
        (reply.status == 200).then_some(())
    });
    let answer = answered(&shop.server, &json!({"sql": "SELECT count(*) AS n FROM trips"}));
    assert!(!answer["as_of"]["trips"]["log_end"].as_object().unwrap().is_empty(), "it is answered for as a stream");
    // five times the second that it may take, for machines that are busy
    assert!(begun.elapsed().as_secs() < 5);
}
