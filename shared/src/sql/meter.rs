//! Counts and limits what one statement reads from stores.

use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io::Seek as _;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::object_store::ObjectStoreRegistry;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use url::Url;

use crate::lock;

/// What one statement has read so far.
#[derive(Debug, Default)]
pub(super) struct Meter {
    bytes: AtomicU64,
    bytes_max: Option<u64>,
    exceeded: AtomicBool,
    /// Objects of which bytes were read.
    objects: Mutex<HashSet<Path>>,
    /// Local files whose beginning is being read; how much of it, their cursors tell.
    begun: Mutex<Vec<(Path, File)>>,
}

/// The read that would go over the limit.
#[derive(Debug, thiserror::Error)]
#[error("the limit on bytes read is reached")]
struct LimitReached;

impl Meter {
    pub(super) fn new(bytes_max: Option<u64>) -> Self {
        Self { bytes_max, ..Self::default() }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Number of distinct objects of which bytes were read.
    pub(super) fn objects(&self) -> usize {
        lock(&self.objects).len()
    }

    /// The limit, if a read was refused for it.
    pub(super) fn exceeded(&self) -> Option<u64> {
        self.bytes_max.filter(|_| self.exceeded.load(Ordering::Relaxed))
    }

    /// Charges what was read of local files whose beginning only was asked for.
    ///
    /// # Errors
    /// The limit is reached.
    pub(super) fn settle(&self) -> Result<()> {
        let begun = std::mem::take(&mut *lock(&self.begun));
        begun.into_iter().try_for_each(|(location, mut file)| match file.stream_position() {
            Ok(bytes) => self.charge(&location, bytes),
            Err(source) => Err(object_store::Error::Generic { store: "meter", source: Box::new(source) }),
        })
    }

    fn begin(&self, location: &Path, file: &File) -> std::io::Result<()> {
        // It shares its cursor with the one that is read.
        let file = file.try_clone()?;
        lock(&self.begun).push((location.clone(), file));
        Ok(())
    }

    fn charge(&self, location: &Path, bytes: u64) -> Result<()> {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if self.bytes_max.is_some_and(|max| before.saturating_add(bytes) > max) {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.exceeded.store(true, Ordering::Relaxed);
            return Err(object_store::Error::Generic { store: "meter", source: Box::new(LimitReached) });
        }
        let mut objects = lock(&self.objects);
        if !objects.contains(location) {
            objects.insert(location.clone());
        }
        Ok(())
    }
}

/// How much of an object that is asked for as a whole is going to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// All of it.
    Whole,
    /// As much as it takes to know its columns; [`Meter::settle`] is called then.
    Beginning,
}

/// A store whose reads are charged to a meter: ranges before they are read, streams as they come, and local files that
/// are read as a whole when that starts.
#[derive(Debug)]
pub(super) struct MeteredStore {
    inner: Arc<dyn ObjectStore>,
    meter: Arc<Meter>,
    reading: Reading,
}

impl MeteredStore {
    /// `result` with its bytes charged.
    fn charged(&self, location: &Path, options: &GetOptions, mut result: GetResult) -> Result<GetResult> {
        let bytes = result.range.end - result.range.start;
        result.payload = match result.payload {
            GetResultPayload::Stream(stream) if options.range.is_none() => {
                let (meter, location) = (Arc::clone(&self.meter), location.clone());
                let charge = move |bytes: Bytes| meter.charge(&location, bytes.len() as u64).map(|()| bytes);
                GetResultPayload::Stream(stream.map(move |bytes| bytes.and_then(&charge)).boxed())
            }
            GetResultPayload::File(file, path)
                if options.range.is_none()
                    && self.reading == Reading::Beginning
                    && self.meter.begin(location, &file).is_ok() =>
            {
                GetResultPayload::File(file, path)
            }
            payload => {
                self.meter.charge(location, bytes)?;
                payload
            }
        };
        Ok(result)
    }
}

impl fmt::Display for MeteredStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for MeteredStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let result = self.inner.get_opts(location, options.clone()).await?;
        if options.head { Ok(result) } else { self.charged(location, &options, result) }
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.meter.charge(location, ranges.iter().map(|range| range.end - range.start).sum())?;
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// The engine's stores, each behind one statement's meter.
#[derive(Debug)]
pub(super) struct MeteredRegistry {
    inner: Arc<dyn ObjectStoreRegistry>,
    meter: Arc<Meter>,
    reading: Reading,
}

impl MeteredRegistry {
    pub(super) fn new(inner: Arc<dyn ObjectStoreRegistry>, meter: Arc<Meter>, reading: Reading) -> Self {
        Self { inner, meter, reading }
    }
}

impl ObjectStoreRegistry for MeteredRegistry {
    fn register_store(&self, url: &Url, store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        self.inner.register_store(url, store)
    }

    fn get_store(&self, url: &Url) -> DataFusionResult<Arc<dyn ObjectStore>> {
        let inner = self.inner.get_store(url)?;
        Ok(Arc::new(MeteredStore { inner, meter: Arc::clone(&self.meter), reading: self.reading }))
    }
}
