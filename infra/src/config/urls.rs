//! How the URLs of log and views begin, and which of them name what one process alone has.

use super::ServerConfig;

/// The URL of a log in a folder of this machine: this, and the folder.
pub(crate) const EMBEDDED: &str = "embedded:";
/// How the URL of a log on Kafka begins.
pub(crate) const KAFKA: &str = "kafka:";
/// The URL of views in the process's own memory.
pub(crate) const MEMORY: &str = "memory:";

impl ServerConfig {
    /// True if the log is this process's alone: a second one on the same data meets its lock, and nobody else archives from it.
    #[must_use]
    pub fn own_log(&self) -> bool {
        self.log_url.starts_with(EMBEDDED)
    }

    /// True if the real-time views are this process's alone: nobody else keeps them up, reads them or moves their visible
    /// positions, and they go with it.
    #[must_use]
    pub fn own_views(&self) -> bool {
        self.live_url == MEMORY
    }
}
