//! Applied definitions: their numbers, races, damage, and a store that fails.

use std::sync::Arc;

use object_store::ObjectStoreExt as _;
use serde_json::json;
use tempfile::TempDir;
use tidemark_shared::dataset::registry::{apply, by_version, get, is_there, latest, list, numbers, version_of};
use tidemark_shared::dataset::{KnownDefinitions, SEMANTICS, Sources};
use tidemark_shared::error::{ErrorKind as _, Kind};
use tidemark_shared::layout;
use tidemark_shared::store::{IfMissing, Store};
use tidemark_testing::faulty::{Call, Fault, Faulty, Rule};

fn sources(sql: &str, min_rows: u32) -> Sources {
    let toml = format!(
        "name = \"orders\"\ncolumns = [ {{ name = \"id\", type = \"int64\" }} ]\n[files]\nformat = \"csv\"\n[gate]\nmin_rows = {min_rows}\n"
    );
    [("dataset.toml", toml.as_str()), ("transform.sql", sql)].map(|(name, text)| (name.into(), text.into())).into()
}

fn store() -> (TempDir, Store) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::local(folder.path(), IfMissing::Create).expect("opened");
    (folder, store)
}

#[tokio::test]
async fn a_lost_acknowledgement_is_no_lost_race() {
    let (_folder, store) = store();
    let rule = Rule::new(Call::Put, "definitions/", 0, Fault::AckLostThenRetried);
    let faulty = store.decorated(|objects| Faulty::new(objects, vec![rule]).store());
    let applied = apply(&faulty, &sources("SELECT id FROM input", 1)).await.expect("applied");
    assert_eq!((applied.n, applied.changed, applied.rows_changed), (1, true, true));
    assert_eq!(numbers(&store, "orders").await.expect("listed"), [1]);
}

#[tokio::test]
async fn a_definition_that_is_known_is_not_read_again() {
    let (_folder, store) = store();
    let applied = apply(&store, &sources("SELECT id FROM input", 1)).await.expect("applied");
    let known = KnownDefinitions::new(store.clone());
    let version = applied.version.as_str();
    let first = known.get("orders", version).await.expect("read").expect("applied");
    assert!(known.get("orders", "0000000000000000").await.expect("listed").is_none(), "no such version");
    store.objects().delete(&layout::definition("orders", 1)).await.expect("deleted");
    let again = known.get("orders", version).await.expect("known").expect("known");
    assert!(Arc::ptr_eq(&first, &again));
    let other = KnownDefinitions::new(store);
    assert!(other.get("orders", version).await.expect("listed").is_none(), "nobody else knows it");
}

#[tokio::test]
async fn why_the_store_failed_is_told() {
    let (_folder, store) = store();
    let rule = Rule::new(Call::Put, "definitions/", 0, Fault::NoSpace);
    let full = store.decorated(|objects| Faulty::new(objects, vec![rule]).store());
    let error = apply(&full, &sources("SELECT id FROM input", 1)).await.expect_err("full");
    assert_eq!(error.kind(), Kind::Exhausted);
    assert!(error.hint().is_some_and(|hint| hint.contains("free some space")));
    let error = get(&store, "orders", 7).await.expect_err("none");
    assert_eq!(error.kind(), Kind::NotFound);
}

#[tokio::test]
async fn applying_again_changes_nothing_and_old_ones_stay_readable() {
    let (_folder, store) = store();
    let first = apply(&store, &sources("SELECT id FROM input", 1)).await.expect("applied");
    assert_eq!((first.n, first.changed, first.rows_changed), (1, true, true));
    let again = apply(&store, &sources("SELECT id FROM input", 1)).await.expect("applied");
    assert_eq!((again.n, again.changed), (1, false));
    let gate = apply(&store, &sources("SELECT id FROM input", 2)).await.expect("applied");
    assert_eq!((gate.n, gate.changed, gate.rows_changed), (2, true, false));
    let rows = apply(&store, &sources("SELECT id + 1 AS id FROM input", 2)).await.expect("applied");
    assert_eq!((rows.n, rows.changed, rows.rows_changed), (3, true, true));

    assert_eq!(list(&store).await.expect("listed"), ["orders"]);
    assert_eq!(numbers(&store, "orders").await.expect("listed"), [1, 2, 3]);
    let latest = latest(&store, "orders").await.expect("read").expect("there is one");
    assert_eq!((latest.n, &latest.version), (3, &rows.version));
    for (n, there) in [(1, true), (3, true), (4, false)] {
        assert_eq!(is_there(&store, "orders", n).await.expect("asked"), there, "{n}");
    }
    let old = by_version(&store, "orders", first.version.as_str()).await.expect("read").expect("kept");
    assert_eq!((old.n, old.definition.gate.min_rows), (2, 2));
    assert_eq!(get(&store, "orders", 1).await.expect("kept").definition.gate.min_rows, 1);
}

