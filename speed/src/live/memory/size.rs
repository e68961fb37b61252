//! What Arrow batches really take, and batches that hold no more than they need.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayData, ArrayRef, AsArray, MutableArrayData, RecordBatch, RecordBatchOptions, make_array,
};
use arrow::buffer::{Buffer, NullBuffer};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

/// Bytes of the memory behind a batch; memory that several columns share counts once.
pub(super) fn batch_bytes(batch: &RecordBatch) -> u64 {
    let mut seen = BTreeSet::new();
    batch.columns().iter().map(|column| data_bytes(&column.to_data(), &mut seen)).sum()
}

fn data_bytes(data: &ArrayData, seen: &mut BTreeSet<usize>) -> u64 {
    let own = data.buffers().iter().chain(data.nulls().map(NullBuffer::buffer));
    let fresh =
        own.filter(|buffer| seen.insert(buffer.data_ptr().as_ptr().addr())).map(|buffer| buffer.capacity() as u64);
    let own: u64 = fresh.sum();
    own + data.child_data().iter().map(|child| data_bytes(child, seen)).sum::<u64>()
}

/// The batch in memory of its own, unless most of what it holds is needed: a slice would keep the whole alive.
pub(super) fn compacted(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().map(compacted_column).collect::<Result<_, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(batch.schema(), columns, &options)
}

fn compacted_column(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let data = column.to_data();
    if let DataType::Utf8View = data.data_type() {
        let views = column.as_string_view();
        let held = views.data_buffers().iter().map(Buffer::capacity).sum();
        let scattered = wasteful(views.total_buffer_bytes_used(), held);
        let sliced = wasteful(size_of_val(&views.views()[..]), views.views().inner().capacity());
        let column = if sliced { copied(&data)? } else { Arc::clone(column) };
        return Ok(if scattered { Arc::new(column.as_string_view().gc()) } else { column });
    }
    let held = usize::try_from(data_bytes(&data, &mut BTreeSet::new())).unwrap_or(usize::MAX);
    match data.get_slice_memory_size() {
        Ok(used) if wasteful(used, held) => copied(&data),
        _ => Ok(Arc::clone(column)),
    }
}

/// True if copying frees more than it costs.
fn wasteful(used: usize, held: usize) -> bool {
    held > used + used / 2 + 256
}

fn copied(data: &ArrayData) -> Result<ArrayRef, ArrowError> {
    let mut copy = MutableArrayData::new(vec![data], false, data.len());
    copy.try_extend(0, 0, data.len())?;
    Ok(make_array(copy.freeze()))
}
