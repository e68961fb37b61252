use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;
use tidemark_shared::catalog::{Catalog, CatalogError, DatabaseInput, contract};

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
    assert!(matches!(refused, Err(CatalogError::NewerFormat { found: 99 })), "{refused:?}");
}
