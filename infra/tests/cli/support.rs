//! A folder of its own for each test, and the binary run in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A definition of three columns, one of them required.
pub(crate) const TOML: &str = r#"name = "rides"
description = "Rides of a day"
columns = [
    { name = "id", type = "int64", required = true },
    { name = "fare", type = "float64" },
    { name = "day", type = "string" },
]
partition_columns = ["day"]

[files]
format = "csv"

[gate]
max_reject_ratio = 0.5
"#;

/// Keeps rides with a fare that is not negative.
pub(crate) const SQL: &str = "SELECT id, fare, day FROM input WHERE fare >= 0\n";

/// How a run of the binary ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Exit code.
    pub(crate) code: i32,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
}

impl Ended {
    /// Fails the test unless the exit code is `code`.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }

    /// Standard output as one JSON document.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// A working directory.
pub(crate) struct Home(TempDir);

impl Home {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self(TempDir::new().expect("a temporary folder"))
    }

    /// One with the definition `rides`, applied.
    pub(crate) fn with_rides() -> Self {
        let home = Self::new();
        home.define(TOML, SQL);
        home.run(&["dataset", "apply", "rides"]).expect(0);
        home
    }

    /// Writes the definition's folder.
    pub(crate) fn define(&self, toml: &str, sql: &str) {
        self.write("rides/dataset.toml", toml);
        self.write("rides/transform.sql", sql);
    }

    /// A path in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file in it.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("it has a folder")).expect("the folder is ours");
        fs::write(path, text).expect("the folder is ours");
    }

    /// Names of all that lies in it.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).expect("the folder is ours");
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("the folder is ours").file_name().into_string().expect("the folder is ours"))
            .collect();
        names.sort();
        names
    }

    /// The binary in it, without variables of the surroundings that it reads.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemark"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TIDEMARK_")) {
            command.env_remove(name);
        }
        command.current_dir(self.0.path()).args(args).stdin(Stdio::null());
        command
    }

    /// Runs the binary in it.
    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        Self::end(&mut self.command(args))
    }

    /// Runs `command` to its end.
    pub(crate) fn end(command: &mut Command) -> Ended {
        let output = command.output().expect("the binary runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the folder is ours");
        Ended { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// The repository's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("it has a folder")
}
