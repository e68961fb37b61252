//! What is remembered of an append with a key: one record in the topic of keys, whose key is the idempotency key.

use tidemark_shared::log::{Fingerprint, LogError, Position};

/// Raised when the form changes.
const FORMAT: u8 = 1;
const HEAD_BYTES: usize = 1 + 8 + 16;

/// An append with a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// When it was, in milliseconds since 1970 UTC.
    pub(super) at_ms: i64,
    /// Of what records.
    pub(super) fingerprint: Fingerprint,
    /// Where they went.
    pub(super) positions: Vec<Position>,
}

impl Entry {
    /// Format, time, fingerprint; then of each position the partition and how far it is from the one before it there.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + 3 * self.positions.len());
        bytes.push(FORMAT);
        bytes.extend(self.at_ms.to_le_bytes());
        bytes.extend(self.fingerprint.0);
        let mut last = Last::default();
        for position in &self.positions {
            let before = last.of(position.partition);
            number(&mut bytes, u64::from(position.partition));
            // offsets of one append grow within a partition
            number(&mut bytes, position.offset.wrapping_sub(*before));
            *before = position.offset;
        }
        bytes
    }

    /// Only the time.
    ///
    /// # Errors
    /// As of [`Self::decode`].
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
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, LogError> {
        let at_ms = Self::time_of(bytes)?;
        let fingerprint = Fingerprint(bytes[9..HEAD_BYTES].try_into().expect("sixteen bytes"));
        let (mut rest, mut positions, mut last) = (&bytes[HEAD_BYTES..], Vec::new(), Last::default());
        while !rest.is_empty() {
            let partition = take_number(&mut rest)?;
            let partition = u32::try_from(partition).map_err(|_| corrupt("a partition is too large"))?;
            let before = last.of(partition);
            *before = before.wrapping_add(take_number(&mut rest)?);
            positions.push(Position { partition, offset: *before });
        }
        Ok(Self { at_ms, fingerprint, positions })
    }
}

/// The last offset of each partition that was met.
#[derive(Default)]
struct Last(std::collections::BTreeMap<u32, u64>);

impl Last {
    fn of(&mut self, partition: u32) -> &mut u64 {
        self.0.entry(partition).or_default()
    }
}

fn number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take_number(bytes: &mut &[u8]) -> Result<u64, LogError> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or_else(|| corrupt("it is cut short"))?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(corrupt("a number is too long"))
}

fn corrupt(reason: &str) -> LogError {
    LogError::Corrupt { what: "entry of an idempotency key".to_owned(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        let position = |partition, offset| Position { partition, offset };
        let positions = vec![position(3, 1 << 40), position(0, 0), position(3, (1 << 40) + 1), position(0, 300)];
        Entry { at_ms: -5, fingerprint: Fingerprint([7; 16]), positions }
    }

    #[test]
    fn an_entry_comes_back_as_it_was() {
        for entry in [entry(), Entry { positions: Vec::new(), ..entry() }] {
            let bytes = entry.encode();
            assert_eq!(Entry::decode(&bytes).unwrap(), entry);
            assert_eq!(Entry::time_of(&bytes).unwrap(), -5);
        }
    }

    #[test]
    fn damage_and_later_formats_are_told() {
        let mut bytes = entry().encode();
        for length in [0, 1, HEAD_BYTES - 1, bytes.len() - 1] {
            assert!(matches!(Entry::decode(&bytes[..length]), Err(LogError::Corrupt { .. })), "{length}");
        }
        bytes[0] = FORMAT + 1;
        assert!(matches!(Entry::decode(&bytes), Err(LogError::NewerFormat { found: 2, known: 1 })));
    }
}
