//! Where statements spill, for as long as an engine lives.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use datafusion::execution::disk_manager::DiskManagerMode;

/// Removals of a folder in which something may still be made.
const REMOVALS_MAX: usize = 8;

/// A folder of one engine, which goes with it whatever is still in there: a statement that was stopped lets go of its
/// files only when its present step has ended, and a process does not wait for that.
#[derive(Debug)]
pub(super) struct SpillFolder(PathBuf);

impl SpillFolder {
    /// A new folder in `parent`, or in the system's folder for temporary files.
    ///
    /// # Errors
    /// The operating system's.
    pub(super) fn new(parent: Option<&Path>) -> io::Result<Self> {
        let temporary = std::env::temp_dir();
        let folder = tempfile::Builder::new().prefix("tidemark-sql-").tempdir_in(parent.unwrap_or(&temporary))?;
        Ok(Self(folder.keep()))
    }

    /// How the engine's disk manager finds it.
    pub(super) fn mode(&self) -> DiskManagerMode {
        DiskManagerMode::Directories(vec![self.0.clone()])
    }
}

impl Drop for SpillFolder {
    fn drop(&mut self) {
        for _ in 0..REMOVALS_MAX {
            match fs::remove_dir_all(&self.0) {
                // A file made behind the removal: in the folders that are gone, none is made any more.
                Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {}
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    tracing::warn!(folder = %self.0.display(), %error, "what statements spilled is left behind");
                    return;
                }
                _ => return,
            }
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
}
