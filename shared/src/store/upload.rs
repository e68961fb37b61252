//! Writing big objects in parts.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStoreExt, PutPayload};

use super::{Operation, Store, StoreError};
use crate::decode::ReadAt;

/// Objects up to this many bytes are written in one request.
pub(super) const SINGLE_PUT_BYTES_MAX: u64 = 8 << 20;
/// Parts on the way at once, and so held in memory.
const PARTS_IN_FLIGHT: u64 = 4;
/// S3 takes 10,000 parts; some are kept in reserve.
const PARTS_MAX: u64 = 9_000;

/// Told of every run of bytes that the store has taken, by its length. Called in no particular order of position.
pub type Progress<'a> = &'a (dyn Fn(u64) + Send + Sync);

impl Store {
    /// Writes the whole of `source` to `path`, in parts of equal size if it is big, and returns the number of bytes.
    /// The object appears at once when all is there; on an error the parts are removed. A process that is killed (on
    /// S3 also a dropped future) leaves parts that [`super::Upkeep::leftovers`] finds.
    ///
    /// What is already at `path` is replaced, so a key written this way names its content: two writers of one key must
    /// bring equal bytes.
    ///
    /// # Errors
    /// [`StoreError`] if the source can't be read (its own error is the cause) or the store fails.
    pub async fn upload(
        &self,
        path: &Path,
        source: Arc<dyn ReadAt>,
        progress: Progress<'_>,
    ) -> Result<u64, StoreError> {
        let length = source.len();
        if length <= SINGLE_PUT_BYTES_MAX {
            let bytes = read_part(&source, path, 0, length).await?;
            let put = self.objects().put(path, PutPayload::from_bytes(bytes)).await;
            put.map_err(|error| StoreError::of(Operation::Upload, path, error))?;
            progress(length);
            return Ok(length);
        }
        let started = self.objects().put_multipart(path).await;
        let mut upload = started.map_err(|error| StoreError::of(Operation::Upload, path, error))?;
        let written = write_parts(upload.as_mut(), path, &source, progress).await;
        let Err(error) = written else { return Ok(length) };
        // A completion whose acknowledgement was lost did happen; the key names the content, so its size settles it.
        let completed = matches!(self.size(path).await, Ok(Some(size)) if size == length);
        if let Err(abort) = upload.abort().await {
            tracing::debug!(%path, error = %abort, "parts of a failed upload could not be removed");
        }
        if completed && error.completing { Ok(length) } else { Err(error.error) }
    }
}

struct PartError {
    error: StoreError,
    /// All parts were stored; only the last step failed.
    completing: bool,
}

/// Waits for the parts that are on the way, then hands the error on: a part that arrives after the upload was aborted
/// would stay behind.
async fn settled(mut in_flight: FuturesUnordered<impl Future>, error: StoreError) -> StoreError {
    while in_flight.next().await.is_some() {}
    error
}

async fn write_parts(
    upload: &mut dyn MultipartUpload,
    path: &Path,
    source: &Arc<dyn ReadAt>,
    progress: Progress<'_>,
) -> Result<(), PartError> {
    let storing = |error| PartError { error, completing: false };
    let length = source.len();
    let mut in_flight = FuturesUnordered::new();
    for (start, end) in parts(length) {
        if in_flight.len() as u64 >= PARTS_IN_FLIGHT {
            let stored = next_part(&mut in_flight, path, progress).await;
            if let Err(error) = stored {
                return Err(storing(settled(in_flight, error).await));
            }
        }
        let bytes = match read_part(source, path, start, end).await {
            Ok(bytes) => bytes,
            Err(error) => return Err(storing(settled(in_flight, error).await)),
        };
        in_flight.push(upload.put_part(PutPayload::from_bytes(bytes)).map(move |stored| stored.map(|()| end - start)));
    }
    while !in_flight.is_empty() {
        let stored = next_part(&mut in_flight, path, progress).await;
        if let Err(error) = stored {
            return Err(storing(settled(in_flight, error).await));
        }
    }
    let completed = upload.complete().await;
    completed
        .map(drop)
        .map_err(|error| PartError { error: StoreError::of(Operation::Upload, path, error), completing: true })
}

async fn next_part(
    in_flight: &mut FuturesUnordered<impl Future<Output = object_store::Result<u64>>>,
    path: &Path,
    progress: Progress<'_>,
) -> Result<(), StoreError> {
    let stored = in_flight.try_next().await.map_err(|error| StoreError::of(Operation::Upload, path, error))?;
    progress(stored.unwrap_or(0));
    Ok(())
}

async fn read_part(source: &Arc<dyn ReadAt>, path: &Path, start: u64, end: u64) -> Result<Bytes, StoreError> {
    let source = Arc::clone(source);
    let read = tokio::task::spawn_blocking(move || source.read_at(start, (end - start) as usize)).await;
    let read = read.unwrap_or_else(|join| Err(std::io::Error::other(join)));
    // The source is at fault, not the object that is written: no cause is read off it.
    read.map_err(|error| StoreError::because(Operation::Upload, path, super::Cause::Failed, error))
}

/// Ranges of equal size (but the last) that make up `length`: few enough for S3, each big enough for it.
pub(super) fn parts(length: u64) -> impl Iterator<Item = (u64, u64)> {
    let size = SINGLE_PUT_BYTES_MAX.max(length.div_ceil(PARTS_MAX));
    (0..length.div_ceil(size)).map(move |part| (part * size, ((part + 1) * size).min(length)))
}
