//! Why a log refused or failed.

use std::error::Error as StdError;
use std::path::PathBuf;

use super::{TopicId, TopicName};
use crate::error::{ErrorKind, Kind, chain};

/// A failure of a log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A name, number or key that can't be.
    #[error("{what} is refused by the log: {reason}")]
    Invalid {
        /// What was refused: "topic name `a/b`".
        what: String,
        /// Why.
        reason: String,
    },
    /// There is no such topic.
    #[error("topic `{topic}` does not exist")]
    Missing {
        /// Its name.
        topic: TopicName,
    },
    /// The topic was deleted and made again.
    #[error("topic `{topic}` was made again: it is {found} now, not {expected}")]
    Replaced {
        /// Its name.
        topic: TopicName,
        /// The incarnation that was asked for.
        expected: TopicId,
        /// The one that is there.
        found: TopicId,
    },
    /// A topic is there with another number of partitions.
    #[error("topic `{topic}` has {found} partitions, not {expected}")]
    Mismatch {
        /// Its name.
        topic: TopicName,
        /// The number asked for.
        expected: u32,
        /// The number it has.
        found: u32,
    },
    /// The topic has no such partition.
    #[error("topic `{topic}` has no partition {partition}: it has {partitions}, from 0")]
    NoPartition {
        /// Its name.
        topic: TopicName,
        /// The partition asked for.
        partition: u32,
        /// How many there are.
        partitions: u32,
    },
    /// Records that were asked for have left the log.
    #[error("`{topic}/{partition}` begins at offset {start} now: {from} is gone")]
    Gone {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: u32,
        /// The offset asked for.
        from: u64,
        /// The first offset that is left.
        start: u64,
    },
    /// Somebody has seen offsets that the log does not know.
    #[error("`{topic}/{partition}` ends at offset {end}, below {from}: the log has lost records")]
    BeyondEnd {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: u32,
        /// The offset asked for.
        from: u64,
        /// Where the log ends.
        end: u64,
    },
    /// More than one call may carry.
    #[error("{what} of {size} is too large, at most {max}")]
    TooLarge {
        /// What is too large: "a record's bytes".
        what: &'static str,
        /// How large it is.
        size: usize,
        /// The most allowed.
        max: usize,
    },
    /// An idempotency key came a second time with other records.
    #[error("idempotency key `{key}` was used for other records of topic `{topic}`")]
    KeyReused {
        /// The topic.
        topic: TopicName,
        /// The key.
        key: String,
    },
    /// Idempotency keys count for a day, and no more of them can be remembered now.
    #[error("topic `{topic}` was given {max} idempotency keys within a day: no more of them are remembered at once")]
    TooManyKeys {
        /// The topic.
        topic: TopicName,
        /// Most keys of a topic.
        max: usize,
    },
    /// Another process has the log open.
    #[error("the log in {} is open in another process", path.display())]
    Locked {
        /// Its folder.
        path: PathBuf,
    },
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
    /// A write or sync failed, so that nothing can be promised until the log was opened anew: by itself, where the disk was
    /// full, else by a restart.
    #[error("the log has failed and takes no more records: {reason}")]
    Failed {
        /// What failed.
        reason: String,
    },
    /// Written by a newer release.
    #[error("the log's format {found} is newer than this release knows ({known})")]
    NewerFormat {
        /// The number found.
        found: u64,
        /// The newest that is known.
        known: u64,
    },
    /// Stored bytes are not what they must be.
    #[error("the log's {what} can't be read: {reason}")]
    Corrupt {
        /// What: "`trips/3` at offset 17".
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// What is behind the log failed.
    #[error("the log failed to {operation}")]
    Backend {
        /// What was tried.
        operation: &'static str,
        /// Why, in its words.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
}

impl LogError {
    /// A failure of what is behind the log.
    pub fn backend(operation: &'static str, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Backend { operation, source: source.into() }
    }

    /// The same failure for another one who waits for what failed. What was behind it is in words now.
    #[must_use]
    pub fn again(&self) -> Self {
        match self {
            Self::Invalid { what, reason } => Self::Invalid { what: what.clone(), reason: reason.clone() },
            Self::Missing { topic } => Self::Missing { topic: topic.clone() },
            Self::Replaced { topic, expected, found } => {
                Self::Replaced { topic: topic.clone(), expected: expected.clone(), found: found.clone() }
            }
            Self::Mismatch { topic, expected, found } => {
                Self::Mismatch { topic: topic.clone(), expected: *expected, found: *found }
            }
            Self::NoPartition { topic, partition, partitions } => {
                Self::NoPartition { topic: topic.clone(), partition: *partition, partitions: *partitions }
            }
            Self::Gone { topic, partition, from, start } => {
                Self::Gone { topic: topic.clone(), partition: *partition, from: *from, start: *start }
            }
            Self::BeyondEnd { topic, partition, from, end } => {
                Self::BeyondEnd { topic: topic.clone(), partition: *partition, from: *from, end: *end }
            }
            &Self::TooLarge { what, size, max } => Self::TooLarge { what, size, max },
            Self::KeyReused { topic, key } => Self::KeyReused { topic: topic.clone(), key: key.clone() },
            Self::TooManyKeys { topic, max } => Self::TooManyKeys { topic: topic.clone(), max: *max },
            Self::Locked { path } => Self::Locked { path: path.clone() },
            Self::Closed => Self::Closed,
            Self::Failed { reason } => Self::Failed { reason: reason.clone() },
            &Self::NewerFormat { found, known } => Self::NewerFormat { found, known },
            Self::Corrupt { what, reason } => Self::Corrupt { what: what.clone(), reason: reason.clone() },
            Self::Backend { operation, source } => Self::backend(operation, chain(&**source)),
        }
    }
}

impl ErrorKind for LogError {
    fn kind(&self) -> Kind {
        match self {
            Self::Invalid { .. }
            | Self::Mismatch { .. }
            | Self::NoPartition { .. }
            | Self::TooLarge { .. }
            | Self::KeyReused { .. } => Kind::Invalid,
            Self::Missing { .. } | Self::Gone { .. } => Kind::NotFound,
            Self::Replaced { .. } | Self::Locked { .. } => Kind::Conflict,
            Self::BeyondEnd { .. } | Self::Corrupt { .. } => Kind::Corrupt,
            Self::NewerFormat { .. } => Kind::Unsupported,
            Self::TooManyKeys { .. } => Kind::Exhausted,
            Self::Closed | Self::Failed { .. } | Self::Backend { .. } => Kind::Retryable,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Locked { .. } => "use the running process, or stop it first",
            Self::NewerFormat { .. } => "use a release at least as new as the one that wrote it",
            Self::Failed { .. } => {
                "see to the disk: after a full one it goes on by itself, else start again; what was acknowledged is there"
            }
            Self::Mismatch { .. } => "add partitions, or use the number that it has",
            Self::KeyReused { .. } => "use a new key for new records",
            Self::TooManyKeys { .. } => {
                "come again later with the same key: keys are forgotten after a day, and larger appends need fewer"
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }
}
