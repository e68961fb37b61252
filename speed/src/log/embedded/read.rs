//! Reading a partition: blocking, bounded, beside the writer.

use bytes::Bytes;
use fjall::Keyspace;
use tidemark_shared::log::{Bounds, Fetched, LogError, OffsetRecord, ReadLimits};

use super::codec::{Malformed, Records, ValueHeader, key_of, offset_of};
use super::failure::{backend, corrupt};

/// Why a read found no record where one must be.
#[derive(Debug)]
pub(super) enum Unread {
    /// The database failed.
    Failed(LogError),
    /// A value can't be read, or the next offset is in none. That is damage, unless retention came in between.
    Damaged { offset: u64, what: &'static str },
}

impl Unread {
    pub(super) fn into_error(self, partition: &str) -> LogError {
        match self {
            Self::Failed(error) => error,
            Self::Damaged { offset, what } => corrupt(format!("`{partition}` at offset {offset}"), what),
        }
    }
}

/// Records of `from ≤ offset < bounds.end`; `from` must lie within the bounds.
pub(super) fn read(keyspace: &Keyspace, from: u64, bounds: Bounds, limits: ReadLimits) -> Result<Fetched, Unread> {
    let mut fetched = Fetched { records: Vec::new(), next: from, bounds };
    let mut bytes = 0;
    for stored in keyspace.range(key_of(from)..) {
        let next = fetched.next;
        if next >= bounds.end {
            break;
        }
        let damaged = |what: Malformed| Unread::Damaged { offset: next, what: what.0 };
        let (key, value) = stored.into_inner().map_err(|error| Unread::Failed(backend("read records", error)))?;
        let (header, mut records) = Records::of(&Bytes::from(value)).map_err(damaged)?;
        let misplaced = offset_of(&key).map_err(damaged)?.checked_add(1) != Some(header.end());
        if misplaced || header.first > next {
            return Err(damaged(Malformed("it is missing")));
        }
        for offset in header.first..header.end() {
            let record = records.next().map_err(damaged)?.ok_or(Malformed("a value has too few records"));
            let record = record.map_err(damaged)?;
            if offset < from {
                continue;
            }
            bytes += record.bytes();
            if bytes > limits.bytes_max && !fetched.records.is_empty() {
                return Ok(fetched);
            }
            fetched.records.push(OffsetRecord { offset, record });
            fetched.next = offset + 1;
            // at once: the next value would be read for nothing
            if fetched.records.len() >= limits.records_max {
                return Ok(fetched);
            }
        }
        // nothing may be left in it
        records.next().map_err(damaged)?;
    }
    if fetched.next < bounds.end {
        return Err(Unread::Damaged { offset: fetched.next, what: "it is missing" });
    }
    Ok(fetched)
}

/// Header and stored length of the value that holds `offset`, which must lie within the bounds.
pub(super) fn value_at(keyspace: &Keyspace, offset: u64) -> Result<(ValueHeader, u64), Unread> {
    let missing = Unread::Damaged { offset, what: "it is missing" };
    let Some(stored) = keyspace.range(key_of(offset)..).next() else { return Err(missing) };
    let value = stored.value().map_err(|error| Unread::Failed(backend("read a value", error)))?;
    let header = ValueHeader::parse(&value).map_err(|what| Unread::Damaged { offset, what: what.0 })?;
    if header.first > offset { Err(missing) } else { Ok((header, value.len() as u64)) }
}
