//! The configuration: flags over environment over `tidemark.toml` over defaults, each value with its origin.
//!
//! [`KEYS`] lists every value once; parsing, `tidemark config` and `docs/config.md` all follow it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tidemark_batch::BatchSettings;
use tidemark_shared::error::{ErrorKind, Kind};
use tidemark_shared::log::Retention;

mod file;
mod kafka;
mod keys;
mod resolve;
mod roles;
#[cfg(test)]
mod tests;
mod traces;
mod urls;

pub use file::{CONFIG_FILE, FileLayer, nearest_file};
pub use kafka::{KafkaConfig, SaslMechanism};
pub use keys::{KEYS, Key, LATER_DOORS, Shape, documentation};
pub use resolve::resolve;
pub use roles::{Role, Roles};
pub use traces::{Fraction, TracesConfig};
pub(crate) use urls::{EMBEDDED, KAFKA};

/// Values given as flags, as typed: flag with its hyphens → text.
pub type Flags = BTreeMap<&'static str, String>;

/// Limits of ad-hoc SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlLimits {
    /// Bytes that a statement may hold in memory before it spills to disk.
    pub memory_bytes_max: u64,
    /// Disk space for spilling, in bytes.
    pub spill_bytes_max: u64,
    /// A statement that takes longer fails.
    pub timeout: Duration,
    /// A statement that reads more bytes fails; `None`: no limit.
    pub bytes_read_max: Option<u64>,
}

/// A text that nobody is shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text, for whom it is meant.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What `tidemark up` starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// What of it.
    pub roles: Roles,
    /// The log: `embedded:` and an absolute path, or `kafka://` and brokers.
    pub log_url: String,
    /// How Kafka is reached, where the log is there.
    pub kafka: KafkaConfig,
    /// What the log keeps beyond what must be kept.
    pub retention: Retention,
    /// The real-time views: `memory:`, or an OpenSearch cluster.
    pub live_url: String,
    /// Memory of all real-time views, in bytes.
    pub live_bytes_max: u64,
    /// Offsets of a partition in one index of a search cluster.
    pub live_index_offsets: u64,
    /// A search cluster makes aggregates that can be exact.
    pub live_aggregate_pushdown: bool,
    /// How long rows below the coverage stay, and views that answer no more.
    pub live_grace: Duration,
    /// Bytes of records after which a segment is sealed.
    pub segment_bytes_max: u64,
    /// Age of its first record at which a segment is sealed.
    pub segment_age_max: Duration,
    /// How often datasets are looked through for new definitions.
    pub definitions_interval: Duration,
    /// How often the batch layer runs; `None`: only when views fill up.
    pub batch_interval: Option<Duration>,
    /// How often a server removes what nothing names; `None`: never.
    pub vacuum_interval: Option<Duration>,
    /// Address of the HTTP door.
    pub http: SocketAddr,
    /// File of bearer tokens.
    pub tokens_file: Option<PathBuf>,
    /// Largest body of a request, in bytes.
    pub body_bytes_max: u64,
    /// How long a body may take.
    pub body_timeout: Duration,
    /// Statements that are answered at once.
    pub queries_max: usize,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A line of the configuration file.
    File {
        /// Line, from 1.
        line: u64,
    },
    /// An environment variable.
    Env {
        /// Its name.
        name: String,
    },
    /// A flag of the command line.
    Flag {
        /// Its name.
        name: &'static str,
    },
}

/// One value as it counts, ready to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// Which one.
    pub key: &'static Key,
    /// Its value, secrets masked.
    pub shown: String,
    /// Where it comes from.
    pub origin: Origin,
}

/// The configuration of one invocation. All paths in it are absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The configuration file, where one was found.
    pub file: Option<PathBuf>,
    /// Folder of everything that has no URL of its own.
    pub data_dir: PathBuf,
    /// How log lines look.
    pub log_format: LogFormat,
    /// `[traces]`; `None`: there are none.
    pub traces: Option<TracesConfig>,
    /// The object store.
    pub store_url: String,
    /// The catalog.
    pub catalog_url: String,
    /// `[batch]`.
    pub batch: BatchSettings,
    /// `[sql]`.
    pub sql: SqlLimits,
    /// `[log]`, `[live]`, `[speed]`, `[doors]`.
    pub server: ServerConfig,
    /// What was read and does nothing, for standard error.
    pub warnings: Vec<String>,
    /// All values with their origins, in the order of [`KEYS`].
    pub effective: Vec<Effective>,
}

/// Everything that is wrong with the configuration, a line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// At least one problem, each with its place.
    pub problems: Vec<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problems.join("\n"))
    }
}

impl std::error::Error for ConfigError {}

impl ErrorKind for ConfigError {
    fn kind(&self) -> Kind {
        Kind::Invalid
    }

    fn hint(&self) -> Option<String> {
        Some("docs/config.md lists every setting; `tidemark config` shows those that count".to_owned())
    }
}

/// Reads the file (`path`, else the nearest `tidemark.toml` upward from `cwd`) and the process's environment.
///
/// # Errors
/// Everything that is wrong with the file, the environment and the flags.
pub fn load(path: Option<&Path>, flags: &Flags, cwd: &Path) -> Result<Config, ConfigError> {
    let found = match path {
        Some(path) => Some(cwd.join(path)),
        None => nearest_file(cwd),
    };
    let file = found.map(|path| FileLayer::read(&path)).transpose()?;
    resolve(file.as_ref(), &|name| std::env::var(name).ok(), flags, cwd)
}
