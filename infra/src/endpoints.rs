//! Where a running `tidemark up` can be found: `endpoints.json` in its data directory. It names the directory, so that a
//! copy of it leads nobody to the original's process.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Name of the file.
pub const ENDPOINTS_FILE: &str = "endpoints.json";

/// A running process and its doors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// Its process id.
    pub pid: u32,
    /// Its HTTP door: `http://127.0.0.1:8410`.
    pub http: String,
    /// The data directory that it runs on, as [`directory_id`] tells it.
    pub directory: String,
}

/// What a directory is, wherever it is moved to, and no copy of it is: device and inode.
///
/// # Errors
/// If it can't be looked at.
pub fn directory_id(directory: &Path) -> io::Result<String> {
    let found = std::fs::metadata(directory)?;
    Ok(format!("{}:{}", found.dev(), found.ino()))
}

impl Endpoints {
    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// If the folder can't be written to.
    pub fn write(&self, data_dir: &Path) -> io::Result<()> {
        let path = data_dir.join(ENDPOINTS_FILE);
        let part = data_dir.join(format!("{ENDPOINTS_FILE}.{}", self.pid));
        let mut json = serde_json::to_vec_pretty(self).expect("endpoints are plain data");
        json.push(b'\n');
        std::fs::write(&part, json)?;
        std::fs::rename(part, path)
    }

    /// Removes the file, if it is this process's.
    pub fn remove(&self, data_dir: &Path) {
        let path = data_dir.join(ENDPOINTS_FILE);
        if parse(&path).is_some_and(|found| found.pid == self.pid)
            && let Err(error) = std::fs::remove_file(&path)
        {
            tracing::warn!(%error, path = %path.display(), "the endpoints file stays behind; a dead process id counts as none");
        }
    }

    /// The process that runs on `data_dir`, if one does. A dead process id counts as none, and so does a file that came here
    /// with a copy of another directory.
    #[must_use]
    pub fn find(data_dir: &Path) -> Option<Self> {
        let found = parse(&data_dir.join(ENDPOINTS_FILE)).filter(|found| is_alive(found.pid))?;
        directory_id(data_dir).is_ok_and(|here| here == found.directory).then_some(found)
    }
}

fn parse(path: &PathBuf) -> Option<Endpoints> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// Where the system has no `/proc`, every process counts as alive: who connects to a dead one is told.
fn is_alive(pid: u32) -> bool {
    let proc = Path::new("/proc");
    if !proc.join("self").exists() {
        return true;
    }
    let process = proc.join(pid.to_string());
    std::fs::read_to_string(process.join("stat")).map_or_else(|_| process.exists(), |stat| runs(&stat))
}

/// True unless the process of this `/proc/<pid>/stat` has ended, and only waits for its parent to be told.
fn runs(stat: &str) -> bool {
    // The name before the state is in parentheses, and may have some of its own.
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().next());
    !matches!(state, Some("Z" | "X" | "x"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(data_dir: &Path) -> Endpoints {
        let directory = directory_id(data_dir).expect("a folder");
        Endpoints { pid: std::process::id(), http: "http://127.0.0.1:1".to_owned(), directory }
    }

    #[test]
    fn a_copy_of_a_directory_has_no_process_and_a_moved_one_keeps_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let [here, copy, moved] = ["here", "copy", "moved"].map(|name| folder.path().join(name));
        std::fs::create_dir(&here).expect("a folder");
        std::fs::create_dir(&copy).expect("a folder");
        let own = own(&here);
        own.write(&here).expect("written");
        std::fs::copy(here.join(ENDPOINTS_FILE), copy.join(ENDPOINTS_FILE)).expect("copied");
        assert_eq!(Endpoints::find(&copy), None);
        std::fs::rename(&here, &moved).expect("moved");
        assert_eq!(Endpoints::find(&moved), Some(own));
    }

    #[test]
    fn a_dead_process_counts_as_none() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(Endpoints::find(folder.path()), None);
        let own = own(folder.path());
        own.write(folder.path()).expect("written");
        assert_eq!(Endpoints::find(folder.path()), Some(own.clone()));
        let dead = Endpoints { pid: u32::MAX, ..own.clone() };
        dead.write(folder.path()).expect("written");
        assert_eq!(Endpoints::find(folder.path()), None);
        own.remove(folder.path());
        assert!(folder.path().join(ENDPOINTS_FILE).exists(), "another process's file stays");
        dead.remove(folder.path());
        assert!(!folder.path().join(ENDPOINTS_FILE).exists());
    }

    #[test]
    fn a_process_that_has_ended_does_not_run_though_its_parent_was_not_told() {
        for (stat, wanted) in [
            ("7 (tidemark) S 1 7 7 0", true),
            ("7 (tidemark) R 1 7 7 0", true),
            ("7 (tidemark) T 1 7 7 0", true),
            ("7 (tidemark) Z 1 7 7 0", false),
            ("7 (a) Z (b) S 1 7 7 0", true),
            ("7 (a) S (b) X 1 7 7 0", false),
            ("", true),
        ] {
            assert_eq!(runs(stat), wanted, "{stat}");
        }
    }

    #[test]
    fn a_zombie_counts_as_none() {
        if !Path::new("/proc/self").exists() {
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let mut child = std::process::Command::new("true").spawn().expect("a process");
        let ended = Endpoints { pid: child.id(), ..own(folder.path()) };
        ended.write(folder.path()).expect("written");
        // It ends by itself, and stays a zombie until it is waited for.
        while Endpoints::find(folder.path()).is_some() {
            std::thread::yield_now();
        }
        assert!(Path::new("/proc").join(ended.pid.to_string()).exists(), "it was waited for");
        let _status = child.wait().expect("it ended");
    }
}
