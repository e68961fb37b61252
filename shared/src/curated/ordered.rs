//! Lists in order of key, as the Delta library needs them, and without commits that a crash of the machine emptied.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};

/// A commit that the store has lost the bytes of.
#[derive(Debug, thiserror::Error)]
#[error("commit `{0}` of the Delta log is empty: the store lost its bytes")]
struct EmptyCommit(Path);

/// The table version that a file of a Delta log belongs to: a commit, or a part of a checkpoint.
pub(super) fn version_of(location: &Path) -> Option<u64> {
    let digits = location.filename()?.get(..20)?;
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// Refuses a commit without bytes, which the Delta library would take for one without actions: a hole in every answer.
fn with_bytes(object: ObjectMeta) -> Result<ObjectMeta> {
    let commit = object.location.filename().and_then(|name| name.strip_suffix(".json")).filter(|name| name.len() == 20);
    let is_commit = commit.is_some() && version_of(&object.location).is_some();
    if is_commit && object.size == 0 {
        let source = Box::new(EmptyCommit(object.location));
        return Err(object_store::Error::Generic { store: "Delta log", source });
    }
    Ok(object)
}

/// A store whose lists are in order of key, whatever order the one below has: a local directory has none. A list is
/// held in memory; the Delta library lists the logs of single tables, which checkpoints and log retention keep short.
#[derive(Debug, Clone)]
pub(super) struct Ordered(pub(super) Arc<dyn ObjectStore>);

impl fmt::Display for Ordered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in order", self.0)
    }
}

fn ordered(listed: BoxStream<'static, Result<ObjectMeta>>) -> BoxStream<'static, Result<ObjectMeta>> {
    let sorted = async move {
        let mut all: Vec<ObjectMeta> = listed.map(|object| object.and_then(with_bytes)).try_collect().await?;
        all.sort_by(|a, b| a.location.cmp(&b.location));
        Ok::<_, object_store::Error>(stream::iter(all.into_iter().map(Ok)))
    };
    stream::once(sorted).try_flatten().boxed()
}

#[async_trait]
impl ObjectStore for Ordered {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.0.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.0.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.0.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.0.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        ordered(self.0.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        ordered(self.0.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}
