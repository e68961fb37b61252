//! Files that lie in another bucket, copied or read in place: what that asks of the bucket.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{GetOptions, GetResult, ObjectStore, ObjectStoreExt as _, Result};
use tidemark_batch::report::quiet;
use tidemark_batch::{Batch, BatchSettings, IngestRequest};
use tidemark_shared::store::{IfMissing, Leftover, Store, StoreError, StoreUrl, Stores, Upkeep};
use tidemark_testing::forward::{Layer, Layered};

use crate::support::Home;

/// A bucket in memory that says that it keeps versions; every object is there in one.
struct Bucket {
    inner: Arc<dyn ObjectStore>,
    heads: AtomicUsize,
}

const VERSION: &str = "v1";

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a bucket")
    }
}

#[async_trait]
impl Layer for Bucket {
    fn inner(&self) -> &Arc<dyn ObjectStore> {
        &self.inner
    }

    async fn get_opts(&self, location: &Path, mut options: GetOptions) -> Result<GetResult> {
        self.heads.fetch_add(usize::from(options.head), Ordering::Relaxed);
        assert!(options.version.take().is_none_or(|version| version == VERSION), "another version is asked for");
        let mut result = self.inner.get_opts(location, options).await?;
        result.meta.version = Some(VERSION.to_owned());
        Ok(result)
    }
}

#[derive(Debug)]
struct Versioned;

#[async_trait]
impl Upkeep for Versioned {
    async fn leftovers(&self, _older_than: Duration) -> Result<Vec<Leftover>, StoreError> {
        Ok(Vec::new())
    }

    async fn remove_leftover(&self, _leftover: &Leftover) -> Result<(), StoreError> {
        Ok(())
    }

    async fn is_versioned(&self) -> Result<bool, StoreError> {
        Ok(true)
    }
}

/// Opens the one bucket by any name, and remembers the names.
struct Opens {
    bucket: Arc<Bucket>,
    opened: Mutex<Vec<String>>,
}

#[async_trait]
impl Stores for Opens {
    async fn open(&self, url: &StoreUrl, _if_missing: IfMissing) -> Result<Store, StoreError> {
        self.opened.lock().expect("no holder panics").push(url.to_string());
        Ok(Store::new(url.clone(), Arc::new(Layered::new(Arc::clone(&self.bucket))), Arc::new(Versioned)))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_is_opened_once_and_asked_for_versions_only_where_they_count() {
    for in_place in [false, true] {
        let home = Home::new().await;
        let bucket = Arc::new(Bucket { inner: Arc::new(InMemory::new()), heads: AtomicUsize::new(0) });
        for name in ["a.csv", "b.csv", "c.csv"] {
            let bytes = std::fs::read(home.path(name)).expect("a file");
            bucket.inner.put(&Path::from(format!("in/{name}")), bytes.into()).await.expect("memory takes everything");
        }
        let opens = Arc::new(Opens { bucket: Arc::clone(&bucket), opened: Mutex::default() });
        let settings = BatchSettings { threads: 2, ..BatchSettings::default() };
        let stores = Arc::clone(&opens) as Arc<dyn Stores>;
        let batch = Batch::new(home.store().clone(), stores, None, settings);
        let request = IngestRequest { paths: vec!["s3://there/in".to_owned()], in_place, ..IngestRequest::default() };
        let report = batch.ingest("events", &request, &quiet()).await.expect("ingests");
        assert_eq!((report.files.len(), report.counts.records), (3, 100));
        // A look at the prefix as if it were an object, and one when each file is opened to be read, or copied.
        let heads = bucket.heads.load(Ordering::Relaxed);
        assert_eq!(heads, if in_place { 1 + 3 + 3 } else { 1 + 3 }, "in place: {in_place}");
        batch.recompute("events", &quiet()).await.expect("recomputes");
        assert_eq!(*opens.opened.lock().expect("no holder panics"), ["s3://there"], "in place: {in_place}");
    }
}
