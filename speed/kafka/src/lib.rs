//! The log on Kafka, or whatever speaks its protocol: librdkafka behind the log port.
//!
//! A crate of its own, so that the C library is built beside the rest and not before it.
//!
//! What the port promises, and how it is kept here:
//!
//! | promise | how |
//! | --- | --- |
//! | an acknowledged record stays | idempotent producer, `acks=all`: as durable as the topic's replicas and `min.insync.replicas` |
//! | below the end all is decided | readers see committed records only; the end is the last stable offset |
//! | offsets may skip | what was read past is the last record's successor or where the broker said that a reader had come to the end |
//! | a topic made again is noticed | its id is asked for *after* records were fetched or acknowledged; ids never come back |
//! | an idempotency key counts once | keys and records go in one transaction; keys lie in a topic beside it ([`keyed`]), whoever appends |
//! | members share partitions | a consumer group, cooperatively rebalanced; its consumers read nothing and commit nothing ([`member`]) |
//! | a panic is nobody else's | a thread that panics begins again with what it has ([`clients`]); who waited for it is told |
//! | records go only below a limit | `DeleteRecords` up to it; what the topic's own retention takes is met as [`LogError::Gone`] |
//!
//! What Kafka can't do, and what is done then:
//!
//! - It tells neither how many bytes a partition takes nor when a record was appended: [`Log::retain`] goes by the records'
//!   own timestamps, as the broker itself does, and of sizes knows only 0. All else is the topic's own `retention.*`.
//! - It appends by name: a topic that somebody deletes and makes again *while* records are on their way gets them, and the
//!   caller is told [`LogError::Replaced`] nevertheless. With a key they are taken back: their transaction is aborted.
//! - A record's time can't be 0 or before 1970: such a time goes in a header of ours ([`record`]), which readers here take off.
//! - It removes records from the middle of a topic that is compacted: such a topic is refused by [`Log::check_topic`] ([`policy`]).
//! - While a process that died in the middle of an append with a key has its transaction open, readers get no later
//!   records of those partitions: for 10 s, or until another append with a key ends it.
//!
//! [`LogError::Gone`]: tidemark_shared::log::LogError::Gone
//! [`LogError::Replaced`]: tidemark_shared::log::LogError::Replaced
//! [`Log::check_topic`]: tidemark_shared::log::Log::check_topic
//! [`Log::retain`]: tidemark_shared::log::Log::retain

mod clients;
mod config;
mod error;
mod keyed;
mod log;
mod member;
mod native;
mod offsets;
mod parts;
mod patience;
mod policy;
mod produce;
mod readers;
mod record;
mod settings;
mod stats;
mod topics;

pub use log::KafkaLog;
pub use settings::{KafkaSettings, Sasl, Security, brokers_of, properties_of};
pub use stats::{ClientKind, ClientStats, NoStats, Stats};
