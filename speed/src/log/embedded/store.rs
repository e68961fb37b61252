//! What lies in the folder: one keyspace a partition for its values, and three for the log itself.
//!
//! ```text
//! log       format                                   number of this layout
//!           next                                     the first topic number that was never used
//!           topic/<name>                             a topic's entry, JSON
//!           start/<topic number 8><partition 4>      where a partition begins, once something has left it
//! keys      <topic number 8><idempotency key>        fingerprint, time and positions of the append
//! expiry    <time, ms 8><topic number 8><key>        for finding the old ones
//! t<topic number>.p<partition>                       values, by the offset of their last record
//! ```
//!
//! Numbers in keys are big endian. All of it lives in one database, so that records, idempotency key and starts move
//! together in one batch of its journal.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fjall::config::FilterPolicy;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode};
use tidemark_shared::log::{Bounds, LogError, TopicName};

use super::codec::{ValueHeader, key_of, offset_of};
use super::failure::{backend, corrupt};
use super::topics::{PartitionState, Tail, TopicEntry, TopicState};

const FORMAT: u64 = 1;
const FORMAT_KEY: &str = "format";
const NEXT_KEY: &str = "next";
const TOPIC_PREFIX: &str = "topic/";
const START_PREFIX: &[u8] = b"start/";

/// A file that is written to see whether there is space, and removed.
const PROBE_FILE: &str = "space.probe";
/// Bytes of it: room for the largest group of appends, and as much for the tables that the database writes beside.
const PROBE_BYTES: usize = 16 << 20;

/// Bytes of a partition that are held in memory before they become a table: small, for there may be many partitions.
const MEMTABLE_BYTES: u64 = 16 << 20;
const CACHE_BYTES: u64 = 32 << 20;
/// Journals are kept until all that is in them lies in tables; above this, what holds the oldest one back is written out.
const JOURNALS_BYTES: u64 = 256 << 20;

/// The opened database. Only the writer has it; readers have a partition's keyspace.
pub(super) struct LogStore {
    database: Database,
    log: Keyspace,
    pub(super) keys: Keyspace,
    pub(super) expiry: Keyspace,
}

impl LogStore {
    /// Opens or makes the log in `folder`.
    pub(super) fn open(folder: &Path) -> Result<Self, LogError> {
        std::fs::create_dir_all(folder).map_err(|source| LogError::backend("make its folder", source))?;
        let opened = Database::builder(folder)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNALS_BYTES)
            // every batch says how durable it is to be
            .manual_journal_persist(true)
            .open();
        let database = opened.map_err(|error| open_failed(folder.to_owned(), error))?;
        let keyspace = |name| {
            let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
            database.keyspace(name, options).map_err(|error| backend("open a keyspace", error))
        };
        let (log, keys, expiry) = (keyspace("log")?, keyspace("keys")?, keyspace("expiry")?);
        let store = Self { database, log, keys, expiry };
        store.check_format()?;
        Ok(store)
    }

    fn check_format(&self) -> Result<(), LogError> {
        let Some(found) = self.log.get(FORMAT_KEY).map_err(|error| backend("read its format", error))? else {
            let mut batch = self.batch();
            batch.insert(&self.log, FORMAT_KEY, FORMAT.to_be_bytes());
            return self.commit(batch);
        };
        let found = <[u8; 8]>::try_from(&found[..]).map(u64::from_be_bytes);
        match found.map_err(|_| corrupt("format", "it is not a number"))? {
            FORMAT => Ok(()),
            found if found > FORMAT => Err(LogError::NewerFormat { found, known: FORMAT }),
            _ => Err(corrupt("format", "no release ever wrote it")),
        }
    }

    pub(super) fn batch(&self) -> OwnedWriteBatch {
        self.database.batch().durability(Some(PersistMode::SyncData))
    }

    /// Writes a batch; it is on the disk when this returns.
    pub(super) fn commit(&self, batch: OwnedWriteBatch) -> Result<(), LogError> {
        batch.commit().map_err(|error| backend("write to its journal", error))
    }

    /// All topics with their partitions, as they were left; remains of topics that were being made or deleted are
    /// removed. Also the first topic number that was never used.
    pub(super) fn recover(&self) -> Result<(Vec<Arc<TopicState>>, u64), LogError> {
        let mut topics = Vec::new();
        let mut wanted: BTreeSet<String> = BTreeSet::new();
        let next = self.log.get(NEXT_KEY).map_err(|error| backend("read its topic numbers", error))?;
        let next = next.map(|next| offset_of(&next)).transpose();
        let mut next_number = next.map_err(|what| corrupt("topic numbers", what.0))?.unwrap_or(0);
        for guard in self.log.prefix(TOPIC_PREFIX) {
            let (key, value) = guard.into_inner().map_err(|error| backend("list its topics", error))?;
            let name = std::str::from_utf8(&key[TOPIC_PREFIX.len()..]).ok().map(TopicName::new);
            let Some(Ok(name)) = name else { return Err(corrupt("list of topics", "a name is not one")) };
            let entry: TopicEntry = serde_json::from_slice(&value)
                .map_err(|error| corrupt(format!("entry of topic `{name}`"), error.to_string()))?;
            wanted.extend((0..entry.partitions).map(|partition| keyspace_name(entry.number, partition)));
            let partitions = self.partitions(&name, &entry, 0)?;
            topics.push(Arc::new(TopicState::new(name, &entry, partitions)));
        }
        for name in self.database.list_keyspace_names() {
            let Some(number) = topic_number(&name) else { continue };
            next_number = next_number.max(number + 1);
            if !wanted.contains(&*name) {
                self.remove_keyspace(&name)?;
            }
        }
        Ok((topics, next_number))
    }

    /// Opens or makes the partitions of a topic from `first` on.
    pub(super) fn partitions(
        &self,
        name: &TopicName,
        entry: &TopicEntry,
        first: u32,
    ) -> Result<Vec<Arc<PartitionState>>, LogError> {
        let partition = |number| {
            let keyspace = self.partition_keyspace(entry.number, number)?;
            let start = self.start(entry.number, number)?;
            let (tail, stored_end) = recover_tail(&keyspace).map_err(|reason| {
                reason.unwrap_or_else(|what| corrupt(format!("last value of `{name}/{number}`"), what))
            })?;
            // what retention emptied goes on where it was
            let end = stored_end.max(start);
            let bounds = Bounds { start, end };
            Ok(Arc::new(PartitionState::new(number, keyspace, bounds, Tail { end, ..tail })))
        };
        (first..entry.partitions).map(partition).collect()
    }

    fn partition_keyspace(&self, number: u64, partition: u32) -> Result<Keyspace, LogError> {
        // Values are found by scanning from an offset, which filters can't help.
        let options = || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(MEMTABLE_BYTES)
                .filter_policy(FilterPolicy::disabled())
                .expect_point_read_hits(true)
        };
        let opened = self.database.keyspace(&keyspace_name(number, partition), options);
        opened.map_err(|error| backend("open a partition", error))
    }

    fn remove_keyspace(&self, name: &str) -> Result<(), LogError> {
        let removed = self
            .database
            .keyspace(name, KeyspaceCreateOptions::default)
            .and_then(|keyspace| self.database.delete_keyspace(keyspace));
        removed.map_err(|error| backend("remove a deleted topic's records", error))
    }

    fn start(&self, number: u64, partition: u32) -> Result<u64, LogError> {
        let stored = self.log.get(start_key(number, partition)).map_err(|error| backend("read a start", error))?;
        let Some(stored) = stored else { return Ok(0) };
        offset_of(&stored).map_err(|what| corrupt("start of a partition", what.0))
    }

    pub(super) fn put_start(&self, batch: &mut OwnedWriteBatch, number: u64, partition: u32, start: u64) {
        batch.insert(&self.log, start_key(number, partition), key_of(start));
    }

    /// Stores what a topic is, and the next topic's number; durable when this returns.
    pub(super) fn put_topic(&self, name: &TopicName, entry: &TopicEntry, next_number: u64) -> Result<(), LogError> {
        let mut batch = self.batch();
        let json = serde_json::to_vec(entry).expect("an entry is plain data");
        batch.insert(&self.log, topic_key(name), json);
        batch.insert(&self.log, NEXT_KEY, next_number.to_be_bytes());
        self.commit(batch)
    }

    /// Forgets a topic, then removes its records. A process killed in between leaves records that [`Self::recover`]
    /// removes.
    pub(super) fn remove_topic(&self, topic: &TopicState) -> Result<(), LogError> {
        let mut batch = self.batch();
        batch.remove(&self.log, topic_key(&topic.name));
        for partition in topic.partitions().iter() {
            batch.remove(&self.log, start_key(topic.number, partition.number));
        }
        self.commit(batch)?;
        for partition in topic.partitions().iter() {
            partition.let_go();
            self.remove_keyspace(&keyspace_name(topic.number, partition.number))?;
        }
        Ok(())
    }
}

