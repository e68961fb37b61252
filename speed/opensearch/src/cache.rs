//! Rows that were read, for the statements after: below the visible position they never change. A block of an index is kept
//! as one batch that grows at its end, so that only what is new is read; what was not used for longest makes room.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex};

use arrow::array::RecordBatch;
use tidemark_shared::lock;

/// The ids of an index and of what was written to it, and the first offset of the block.
pub(crate) type BlockKey = (Arc<str>, u64);

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Cache {
    bytes_max: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    blocks: HashMap<BlockKey, Kept>,
    /// By when they were last used.
    order: BTreeMap<u64, BlockKey>,
    bytes: u64,
    clock: u64,
}

/// What is there of a block: rows of a contiguous range of its offsets.
#[derive(Debug, Clone)]
struct Kept {
    range: Range<u64>,
    rows: RecordBatch,
    used: u64,
    bytes: u64,
}

impl Cache {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self { bytes_max, state: Mutex::default() }
    }

    /// What is there of a block.
    pub(crate) fn get(&self, key: &BlockKey) -> Option<(Range<u64>, RecordBatch)> {
        let mut state = lock(&self.state);
        let State { blocks, order, clock, .. } = &mut *state;
        let block = blocks.get_mut(key)?;
        *clock += 1;
        order.remove(&block.used);
        block.used = *clock;
        order.insert(block.used, key.clone());
        Some((block.range.clone(), block.rows.clone()))
    }

    /// Of which offsets of a block the rows are there; that is no use of them.
    pub(crate) fn held(&self, key: &BlockKey) -> Option<Range<u64>> {
        lock(&self.state).blocks.get(key).map(|block| block.range.clone())
    }

    /// Keeps all rows of `range`, instead of what was there, unless that is more.
    pub(crate) fn put(&self, key: BlockKey, range: Range<u64>, rows: RecordBatch) {
        let bytes = rows.get_array_memory_size() as u64;
        let mut state = lock(&self.state);
        let State { blocks, order, bytes: all, clock } = &mut *state;
        let length = |range: &Range<u64>| range.end - range.start;
        match blocks.get(&key) {
            Some(old) if length(&old.range) >= length(&range) => return,
            Some(old) => {
                *all -= old.bytes;
                order.remove(&old.used);
            }
            None => {}
        }
        *clock += 1;
        *all += bytes;
        order.insert(*clock, key.clone());
        blocks.insert(key, Kept { range, rows, used: *clock, bytes });
        while *all > self.bytes_max {
            let Some((_, oldest)) = order.pop_first() else { break };
            *all -= blocks.remove(&oldest).map_or(0, |block| block.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;
    use arrow::datatypes::{DataType, Field, Schema};
    use tidemark_shared::live::rows_in;
    use tidemark_shared::position::OFFSET_COLUMN;

    use super::*;

    fn rows(range: Range<u64>) -> RecordBatch {
        let schema = Arc::new(Schema::new(vec![Field::new(OFFSET_COLUMN, DataType::Int64, false)]));
        let offsets = Int64Array::from_iter_values(range.map(|offset| offset as i64));
        RecordBatch::try_new(schema, vec![Arc::new(offsets)]).unwrap()
    }

    #[test]
    fn what_was_not_used_for_longest_goes() {
        let one = rows(0..100).get_array_memory_size() as u64;
        let cache = Cache::new(one * 2);
        let key = |start: u64| -> BlockKey { ("index".into(), start) };
        for start in [0, 100] {
            cache.put(key(start), start..start + 100, rows(start..start + 100));
        }
        assert!(cache.get(&key(0)).is_some());
        cache.put(key(200), 200..300, rows(200..300));
        assert!(cache.get(&key(100)).is_none(), "the least used one stayed");
        let (range, held) = cache.get(&key(0)).unwrap();
        assert_eq!((range, rows_in(&held, &(40..60)).num_rows()), (0..100, 20));
        cache.put(key(0), 50..100, rows(50..100));
        assert_eq!(cache.get(&key(0)).unwrap().0, 0..100, "less came instead of more");
    }
}
