use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;
use tidemark_shared::catalog::{Catalog, CatalogError, DatabaseInput};
use tidemark_shared::error::ErrorKind as _;
use tidemark_testing::contract::catalog as contract;

use super::SqlCatalog;

async fn sqlite() -> (TempDir, Arc<dyn Catalog>) {
    let folder = TempDir::new().unwrap();
    let catalog = SqlCatalog::open("sqlite:catalog.db", folder.path(), true).await.unwrap();
    (folder, Arc::new(catalog))
}

macro_rules! contract_on_sqlite {
    ($($check:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $check() {
                let (_folder, catalog) = sqlite().await;
                contract::$check(&catalog).await;
            }
        )+
    };
}

contract_on_sqlite!(
    names_are_normalised,
    databases_live_and_die,
    tables_round_trip_whole,
    lists_are_paged_in_order,
    tables_keep_their_versions,
    an_update_of_an_old_version_conflicts,
    racing_updates_have_one_winner,
    racing_creations_have_one_winner,
    partitions_are_created_in_bulk_and_filtered,
    what_is_missing_is_not_found,
);

#[tokio::test]
async fn a_wrong_address_is_refused() {
    for url in ["", "catalog.db", "sqlite:", "sqlite::memory:", "mysql://x/y"] {
        let refused = SqlCatalog::open(url, Path::new("/"), true).await;
        assert!(matches!(refused, Err(CatalogError::Invalid { .. })), "{url}: {refused:?}");
    }
}

#[tokio::test]
async fn no_password_of_an_address_is_told() {
    for url in [
        "mysql://user:hidden@host/db",
        "POSTGRES://user:hidden@host/db",
        "user:hidden@host",
        "x:?key=hidden",
        "sqlite:x?key=hidden",
    ] {
        for refused in [
            SqlCatalog::open(url, Path::new("/"), true).await.expect_err(url),
            SqlCatalog::open_for_reading(url, Path::new("/")).await.expect_err(url),
        ] {
            assert!(!format!("{refused} {refused:?}").contains("hidden"), "{refused:?}");
        }
    }
}

