//! Rows of a view as batches: in order of offset, with their position in columns of their own.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{Int64Type, SchemaRef};
use arrow::error::ArrowError;

use crate::position::OFFSET_COLUMN;

/// The rows with offsets in `range` of rows in order of offset; shares memory.
///
/// # Panics
/// If the rows have no offsets. Every view's have.
#[must_use]
pub fn rows_in(rows: &RecordBatch, range: &Range<u64>) -> RecordBatch {
    let offsets = rows.column_by_name(OFFSET_COLUMN).expect("every view's rows have their position");
    let offsets = offsets.as_primitive::<Int64Type>();
    debug_assert_eq!(offsets.null_count(), 0, "offsets are there");
    let lower = |offset: u64| {
        let offset = i64::try_from(offset).unwrap_or(i64::MAX);
        offsets.values().partition_point(|at| *at < offset)
    };
    let (from, to) = (lower(range.start), lower(range.end));
    rows.slice(from, to.saturating_sub(from))
}

/// The rows with the types of `schema`, whose columns are theirs, in this order: a view holds all rows in one form, whatever form
/// they come in.
///
/// # Errors
/// [`ArrowError`] if a value has no place in its column.
pub fn as_schema(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    if rows.schema_ref() == schema {
        return Ok(rows.clone());
    }
    let columns = rows.columns().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| cast(column, field.data_type())).collect::<Result<_, _>>()?;
    RecordBatch::try_new(Arc::clone(schema), columns)
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array, StringArray, StringViewArray};
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    fn schema(text: DataType) -> SchemaRef {
        let fields = vec![Field::new("text", text, true), Field::new(OFFSET_COLUMN, DataType::Int64, false)];
        Arc::new(Schema::new(fields))
    }

    fn rows(offsets: &[i64]) -> RecordBatch {
        let texts = offsets.iter().map(|offset| (offset % 2 == 0).then(|| format!("row {offset}")));
        let columns: Vec<ArrayRef> =
            vec![Arc::new(texts.collect::<StringViewArray>()), Arc::new(Int64Array::from(offsets.to_vec()))];
        RecordBatch::try_new(schema(DataType::Utf8View), columns).unwrap()
    }

    #[test]
    fn rows_are_found_by_their_offsets() {
        let rows = rows(&[3, 4, 9, 12]);
        for ((start, end), wanted) in [
            ((0, u64::MAX), &[3, 4, 9, 12][..]),
            ((4, 12), &[4, 9]),
            ((5, 9), &[]),
            ((13, 20), &[]),
            ((0, 3), &[]),
            ((12, 13), &[12]),
            ((9, 4), &[]),
        ] {
            let found = rows_in(&rows, &(start..end));
            let offsets = found.column(1).as_primitive::<Int64Type>().values().to_vec();
            assert_eq!(offsets, wanted, "{start} to {end}");
        }
    }

    #[test]
    fn rows_take_the_types_that_are_held() {
        let held = as_schema(&rows(&[3, 4]), &schema(DataType::Utf8)).unwrap();
        assert_eq!(held.schema_ref(), &schema(DataType::Utf8));
        let texts: ArrayRef = Arc::new(StringArray::from(vec![None, Some("row 4")]));
        assert_eq!(held.column(0), &texts);
        assert_eq!(as_schema(&held, &schema(DataType::Utf8)).unwrap(), held, "they have them already");
    }
}
