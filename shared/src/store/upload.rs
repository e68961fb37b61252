//! Writing big objects in parts.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectMeta, ObjectStoreExt, PutPayload};
use sha2::{Digest as _, Sha256};

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

/// How [`Store::upload_verified`] ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Uploaded {
    /// The object is there.
    Stored,
    /// The source has other bytes than those of the wanted digest; there is no object.
    Differs {
        /// SHA-256 of the bytes that were read, in lower-case hex.
        found: String,
    },
}

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
        self.upload_body(path, Body { source, hasher: None }, "", progress).await?;
        Ok(length)
    }

    /// Like [`Self::upload`], of bytes that must have this SHA-256 (lower-case hex). The very bytes that are handed to
    /// the store are hashed, and the object appears only if they are the wanted ones.
    ///
    /// # Errors
    /// As [`Self::upload`]; [`super::Cause::Changed`] if the source has become shorter.
    pub async fn upload_verified(
        &self,
        path: &Path,
        source: Arc<dyn ReadAt>,
        sha256: &str,
        progress: Progress<'_>,
    ) -> Result<Uploaded, StoreError> {
        self.upload_body(path, Body { source, hasher: Some(Sha256::new()) }, sha256, progress).await
    }

    async fn upload_body(
        &self,
        path: &Path,
        mut body: Body,
        sha256: &str,
        progress: Progress<'_>,
    ) -> Result<Uploaded, StoreError> {
        let length = body.source.len();
        if length <= SINGLE_PUT_BYTES_MAX {
            let bytes = body.read(path, 0, length).await?;
            if let Some(found) = body.other_than(sha256) {
                return Ok(Uploaded::Differs { found });
            }
            let put = self.objects().put(path, PutPayload::from_bytes(bytes)).await;
            put.map_err(|error| StoreError::of(Operation::Upload, path, error))?;
            progress(length);
            return Ok(Uploaded::Stored);
        }
        let before = self.head(path, None).await?;
        let started = self.objects().put_multipart(path).await;
        let mut upload = started.map_err(|error| StoreError::of(Operation::Upload, path, error))?;
        let written = write_parts(upload.as_mut(), path, &mut body, progress).await;
        let ended = match (written, body.other_than(sha256)) {
            (Err(error), _) => Err(error),
            (Ok(()), Some(found)) => Ok(Uploaded::Differs { found }),
            (Ok(()), None) => match upload.complete().await {
                Ok(_) => return Ok(Uploaded::Stored),
                Err(error) => match self.head(path, None).await {
                    // A completion whose acknowledgement was lost did happen.
                    Ok(Some(after)) if is_new(before.as_ref(), &after, length) => Ok(Uploaded::Stored),
                    _ => Err(StoreError::of(Operation::Upload, path, error)),
                },
            },
        };
        if let Err(abort) = upload.abort().await {
            tracing::debug!(%path, error = %abort, "parts of an upload could not be removed");
        }
        ended
    }
}

/// Whether `after` is an object that was not there before, of this many bytes. The key names the content, so that whoever
/// wrote it, it is what was to be written. What was there before may be damaged, and of the same length.
fn is_new(before: Option<&ObjectMeta>, after: &ObjectMeta, length: u64) -> bool {
    let same = |before: &ObjectMeta| before.e_tag == after.e_tag && before.last_modified == after.last_modified;
    after.size == length && !before.is_some_and(same)
}

/// What is uploaded, and the digest of what was read of it so far.
struct Body {
    source: Arc<dyn ReadAt>,
    hasher: Option<Sha256>,
}

impl Body {
    /// Reads the next bytes. Reading and hashing are off the runtime.
    async fn read(&mut self, path: &Path, start: u64, end: u64) -> Result<Bytes, StoreError> {
        let (source, mut hasher) = (Arc::clone(&self.source), self.hasher.take());
        let task = tokio::task::spawn_blocking(move || {
            let bytes = source.read_at(start, (end - start) as usize)?;
            if let Some(hasher) = &mut hasher {
                hasher.update(&bytes);
            }
            Ok((bytes, hasher))
        });
        let read = task.await.unwrap_or_else(|join| Err(std::io::Error::other(join)));
        // The source is at fault, not the object that is written: no other cause is read off it.
        let (bytes, hasher) = read.map_err(|error| {
            let shorter = error.kind() == std::io::ErrorKind::UnexpectedEof;
            let cause = if shorter { super::Cause::Changed } else { super::Cause::Failed };
            StoreError::because(Operation::Upload, path, cause, error)
        })?;
        self.hasher = hasher;
        Ok(bytes)
    }

    /// The digest of what was read, if one was taken and it is not `sha256`.
    fn other_than(&self, sha256: &str) -> Option<String> {
        let found = crate::hex(&self.hasher.clone()?.finalize());
        (found != sha256).then_some(found)
    }
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
    body: &mut Body,
    progress: Progress<'_>,
) -> Result<(), StoreError> {
    let mut in_flight = FuturesUnordered::new();
    for (start, end) in parts(body.source.len()) {
        if in_flight.len() as u64 >= PARTS_IN_FLIGHT {
            let stored = next_part(&mut in_flight, path, progress).await;
            if let Err(error) = stored {
                return Err(settled(in_flight, error).await);
            }
        }
        let bytes = match body.read(path, start, end).await {
            Ok(bytes) => bytes,
            Err(error) => return Err(settled(in_flight, error).await),
        };
        in_flight.push(upload.put_part(PutPayload::from_bytes(bytes)).map(move |stored| stored.map(|()| end - start)));
    }
    while !in_flight.is_empty() {
        let stored = next_part(&mut in_flight, path, progress).await;
        if let Err(error) = stored {
            return Err(settled(in_flight, error).await);
        }
    }
    Ok(())
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

/// Ranges of equal size (but the last) that make up `length`: few enough for S3, each big enough for it.
pub(super) fn parts(length: u64) -> impl Iterator<Item = (u64, u64)> {
    let size = SINGLE_PUT_BYTES_MAX.max(length.div_ceil(PARTS_MAX));
    (0..length.div_ceil(size)).map(move |part| (part * size, ((part + 1) * size).min(length)))
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    #[test]
    fn only_an_object_that_was_not_there_tells_that_an_upload_was_done() {
        let meta = |e_tag: &str, seconds, size| ObjectMeta {
            location: Path::from("k"),
            last_modified: DateTime::from_timestamp(seconds, 0).expect("a time"),
            size,
            e_tag: Some(e_tag.to_owned()),
            version: None,
        };
        let damaged = meta("a", 1, 9);
        for (before, after, wanted) in [
            (None, meta("b", 2, 9), true),
            (None, meta("b", 2, 8), false),
            (Some(&damaged), damaged.clone(), false),
            (Some(&damaged), meta("b", 1, 9), true),
            (Some(&damaged), meta("a", 2, 9), true),
            (Some(&damaged), meta("b", 2, 8), false),
        ] {
            assert_eq!(is_new(before, &after, 9), wanted, "{before:?} {after:?}");
        }
    }
}
