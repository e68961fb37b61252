//! What is appended to a log and read from it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::{Bounds, LogError};

/// How long a repeated idempotency key gets the first call's positions.
pub const IDEMPOTENCY_LIFETIME: Duration = Duration::from_millis(IDEMPOTENCY_LIFETIME_MS.unsigned_abs());

/// [`IDEMPOTENCY_LIFETIME`] in milliseconds, to count with times.
pub const IDEMPOTENCY_LIFETIME_MS: i64 = 24 * 60 * 60 * 1_000;

const KEY_BYTES_MAX: usize = 255;

/// A header of a record.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Header {
    /// Its name; may come more than once.
    pub name: String,
    /// Its value; `None` is not the empty value.
    pub value: Option<Bytes>,
}

/// A record. Cloning it is cheap: the bytes are shared.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Record {
    /// Message key; decides the partition. `None` is not the empty key.
    pub key: Option<Bytes>,
    /// What the record says; `None` where a key is said to be deleted.
    pub value: Option<Bytes>,
    /// Headers, in the producer's order.
    pub headers: Vec<Header>,
    /// When the producer says that it happened or was made, in milliseconds since 1970 UTC.
    pub timestamp_ms: i64,
}

impl Record {
    /// Bytes of key, value and headers.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers: usize = self.headers.iter().map(|header| header.name.len() + length(&header.value)).sum();
        length(&self.key) + length(&self.value) + headers
    }

    /// The value of its first header of that name, if it has one.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&Bytes> {
        self.headers.iter().find(|header| header.name == name)?.value.as_ref()
    }
}

/// A record on its way to a partition.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Routed {
    /// The partition.
    pub partition: u32,
    /// The record.
    pub record: Record,
}

/// A record where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OffsetRecord {
    /// Its offset in its partition.
    pub offset: u64,
    /// The record.
    pub record: Record,
}

/// An offset of a partition of some topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The partition.
    pub partition: u32,
    /// The offset.
    pub offset: u64,
}

/// Where appended records went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// The position of each record, in the order of the records appended (with a repeated key: by the first call).
    pub positions: Vec<Position>,
    /// True if the idempotency key had been used: nothing was appended now.
    pub repeated: bool,
}

/// Bounds of one read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLimits {
    /// Most records; 0 counts as 1.
    pub records_max: usize,
    /// Most bytes (keys, values, headers); one record is given even if it has more.
    pub bytes_max: usize,
}

/// What a read found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Records in order of offset, all of `from ≤ offset < next`; numbers may be skipped, and there may be none.
    pub records: Vec<OffsetRecord>,
    /// The exclusive end of what was read past: read on from here.
    pub next: u64,
    /// The partition's bounds at the time.
    pub bounds: Bounds,
}

/// What a log keeps beyond what must be kept. By default everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// Records appended longer ago than this may go.
    pub age_max: Option<Duration>,
    /// The oldest records may go while the partition takes more than so many bytes, as it stores them.
    pub bytes_max: Option<u64>,
}

/// Names a call of append, so that repeating it does not double its records. 1 to 255 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdempotencyKey(Arc<str>);

impl IdempotencyKey {
    /// Checks a key.
    ///
    /// # Errors
    /// [`LogError::Invalid`] if it is empty or too long.
    pub fn new(key: &str) -> Result<Self, LogError> {
        let reason = match key.len() {
            0 => "it is empty",
            1..=KEY_BYTES_MAX => return Ok(Self(Arc::from(key))),
            _ => "it has more than 255 bytes",
        };
        Err(LogError::Invalid { what: "an idempotency key".to_owned(), reason: reason.to_owned() })
    }

    /// The key.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Tells whether a repeated idempotency key comes with the same records. Over keys and values in order: partition, time and
/// headers may differ in a repetition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 16]);

impl Fingerprint {
    /// The fingerprint of records.
    #[must_use]
    pub fn of(records: &[Routed]) -> Self {
        let mut hash = Sha256::new();
        for Routed { record, .. } in records {
            for part in [&record.key, &record.value] {
                match part {
                    // lengths first, or two ways of cutting the same bytes would be equal
                    Some(bytes) => {
                        hash.update((bytes.len() as u64 + 1).to_le_bytes());
                        hash.update(bytes);
                    }
                    None => hash.update(0_u64.to_le_bytes()),
                }
            }
        }
        let digest: [u8; 32] = hash.finalize().into();
        let mut short = [0; 16];
        short.copy_from_slice(&digest[..16]);
        Self(short)
    }
}
