//! The contract on a local directory, opened by its address.

use tempfile::TempDir;
use tidemark_shared::store::{IfMissing, StoreUrl, Stores};
use tidemark_stores::UrlStores;
use tidemark_testing::contract::store as contract;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_local_directory_keeps_the_contract() {
    let folder = TempDir::new().unwrap();
    let url = StoreUrl::parse("file:data/store", folder.path()).unwrap();
    assert!(UrlStores.open(&url, IfMissing::Fail).await.is_err(), "a store that is not there was opened");
    let store = UrlStores.open(&url, IfMissing::Create).await.unwrap();
    assert!(!store.upkeep().is_versioned().await.unwrap());
    contract::check_all(&store).await;
}
