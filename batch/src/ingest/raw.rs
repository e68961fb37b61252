//! The raw zone's bytes: how they get there, how they are opened, and how lost ones are put back.

use std::sync::Arc;

use object_store::path::Path;
use sha2::{Digest as _, Sha256};
use tidemark_shared::decode::ReadAt;
use tidemark_shared::hex;
use tidemark_shared::ledger::{LedgerFile, Location};
use tidemark_shared::store::{Cause, Uploaded, open_file};
use tokio::sync::oneshot;

use super::input::{Found, HASH_BLOCK_BYTES, Input};
use crate::error::BatchError;
use crate::failpoint;
use crate::generation::Maker;
use crate::pipeline::RawFile;
use crate::report::{Progress, quiet};
use crate::service::Batch;

impl Batch {
    /// Copies a file to `key`. What is stored is what has this digest: the bytes are hashed as they leave, and the object
    /// appears only if they are the ones that were decided on.
    pub(super) async fn copy_in(
        &self,
        found: &Found,
        sha256: &str,
        key: &str,
        progress: &Arc<dyn Progress>,
    ) -> Result<(), BatchError> {
        let key = raw_key(key);
        failpoint::pass("raw.before_upload");
        let source = match &found.input {
            Input::Local(path) => {
                open_file(path).map_err(|source| BatchError::Read { path: path.display().to_string(), source })?
            }
            Input::Remote { store, key: from, version, .. } => store.read_at(from, version.as_deref()).await?,
        };
        let changed = |found_sha256| BatchError::SourceChanged {
            name: found.name.clone(),
            wanted: sha256.to_owned(),
            found: found_sha256,
        };
        match self.store.upload_verified(&key, source, sha256, &|bytes| progress.advance(bytes)).await {
            Ok(Uploaded::Stored) => {}
            Ok(Uploaded::Differs { found }) => return Err(changed(found)),
            Err(error) if error.cause() == Some(Cause::Changed) => return Err(changed("of fewer bytes".to_owned())),
            Err(error) => return Err(error.into()),
        }
        failpoint::pass("raw.after_upload");
        Ok(())
    }

    /// Whether the object has these very bytes. Its length tells at once that they are gone or cut off; that they changed,
    /// only they themselves.
    async fn holds(
        &self,
        key: &Path,
        bytes: u64,
        sha256: &str,
        progress: &Arc<dyn Progress>,
    ) -> Result<bool, BatchError> {
        if self.store.size(key).await? != Some(bytes) {
            return Ok(false);
        }
        let source = self.store.read_at(key, None).await?;
        let (path, progress) = (key.to_string(), Arc::clone(progress));
        let task = tokio::task::spawn_blocking(move || digest_of(source.as_ref(), &|bytes| progress.advance(bytes)));
        let found = task.await.map_err(|source| BatchError::Panicked { task: "hash", source })?;
        Ok(found.map_err(|source| BatchError::Read { path, source })? == sha256)
    }

    /// Copies a file to a key that the ledger names, unless it is there.
    pub(super) async fn copy_in_again(
        &self,
        found: &Found,
        sha256: &str,
        key: &str,
        progress: &Arc<dyn Progress>,
    ) -> Result<(), BatchError> {
        if self.holds(&raw_key(key), found.bytes, sha256, progress).await? {
            return Ok(());
        }
        self.copy_in(found, sha256, key, progress).await
    }

    /// Puts the bytes of a file of the ledger back where they are gone or, as far as that is to be looked at, others, from a
    /// file that has the same. True if it did.
    pub(super) async fn put_back(
        &self,
        known: &LedgerFile,
        found: &Found,
        verify: bool,
        progress: &Arc<dyn Progress>,
    ) -> Result<bool, BatchError> {
        let Location::RawZone { key } = &known.file.location else { return Ok(false) };
        let at = raw_key(key);
        let is_there = match verify {
            true => self.holds(&at, known.file.bytes, &known.file.sha256, progress).await?,
            // A folder that is offered every night is not read back from the store every night.
            false => self.store.size(&at).await? == Some(known.file.bytes),
        };
        if is_there {
            return Ok(false);
        }
        self.copy_in(found, &known.file.sha256, key, &quiet()).await?;
        Ok(true)
    }

