//! Where statements spill, for as long as an engine lives.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use datafusion::execution::disk_manager::DiskManagerMode;

/// Removals of a folder in which something may still be made.
const REMOVALS_MAX: usize = 8;
const PREFIX: &str = "tidemark-sql-";
/// A file in each folder that its engine holds locked: the lock ends with the process, however that ends.
const LOCK: &str = "lock";
/// A folder that is younger may be one that is being made: its lock comes last.
const MAKING: Duration = Duration::from_secs(60);

/// A folder of one engine, which goes with it whatever is still in there: a statement that was stopped lets go of its
/// files only when its present step has ended, and a process does not wait for that.
#[derive(Debug)]
pub(super) struct SpillFolder {
    path: PathBuf,
    _lock: File,
}

impl SpillFolder {
    /// A new folder in `parent`, or in the system's folder for temporary files. Those that killed processes left there go.
    ///
    /// # Errors
    /// The operating system's.
    pub(super) fn new(parent: Option<&Path>) -> io::Result<Self> {
        let temporary = std::env::temp_dir();
        let parent = parent.unwrap_or(&temporary);
        sweep(parent, MAKING);
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?;
        let lock = File::create_new(folder.path().join(LOCK))?;
        if let Err(error) = lock.lock() {
            // A file system without locks: nobody takes this folder for one that was left.
            tracing::debug!(folder = %folder.path().display(), %error, "what statements spill stays behind if this process is killed");
        }
        Ok(Self { path: folder.keep(), _lock: lock })
    }

    /// How the engine's disk manager finds it.
    pub(super) fn mode(&self) -> DiskManagerMode {
        DiskManagerMode::Directories(vec![self.path.clone()])
    }
}

impl Drop for SpillFolder {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

fn remove(folder: &Path) {
    for _ in 0..REMOVALS_MAX {
        match fs::remove_dir_all(folder) {
            // A file made behind the removal: in the folders that are gone, none is made any more.
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {}
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(folder = %folder.display(), %error, "what statements spilled is left behind");
                return;
            }
            _ => return,
        }
    }
}

/// Removes folders that no engine holds any more and that are older than `making`. What can't be seen is somebody else's.
fn sweep(parent: &Path, making: Duration) {
    let is_left = |folder: &Path| -> io::Result<bool> {
        let lock = File::open(folder.join(LOCK))?;
        let is_old = lock.metadata()?.modified()?.elapsed().is_ok_and(|age| age >= making);
        Ok(is_old && lock.try_lock().is_ok())
    };
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        if is_ours && entry.file_type().is_ok_and(|kind| kind.is_dir()) && is_left(&entry.path()).unwrap_or(false) {
            remove(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_with_all_that_is_in_it() {
        let parent = tempfile::tempdir().expect("a folder");
        let folder = SpillFolder::new(Some(parent.path())).expect("a folder");
        let DiskManagerMode::Directories(found) = folder.mode() else { panic!("{folder:?}") };
        fs::create_dir(found[0].join("datafusion-1")).expect("a folder");
        fs::write(found[0].join("datafusion-1/rows"), "rows").expect("a file");
        drop(folder);
        assert_eq!(fs::read_dir(parent.path()).expect("it is there").count(), 0);
    }

    #[test]
    fn what_killed_processes_left_goes_and_what_is_held_stays() {
        let parent = tempfile::tempdir().expect("a folder");
        let held = SpillFolder::new(Some(parent.path())).expect("a folder");
        for (name, has_lock) in [("tidemark-sql-left", true), ("tidemark-sql-making", false), ("other", true)] {
            fs::create_dir(parent.path().join(name)).expect("a folder");
            if has_lock {
                File::create(parent.path().join(name).join(LOCK)).expect("a file");
            }
        }
        sweep(parent.path(), MAKING);
        assert!(parent.path().join("tidemark-sql-left").exists(), "it may be one that is being made");
        sweep(parent.path(), Duration::ZERO);
        let is_there = |name: &str| parent.path().join(name).exists();
        assert!(held.path.exists() && is_there("tidemark-sql-making") && is_there("other"));
        assert!(!is_there("tidemark-sql-left"));
    }
}
