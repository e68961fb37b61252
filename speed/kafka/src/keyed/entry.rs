//! What is remembered of an append with a key: one record in the topic of keys, whose key is the idempotency key. Its value
//! has the format, the time and the fingerprint, then of each position the partition and how far it is from the one before it
//! there.

use std::collections::BTreeMap;

use tidemark_shared::log::{Fingerprint, KeyedAppend, LogError, Position, put_varint, take_varint};

/// Raised when the form changes.
const FORMAT: u8 = 1;
const HEAD_BYTES: usize = 1 + 8 + 16;

/// The value of a record.
pub(super) fn encode(append: &KeyedAppend) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_BYTES + 3 * append.positions.len());
    bytes.push(FORMAT);
    bytes.extend(append.at_ms.to_le_bytes());
    bytes.extend(append.fingerprint.0);
    let mut last = Last::default();
    for position in &append.positions {
        let before = last.of(position.partition);
        put_varint(&mut bytes, u64::from(position.partition));
        // offsets of one append grow within a partition
        put_varint(&mut bytes, position.offset.wrapping_sub(*before));
        *before = position.offset;
    }
    bytes
}

/// Only the time.
///
/// # Errors
/// As of [`decode`].
pub(super) fn time_of(bytes: &[u8]) -> Result<i64, LogError> {
    match bytes.first() {
        Some(&FORMAT) if bytes.len() >= HEAD_BYTES => {
            Ok(i64::from_le_bytes(bytes[1..9].try_into().expect("eight bytes")))
        }
        Some(&found) if found > FORMAT => {
            Err(LogError::NewerFormat { found: u64::from(found), known: u64::from(FORMAT) })
        }
        _ => Err(corrupt("it is cut short")),
    }
}

/// # Errors
/// [`LogError::NewerFormat`], [`LogError::Corrupt`].
pub(super) fn decode(bytes: &[u8]) -> Result<KeyedAppend, LogError> {
    let at_ms = time_of(bytes)?;
    let fingerprint = Fingerprint(bytes[9..HEAD_BYTES].try_into().expect("sixteen bytes"));
    let (mut rest, mut positions, mut last) = (&bytes[HEAD_BYTES..], Vec::new(), Last::default());
    while !rest.is_empty() {
        let partition = number(&mut rest)?;
        let partition = u32::try_from(partition).map_err(|_| corrupt("a partition is too large"))?;
        let before = last.of(partition);
        *before = before.wrapping_add(number(&mut rest)?);
        positions.push(Position { partition, offset: *before });
    }
    Ok(KeyedAppend { at_ms, fingerprint, positions })
}

/// The last offset of each partition that was met.
#[derive(Default)]
struct Last(BTreeMap<u32, u64>);

impl Last {
    fn of(&mut self, partition: u32) -> &mut u64 {
        self.0.entry(partition).or_default()
    }
}

fn number(bytes: &mut &[u8]) -> Result<u64, LogError> {
    take_varint(bytes).map_err(|error| corrupt(&error.to_string()))
}

fn corrupt(reason: &str) -> LogError {
    LogError::Corrupt { what: "entry of an idempotency key".to_owned(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append() -> KeyedAppend {
        let position = |partition, offset| Position { partition, offset };
        let positions = vec![position(3, 1 << 40), position(0, 0), position(3, (1 << 40) + 1), position(0, 300)];
        KeyedAppend { at_ms: -5, fingerprint: Fingerprint([7; 16]), positions }
    }

    #[test]
    fn an_entry_comes_back_as_it_was() {
        for append in [append(), KeyedAppend { positions: Vec::new(), ..append() }] {
            let bytes = encode(&append);
            assert_eq!(decode(&bytes).unwrap(), append);
            assert_eq!(time_of(&bytes).unwrap(), -5);
        }
    }

    /// Brokers hold such bytes, of other releases, too.
    #[test]
    fn the_stored_form_stays() {
        let mut stored = vec![1, 0xfb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        stored.extend([7; 16]);
        stored.extend([3, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20, 0, 0, 3, 1, 0, 0xac, 2]);
        assert_eq!(encode(&append()), stored);
        assert_eq!(decode(&stored).unwrap(), append());
    }

    #[test]
    fn damage_and_later_formats_are_told() {
        let mut bytes = encode(&append());
        for length in [0, 1, HEAD_BYTES - 1, bytes.len() - 1] {
            assert!(matches!(decode(&bytes[..length]), Err(LogError::Corrupt { .. })), "{length}");
        }
        bytes[0] = FORMAT + 1;
        assert!(matches!(decode(&bytes), Err(LogError::NewerFormat { found: 2, known: 1 })));
    }
}
