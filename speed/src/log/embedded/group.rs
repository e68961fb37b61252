//! A group of appends that share one batch of the journal, and so one sync.

use std::collections::HashMap;
use std::sync::Arc;

use fjall::OwnedWriteBatch;
use tidemark_shared::log::{Appended, KeyedAppend, LogError, Position};
use tokio::sync::OwnedSemaphorePermit;

use super::codec::{fill_in, key_of};
use super::failure::Failure;
use super::keys::{Keyed, encode, expiry_key, load, stored_key};
use super::store::LogStore;
use super::topics::PartitionState;
use super::writer::{AppendRequest, PendingValue, Reply, TrimRequest};

pub(super) struct Group<'a> {
    store: &'a LogStore,
    now_ms: i64,
    batch: OwnedWriteBatch,
    bytes: usize,
    /// Keys of appends of this very group: the store does not have them yet.
    keys: HashMap<Vec<u8>, KeyedAppend>,
    /// Partitions whose bounds move when the group is on the disk, and where to.
    moved: Vec<(Arc<PartitionState>, Move)>,
    answers: Vec<Answer>,
    /// Released when the group is written.
    budgets: Vec<OwnedSemaphorePermit>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Move {
    Start(u64),
    End(u64),
}

enum Answer {
    Append(Reply<Appended>, Appended),
    Trim(Reply<()>),
}

impl<'a> Group<'a> {
    pub(super) fn new(store: &'a LogStore, now_ms: i64) -> Self {
        let batch = store.batch();
        let (keys, moved, answers, budgets) = (HashMap::new(), Vec::new(), Vec::new(), Vec::new());
        Self { store, now_ms, batch, bytes: 0, keys, moved, answers, budgets }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    pub(super) fn now_ms(&self) -> i64 {
        self.now_ms
    }

    pub(super) fn store(&self) -> &'a LogStore {
        self.store
    }

    /// Takes an append in, or refuses it at once.
    pub(super) fn append(&mut self, request: AppendRequest) {
        let AppendRequest { topic, values, order, key, reply, budget } = request;
        let repeated = topic.check_there().and_then(|()| {
            let Some(keyed) = &key else { return Ok(None) };
            let known = self.look_up(topic.number, keyed)?;
            known.map(|known| known.repeated(&topic.name, &keyed.key, keyed.fingerprint)).transpose()
        });
        let appended = match repeated {
            Err(error) => return drop(reply.send(Err(error))),
            Ok(Some(repeated)) => repeated,
            Ok(None) => {
                let positions = self.place(values, &order);
                if let Some(keyed) = key {
                    self.remember(topic.number, &keyed, &positions);
                }
                Appended { positions, repeated: false }
            }
        };
        // also a repetition waits: what it repeats may be of this group
        self.answers.push(Answer::Append(reply, appended));
        self.budgets.push(budget);
    }

    /// Gives values their offsets, in the order in which they come.
    fn place(&mut self, values: Vec<PendingValue>, order: &[u32]) -> Vec<Position> {
        let mut next: HashMap<u32, u64> = HashMap::new();
        for PendingValue { partition, records, mut bytes } in values {
            let keyspace = partition.keyspace().expect("keyspaces are let go of after the writer has ended");
            let mut tail = partition.tail();
            let first = tail.end;
            next.entry(partition.number).or_insert(first);
            // retention relies on times that do not go back, whatever the clock does
            tail.appended_at_ms = tail.appended_at_ms.max(self.now_ms);
            fill_in(&mut bytes, first, tail.appended_at_ms, tail.bytes);
            tail.end += u64::from(records);
            tail.bytes += bytes.len() as u64;
            self.bytes += bytes.len();
            self.batch.insert(&keyspace, key_of(tail.end - 1), bytes);
            let end = tail.end;
            drop(tail);
            self.moved.push((partition, Move::End(end)));
        }
        let place = |partition: &u32| {
            let next = next.get_mut(partition).expect("every record is in a value");
            *next += 1;
            Position { partition: *partition, offset: *next - 1 }
        };
        order.iter().map(place).collect()
    }

    fn look_up(&self, topic_number: u64, keyed: &Keyed) -> Result<Option<KeyedAppend>, LogError> {
        let stored = stored_key(topic_number, &keyed.key);
        if let Some(known) = self.keys.get(&stored) {
            return Ok(Some(known.clone()));
        }
        let known = load(&self.store.keys, &stored)?;
        Ok(known.filter(|known| known.is_alive(self.now_ms)))
    }

    fn remember(&mut self, topic_number: u64, keyed: &Keyed, positions: &[Position]) {
        let stored = stored_key(topic_number, &keyed.key);
        let append = KeyedAppend { at_ms: self.now_ms, fingerprint: keyed.fingerprint, positions: positions.to_vec() };
        self.batch.insert(&self.store.keys, stored.clone(), encode(&append));
        self.batch.insert(&self.store.expiry, expiry_key(self.now_ms, &stored), Vec::new());
        self.keys.insert(stored, append);
    }

    /// Removes an entry of the old keys and, unless it was used anew since, the key.
    pub(super) fn forget(&mut self, entry: &[u8]) {
        self.batch.remove(&self.store.expiry, entry);
        let stored = &entry[8..];
        let used_anew = self.keys.contains_key(stored)
            || load(&self.store.keys, stored).is_ok_and(|known| known.is_some_and(|known| known.is_alive(self.now_ms)));
        if !used_anew {
            self.batch.remove(&self.store.keys, stored);
        }
    }

    /// Takes in that a partition begins later.
    pub(super) fn trim(&mut self, request: TrimRequest) {
        let TrimRequest { topic, partition, start, reply } = request;
        if let Err(error) = topic.check_there() {
            return drop(reply.send(Err(error)));
        }
        if start > partition.bounds().start {
            self.store.put_start(&mut self.batch, topic.number, partition.number, start);
            self.moved.push((partition, Move::Start(start)));
        }
        self.answers.push(Answer::Trim(reply));
    }

    /// Writes the group, moves the bounds and answers. Fails if the disk does, after everybody was told.
    pub(super) fn commit(self) -> Result<(), Failure> {
        let Self { store, batch, moved, answers, budgets, .. } = self;
        let failed = store.commit(batch).err().map(|error| Failure::of(&error));
        if failed.is_none() {
            for (partition, to) in moved {
                partition.live.send_modify(|live| match to {
                    Move::Start(start) => live.bounds.start = live.bounds.start.max(start),
                    Move::End(end) => live.bounds.end = end,
                });
            }
        }
        let outcome = || match &failed {
            Some(failure) => Err(LogError::Failed { reason: failure.reason.clone() }),
            None => Ok(()),
        };
        for answer in answers {
            // who asked may have gone away
            match answer {
                Answer::Append(reply, appended) => drop(reply.send(outcome().map(|()| appended))),
                Answer::Trim(reply) => drop(reply.send(outcome())),
            }
        }
        drop(budgets);
        failed.map_or(Ok(()), Err)
    }
}
