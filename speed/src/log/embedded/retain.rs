//! Which records may go, found by bisection: times and sums of bytes only grow with the offset.

use fjall::{AbstractTree, Keyspace};
use tidemark_shared::log::{Bounds, LogError, Retention};

use super::codec::{ValueHeader, key_of};
use super::failure::backend;
use super::read::{Unread, value_at};

/// The start that `retention` asks for: the first offset of a value, not above `limit`, not below the start.
pub(super) fn wanted_start(
    keyspace: &Keyspace,
    bounds: Bounds,
    retention: &Retention,
    now_ms: i64,
    limit: u64,
) -> Result<u64, Unread> {
    let Bounds { start, end } = bounds;
    if start == end || limit <= start || *retention == Retention::default() {
        return Ok(start);
    }
    let (last, last_bytes) = value_at(keyspace, end - 1)?;
    let bytes_end = last.bytes_before + last_bytes;
    let age_max_ms = retention.age_max.map(|age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
    let may_go = |value: &ValueHeader| {
        let too_old = age_max_ms.is_some_and(|max| now_ms.saturating_sub(value.appended_at_ms) > max);
        let too_many = retention.bytes_max.is_some_and(|max| bytes_end - value.bytes_before > max);
        too_old || too_many
    };
    // Below `low` all may go, from `high` on nothing.
    let (mut low, mut high) = (start, end.min(limit));
    while low < high {
        let middle = low + (high - low) / 2;
        let (value, _) = value_at(keyspace, middle)?;
        // whether a value goes, goes for all its offsets
        if may_go(&value) && value.end() <= limit {
            low = value.end();
        } else {
            high = value.first.max(start);
        }
    }
    Ok(low.min(end))
}

/// Gives back the space of what lies below `start`: whole tables at once, without a mark for each value, so that what
/// comes later is not compacted together with what went. What shares a table with younger values stays till they go.
///
/// The table of the last value always stays, even if all of it is below `start`: the journal is only cleared of what a
/// partition's tables prove to have.
pub(super) fn free_space(keyspace: &Keyspace, start: u64) -> Result<(), LogError> {
    let Some(last) = keyspace.last_key_value() else { return Ok(()) };
    let last = last.key().map_err(|error| backend("find the last value", error))?;
    // values below `start` lie under keys below it
    let end = key_of(start).min(last[..].try_into().unwrap_or_default());
    keyspace.tree.drop_range(..end).map_err(|error| backend("free space", error.into()))
}
