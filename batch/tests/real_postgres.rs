//! The catalog's contract on a real PostgreSQL. `infra/servers/test-real.sh` starts one and runs this; a plain
//! `cargo test` leaves it out, and without a server it fails.

use std::path::Path;
use std::sync::Arc;

use tidemark_batch::catalog::SqlCatalog;
use tidemark_shared::catalog::{Catalog, PageRequest};
use tidemark_testing::contract::catalog as contract;

async fn open() -> Arc<dyn Catalog> {
    let url = std::env::var("TIDEMARK_TEST_POSTGRES_URL").expect("TIDEMARK_TEST_POSTGRES_URL names the test server");
    Arc::new(SqlCatalog::open(&url, Path::new("/"), true).await.expect("the test server opens"))
}

macro_rules! real_postgres_keeps_the_contract {
    ($($name:ident = $check:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $name() {
                contract::$check(&open().await).await;
            }
        )+
    };
}

/// Reading finds what was written, says which server is away, and makes no tables.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn real_postgres_is_opened_to_read_as_it_is() {
    let url = std::env::var("TIDEMARK_TEST_POSTGRES_URL").expect("TIDEMARK_TEST_POSTGRES_URL names the test server");
    let writing = open().await;
    let reading = SqlCatalog::open_for_reading(&url, Path::new("/")).await.expect("opens").expect("there is a catalog");
    let all = |catalog: Arc<dyn Catalog>| async move { catalog.list_databases(PageRequest::default()).await };
    assert!(all(Arc::new(reading)).await.is_ok() && all(writing).await.is_ok());

    // A schema that is not there stands for a database without tables.
    let separator = if url.contains('?') { '&' } else { '?' };
    let empty = format!("{url}{separator}options=-c%20search_path%3Dnowhere");
    for _ in 0..2 {
        let none = SqlCatalog::open_for_reading(&empty, Path::new("/")).await.expect("opens");
        assert!(none.is_none(), "there is no catalog, and opening made none");
    }
}

real_postgres_keeps_the_contract!(
    real_postgres_names_are_normalised = names_are_normalised,
    real_postgres_databases_live_and_die = databases_live_and_die,
    real_postgres_tables_round_trip_whole = tables_round_trip_whole,
    real_postgres_lists_are_paged_in_order = lists_are_paged_in_order,
    real_postgres_tables_keep_their_versions = tables_keep_their_versions,
    real_postgres_an_update_of_an_old_version_conflicts = an_update_of_an_old_version_conflicts,
    real_postgres_racing_updates_have_one_winner = racing_updates_have_one_winner,
    real_postgres_racing_creations_have_one_winner = racing_creations_have_one_winner,
    real_postgres_partitions_are_created_in_bulk_and_filtered = partitions_are_created_in_bulk_and_filtered,
    real_postgres_what_is_missing_is_not_found = what_is_missing_is_not_found,
);
