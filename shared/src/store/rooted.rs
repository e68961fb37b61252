//! A bucket seen from a prefix.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};

/// All keys below a prefix, without it. `object_store`'s own wrapper leaves the prefix in what `get` and `head` report,
/// so readers that go on with the reported key would add it twice.
#[derive(Debug, Clone)]
pub struct Rooted {
    inner: Arc<dyn ObjectStore>,
    prefix: Path,
}

impl Rooted {
    /// Sees `inner` from `prefix`.
    #[must_use]
    pub fn new(inner: Arc<dyn ObjectStore>, prefix: Path) -> Self {
        Self { inner, prefix }
    }

    fn full(&self, path: &Path) -> Path {
        self.prefix.parts().chain(path.parts()).collect()
    }
}

fn relative(prefix: &Path, path: Path) -> Path {
    let rest = path.prefix_match(prefix).map(Iterator::collect);
    rest.unwrap_or(path)
}

fn relative_meta(prefix: &Path, mut meta: ObjectMeta) -> ObjectMeta {
    meta.location = relative(prefix, meta.location);
    meta
}

impl fmt::Display for Rooted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} below {}", self.inner, self.prefix)
    }
}

#[async_trait]
impl ObjectStore for Rooted {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(&self.full(location), payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(&self.full(location), opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let mut result = self.inner.get_opts(&self.full(location), options).await?;
        result.meta = relative_meta(&self.prefix, result.meta);
        Ok(result)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(&self.full(location), ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (to, from) = (self.clone(), self.prefix.clone());
        let full = locations.map_ok(move |path| to.full(&path)).boxed();
        self.inner.delete_stream(full).map_ok(move |path| relative(&from, path)).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let root = self.prefix.clone();
        let full = self.full(prefix.unwrap_or(&Path::default()));
        self.inner.list(Some(&full)).map_ok(move |meta| relative_meta(&root, meta)).boxed()
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        let root = self.prefix.clone();
        let full = self.full(prefix.unwrap_or(&Path::default()));
        let listed = self.inner.list_with_offset(Some(&full), &self.full(offset));
        listed.map_ok(move |meta| relative_meta(&root, meta)).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let full = self.full(prefix.unwrap_or(&Path::default()));
        let mut listed = self.inner.list_with_delimiter(Some(&full)).await?;
        listed.common_prefixes = listed.common_prefixes.into_iter().map(|path| relative(&self.prefix, path)).collect();
        listed.objects = listed.objects.into_iter().map(|meta| relative_meta(&self.prefix, meta)).collect();
        Ok(listed)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(&self.full(from), &self.full(to), options).await
    }
}
