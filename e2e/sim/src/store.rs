//! The object store of an actor: one store in memory, behind the gate.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt as _, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tidemark_shared::ambient::Ambient;
use tidemark_shared::lock;
use tidemark_shared::store::{Leftover, Operation, Store, StoreError, StoreUrl, Upkeep};

use crate::clock::Clock;
use crate::gate::{Call, Handle};

/// What all actors see: objects, and when they were written by the simulation's clock.
#[derive(Debug)]
pub struct Disk {
    objects: InMemory,
    written: Mutex<BTreeMap<Path, DateTime<Utc>>>,
    clock: Arc<Clock>,
    /// True if entries of Delta logs are as old by the machine's clock as they are by the simulation's.
    ages_logs: AtomicBool,
}

impl Disk {
    /// An empty one.
    #[must_use]
    pub fn new(clock: Arc<Clock>) -> Self {
        Self { objects: InMemory::new(), written: Mutex::default(), clock, ages_logs: AtomicBool::new(false) }
    }

    /// The store as an actor has it; without one, as the simulation looks at it.
    #[must_use]
    pub fn store(self: &Arc<Self>, handle: Option<&Handle>) -> Store {
        let objects = GatedStore { disk: Arc::clone(self), handle: handle.cloned() };
        let upkeep = SyncedStore(objects.clone());
        Store::new(
            StoreUrl::S3 { bucket: "sim".to_owned(), prefix: String::new() },
            Arc::new(objects),
            Arc::new(upkeep),
        )
    }

    async fn put(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let put = self.objects.put_opts(location, payload, options).await?;
        let mut written = lock(&self.written);
        written.insert(location.clone(), self.clock.now());
        Ok(put)
    }

    /// Lets the Delta library, which has the machine's clock and no other, clean logs up at the age that they have in the
    /// simulation: where a log is listed by itself, its entries are dated so. Otherwise all of them are old to it: each
    /// checkpoint then takes away what is before it.
    pub fn age_logs(&self) {
        self.ages_logs.store(true, Ordering::Relaxed);
    }

    fn dated(&self, mut meta: ObjectMeta) -> ObjectMeta {
        let written = lock(&self.written);
        meta.last_modified = written.get(&meta.location).copied().unwrap_or_default();
        meta
    }

    /// As what lists `prefix` sees it; see [`Self::age_logs`].
    fn listed(&self, prefix: Option<&Path>, meta: ObjectMeta) -> ObjectMeta {
        let mut meta = self.dated(meta);
        let is_log = prefix.is_some_and(|prefix| prefix.as_ref().ends_with("/_delta_log"));
        if is_log && self.ages_logs.load(Ordering::Relaxed) {
            meta.last_modified = Utc::now() - (self.clock.now() - meta.last_modified);
        }
        meta
    }
}

#[derive(Debug, Clone)]
struct GatedStore {
    disk: Arc<Disk>,
    handle: Option<Handle>,
}

impl fmt::Display for GatedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("gated store")
    }
}

fn fault(reason: &'static str) -> Error {
    Error::Generic { store: "sim", source: reason.into() }
}

/// Entries of a Delta log never change once they are there, and what reads them reads what it has listed: they need no
/// turn of their own. That they are read on threads of the Delta library's makes no difference to any order so.
fn needs_no_turn(location: &Path, options: &GetOptions) -> bool {
    !options.head && location.as_ref().contains("/_delta_log/")
}

