//! The topics as this process knows them: who reads looks here, only the writer changes them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use fjall::Keyspace;
use serde::{Deserialize, Serialize};
use tidemark_shared::log::{Bounds, LogError, Topic, TopicId, TopicName, check_partition};
use tidemark_shared::{lock, read, write};
use tokio::sync::watch;

use super::failure::corrupt;

/// What is stored of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TopicEntry {
    /// Names its keyspaces; never used again.
    pub(super) number: u64,
    pub(super) id: TopicId,
    pub(super) partitions: u32,
    /// RFC 3339; for people who look into the store.
    pub(super) created_at: String,
}

/// One incarnation of a topic.
#[derive(Debug)]
pub(super) struct TopicState {
    pub(super) name: TopicName,
    pub(super) id: TopicId,
    pub(super) number: u64,
    pub(super) created_at: String,
    deleted: AtomicBool,
    partitions: RwLock<Vec<Arc<PartitionState>>>,
}

/// One partition of it.
#[derive(Debug)]
pub(super) struct PartitionState {
    pub(super) number: u32,
    /// How far it reaches; also wakes those who wait when there is nothing to wait for any more.
    pub(super) live: watch::Sender<Live>,
    /// Where the writer goes on; nobody else looks.
    tail: Mutex<Tail>,
    /// `None` once the log is closed, and while it is opened anew: a keyspace keeps the folder's lock.
    keyspace: Mutex<Option<KeyspaceHandle>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Live {
    pub(super) bounds: Bounds,
    /// The log was closed or has failed, or the topic is gone.
    pub(super) stopped: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tail {
    pub(super) end: u64,
    /// Bytes of all values that were ever appended.
    pub(super) bytes: u64,
    pub(super) appended_at_ms: i64,
}

/// A keyspace has no `Debug` of its own.
#[derive(Clone)]
pub(super) struct KeyspaceHandle(pub(super) Keyspace);

impl std::fmt::Debug for KeyspaceHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Keyspace").field(&&**self.0.name()).finish()
    }
}

impl TopicState {
    pub(super) fn new(name: TopicName, entry: &TopicEntry, partitions: Vec<Arc<PartitionState>>) -> Self {
        let TopicEntry { number, id, created_at, .. } = entry.clone();
        Self { name, id, number, created_at, deleted: AtomicBool::new(false), partitions: RwLock::new(partitions) }
    }

    pub(super) fn partitions(&self) -> RwLockReadGuard<'_, Vec<Arc<PartitionState>>> {
        read(&self.partitions)
    }

    pub(super) fn add(&self, partitions: Vec<Arc<PartitionState>>) {
        write(&self.partitions).extend(partitions);
    }

    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.partitions().len()).expect("a topic has at most PARTITIONS_MAX partitions")
    }

    pub(super) fn partition(&self, partition: u32) -> Result<Arc<PartitionState>, LogError> {
        check_partition(&self.described(), partition, self.count())?;
        Ok(Arc::clone(&self.partitions()[partition as usize]))
    }

    pub(super) fn described(&self) -> Topic {
        Topic { name: self.name.clone(), id: self.id.clone(), partitions: self.count() }
    }

    pub(super) fn check_there(&self) -> Result<(), LogError> {
        if self.deleted.load(Ordering::Acquire) {
            return Err(LogError::Missing { topic: self.name.clone() });
        }
        Ok(())
    }

    pub(super) fn delete(&self) {
        self.deleted.store(true, Ordering::Release);
        self.wake();
    }

    /// Fails unless all that `known` has acknowledged is here.
    fn check_holds(&self, known: &Self) -> Result<(), LogError> {
        let found = self.partitions();
        for known in known.partitions().iter() {
            let (before, now) = (known.bounds(), found.get(known.number as usize).map(|found| found.bounds()));
            if now.is_none_or(|now| now.end < before.end || now.start < before.start) {
                let what = format!("partition `{}/{}`", self.name, known.number);
                return Err(corrupt(what, format!("it had {before:?} and has {now:?} since it was opened anew")));
            }
        }
        Ok(())
    }

    fn take_over(&self, found: &Self) {
        let mut known = write(&self.partitions);
        let found = found.partitions();
        known.iter().zip(found.iter()).for_each(|(known, found)| known.take_over(found));
        let more = found.iter().skip(known.len()).cloned().collect::<Vec<_>>();
        known.extend(more);
    }

    pub(super) fn wake(&self) {
        for partition in self.partitions().iter() {
            partition.live.send_modify(|live| live.stopped = true);
        }
    }
}

