//! Idempotency keys: what is remembered of an append, and for how long.

use std::collections::{HashMap, HashSet};

use fjall::Keyspace;
use tidemark_shared::log::{
    Fingerprint, IDEMPOTENCY_LIFETIME_MS, IdempotencyKey, KeyedAppend, LogError, Position, put_varint, take_varint,
};

use super::codec::Malformed;
use super::failure::{Failure, backend, corrupt};
use super::group::Group;

/// Most old keys that one group takes along.
const PURGE_MAX: usize = 1_000;

/// An append's key with what tells its records apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Keyed {
    pub(super) key: IdempotencyKey,
    pub(super) fingerprint: Fingerprint,
}

/// The stored form of what is remembered under a key. Positions of one append need only their partitions and where each began:
/// within a partition they follow each other.
pub(super) fn encode(append: &KeyedAppend) -> Vec<u8> {
    let mut out = append.fingerprint.0.to_vec();
    out.extend(append.at_ms.to_le_bytes());
    put_varint(&mut out, append.positions.len() as u64);
    let mut seen = HashSet::new();
    for Position { partition, offset } in &append.positions {
        put_varint(&mut out, u64::from(*partition));
        if seen.insert(*partition) {
            put_varint(&mut out, *offset);
        }
    }
    out
}

fn decode(bytes: &[u8]) -> Result<KeyedAppend, Malformed> {
    let short = Malformed("it is too short");
    let (fingerprint, rest) = bytes.split_first_chunk().ok_or(short)?;
    let (at_ms, mut rest) = rest.split_first_chunk().ok_or(short)?;
    let count = take_varint(&mut rest)?;
    let mut last: HashMap<u32, u64> = HashMap::new();
    let mut positions = Vec::new();
    for _ in 0..count {
        let partition = u32::try_from(take_varint(&mut rest)?).map_err(|_| Malformed("a partition is too high"))?;
        let offset = match last.get(&partition) {
            Some(last) => last.checked_add(1).ok_or(Malformed("an offset is too high"))?,
            None => take_varint(&mut rest)?,
        };
        last.insert(partition, offset);
        positions.push(Position { partition, offset });
    }
    Ok(KeyedAppend { at_ms: i64::from_le_bytes(*at_ms), fingerprint: Fingerprint(*fingerprint), positions })
}

/// What is remembered under a key, by its stored form.
pub(super) fn load(keys: &Keyspace, key: &[u8]) -> Result<Option<KeyedAppend>, LogError> {
    let stored = keys.get(key).map_err(|error| backend("look up an idempotency key", error))?;
    let append = stored.map(|bytes| decode(&bytes)).transpose();
    append.map_err(|what| corrupt("entry of an idempotency key", what.0))
}

/// The stored form of a key of a topic.
pub(super) fn stored_key(topic_number: u64, key: &IdempotencyKey) -> Vec<u8> {
    [&topic_number.to_be_bytes()[..], key.as_str().as_bytes()].concat()
}

/// Under what a key is found by its age.
pub(super) fn expiry_key(at_ms: i64, stored_key: &[u8]) -> Vec<u8> {
    [&ordered(at_ms)[..], stored_key].concat()
}

/// Big-endian bytes that sort as the number does.
fn ordered(at_ms: i64) -> [u8; 8] {
    (at_ms.cast_unsigned() ^ (1 << 63)).to_be_bytes()
}

/// Removes old keys, some with each group.
#[derive(Debug, Default)]
pub(super) struct Purge {
    /// Up to where all were removed: what is below need not be looked through again.
    below: Vec<u8>,
}

impl Purge {
    /// Lets `group` remove what has become too old since. Fails if the disk does.
    pub(super) fn add_to(&mut self, group: &mut Group<'_>) -> Result<(), Failure> {
        let end = ordered(group.now_ms().saturating_sub(IDEMPOTENCY_LIFETIME_MS));
        if end[..] <= self.below[..] {
            return Ok(());
        }
        let mut count = 0;
        for guard in group.store().expiry.range(self.below.clone()..end.to_vec()) {
            let failed = |error| Failure::of(&backend("list old idempotency keys", error));
            let entry = guard.key().map_err(failed)?;
            group.forget(&entry);
            count += 1;
            if count == PURGE_MAX {
                self.below = entry.to_vec();
                return Ok(());
            }
        }
        self.below = end.to_vec();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(partition: u32, offset: u64) -> Position {
        Position { partition, offset }
    }

    #[test]
    fn what_is_remembered_round_trips() {
        for positions in [
            vec![],
            vec![at(0, 0)],
            vec![at(7, 1 << 60), at(7, (1 << 60) + 1)],
            vec![at(1, 5), at(0, 900), at(1, 6), at(1, 7), at(300, 0), at(0, 901)],
        ] {
            let append = KeyedAppend { at_ms: -1, fingerprint: Fingerprint([3; 16]), positions };
            let bytes = encode(&append);
            assert_eq!(decode(&bytes), Ok(append));
            for cut in 0..bytes.len() {
                decode(&bytes[..cut]).expect_err("a part was read as the whole");
            }
        }
    }

    /// Logs hold such bytes: a form that can't be read any more would be a key that counts twice.
    #[test]
    fn the_stored_form_stays() {
        let positions = vec![at(1, 5), at(300, 1 << 20), at(1, 6)];
        let append = KeyedAppend { at_ms: 1_700_000_000_123, fingerprint: Fingerprint([0xab; 16]), positions };
        let mut stored = vec![0xab; 16];
        stored.extend([0x7b, 0x68, 0xe5, 0xcf, 0x8b, 0x01, 0, 0]);
        stored.extend([3, 1, 5, 0xac, 2, 0x80, 0x80, 0x40, 1]);
        assert_eq!(encode(&append), stored);
        assert_eq!(decode(&stored), Ok(append));
    }

    #[test]
    fn times_sort_as_bytes() {
        let times = [i64::MIN, -5, -1, 0, 1, 1_700_000_000_000, i64::MAX];
        assert!(times.map(ordered).is_sorted());
    }
}
