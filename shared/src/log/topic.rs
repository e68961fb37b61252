//! What a topic is called, which incarnation of it is meant, and how far its partitions reach.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::LogError;
use crate::position::FILES_SOURCE;

/// Kafka's limit.
const NAME_BYTES_MAX: usize = 249;

/// A topic's name: 1 to 249 letters, digits, `.`, `_` and `-`, as Kafka has it; not `files`, which names the file ledger.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct TopicName(Arc<str>);

impl TopicName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`LogError::Invalid`] if no topic can be called so.
    pub fn new(name: &str) -> Result<Self, LogError> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let reason = match name {
            "" => "it is empty",
            "." | ".." => "it means a folder",
            FILES_SOURCE => "that is the file ledger's",
            _ if name.len() > NAME_BYTES_MAX => "it has more than 249 characters",
            _ if !name.bytes().all(legal) => "only letters, digits, `.`, `_` and `-` are allowed",
            _ => return Ok(Self(Arc::from(name))),
        };
        Err(LogError::Invalid { what: format!("topic name `{name}`"), reason: reason.to_owned() })
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for TopicName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// Tells the incarnations of a topic apart: made when the topic is created, never used again. Kafka's topic UUID.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TopicId(Arc<str>);

impl TopicId {
    /// As an adapter got or made it. Opaque to everybody else.
    #[must_use]
    pub fn new(id: &str) -> Self {
        Self(Arc::from(id))
    }

    /// The id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One incarnation of a topic, as it was when somebody asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Topic {
    /// Its name.
    pub name: TopicName,
    /// Which incarnation.
    pub id: TopicId,
    /// How many partitions it had then; it may have got more since.
    pub partitions: u32,
}

/// How far a partition reached at some moment. Empty if start and end are equal; offsets begin at 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Bounds {
    /// The first offset that may still be read.
    pub start: u64,
    /// The exclusive end of what may be read: below it all is decided (Kafka's last stable offset).
    pub end: u64,
}
