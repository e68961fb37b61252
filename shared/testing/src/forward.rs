//! Stores that hand every call on to another one, but for those that they are made for.

use std::fmt::{Debug, Display, Formatter, Result as FmtResult};
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};

/// The calls of an [`ObjectStore`], each handed on to [`Layer::inner`] unless a layer says otherwise.
#[async_trait]
pub trait Layer: Display + Send + Sync + 'static {
    /// Where calls go.
    fn inner(&self) -> &Arc<dyn ObjectStore>;

    /// [`ObjectStore::put_opts`].
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.inner().put_opts(location, payload, options).await
    }

    /// [`ObjectStore::put_multipart_opts`].
    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner().put_multipart_opts(location, options).await
    }

    /// [`ObjectStore::get_opts`], by which a head is asked, too.
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner().get_opts(location, options).await
    }

    /// [`ObjectStore::get_ranges`].
    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner().get_ranges(location, ranges).await
    }

    /// Told of each object right before it is deleted; an error keeps it.
    ///
    /// # Errors
    /// The one that the deletion is to fail with.
    fn before_delete(&self, _location: &Path) -> Result<()> {
        Ok(())
    }

    /// Told of each listing before it begins.
    fn before_list(&self, _prefix: Option<&Path>) {}
}

/// The store that a [`Layer`] makes.
pub struct Layered<L>(Arc<L>);

impl<L: Layer> Layered<L> {
    /// The store of `layer`, which the caller may go on looking at.
    #[must_use]
    pub fn new(layer: Arc<L>) -> Self {
        Self(layer)
    }
}

impl<L: Layer> Debug for Layered<L> {
    fn fmt(&self, f: &mut Formatter<'_>) -> FmtResult {
        write!(f, "{}", self.0)
    }
}

impl<L: Layer> Display for Layered<L> {
    fn fmt(&self, f: &mut Formatter<'_>) -> FmtResult {
        write!(f, "{}", self.0)
    }
}

#[async_trait]
impl<L: Layer> ObjectStore for Layered<L> {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.0.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.0.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.0.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let layer = Arc::clone(&self.0);
        let told = locations.map(move |path| path.and_then(|path| layer.before_delete(&path).map(|()| path)));
        self.0.inner().delete_stream(told.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.before_list(prefix);
        self.0.inner().list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.before_list(prefix);
        self.0.inner().list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.before_list(prefix);
        self.0.inner().list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.inner().copy_opts(from, to, options).await
    }
}