#[tokio::test]
async fn a_missing_file_is_created_only_if_told() {
    let folder = TempDir::new().unwrap();
    let refused = SqlCatalog::open("sqlite:catalog.db", folder.path(), false).await;
    assert!(matches!(refused, Err(CatalogError::Backend { .. })), "{refused:?}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "a failed open left a file");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn several_may_open_a_new_file_at_once_and_all_see_its_tables() {
    let folder = TempDir::new().unwrap();
    let mut opening = tokio::task::JoinSet::new();
    for n in 0..4 {
        let folder = folder.path().to_owned();
        opening.spawn(async move {
            let catalog = SqlCatalog::open("sqlite:catalog.db", &folder, true).await.unwrap();
            let input = DatabaseInput { name: format!("d{n}"), ..DatabaseInput::default() };
            catalog.create_database(input).await.unwrap();
            catalog.close().await;
        });
    }
    opening.join_all().await;
    let catalog = SqlCatalog::open("sqlite:catalog.db", folder.path(), false).await.unwrap();
    for n in 0..4 {
        catalog.get_database(&format!("D{n}")).await.unwrap();
    }
}

#[tokio::test]
async fn a_file_of_a_newer_release_is_refused() {
    let folder = TempDir::new().unwrap();
    let catalog = SqlCatalog::open("sqlite:catalog.db", folder.path(), true).await.unwrap();
    let mut tx = catalog.pool.write().await.unwrap();
    let sql = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
               VALUES (99, 'of the future', TRUE, x'00', 0)";
    tx.execute(sql, &[]).await.unwrap();
    tx.commit().await.unwrap();
    catalog.close().await;
    let refused = SqlCatalog::open("sqlite:catalog.db", folder.path(), true).await;
    assert!(matches!(refused, Err(CatalogError::NewerFormat { found: 99, .. })), "{refused:?}");
}

#[tokio::test]
async fn opening_to_read_creates_and_changes_nothing() {
    let folder = TempDir::new().unwrap();
    let open = async || SqlCatalog::open_for_reading("sqlite:catalog.db", folder.path()).await;
    let names = || {
        let entries = std::fs::read_dir(folder.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    assert!(open().await.unwrap().is_none(), "there is no file");
    assert_eq!(names(), Vec::<String>::new());
    std::fs::write(folder.path().join("catalog.db"), "").unwrap();
    assert!(open().await.unwrap().is_none(), "an empty file is no catalog yet");
    assert_eq!(std::fs::metadata(folder.path().join("catalog.db")).unwrap().len(), 0);

    let catalog = SqlCatalog::open("sqlite:catalog.db", folder.path(), true).await.unwrap();
    let lake = |name: &str| DatabaseInput { name: name.to_owned(), ..DatabaseInput::default() };
    catalog.create_database(lake("lake")).await.unwrap();
    // While somebody writes, and afterwards.
    let reading = open().await.unwrap().unwrap();
    assert_eq!(reading.get_database("lake").await.unwrap().input.name, "lake");
    let refused = reading.create_database(lake("other")).await.unwrap_err();
    assert!(matches!(refused, CatalogError::Backend { .. }), "{refused:?}");
    reading.close().await;
    catalog.close().await;
    let reading = open().await.unwrap().unwrap();
    reading.get_database("lake").await.unwrap();
    reading.close().await;
    assert_eq!(names(), ["catalog.db"]);
}

#[tokio::test]
async fn opening_to_read_refuses_another_format() {
    let folder = TempDir::new().unwrap();
    for (sql, found) in
        [("UPDATE _sqlx_migrations SET version = 0", 0), ("UPDATE _sqlx_migrations SET version = 99", 99)]
    {
        drop(std::fs::remove_file(folder.path().join("catalog.db")));
        let catalog = SqlCatalog::open("sqlite:catalog.db", folder.path(), true).await.unwrap();
        let mut tx = catalog.pool.write().await.unwrap();
        tx.execute(sql, &[]).await.unwrap();
        tx.commit().await.unwrap();
        catalog.close().await;
        let refused = SqlCatalog::open_for_reading("sqlite:catalog.db", folder.path()).await.unwrap_err();
        let (CatalogError::OlderFormat { found: is, .. } | CatalogError::NewerFormat { found: is, .. }) = &refused
        else {
            panic!("{refused:?}");
        };
        assert_eq!(*is, found);
        assert!(refused.to_string().contains("catalog.db") && refused.hint().is_some(), "{refused:?}");
    }
}

#[tokio::test]
async fn a_failure_names_the_catalog_and_what_to_do() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("text.db"), "this is no database, only a text of some length".repeat(10))
        .unwrap();
    std::fs::create_dir(folder.path().join("folder.db")).unwrap();
    for (url, hint) in [
        ("sqlite:text.db", "no SQLite database"),
        ("sqlite:folder.db", "is it a file"),
        ("sqlite:none/catalog.db", "is it a file"),
    ] {
        let refused = SqlCatalog::open(url, folder.path(), true).await.unwrap_err();
        let name = folder.path().join(url.strip_prefix("sqlite:").unwrap());
        let start = format!("the catalog at sqlite:{} failed to ", name.display());
        assert!(refused.to_string().starts_with(&start), "{refused}");
        assert!(refused.hint().is_some_and(|text| text.contains(hint)), "{refused:?}");
    }
    // A port that nobody listens at.
    let url = "postgres://somebody:secret@127.0.0.1:1/lake";
    let refused = SqlCatalog::open_for_reading(url, folder.path()).await.unwrap_err();
    assert!(refused.to_string().contains("postgres://somebody@127.0.0.1:1/lake"), "{refused}");
    assert!(!format!("{refused:?}").contains("secret"), "{refused:?}");
    assert!(refused.hint().is_some_and(|text| text.contains("is the server up")), "{refused:?}");
}