#[tokio::test]
async fn racing_appliers_all_get_a_number_of_their_own() {
    let (_folder, store) = store();
    let texts: Vec<Sources> = (1..=4).map(|k| sources(&format!("SELECT id + {k} AS id FROM input"), 1)).collect();
    let applied = futures::future::join_all(texts.iter().map(|texts| apply(&store, texts))).await;
    let mut found: Vec<u64> = applied.into_iter().map(|applied| applied.expect("applied").n).collect();
    found.sort_unstable();
    assert_eq!(found, [1, 2, 3, 4]);
}

#[tokio::test]
async fn an_invalid_definition_is_not_stored() {
    let (_folder, store) = store();
    let refused = apply(&store, &sources("SELECT now() AS id FROM input", 1)).await.expect_err("refused");
    assert_eq!(refused.kind(), Kind::Invalid);
    assert_eq!(latest(&store, "orders").await.expect("read"), None);
}

#[tokio::test]
async fn what_a_newer_release_wrote_or_what_is_damaged_is_refused() {
    let (_folder, store) = store();
    apply(&store, &sources("SELECT id FROM input", 1)).await.expect("applied");
    let key = layout::definition("orders", 1);
    let text = store.get(&key).await.expect("read").expect("stored");
    let text = String::from_utf8(text.to_vec()).expect("json");
    for (from, to, kind) in [
        ("\"semantics\": 1", "\"semantics\": 99", Kind::Unsupported),
        ("\"format\": 1", "\"format\": 2, \"new\": true", Kind::Unsupported),
        ("SELECT id FROM", "SELECT -id AS id FROM", Kind::Corrupt),
        ("SELECT id FROM", "SELECT FROM", Kind::Invalid),
        ("{", "", Kind::Corrupt),
    ] {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from}");
        store.objects().put(&key, changed.into()).await.expect("written");
        assert_eq!(latest(&store, "orders").await.expect_err(to).kind(), kind, "{to}");
    }
}

#[tokio::test]
async fn a_definition_that_an_older_release_let_pass_is_replaced_by_a_good_one() {
    let (_folder, store) = store();
    let good = apply(&store, &sources("SELECT id FROM input", 1)).await.expect("applied");
    // As a release without the check would have stored it.
    let bad = sources("SELECT id, event_instant(TIMESTAMP '2019-01-01', 'Amercia/New_York') AS at FROM input", 1);
    let stored = json!({"format": 1, "semantics": SEMANTICS, "dataset": "orders", "version": "00000000000000bd", "sources": bad});
    store.objects().put(&layout::definition("orders", 2), stored.to_string().into()).await.expect("written");
    let error = latest(&store, "orders").await.expect_err("it names no zone");
    assert!(error.to_string().contains("did you mean `America/New_York`?"), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("tidemark dataset apply")), "{error}");
    // What others were made by is still found behind it.
    let first = by_version(&store, "orders", good.version.as_str()).await.expect("read").expect("kept");
    assert_eq!(first.n, 1);
    assert_eq!(version_of(&store, "orders", 2).await.expect("read").as_str(), "00000000000000bd");

    let again = apply(&store, &sources("SELECT id FROM input", 1)).await.expect("applied");
    assert_eq!((again.n, again.changed, again.rows_changed), (3, true, true));
    assert_eq!(latest(&store, "orders").await.expect("read").expect("there is one").n, 3);
}
