//! What the deployment guide says of a restore: the raw zone alone, and the definitions, give back every answer.

use std::fs;
use std::path::Path;

use serde_json::json;
use tidemark_e2e::server::Server;

use super::{SUMS, Shop, apply, orders, sums};
use crate::support::Home;

const ALL: &str = "SELECT _source, _partition, _offset, id, cents, at, country FROM batch.orders ORDER BY _source, _partition, _offset";

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn the_raw_zone_alone_gives_everything_back() {
    let shop = Shop::open();
    shop.take(0..300);
    shop.batch_run();
    shop.take(300..400);
    let file = shop.home.file("late.ndjson", orders(400..450));
    shop.command(&["ingest", "orders", &file]);
    shop.batch_run();
    let Shop { home, server } = shop;
    assert_eq!(server.stop().unwrap(), Some(0));
    let before = home.tidemark.rows(ALL).unwrap();
    assert_eq!(before.len(), 450);

    // Another installation: no log, no table, no catalog, no views.
    let restored = Home::empty();
    copy(&home.tidemark.data_dir().join("store/raw"), &restored.tidemark.data_dir().join("store/raw"));
    drop(home);
    apply(&restored, "orders");
    restored.tidemark.run(&["batch", "run", "orders"]).unwrap().expect_code(0).unwrap();
    assert_eq!(restored.tidemark.rows(ALL).unwrap(), before);

    // It goes on: its log is another one, whose records count beside those that were restored.
    let server = Server::start(&restored.tidemark, &["--batch-interval", "none"]).unwrap();
    let shop = Shop { home: restored, server };
    let token = shop.take(450..500);
    assert_eq!(shop.at_least(SUMS, &token)["rows"], sums(500));
    let sources = shop.at_least("SELECT DISTINCT _source FROM orders ORDER BY 1", &token);
    assert_eq!(sources["rows"], json!([["files"], ["orders"], ["orders~2"]]));
    shop.batch_run();
    shop.audit("orders");
    assert_eq!(shop.server.stop().unwrap(), Some(0));
}
