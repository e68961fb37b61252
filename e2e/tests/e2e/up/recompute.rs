//! A changed transform under load: serving moves from one definition to the next in one step.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use tidemark_e2e::platform::dataset_folder;

use super::{Shop, answered, apply_text, order};

#[test]
fn every_answer_is_of_one_definition_while_the_table_is_made_anew() {
    let shop = Shop::open_with(&["--batch-interval", "1s", "--segment-age-max", "500ms"]);
    let folder = dataset_folder("orders");
    let toml = std::fs::read_to_string(folder.join("dataset.toml")).unwrap();
    let transform = std::fs::read_to_string(folder.join("transform.sql")).unwrap();
    let stop = AtomicBool::new(false);
    let one = order(1, "2026-11-24T10:00:00Z");
    let sql = json!({"sql": "SELECT count(*) AS n, coalesce(sum(cents), 0) AS cents FROM orders"});
    // by factor: answers seen
    let mut seen: BTreeMap<u64, u64> = BTreeMap::new();
    let mut last = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                shop.server.produce("orders", one.repeat(20).as_bytes()).unwrap();
            }
        });
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for factor in [1_u64, 1_000, 1_000_000] {
                if factor > 1 {
                    let changed = transform.replace("    cents,", &format!("    cents * {factor} AS cents,"));
                    assert_ne!(changed, transform);
                    apply_text(&shop.home, "orders", &toml, &changed);
                    let mut recompute = shop.home.tidemark.command(&["batch", "recompute", "orders", "--quiet"]);
                    let mut child = recompute.spawn().unwrap();
                    while child.try_wait().unwrap().is_none() {
                        ask(&shop, &sql, &mut seen, &mut last);
                    }
                    assert!(child.wait().unwrap().success());
                }
                super::until("answers of the new definition", || {
                    ask(&shop, &sql, &mut seen, &mut last);
                    (seen.get(&factor).is_some_and(|count| *count >= 10)).then_some(())
                });
                let newest = *seen.keys().last().unwrap();
                assert_eq!(newest, factor, "no answer is of a definition that was not applied");
            }
        }));
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
    super::seal(&shop.server, "orders");
    shop.audit("orders");
}

/// One answer: all its rows are of one definition, none of an earlier one than before, and none are missing.
fn ask(shop: &Shop, sql: &serde_json::Value, seen: &mut BTreeMap<u64, u64>, last: &mut u64) {
    let answer = answered(&shop.server, sql);
    let number = |index: usize| answer["rows"][0][index].to_string().trim_matches('"').parse::<u64>().unwrap();
    let (n, cents) = (number(0), number(1));
    assert!(n >= *last, "{n} orders after {last}: {}", answer["as_of"]);
    *last = n;
    if n == 0 {
        return;
    }
    assert_eq!(cents % n, 0, "{n} orders, {cents} cents: {}", answer["as_of"]);
    let factor = cents / n;
    assert!([1, 1_000, 1_000_000].contains(&factor), "{n} orders, {cents} cents: {}", answer["as_of"]);
    assert!(seen.keys().all(|before| *before <= factor), "back from {seen:?} to {factor}");
    *seen.entry(factor).or_default() += 1;
}