    /// A new file, to be read once its bytes have arrived.
    pub(super) fn raw_file_after(
        &self,
        maker: &Maker,
        name: &str,
        location: &Location,
        arrival: oneshot::Receiver<Result<(), BatchError>>,
    ) -> Result<RawFile, BatchError> {
        let (batch, location, dataset, file) = (self.clone(), location.clone(), maker.dataset.clone(), name.to_owned());
        let runtime = tokio::runtime::Handle::current();
        let open = Box::new(move || {
            arrival.blocking_recv().map_err(|_| BatchError::Cancelled)??;
            runtime.block_on(batch.open_raw(&location)).map_err(|error| match error {
                BatchError::Store(error) if error.cause() == Some(Cause::NotFound) => {
                    BatchError::CopyVacuumed { dataset, name: file }
                }
                error => error,
            })
        });
        Ok(RawFile { name: name.to_owned(), spec: Arc::clone(maker.spec()?), open })
    }

    /// A raw file of the ledger, to be read. Its digest is compared before it is decoded: bytes that rotted or that somebody
    /// changed would be published as if they were the facts that were taken in.
    pub(crate) fn raw_file(&self, maker: &Maker, file: &LedgerFile) -> Result<RawFile, BatchError> {
        let (batch, dataset, known) = (self.clone(), maker.dataset.clone(), file.clone());
        let runtime = tokio::runtime::Handle::current();
        let open = Box::new(move || match runtime.block_on(batch.open_raw(&known.file.location)) {
            Ok(source) if source.len() == known.file.bytes => {
                let read = |source| BatchError::Read { path: known.file.name.clone(), source };
                match digest_of(source.as_ref(), &|_| {}).map_err(read)? {
                    found if found == known.file.sha256 => Ok(source),
                    found => Err(lost(&dataset, &known, format!("it has SHA-256 {found}"))),
                }
            }
            Ok(source) => Err(lost(&dataset, &known, format!("it has {} bytes of {}", source.len(), known.file.bytes))),
            Err(BatchError::Store(error)) if error.cause() == Some(Cause::NotFound) => {
                Err(lost(&dataset, &known, "it does not exist".to_owned()))
            }
            Err(error) => Err(error),
        });
        Ok(RawFile { name: file.file.name.clone(), spec: Arc::clone(maker.spec()?), open })
    }

    async fn open_raw(&self, location: &Location) -> Result<Arc<dyn ReadAt>, BatchError> {
        match location {
            Location::RawZone { key } => {
                let key = raw_key(key);
                Ok(self.store.read_at(&key, None).await?)
            }
            Location::InPlace { url, version } => {
                let rest = url.strip_prefix("s3://").unwrap_or(url);
                let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
                let store = self.bucket(bucket).await?;
                let key = Path::parse(key).map_err(|_| BatchError::NoSuchFile { path: url.clone() })?;
                Ok(store.read_at(&key, Some(version)).await?)
            }
        }
    }
}

/// A key out of a ledger entry.
fn raw_key(key: &str) -> Path {
    Path::parse(key).expect("made by layout::raw_file")
}

/// SHA-256 of all bytes, in lower-case hex; `told` of every run of them, by its length. Blocking.
fn digest_of(source: &dyn ReadAt, told: &dyn Fn(u64)) -> std::io::Result<String> {
    let (mut hasher, mut at) = (Sha256::new(), 0);
    while at < source.len() {
        let bytes =
            source.read_at(at, usize::try_from(source.len() - at).unwrap_or(usize::MAX).min(HASH_BLOCK_BYTES))?;
        hasher.update(&bytes);
        at += bytes.len() as u64;
        told(bytes.len() as u64);
    }
    Ok(hex(&hasher.finalize()))
}

fn lost(dataset: &str, file: &LedgerFile, what: String) -> BatchError {
    let (location, in_place) = match &file.file.location {
        Location::RawZone { key } => (key.clone(), false),
        Location::InPlace { url, version } => (format!("{url} (version {version})"), true),
    };
    BatchError::RawLost {
        dataset: dataset.to_owned(),
        number: file.number,
        name: file.file.name.clone(),
        location,
        in_place,
        sha256: file.file.sha256.clone(),
        what,
    }
}
