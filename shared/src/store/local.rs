//! The local directory as a store.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use object_store::local::LocalFileSystem;

use super::{IfMissing, Leftover, Operation, Store, StoreError, StoreUrl, Upkeep};

impl Store {
    /// Opens a local directory.
    ///
    /// # Errors
    /// [`StoreError`] if it does not exist and may not be created, or is no directory.
    pub fn local(root: &Path, if_missing: IfMissing) -> Result<Self, StoreError> {
        let failed = |source| StoreError::of_io(Operation::Open, root.display(), source);
        if if_missing == IfMissing::Create {
            fs::create_dir_all(root).map_err(failed)?;
        }
        let root = fs::canonicalize(root).map_err(failed)?;
        // Without this, a plain file would open and every later call would fail in its own way.
        let _entries = fs::read_dir(&root).map_err(failed)?;
        let objects = LocalFileSystem::new_with_prefix(&root)
            .map_err(|source| StoreError::of(Operation::Open, root.display(), source))?;
        let upkeep = LocalUpkeep { root: root.clone() };
        let url = StoreUrl::Local(root.clone());
        Ok(Self::new(url, Arc::new(objects), Arc::new(upkeep)).with_local_root(root))
    }
}

/// Staged writes in the directory. An object is written as `name#<digits>` beside its place and then renamed or linked;
/// a process killed in between leaves that file. Listing never shows it, for no key ends so.
#[derive(Debug)]
struct LocalUpkeep {
    root: PathBuf,
}

#[async_trait]
impl Upkeep for LocalUpkeep {
    async fn leftovers(&self, older_than: Duration) -> Result<Vec<Leftover>, StoreError> {
        let root = self.root.clone();
        let before = SystemTime::now().checked_sub(older_than).unwrap_or(SystemTime::UNIX_EPOCH);
        in_background(Operation::Upkeep, &self.root, move || {
            let mut found = Vec::new();
            collect_staged(&root, &root, before, &mut found)?;
            found.sort_by(|a, b| a.handle.cmp(&b.handle));
            Ok(found)
        })
        .await
    }

    async fn remove_leftover(&self, leftover: &Leftover) -> Result<(), StoreError> {
        let path = self.root.join(&leftover.handle);
        in_background(Operation::Upkeep, &path.clone(), move || match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        })
        .await
    }

    /// The file's bytes, then the name in its folder and those of the folders above it.
    async fn sync(&self, key: &object_store::path::Path) -> Result<(), StoreError> {
        let (root, path) = (self.root.clone(), self.root.join(key.as_ref()));
        in_background(Operation::Sync, &path.clone(), move || {
            fs::File::open(&path)?.sync_all()?;
            for folder in path.ancestors().skip(1) {
                fs::File::open(folder)?.sync_all()?;
                if folder == root {
                    break;
                }
            }
            Ok(())
        })
        .await
    }

    async fn is_versioned(&self) -> Result<bool, StoreError> {
        Ok(false)
    }
}

async fn in_background<T: Send + 'static>(
    operation: Operation,
    object: &Path,
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|join| Err(std::io::Error::other(join)))
        .map_err(|source| StoreError::of_io(operation, object.display(), source))
}

fn collect_staged(
    root: &Path,
    folder: &Path,
    before: SystemTime,
    found: &mut Vec<Leftover>,
) -> Result<(), std::io::Error> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        // A write that goes on beside us may rename its file at any moment: gone is not an error.
        let metadata = match entry.metadata() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            other => other?,
        };
        let path = entry.path();
        if metadata.is_dir() {
            collect_staged(root, &path, before, found)?;
            continue;
        }
        let name = path.strip_prefix(root).ok().and_then(Path::to_str);
        let Some((name, key)) = name.and_then(|name| Some((name, staged_for(name)?))) else { continue };
        let touched = metadata.modified()?;
        if touched <= before {
            found.push(Leftover {
                key: key.to_owned(),
                handle: name.to_owned(),
                since: DateTime::<Utc>::from(touched),
                bytes: Some(metadata.len()),
            });
        }
    }
    Ok(())
}

/// The key that a staged file is for: `a/b#17` is for `a/b`.
pub(super) fn staged_for(name: &str) -> Option<&str> {
    let (key, number) = name.rsplit_once('#')?;
    let staged = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    (staged && !key.is_empty() && !key.ends_with('/')).then_some(key)
}
