//! The log port: topics of partitions of records, appended durably and read by offset. Embedded on local disk, or Kafka.
//!
//! What holds for every adapter, and what the contract suite in `shared/testing` checks:
//!
//! - An acknowledged record survives a killed process and, on the embedded log, a power cut. It is read under the offset
//!   that its append was told, and every later record of the partition has a higher one.
//! - Offsets only grow, but may skip numbers: transaction markers and aborted or compacted records take some. So a reader
//!   goes on from [`Fetched::next`], what was *read past*, never from the last record that it saw.
//! - Below [`Bounds::end`] all is decided: no record comes to be there later. What is above is not shown.
//! - A topic that was deleted and made again has another [`TopicId`]. Every call on a topic names the incarnation it
//!   means and fails with [`LogError::Replaced`] if that is gone, so that offsets of two are never mixed up.
//! - Records leave at the start only, never above the limit that the caller of [`Log::retain`] names. Who then reads
//!   below the start is told ([`LogError::Gone`]), never given a later record as if it were the next.
//!
//! Several processes share a topic's partitions as members of a group ([`Membership`]). Groups keep no offsets: what was done
//! is read from what was published (H10).

pub mod memory;

mod blocking;
mod error;
mod keyed;
mod layer;
mod limits;
mod membership;
mod message_key;
mod partitioner;
mod record;
mod topic;
mod varint;

#[cfg(test)]
mod tests;

pub use blocking::blocking;
pub use error::LogError;
pub use keyed::KeyedAppend;
pub use layer::LogLayer;
pub use limits::{AppendSize, check_append, check_partition, check_partitions, check_within};
pub use membership::{Alone, Assignment, GroupName, Membership, Partitions, Share};
pub use message_key::MessageKeys;
pub use partitioner::{Partitioner, STICKY_BYTES, murmur2, partition_of_key};
pub use record::{
    Appended, Fetched, Fingerprint, Header, IDEMPOTENCY_LIFETIME, IDEMPOTENCY_LIFETIME_MS, IdempotencyKey,
    OffsetRecord, Position, ReadLimits, Record, Retention, Routed,
};
pub use topic::{Bounds, Topic, TopicId, TopicName};
pub use varint::{VarintError, put_varint, take_varint};

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

/// Most partitions of a topic.
pub const PARTITIONS_MAX: u32 = 1_024;
/// Most records of one append.
pub const APPEND_RECORDS_MAX: usize = 100_000;
/// Most bytes (keys, values and headers) of one append.
pub const APPEND_BYTES_MAX: usize = 16 << 20;
/// Most bytes (key, value and headers) of one record: a broker with its own defaults takes it.
pub const RECORD_BYTES_MAX: usize = 1_000_000;

/// A log. All calls may be made from many tasks at once.
///
/// Every method fails with [`LogError::Closed`] after [`Self::close`], [`LogError::Failed`] while the log can't promise
/// durability (reads may go on), and [`LogError::Backend`] if what is behind the log fails. Methods on a topic
/// also fail with [`LogError::Missing`] and [`LogError::Replaced`]. None of those has done anything, unless it says so.
#[async_trait]
pub trait Log: Send + Sync + fmt::Debug {
    /// Creates a topic. One that is there with as many partitions is returned as it is, so that a call whose answer was
    /// lost can be repeated. Durable when it returns.
    ///
    /// # Errors
    /// [`LogError::Mismatch`] if it is there with another number of partitions, [`LogError::Invalid`] for 0 or more than
    /// [`PARTITIONS_MAX`].
    async fn create_topic(&self, name: &TopicName, partitions: u32) -> Result<Topic, LogError>;

    /// Makes a topic have `total` partitions; the new ones begin at offset 0. Having as many already is no error. From
    /// then on a key may go to another partition than before, and order between the two is lost.
    ///
    /// # Errors
    /// [`LogError::Mismatch`] if it has more, [`LogError::Invalid`] for more than [`PARTITIONS_MAX`].
    async fn add_partitions(&self, topic: &Topic, total: u32) -> Result<Topic, LogError>;

    /// Deletes this incarnation of a topic with all its records. One that is not there counts as deleted. Who waits on
    /// it is woken with an error.
    async fn delete_topic(&self, topic: &Topic) -> Result<(), LogError>;

