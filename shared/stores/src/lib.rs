//! Object stores by address: a local directory, or an S3 bucket configured from the usual AWS variables and profiles.

mod credentials;
mod s3;

use async_trait::async_trait;
use tidemark_shared::store::{IfMissing, Operation, Store, StoreError, StoreUrl, Stores};

/// Opens `file:` and `s3:` addresses.
#[derive(Debug, Clone, Copy, Default)]
pub struct UrlStores;

#[async_trait]
impl Stores for UrlStores {
    async fn open(&self, url: &StoreUrl, if_missing: IfMissing) -> Result<Store, StoreError> {
        match url {
            StoreUrl::Local(path) => {
                let path = path.clone();
                let opened = tokio::task::spawn_blocking(move || Store::local(&path, if_missing)).await;
                opened.unwrap_or_else(|join| Err(StoreError::of_io(Operation::Open, url, std::io::Error::other(join))))
            }
            StoreUrl::S3 { bucket, prefix } => s3::open(url, bucket, prefix, if_missing).await,
        }
    }
}