/// Fails while the disk has no room for more than a few appends.
pub(super) fn check_space(folder: &Path) -> std::io::Result<()> {
    let path = folder.join(PROBE_FILE);
    let written = write_probe(&path);
    // What is left of it takes up the space that it was to find.
    written.and(std::fs::remove_file(&path))
}

fn write_probe(path: &Path) -> std::io::Result<()> {
    let mut file = std::fs::File::create(path)?;
    let chunk = vec![0x5a; 1 << 20];
    (0..PROBE_BYTES / chunk.len()).try_for_each(|_| file.write_all(&chunk))?;
    file.sync_all()
}

/// The tail as the last value has it, and the exclusive end of its offsets. An inner error is of the database.
fn recover_tail(keyspace: &Keyspace) -> Result<(Tail, u64), Result<LogError, &'static str>> {
    let Some(guard) = keyspace.last_key_value() else { return Ok((Tail::default(), 0)) };
    let (key, value) = guard.into_inner().map_err(|error| Ok(backend("read its last value", error)))?;
    let header = ValueHeader::parse(&value).map_err(|what| Err(what.0))?;
    let last = offset_of(&key).map_err(|what| Err(what.0))?;
    if header.end() != last + 1 {
        return Err(Err("it lies under another offset than its last"));
    }
    let bytes = header.bytes_before + value.len() as u64;
    Ok((Tail { end: header.end(), bytes, appended_at_ms: header.appended_at_ms }, header.end()))
}

fn open_failed(path: PathBuf, error: fjall::Error) -> LogError {
    match error {
        fjall::Error::Locked => LogError::Locked { path },
        error => backend("open its folder", error),
    }
}

fn keyspace_name(number: u64, partition: u32) -> String {
    format!("t{number}.p{partition}")
}

/// The topic number in a name made by [`keyspace_name`].
fn topic_number(name: &str) -> Option<u64> {
    name.strip_prefix('t')?.split_once(".p")?.0.parse().ok()
}

fn topic_key(name: &TopicName) -> String {
    format!("{TOPIC_PREFIX}{name}")
}

fn start_key(number: u64, partition: u32) -> Vec<u8> {
    [START_PREFIX, &number.to_be_bytes(), &partition.to_be_bytes()].concat()
}
