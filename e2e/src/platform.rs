//! A handle on the real `tidemark` binary: its commands, their exit codes and their JSON.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// Why a command could not be run, or what it said was not what a script may expect.
#[derive(Debug)]
pub enum PlatformError {
    /// The binary is missing; `make build` makes it.
    Missing(PathBuf),
    /// The process could not be started or waited for.
    Process(io::Error),
    /// Standard output is not one JSON document.
    NotJson {
        /// The command's arguments.
        args: String,
        /// Exit code.
        code: i32,
        /// Both outputs, for the person who reads this.
        output: String,
    },
    /// The command ended with another exit code than it should.
    Code {
        /// The command's arguments.
        args: String,
        /// Exit code.
        code: i32,
        /// Both outputs.
        output: String,
    },
}

impl fmt::Display for PlatformError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(path) => write!(f, "no tidemark binary at {}: run `make build`", path.display()),
            Self::Process(error) => write!(f, "tidemark could not be run: {error}"),
            Self::NotJson { args, code, output } => {
                write!(f, "tidemark {args}: exit code {code}, and no JSON document: {output}")
            }
            Self::Code { args, code, output } => write!(f, "tidemark {args}: exit code {code}: {output}"),
        }
    }
}

impl std::error::Error for PlatformError {}

/// What a finished command left.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Exit code; -1 where a signal ended the process.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    args: String,
}

impl Outcome {
    /// Standard output as one JSON document.
    ///
    /// # Errors
    /// [`PlatformError::NotJson`].
    pub fn json(&self) -> Result<Value, PlatformError> {
        serde_json::from_str(&self.stdout).map_err(|_| PlatformError::NotJson {
            args: self.args.clone(),
            code: self.code,
            output: self.output(),
        })
    }

    /// This outcome if its exit code is `code`.
    ///
    /// # Errors
    /// [`PlatformError::Code`].
    pub fn expect_code(self, code: i32) -> Result<Self, PlatformError> {
        if self.code == code {
            return Ok(self);
        }
        Err(PlatformError::Code { args: self.args.clone(), code: self.code, output: self.output() })
    }

    fn output(&self) -> String {
        format!("{}\n{}", self.stdout.trim_end(), self.stderr.trim_end())
    }
}

/// The binary with a data directory and an environment. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tidemark {
    binary: PathBuf,
    data_dir: PathBuf,
    env: Vec<(OsString, OsString)>,
}

impl Tidemark {
    /// The binary beside this program (or that of `TIDEMARK_BIN`), with `data_dir` as its data directory.
    ///
    /// # Errors
    /// [`PlatformError::Missing`].
    pub fn new(data_dir: &Path) -> Result<Self, PlatformError> {
        let binary = match std::env::var_os("TIDEMARK_BIN") {
            Some(path) => PathBuf::from(path),
            None => beside_this_program().map_err(PlatformError::Process)?,
        };
        if !binary.is_file() {
            return Err(PlatformError::Missing(binary));
        }
        Ok(Self { binary, data_dir: data_dir.to_owned(), env: Vec::new() })
    }

    /// The same with one more environment variable.
    #[must_use]
    pub fn with_env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// The binary.
    #[must_use]
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// The data directory.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// A command with these arguments, for callers that start it themselves.
    #[must_use]
    pub fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("--data-dir").arg(&self.data_dir).args(args);
        // Commands ask the process of their own data directory, whatever the shell was told of a stack.
        command.env_remove("TIDEMARK_SERVER");
        command.envs(self.env.iter().map(|(name, value)| (name, value))).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    ///
    /// # Errors
    /// [`PlatformError::Process`]; any exit code is a fine outcome.
    pub fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<Outcome, PlatformError> {
        let output = self.command(args).output().map_err(PlatformError::Process)?;
        Ok(Outcome {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            args: spoken(args),
        })
    }

    /// Runs a command that must succeed, and reads its JSON.
    ///
    /// # Errors
    /// Another exit code than 0, or no JSON.
    pub fn run_json<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<Value, PlatformError> {
        self.run(args)?.expect_code(0)?.json()
    }

    /// Answers a query: the document with `columns`, `as_of`, `rows` and `stats`. `tables` are files or folders to
    /// query in place, as (name, path).
    ///
    /// # Errors
    /// Another exit code than 0, or no JSON.
    pub fn sql(&self, statement: &str, tables: &[(&str, &Path)]) -> Result<Value, PlatformError> {
        let mut args: Vec<OsString> = ["sql", statement, "--format", "json", "--stats"].map(OsString::from).to_vec();
        for (name, path) in tables {
            let mut table = OsString::from(format!("{name}="));
            table.push(path);
            args.extend([OsString::from("--table"), table]);
        }
        self.run_json(&args)
    }

    /// The rows of a query over the catalog's tables.
    ///
    /// # Errors
    /// Another exit code than 0, or no JSON.
    pub fn rows(&self, statement: &str) -> Result<Vec<Value>, PlatformError> {
        Ok(self.sql(statement, &[])?["rows"].as_array().cloned().unwrap_or_default())
    }
}

/// The repository's root.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("e2e is a folder of the repository").to_owned()
}

/// The folder of a dataset definition that the repository ships.
#[must_use]
pub fn dataset_folder(name: &str) -> PathBuf {
    repository().join("datasets").join(name)
}

/// The folder of real trips (`yellow/`, `green/`, `messy/`): `TIDEMARK_TRIPS_DIR`, else beside the repository; `None`
/// where neither is there.
#[must_use]
pub fn real_trips() -> Option<PathBuf> {
    let named = std::env::var_os("TIDEMARK_TRIPS_DIR").map(PathBuf::from);
    let folder = named.unwrap_or_else(|| repository().join("../shared/data/nyc-taxi"));
    folder.join("yellow").is_dir().then_some(folder)
}

/// `target/<profile>/tidemark`: programs stand beside it, tests one folder below.
fn beside_this_program() -> io::Result<PathBuf> {
    let this = std::env::current_exe()?;
    let folder = this.parent().unwrap_or(Path::new("."));
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    Ok(folder.join("tidemark"))
}

fn spoken<S: AsRef<OsStr>>(args: &[S]) -> String {
    let words: Vec<_> = args.iter().map(|arg| arg.as_ref().to_string_lossy().into_owned()).collect();
    words.join(" ")
}