impl GatedStore {
    async fn call<T: Send + 'static>(
        &self,
        call: Call,
        key: String,
        act: impl Fn() -> futures::future::BoxFuture<'static, Result<T>> + Send,
    ) -> Result<T> {
        match &self.handle {
            Some(handle) => handle.call(call, key, act, fault).await,
            None => act().await,
        }
    }

    async fn list_all(&self, prefix: Option<&Path>, offset: Option<&Path>) -> Result<Vec<ObjectMeta>> {
        let key = prefix.map(ToString::to_string).unwrap_or_default();
        let (prefix, offset) = (prefix.cloned(), offset.cloned());
        self.call(Call::List, key, || {
            let (disk, prefix, offset) = (Arc::clone(&self.disk), prefix.clone(), offset.clone());
            async move {
                let listed = match &offset {
                    Some(offset) => disk.objects.list_with_offset(prefix.as_ref(), offset),
                    None => disk.objects.list(prefix.as_ref()),
                };
                listed.map_ok(|meta| disk.listed(prefix.as_ref(), meta)).try_collect().await
            }
            .boxed()
        })
        .await
    }

    fn listed(&self, prefix: Option<&Path>, offset: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, prefix, offset) = (self.clone(), prefix.cloned(), offset.cloned());
        let all = async move { store.list_all(prefix.as_ref(), offset.as_ref()).await };
        let flat = all.map(|all| match all {
            Ok(all) => stream::iter(all.into_iter().map(Ok)).boxed(),
            Err(error) => stream::once(async move { Err(error) }).boxed(),
        });
        flat.flatten_stream().boxed()
    }
}

#[async_trait]
impl ObjectStore for GatedStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.call(Call::Put, location.to_string(), || {
            let (disk, location) = (Arc::clone(&self.disk), location.clone());
            let (payload, options) = (payload.clone(), options.clone());
            async move { disk.put(&location, payload, options).await }.boxed()
        })
        .await
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(fault("nothing here is so large that it goes in parts"))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let act = || {
            let (disk, location, options) = (Arc::clone(&self.disk), location.clone(), options.clone());
            async move {
                let mut got = disk.objects.get_opts(&location, options).await?;
                got.meta = disk.dated(got.meta);
                Ok(got)
            }
            .boxed()
        };
        if needs_no_turn(location, &options) {
            let dead = self.handle.as_ref().is_some_and(Handle::is_dead);
            return if dead { Err(fault("the caller is dead")) } else { act().await };
        }
        let call = if options.head { Call::Head } else { Call::Get };
        self.call(call, location.to_string(), act).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.call(Call::Get, location.to_string(), || {
            let (disk, location, ranges) = (Arc::clone(&self.disk), location.clone(), ranges.to_vec());
            async move { disk.objects.get_ranges(&location, &ranges).await }.boxed()
        })
        .await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let deleted = locations.then(move |location| {
            let store = store.clone();
            async move {
                let location = location?;
                let act = || {
                    let (disk, location) = (Arc::clone(&store.disk), location.clone());
                    async move { disk.objects.delete(&location).await }.boxed()
                };
                store.call(Call::Delete, location.to_string(), act).await?;
                Ok(location)
            }
        });
        deleted.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listed(prefix, None)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listed(prefix, Some(offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let key = prefix.map(ToString::to_string).unwrap_or_default();
        let prefix = prefix.cloned();
        self.call(Call::List, key, || {
            let (disk, prefix) = (Arc::clone(&self.disk), prefix.clone());
            async move { disk.objects.list_with_delimiter(prefix.as_ref()).await }.boxed()
        })
        .await
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(fault("nothing here copies"))
    }
}

/// Every object is durable; one that is to be synced must be there.
#[derive(Debug)]
struct SyncedStore(GatedStore);

#[async_trait]
impl Upkeep for SyncedStore {
    async fn leftovers(&self, _: std::time::Duration) -> Result<Vec<Leftover>, StoreError> {
        Ok(Vec::new())
    }

    async fn remove_leftover(&self, _: &Leftover) -> Result<(), StoreError> {
        Ok(())
    }

    async fn sync(&self, key: &Path) -> Result<(), StoreError> {
        let head = self.0.call(Call::Sync, key.to_string(), || {
            let (disk, key) = (Arc::clone(&self.0.disk), key.clone());
            async move { disk.objects.head(&key).await }.boxed()
        });
        head.await.map(drop).map_err(|error| StoreError::of(Operation::Read, key, error))
    }

    async fn is_versioned(&self) -> Result<bool, StoreError> {
        Ok(false)
    }
}
