//! A disk that is full, and has room again.

use std::process::Command;

use serde_json::json;

use super::{SUMS, Shop, answered, entries, orders, records, sums, until};

const ORDERS: u64 = 2_000;

/// Limits the size of the process's files, as a full disk would; false where that can't be done.
fn limit_files(shop: &Shop, bytes: &str) -> bool {
    let pid = shop.server.pid().to_string();
    let limited = Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={bytes}:")]).status();
    limited.is_ok_and(|status| status.success())
}

#[test]
fn a_log_whose_disk_was_full_goes_on_by_itself_and_loses_and_doubles_nothing() {
    let shop = Shop::open();
    if !limit_files(&shop, "524288") {
        println!("skipped: there is no `prlimit` here");
        return;
    }
    let mut token = json!({});
    // Each request under a key of its own: one that was refused is repeated, as a producer would.
    let take = |request: u64| {
        let key = format!("request-{request}");
        let headers = [("content-type", "application/x-ndjson"), ("idempotency-key", key.as_str())];
        let ids = request * ORDERS..(request + 1) * ORDERS;
        records(&shop.server, "orders", &headers, orders(ids).as_bytes())
    };
    let mut note = |reply: &tidemark_e2e::server::Reply| {
        for (partition, end) in entries(&reply.json()["at_least"]["orders"]) {
            token["orders"][partition] = json!(end);
        }
    };
    let mut request = 0;
    let refused = loop {
        let reply = take(request);
        if reply.status != 200 {
            break reply;
        }
        note(&reply);
        request += 1;
        assert!(request < 1_000, "the disk never gets full");
    };
    assert_eq!(refused.problem(), (503, "unavailable".to_owned()));
    let ready = || shop.server.ask("GET", "/readyz", &[], b"").unwrap();
    // The log looks by itself whether it can go on, and that there is no room it sees by the next records only.
    let not_ready = until("a log that says it is full", || {
        let reply = ready();
        if reply.status == 200 {
            assert_eq!(take(request).status, 503, "it is still full");
            return None;
        }
        Some(reply)
    });
    assert_eq!(not_ready.problem(), (503, "not_ready".to_owned()));
    assert!(not_ready.text.contains("see to the disk"), "{}", not_ready.text);
    until("all orders before", || {
        (answered(&shop.server, &json!({"sql": SUMS}))["rows"] == sums(request * ORDERS)).then_some(())
    });
    assert_eq!(take(request).status, 503, "it is still full");

    assert!(limit_files(&shop, "unlimited"));
    until("a log that takes records", || (ready().status == 200).then_some(()));
    for request in request..request + 20 {
        let reply = take(request);
        assert_eq!(reply.status, 200, "{}", reply.text);
        note(&reply);
    }
    let all = sums((request + 20) * ORDERS);
    assert_eq!(shop.at_least(SUMS, &token)["rows"], all);
    let shop = shop.after_a_crash();
    assert_eq!(shop.at_least(SUMS, &token)["rows"], all, "it is on the disk");
    shop.batch_run();
    shop.audit("orders");
}