    /// The topic of that name as it is now, or `None`.
    async fn topic(&self, name: &TopicName) -> Result<Option<Topic>, LogError>;

    /// Checks that a topic can be followed: that who reads it later finds what who reads it now does, but for what left at the
    /// start. For who opens it: the other calls on a topic do not ask. One of which nobody can tell passes.
    ///
    /// # Errors
    /// [`LogError::Invalid`] if it can't.
    async fn check_topic(&self, topic: &Topic) -> Result<(), LogError>;

    /// All topics, in order of name.
    async fn topics(&self) -> Result<Vec<Topic>, LogError>;

    /// Appends records, each to the partition that it names (see [`Partitioner`]), and returns when they are durable.
    /// Records of one call for one partition stay in their order. Others may see a part of the records before the call
    /// returns.
    ///
    /// With `key`, the key is stored in the same transaction as the records. A call with a key that was used on this
    /// topic less than [`IDEMPOTENCY_LIFETIME`] ago appends nothing and returns the first call's positions.
    ///
    /// A call that fails with [`LogError::Backend`] or [`LogError::Failed`], or is dropped before it returns, may have
    /// appended all, some or none of the records; only one with a key can be repeated without doubling any. The embedded
    /// log appends all or none, also across partitions, and lets nobody else's records come between.
    ///
    /// # Errors
    /// [`LogError::NoPartition`], [`LogError::TooLarge`], [`LogError::KeyReused`], [`LogError::TooManyKeys`]: nothing was
    /// appended.
    async fn append(
        &self,
        topic: &Topic,
        records: Vec<Routed>,
        key: Option<&IdempotencyKey>,
    ) -> Result<Appended, LogError>;

    /// Reads records of one partition from offset `from` on, without waiting for more. The answer is bounded by `limits`
    /// but gets on: unless `from` is the end, [`Fetched::next`] is above `from`, with or without records (the first one
    /// is given however large it is). Dropping the call leaves nothing behind.
    ///
    /// # Errors
    /// [`LogError::Gone`] if `from` is below the start, [`LogError::BeyondEnd`] if it is above the end: the log has lost
    /// records that somebody saw. [`LogError::NoPartition`].
    async fn read(&self, topic: &Topic, partition: u32, from: u64, limits: ReadLimits) -> Result<Fetched, LogError>;

    /// Waits until one of the partitions has its end above the position given for it, at most so long; tells whether one
    /// has. Does not poll. Dropping the call leaves nothing behind. That there is more does not mean that there is a
    /// record (see [`Self::read`]).
    ///
    /// # Errors
    /// [`LogError::NoPartition`]; those of a topic that is deleted and a log that is closed meanwhile.
    async fn wait(&self, topic: &Topic, beyond: &[Position], at_most: Duration) -> Result<bool, LogError>;

    /// Start and end of every partition, in order of partition. Each is true of one moment; they may be of several.
    async fn bounds(&self, topic: &Topic) -> Result<Vec<Bounds>, LogError>;

    /// Lets the oldest records of a partition go that `retention` does not keep, none at or above `limit` (what was
    /// archived durably), and returns the bounds. The start never moves back. A log drops what it stores together at
    /// once, so it may keep some records longer than it must; their space is freed in the course of time.
    ///
    /// # Errors
    /// [`LogError::NoPartition`].
    async fn retain(
        &self,
        topic: &Topic,
        partition: u32,
        retention: &Retention,
        limit: u64,
    ) -> Result<Bounds, LogError>;

    /// Joins the group of that name, whose members share the topic's partitions. Does not wait for a share: see
    /// [`Membership::assignments`]. A log that one process has gives each member everything.
    ///
    /// # Errors
    /// [`LogError::Invalid`] for settings that a group can't have.
    async fn join(&self, topic: &Topic, group: &GroupName) -> Result<Arc<dyn Membership>, LogError>;

    /// Whether records can be appended now: fails as an append would. For who routes to this process; it promises nothing of
    /// the next append. After a failure that passes, as of a full disk, a log may take records again.
    async fn health(&self) -> Result<(), LogError>;

    /// Takes no more calls, finishes the appends that were begun and lets go of what it holds; another process can open
    /// the log when this returns. Waiters are woken with [`LogError::Closed`]. Closing twice is no error.
    async fn close(&self) -> Result<(), LogError>;
}
