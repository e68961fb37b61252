//! The files that an ingest request names: local files and folders, and `s3://` objects and prefixes.

use std::io::Read as _;
use std::path::{Path as FsPath, PathBuf};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore as _};
use sha2::{Digest as _, Sha256};
use tidemark_shared::hex;
use tidemark_shared::secrets::shown_url;
use tidemark_shared::store::{Operation, Store};

use crate::error::BatchError;
use crate::report::Progress;
use crate::service::{Batch, IngestRequest};

/// Objects asked for their versions at once.
const HEADS_MAX: usize = 16;
/// Bytes read at a time when hashing.
pub(super) const HASH_BLOCK_BYTES: usize = 1 << 20;

/// Where a file's bytes are now.
#[derive(Clone)]
pub(crate) enum Input {
    /// A local file.
    Local(PathBuf),
    /// An object of a remote store.
    Remote {
        store: Store,
        key: Path,
        /// `s3://bucket/key`.
        url: String,
        /// Version id, in a versioned bucket.
        version: Option<String>,
    },
}

/// A file to take in.
#[derive(Clone)]
pub(crate) struct Found {
    /// Its name in the ledger.
    pub(crate) name: String,
    pub(crate) input: Input,
    pub(crate) bytes: u64,
}

/// A path below a given folder that is no file to take in, and why.
type LeftOut = (String, &'static str);

impl Batch {
    /// Expands the request's paths. Given names of which no file exists are returned apart, for `--accept`.
    pub(crate) async fn expand(
        &self,
        request: &IngestRequest,
        progress: &std::sync::Arc<dyn Progress>,
    ) -> Result<(Vec<Found>, Vec<String>), BatchError> {
        let (mut found, mut unknown) = (Vec::new(), Vec::new());
        for path in &request.paths {
            if path.starts_with("s3://") {
                found.extend(self.expand_remote(path, request.in_place).await?);
            } else if FsPath::new(path).exists() {
                let path = path.clone();
                let own = self.store.url().local_path().map(FsPath::to_owned);
                let files = tokio::task::spawn_blocking(move || expand_local(FsPath::new(&path), own.as_deref())).await;
                let (files, left_out) =
                    files.map_err(|source| BatchError::Panicked { task: "list files", source })??;
                found.extend(files);
                for (path, reason) in left_out {
                    progress.remark(&format!("left out: {}, {reason}", path.escape_debug()));
                }
            } else {
                unknown.push(path.clone());
            }
        }
        if let Some(name) = &request.name {
            // The last step becomes part of a key, and no key may be a folder of another (H1).
            if name.split('/').any(|step| matches!(step, "" | "." | "..")) {
                return Err(BatchError::BadRequest {
                    message: format!("--as `{name}` is no name for a file"),
                    hint: Some("a name is a relative path such as 2019/07.csv".to_owned()),
                });
            }
            let [only] = found.as_mut_slice() else {
                return Err(BatchError::BadRequest {
                    message: format!("--as names one file, but {} were given", found.len()),
                    hint: None,
                });
            };
            only.name.clone_from(name);
        }
        Ok((found, unknown))
    }

    async fn expand_remote(&self, url: &str, in_place: bool) -> Result<Vec<Found>, BatchError> {
        let bad = || BatchError::NoSuchFile { path: shown_url(url) };
        let rest = url.strip_prefix("s3://").ok_or_else(bad)?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let store = self.bucket(bucket).await?;
        let prefix = Path::parse(prefix.trim_end_matches('/')).map_err(|_| bad())?;
        if in_place && !store.upkeep().is_versioned().await? {
            return Err(BatchError::BadRequest {
                message: format!("--in-place needs a versioned bucket, and `{bucket}` is none"),
                hint: Some("enable versioning on it, or leave --in-place away so that the files are copied".to_owned()),
            });
        }
        let remote = |meta: object_store::ObjectMeta, name: String| Found {
            name,
            bytes: meta.size,
            input: Input::Remote {
                store: store.clone(),
                url: format!("s3://{bucket}/{}", meta.location),
                key: meta.location,
                version: meta.version,
            },
        };
        if !prefix.as_ref().is_empty()
            && let Some(meta) = store.head(&prefix, None).await?
        {
            let name = prefix.filename().unwrap_or_default().to_owned();
            return Ok(vec![remote(meta, name)]);
        }
        let listed = store.list(&prefix).await?;
        let named = listed.into_iter().filter_map(|meta| {
            let name = meta.location.as_ref().strip_prefix(prefix.as_ref()).unwrap_or_default();
            let name = name.trim_start_matches('/').to_owned();
            // Without a name: a marker that some tools make for a folder.
            (!name.is_empty() && !name.split('/').any(is_hidden)).then_some((meta, name))
        });
        if !in_place {
            let found: Vec<Found> = named.map(|(meta, name)| remote(meta, name)).collect();
            return if found.is_empty() { Err(bad()) } else { Ok(found) };
        }
        // A listing does not tell versions; asking for the head does, at a request per file.
        let heads = futures::stream::iter(named).map(|(meta, name)| {
            let store = &store;
            async move { Ok::<_, BatchError>(store.head(&meta.location, None).await?.map(|meta| (meta, name))) }
        });
        let heads: Vec<_> = heads.buffered(HEADS_MAX).try_collect().await?;
        let found: Vec<Found> = heads.into_iter().flatten().map(|(meta, name)| remote(meta, name)).collect();
        if found.is_empty() { Err(bad()) } else { Ok(found) }
    }
}

/// True for what lies in a folder beside its data: `.crc` files, `_SUCCESS`, `_delta_log`. The readers of Hive, Spark and
/// Glue pass it by, too.
fn is_hidden(name: &str) -> bool {
    name.starts_with(['.', '_'])
}

/// A file by its name; a folder's files, however deep, by their path in it, in order of path. Hidden ones are left out;
/// what else is left out is named, with the reason: what is no file (a pipe, a link to nothing or to a folder), and the
/// store's own folder.
fn expand_local(path: &FsPath, own: Option<&FsPath>) -> Result<(Vec<Found>, Vec<LeftOut>), BatchError> {
    let read = |at: &FsPath, source| BatchError::Read { path: at.display().to_string(), source };
    let size = |at: &FsPath| std::fs::metadata(at).map(|m| m.len()).map_err(|e| read(at, e));
    if !path.is_dir() {
        // A pipe is read but once, and would be waited for: files are hashed first and copied then.
        if !path.is_file() {
            return Err(BatchError::BadRequest {
                message: format!("{} is no plain file", path.display()),
                hint: Some("write its bytes to a file and give that".to_owned()),
            });
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        return Ok((vec![Found { name, input: Input::Local(path.to_owned()), bytes: size(path)? }], Vec::new()));
    }
    let mut folders = vec![path.to_owned()];
    let (mut found, mut left_out) = (Vec::new(), Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(|e| read(&folder, e))? {
            let entry = entry.map_err(|e| read(&folder, e))?;
            let at = entry.path();
            if is_hidden(&entry.file_name().to_string_lossy()) {
                continue;
            }
            // Links to folders are not followed: they may lead in a circle.
            if entry.file_type().map_err(|e| read(&at, e))?.is_dir() {
                if own.is_some() && at.canonicalize().ok().as_deref() == own {
                    left_out.push((at.to_string_lossy().into_owned(), "the store itself"));
                } else {
                    folders.push(at);
                }
            } else if at.is_file() {
                let name = at.strip_prefix(path).unwrap_or(&at).to_string_lossy().into_owned();
                found.push(Found { name, bytes: size(&at)?, input: Input::Local(at) });
            } else {
                left_out.push((at.to_string_lossy().into_owned(), "no plain file"));
            }
        }
    }
    if found.is_empty() {
        return Err(BatchError::NoSuchFile { path: format!("{} (the folder holds no file)", path.display()) });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((found, left_out))
}

/// SHA-256 of a file's bytes, in lower-case hex, and their number.
pub(crate) async fn digest(
    input: &Input,
    progress: &std::sync::Arc<dyn Progress>,
) -> Result<(String, u64), BatchError> {
    match input {
        Input::Local(path) => {
            let (path, progress) = (path.clone(), std::sync::Arc::clone(progress));
            let task = tokio::task::spawn_blocking(move || digest_local(&path, progress.as_ref()));
            task.await.map_err(|source| BatchError::Panicked { task: "hash", source })?
        }
        Input::Remote { store, key, version, .. } => {
            let options = GetOptions { version: version.clone(), ..GetOptions::default() };
            let failed = |e| BatchError::store(Operation::Read, key, e);
            let mut stream = store.objects().get_opts(key, options).await.map_err(failed)?.into_stream();
            let (mut hasher, mut length) = (Sha256::new(), 0);
            while let Some(bytes) = stream.next().await {
                let bytes: Bytes = bytes.map_err(failed)?;
                hasher.update(&bytes);
                length += bytes.len() as u64;
                progress.advance(bytes.len() as u64);
            }
            Ok((hex(&hasher.finalize()), length))
        }
    }
}

fn digest_local(path: &FsPath, progress: &dyn Progress) -> Result<(String, u64), BatchError> {
    let failed = |source| BatchError::Read { path: path.display().to_string(), source };
    let mut file = std::fs::File::open(path).map_err(failed)?;
    let mut block = vec![0u8; HASH_BLOCK_BYTES];
    let (mut hasher, mut length) = (Sha256::new(), 0);
    loop {
        let count = file.read(&mut block).map_err(failed)?;
        if count == 0 {
            return Ok((hex(&hasher.finalize()), length));
        }
        hasher.update(&block[..count]);
        length += count as u64;
        progress.advance(count as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kept_as_they_are_and_what_is_no_file_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let deep = folder.path().join("a b/=x");
        std::fs::create_dir_all(&deep).expect("a writable folder");
        for name in ["v.csv", "back\\slash.csv", "new\nline.csv", "%41.csv", ".hidden.csv"] {
            std::fs::write(deep.join(name), "id\n").expect("a writable folder");
        }
        std::os::unix::fs::symlink("nowhere", folder.path().join("dangling")).expect("a link");
        std::os::unix::fs::symlink(".", folder.path().join("circle")).expect("a link");
        std::fs::create_dir_all(folder.path().join("data/store/raw")).expect("a writable folder");
        std::fs::write(folder.path().join("data/store/raw/x.csv"), "id\n").expect("a writable folder");
        let own = folder.path().join("data/store").canonicalize().expect("a folder");
        let (found, mut left_out) = expand_local(folder.path(), Some(&own)).expect("a folder with files");
        let names: Vec<&str> = found.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["a b/=x/%41.csv", "a b/=x/back\\slash.csv", "a b/=x/new\nline.csv", "a b/=x/v.csv"]);
        left_out.sort();
        let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        let wanted = [
            (at("circle"), "no plain file"),
            (at("dangling"), "no plain file"),
            (at("data/store"), "the store itself"),
        ];
        assert_eq!(left_out, wanted);
        assert!(matches!(expand_local(FsPath::new("/dev/null"), None), Err(BatchError::BadRequest { .. })));
    }

    #[test]
    fn a_digest_is_of_the_bytes_that_were_read_and_says_how_many() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a");
        std::fs::write(&path, "abc").expect("a writable folder");
        let wanted = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest_local(&path, &crate::report::Quiet).expect("reads"), (wanted.to_owned(), 3));
    }
}