impl PartitionState {
    pub(super) fn new(number: u32, keyspace: Keyspace, bounds: Bounds, tail: Tail) -> Self {
        Self {
            number,
            live: watch::Sender::new(Live { bounds, stopped: false }),
            tail: Mutex::new(tail),
            keyspace: Mutex::new(Some(KeyspaceHandle(keyspace))),
        }
    }

    pub(super) fn bounds(&self) -> Bounds {
        self.live.borrow().bounds
    }

    pub(super) fn tail(&self) -> MutexGuard<'_, Tail> {
        // only the writer takes it, and is not there any more after a panic
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn keyspace(&self) -> Option<Keyspace> {
        lock(&self.keyspace).as_ref().map(|handle| handle.0.clone())
    }

    pub(super) fn let_go(&self) {
        drop(lock(&self.keyspace).take());
    }

    /// Goes on with what the folder was found to hold. Who waits goes on waiting.
    fn take_over(&self, found: &Self) {
        let keyspace = lock(&found.keyspace).take();
        *lock(&self.keyspace) = keyspace;
        *self.tail() = *found.tail();
        let bounds = found.bounds();
        self.live.send_modify(|live| *live = Live { bounds, stopped: false });
    }
}

/// All topics by name.
#[derive(Debug, Default)]
pub(super) struct Topics(RwLock<BTreeMap<TopicName, Arc<TopicState>>>);

impl Topics {
    pub(super) fn read(&self) -> RwLockReadGuard<'_, BTreeMap<TopicName, Arc<TopicState>>> {
        read(&self.0)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<TopicName, Arc<TopicState>>> {
        // only the writer does, and with a panic of it the log has failed
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The incarnation that `topic` means.
    pub(super) fn find(&self, topic: &Topic) -> Result<Arc<TopicState>, LogError> {
        let topics = self.read();
        let found = topics.get(&topic.name).ok_or_else(|| LogError::Missing { topic: topic.name.clone() })?;
        if found.id != topic.id {
            let (expected, found) = (topic.id.clone(), found.id.clone());
            return Err(LogError::Replaced { topic: topic.name.clone(), expected, found });
        }
        Ok(Arc::clone(found))
    }

    /// Goes on with what the folder was found to hold once it was opened anew: topics that are known stay the same objects,
    /// so that whoever has one goes on with it. What was written before a failure and not acknowledged may be there, too.
    ///
    /// # Errors
    /// [`LogError::Corrupt`], with nothing changed, if something is missing that was acknowledged.
    pub(super) fn take_over(&self, found: Vec<Arc<TopicState>>) -> Result<(), LogError> {
        let mut topics = self.write();
        for (name, known) in topics.iter() {
            let same = found.iter().find(|found| found.name == *name && found.id == known.id);
            let missing = || corrupt(format!("topic `{name}`"), "it is gone since the log was opened");
            same.ok_or_else(missing)?.check_holds(known)?;
        }
        for found in found {
            match topics.get(&found.name) {
                Some(known) => known.take_over(&found),
                None => drop(topics.insert(found.name.clone(), found)),
            }
        }
        Ok(())
    }

    pub(super) fn wake_all(&self) {
        self.read().values().for_each(|topic| topic.wake());
    }

    /// Lets go of every keyspace.
    pub(super) fn let_go(&self) {
        for topic in self.read().values() {
            topic.partitions().iter().for_each(|partition| partition.let_go());
        }
    }
}
