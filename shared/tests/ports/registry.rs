//! Definitions on a store that fails.

use tempfile::TempDir;
use tidemark_shared::dataset::Sources;
use tidemark_shared::dataset::registry::{apply, get, numbers};
use tidemark_shared::error::{ErrorKind as _, Kind};
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
